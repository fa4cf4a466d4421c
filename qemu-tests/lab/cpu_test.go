package lab

import "testing"

func TestParseCPU(t *testing.T) {
	c := parseCPU("cpu  100 20 300 4000 50 6 70 800 9 1")
	if c != (CPU{Used: 4.96, Stolen: 8}) {
		t.Errorf("%+v", c)
	}
	if s := c.Since(CPU{Used: 2.96, Stolen: 6}).StolenShare(); s != 0.5 {
		t.Errorf("share %v", s)
	}
	if c := parseCPU("cpu x"); c != (CPU{}) || c.StolenShare() != 0 {
		t.Errorf("of nothing: %+v", c)
	}
	before := ReadCPU()
	if before.Used <= 0 {
		t.Errorf("this machine: %+v", before)
	}
}
