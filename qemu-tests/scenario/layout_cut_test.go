package scenario

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/filetest"
	"swarmboot/internal/web"
	"swarmboot/qemu-tests/lab"
)

// cutLayout has the one partition of the image on a mirror.
const cutLayout = `
candidates:
  - name: mirror
    disks:
      - name: disks
        select: transport=virtio
        count: "2"
        %s
        partitions:
          - {name: esp, type: esp, size: 16M, fs: vfat}
          - {name: md, size: rest, type: raid}
    raid:
      - {name: data, of: disks/md, level: 1, image: "1"}
`

// randomImage serves an image of one file system with a file full of random bytes, and returns these.
func randomImage(ctx context.Context, t *testing.T, layouts map[string]string) (*Cluster, []byte) {
	t.Helper()
	data := make([]byte, 112<<20)
	rand.NewChaCha8([32]byte{4}).Read(data) //nolint:errcheck // never fails
	dir := t.TempDir()
	own := *files
	own.Disk = filepath.Join(dir, "image.raw")
	part, tree := filepath.Join(dir, "part.raw"), filepath.Join(dir, "tree")
	err := os.Mkdir(tree, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(tree, "data"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	foreign(ctx, t, "truncate", "-s", "130M", own.Disk)
	foreign(ctx, t, "sgdisk", "--clear", "--new=1:1M:+128M", "--change-name=1:data", own.Disk)
	foreign(ctx, t, "mke2fs", "-q", "-t", "ext4", "-d", tree, part, "128M")
	foreign(ctx, t, "dd", "if="+part, "of="+own.Disk, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
	var out bytes.Buffer
	if err := own.CreateImage(ctx, dir, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if err := os.Mkdir(filepath.Join(dir, "layouts"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range layouts {
		if err := os.WriteFile(filepath.Join(dir, "layouts", name+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return files.StartFor(ctx, t, logDir(t), dir), data
}

// cutMachine is a machine that is deployed several times.
type cutMachine struct {
	c     *Cluster
	disks []lab.Disk
	run   string // the last one that the server knows
}

// start switches the machine on and waits until the server says of its new run what is wanted.
func (m *cutMachine) start(ctx context.Context, t *testing.T, name, layout string, want func(web.Node) bool) (*lab.VM, web.Node) {
	t.Helper()
	vm := startNode(ctx, t, m.c, name, "swarmboot.verify=readback swarmboot.then=poweroff swarmboot.onerror=poweroff swarmboot.layout="+layout, m.disks...)
	n := &Node{Spec: Spec{Name: name, MAC: layoutMAC}, VM: vm}
	w, err := m.c.WaitNode(ctx, n, func(w web.Node) bool { return w.Run != m.run && want(w) })
	if err != nil {
		t.Fatal(err)
	}
	m.run = w.Run
	return vm, w
}

// deploy is a run to its end, which has to be good.
func (m *cutMachine) deploy(ctx context.Context, t *testing.T, name, layout string, says ...string) {
	t.Helper()
	vm, w := m.start(ctx, t, name, layout, func(w web.Node) bool { return w.Phase.Ended() })
	if w.Phase != event.PhaseDone || len(w.Warnings) > 0 {
		t.Fatalf("%s: phase %s, error %q, warnings %q", name, w.Phase, w.Error, w.Warnings)
	}
	<-vm.Done()
	for _, text := range says {
		if _, ok := vm.Console.Find(regexp.MustCompile(text)); !ok {
			t.Errorf("%s: the node did not say %q; console: %s", name, text, vm.Log)
		}
	}
}

// check: mdadm knows both members, e2fsck finds nothing wrong on either, and the data is there. It returns the array's UUID.
func (m *cutMachine) check(ctx context.Context, t *testing.T, data []byte) string {
	t.Helper()
	members := checkMembers(ctx, t, m.disks, "md", 1)
	for _, path := range members {
		offset := number(ctx, t, `Data Offset : (\d+) sectors`, "mdadm", "--examine", path) * 512
		fs, file := path+".fs.raw", path+".data.raw" // logDir removes them
		foreign(ctx, t, "dd", "if="+path, "of="+fs, "bs=1M", "iflag=skip_bytes", fmt.Sprintf("skip=%d", offset), "conv=sparse", "status=none")
		foreign(ctx, t, "e2fsck", "-fn", fs)
		foreign(ctx, t, "debugfs", "-R", "dump /data "+file, fs)
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s does not hold the image (%v)", path, err)
		}
	}
	return regexp.MustCompile(`Array UUID : \S+`).FindString(foreign(ctx, t, "mdadm", "--examine", members[0]))
}

// A machine with an array loses power while it is written. Nothing starts from its disks. The next run takes the array that is
// there; every hash is read back. What is whole is overwritten only when the layout says so.
func TestLayoutCut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, data := randomImage(ctx, t, map[string]string{
		"once": fmt.Sprintf(cutLayout, ""), "again": fmt.Sprintf(cutLayout, "recreate: true"),
		"other": strings.Replace(fmt.Sprintf(cutLayout, ""), "name: data,", "name: other,", 1),
		"named": strings.Replace(fmt.Sprintf(cutLayout, "recreate: true"), "name: data,", "name: other,", 1),
	})
	m := &cutMachine{c: c, disks: arrayDisks(t, c, 2, 300<<20)}

	vm, w := m.start(ctx, t, "cut", "once", func(w web.Node) bool {
		return w.Phase.Ended() || w.Phase == event.PhaseFetch && w.PiecesDone > w.PiecesTotal/5
	})
	vm.Kill()
	if w.Phase.Ended() {
		t.Fatalf("it was not cut off in time: phase %s, error %q", w.Phase, w.Error)
	}
	for _, d := range m.disks {
		if parts := partitionsOf(ctx, t, d.Path); len(parts) > 0 {
			t.Errorf("the table of the half-written %s lists %+v", d.Path, parts)
		}
		if code := filetest.Read(t, d.Path, 0, 440); !bytes.Equal(code, make([]byte, 440)) {
			t.Errorf("the half-written %s has boot code", d.Path)
		}
	}

	m.deploy(ctx, t, "rest", "once", `array data: RAID 1, .*, was there`)
	first := m.check(ctx, t, data)

	sums := []string{sum(t, m.disks[0].Path), sum(t, m.disks[1].Path)}
	vm, w = m.start(ctx, t, "refused", "once", func(w web.Node) bool { return w.Phase.Ended() })
	const why = `belongs to the array "any:data": recreate: true would overwrite it`
	if w.Phase != event.PhaseFailed || w.ExitCode != cli.CodeDisk || !strings.Contains(w.Error, why) {
		t.Errorf("phase %s, exit code %d, error %q; want %d and %q", w.Phase, w.ExitCode, w.Error, cli.CodeDisk, why)
	}
	<-vm.Done()
	for i, d := range m.disks {
		if sum(t, d.Path) != sums[i] {
			t.Errorf("%s has changed", d.Path)
		}
	}

	m.deploy(ctx, t, "again", "again", `array data: RAID 1, .*, made`)
	if again := m.check(ctx, t, data); again == first {
		t.Errorf("the array was not made anew: %s", again)
	}

	// No table lists the members any longer: the array is found only where its places are divided in the same way.
	for _, d := range m.disks {
		foreign(ctx, t, "sgdisk", "--zap-all", d.Path)
	}
	vm, w = m.start(ctx, t, "unlisted", "other", func(w web.Node) bool { return w.Phase.Ended() })
	if w.Phase != event.PhaseFailed || w.ExitCode != cli.CodeDisk || !strings.Contains(w.Error, "which has another name") {
		t.Errorf("phase %s, exit code %d, error %q; want %d and another name", w.Phase, w.ExitCode, w.Error, cli.CodeDisk)
	}
	<-vm.Done()
	m.deploy(ctx, t, "named", "named", `array other: RAID 1, .*, made`)
	m.check(ctx, t, data)
}
