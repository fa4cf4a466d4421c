package lab

import (
	"os"
	"strconv"
	"strings"
)

// CPU is what the processors of this machine did since it was started, seconds of one processor.
type CPU struct {
	Used   float64 // by anybody
	Stolen float64 // that a host above this machine gave to others while somebody here wanted it
}

// Since is what was done since before.
func (c CPU) Since(before CPU) CPU { return CPU{c.Used - before.Used, c.Stolen - before.Stolen} }

// StolenShare is the part of what was wanted that the host took.
func (c CPU) StolenShare() float64 {
	if c.Used+c.Stolen <= 0 {
		return 0
	}
	return c.Stolen / (c.Used + c.Stolen)
}

// ReadCPU reads /proc/stat (proc(5)); without one it is zero.
func ReadCPU() CPU {
	s, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPU{}
	}
	line, _, _ := strings.Cut(string(s), "\n")
	return parseCPU(line)
}

// parseCPU reads the first line: the word cpu, then user nice system idle iowait irq softirq steal guest guest_nice in hundredths of a
// second. The last two are in user and nice.
func parseCPU(line string) (c CPU) {
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseFloat(f, 64)
		switch {
		case err != nil:
		case i == 1, i == 2, i == 3, i == 6, i == 7:
			c.Used += n / 100
		case i == 8:
			c.Stolen = n / 100
		}
	}
	return c
}
