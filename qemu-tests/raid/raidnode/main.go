// Raidnode runs inside a virtual machine, in two boots. "make" has our code make, fill and stop arrays of every level;
// "judge" is another system: mdadm assembles, describes and degrades them, and makes arrays of its own to compare ours with.
// It says on the console what was found right ("RAID ok ARRAY WHAT") and wrong, and switches the machine off.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/md"
)

func ok(array, what string) { fmt.Printf("RAID ok %s %s\n", array, what) }

func failed(array, what string, err error) {
	fmt.Printf("RAID failed %s %s: %s\n", array, what, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// check says that what was done, or why not.
func check(array, what string, err error) bool {
	if err != nil {
		failed(array, what, err)
		return false
	}
	ok(array, what)
	return true
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	fmt.Println() // the shell's prompt stands in the line
	if len(os.Args) > 1 && os.Args[1] == "make" {
		makeAll(ctx)
	} else {
		judgeAll(ctx)
	}
	fmt.Println("RAID-END")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
}

// speedLimit is how fast the kernel may bring arrays in line, in KiB a second.
func speedLimit(kib int) error {
	return os.WriteFile("/proc/sys/dev/raid/speed_limit_max", fmt.Appendf(nil, "%d", kib), 0o644)
}

func makeAll(ctx context.Context) {
	if !check("all", "load", md.Load(ctx, 0, 1, 4, 5, 6, 10)) {
		return
	}
	check("all", "limit", speedLimit(1000)) // so that a stop interrupts every resync
	made := map[string]md.Array{}
	for _, a := range arrays {
		began := time.Now()
		m, err := md.Create(ctx, a.spec())
		if check(a.name, "create", err) {
			fmt.Printf("RAID size %s %s %d in %.2f s\n", a.name, m.Device, m.Size, time.Since(began).Seconds())
			made[a.name] = m
			check(a.name, "write", write(m.Link, a.name))
		}
	}
	check("all", "progress", resyncing())
	check("early", "data without a member during the resync", loseEarly(ctx))
	refusals(ctx)
	for _, a := range arrays {
		check(a.name, "stop", md.Stop(ctx, "/dev/md/"+a.name))
	}
	again(ctx, made)
	left, err := md.Active()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%+v", left)
	}
	check("all", "nothing left running", err)
}

// resyncing waits until the kernel brings an array in line: of those on the same disks it does one at a time.
func resyncing() error {
	for range 600 {
		for _, a := range arrays {
			p, err := md.Resync("/dev/md/" + a.name)
			if err != nil {
				return err
			}
			if p.Action == "resync" && p.Total > 0 && p.Done < p.Total && p.Degraded == 0 {
				fmt.Printf("RAID progress %s %s\n", a.name, p)
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("no resync seen")
}

// refusals are tried while the arrays run.
func refusals(ctx context.Context) {
	same, err := md.Create(ctx, arrays[1].spec())
	if err == nil && !same.Reused {
		err = errors.New("made anew")
	}
	check("mirror", "running one is taken", err)

	other := arrays[1].spec()
	other.Name = "other"
	check("mirror", "running one of another name", wantForeign(md.Create(ctx, other)))

	f, err := os.Open("/dev/md/six")
	if err != nil {
		failed("six", "open", err)
		return
	}
	defer f.Close()
	check("six", "stop while open", wantBusy(md.Stop(ctx, "/dev/md/six")))
}

func wantForeign(_ md.Array, err error) error {
	var f *md.ForeignError
	if !errors.As(err, &f) {
		return fmt.Errorf("want a refusal, have: %v", err) //nolint:errorlint // for people
	}
	return nil
}

func wantBusy(err error) error {
	var b *md.BusyError
	if !errors.As(err, &b) {
		return fmt.Errorf("want busy, have: %v", err) //nolint:errorlint // for people
	}
	return nil
}

// again makes what is there already: it is taken as it is, unless another shape or a new array is asked for.
func again(ctx context.Context, made map[string]md.Array) {
	for _, name := range []int{0, 4} {
		a := arrays[name]
		m, err := md.Create(ctx, a.spec())
		if err == nil && (!m.Reused || m.UUID != made[a.name].UUID) {
			err = fmt.Errorf("%+v, was %+v", m, made[a.name])
		}
		check(a.name, "stopped one is taken", err)
		check(a.name, "stop again", md.Stop(ctx, "/dev/md/"+a.name))
	}
	wrong := arrays[5].spec()
	wrong.Chunk = 128 << 10
	check("six", "other chunk", wantForeign(md.Create(ctx, wrong)))

	anew := arrays[2].spec()
	anew.Recreate = true
	m, err := md.Create(ctx, anew)
	if err == nil && (m.Reused || m.UUID == made["esp"].UUID) {
		err = fmt.Errorf("%+v", m)
	}
	if check("esp", "recreate", err) {
		check("esp", "write again", write(m.Link, "esp"))
		anew.Recreate = true
		_, err = md.Create(ctx, anew) // stops the running one by itself
		check("esp", "recreate running", err)
		check("esp", "write once more", write(m.Link, "esp"))
		check("esp", "stop again", md.Stop(ctx, m.Device))
	}
}

const mib = 1 << 20

// places are where data is written: start, middle, end.
func places(size int64) []int64 { return []int64{0, size / 2 / mib * mib, size - 4*mib} }

// data is what is written at a place of an array.
func data(name string, place int) []byte {
	b := make([]byte, 4*mib)
	_, _ = rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%s %d", name, place))).Read(b) // never fails
	return b
}

func write(device, name string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for i, off := range places(size) {
		if _, err := f.WriteAt(data(name, i), off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// read compares what the array has, past the page cache.
func read(device, name string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	got := make([]byte, 4*mib)
	for i, off := range places(size) {
		if _, err := f.ReadAt(got, off); err != nil {
			return err
		}
		if !bytes.Equal(got, data(name, i)) {
			return fmt.Errorf("other data at %d", off)
		}
	}
	return nil
}
