package efiboot

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/internal/looptest"
	"swarmboot/internal/tooltest"
)

// Partitions of tests: the ESP that is deployed, and others.
var (
	esp      = testPartition(1, 0x11)
	otherESP = testPartition(1, 0x22) // of another disk
	oldESP   = testPartition(1, 0x33) // was on the disk
)

func testPartition(number int, id byte) Partition {
	p := Partition{Number: number, Start: 2048, Sectors: 131072, ID: ID{Kind: SignatureGUID}}
	for i := range p.Sig {
		p.Sig[i] = id
	}
	return p
}

const shim = `\EFI\debian\shimx64.efi`

// network boot, as OVMF writes it: PciRoot(0)/Pci/MAC/IPv4.
var networkPath = []Node{{2, 1, []byte{0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0}}, {1, 1, []byte{0, 3}}, {typeMessaging, messagingMAC, make([]byte, 33)},
	{typeMessaging, messagingIPv4, make([]byte, 23)}}

func diskPath(p Partition, file string) []Node { return []Node{hardDriveNode(p), fileNode(file)} }

// firmware makes variables with entries in this order; BootCurrent is the one with the index current, -1: none.
func firmware(t *testing.T, current int, options ...LoadOption) *Vars {
	t.Helper()
	dir := t.TempDir()
	v := &Vars{dir}
	var order []uint16
	for i, o := range options {
		n := uint16(i + 1)
		b, err := o.Marshal()
		if err == nil {
			err = v.write(entryName(n), b)
		}
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, n)
	}
	if err := v.writeWords("BootOrder", order); err != nil {
		t.Fatal(err)
	}
	if current >= 0 {
		if err := v.writeWords("BootCurrent", []uint16{uint16(current + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// shown is what efibootmgr, a foreign program, says of the boot order: description and device path of each entry.
func shown(t *testing.T, v *Vars) []string {
	t.Helper()
	cmd := exec.Command("efibootmgr", "-v")
	cmd.Env = append(os.Environ(), "EFIVARFS_PATH="+v.dir+"/", "LIBEFIVAR_OPS=efivarfs")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("efibootmgr: %v: %s", err, out)
	}
	var order, list []string
	entries := map[string]string{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if o, ok := strings.CutPrefix(line, "BootOrder: "); ok {
			order = strings.Split(o, ",")
		}
		if n, ok := strings.CutPrefix(line, "Boot"); ok && len(n) > 6 && strings.HasPrefix(n[4:], "* ") {
			entries[n[:4]] = n[6:]
		}
	}
	for _, n := range order {
		list = append(list, entries[n])
		delete(entries, n)
	}
	for _, e := range entries {
		list = append(list, "not in the order: "+e)
	}
	return list
}

func active(description string, path []Node, optional ...byte) LoadOption {
	return LoadOption{Attributes: loadActive, Description: description, Path: path, Optional: optional}
}

func guid(b string) string {
	return strings.Repeat(b, 4) + "-" + strings.Repeat(b, 2) + "-" + strings.Repeat(b, 2) + "-" + strings.Repeat(b, 2) + "-" + strings.Repeat(b, 6)
}

func TestInstall(t *testing.T) {
	var (
		pxe     = active("UEFI PXEv4", networkPath)
		windows = active("Windows Boot Manager", diskPath(otherESP, `\EFI\Microsoft\Boot\bootmgfw.efi`), 1, 2, 3)
		shell   = active("Shell", []Node{{typeMedia, 7, make([]byte, 16)}, {typeMedia, 6, make([]byte, 16)}})
		ours    = active("debian", diskPath(esp, shim))
		dead    = active("old system", diskPath(oldESP, `\EFI\fedora\shimx64.efi`))
	)
	here := func(p Partition) string {
		return "HD(1,GPT," + guid(string("0123"[p.Sig[0]>>4])+string("0123"[p.Sig[0]&15])) + ",0x800,0x20000)/File("
	}
	mine := "debian\t" + here(esp) + shim + ")"
	for _, tt := range []struct {
		name    string
		vars    *Vars
		place   Place
		present []ID
		want    []string // what the descriptions, or whole entries, in the order begin with
		removed string
		behind  string
		idle    bool
	}{
		{"empty firmware", firmware(t, -1), First, nil, []string{mine}, "", "", false},
		{"first", firmware(t, 0, pxe, windows), First, nil, []string{mine, "UEFI PXEv4", "Windows"}, "", "", false},
		{"after the network", firmware(t, 1, windows, pxe, shell), AfterNetwork, nil, []string{"Windows", "UEFI PXEv4", mine, "Shell"}, "", "UEFI PXEv4", false},
		{"booted from a stick", firmware(t, 1, pxe, shell), AfterNetwork, nil, []string{mine, "UEFI PXEv4", "Shell"}, "", "", false},
		{"firmware does not say", firmware(t, -1, pxe, shell), AfterNetwork, nil, []string{mine, "UEFI PXEv4", "Shell"}, "", "", false},
		{"there already", firmware(t, 0, pxe, ours, shell), AfterNetwork, nil, []string{"UEFI PXEv4", mine, "Shell"}, "", "UEFI PXEv4", true},
		{"there, elsewhere", firmware(t, 0, pxe, shell, ours), AfterNetwork, nil, []string{"UEFI PXEv4", mine, "Shell"}, "", "UEFI PXEv4", false},
		{"duplicates", firmware(t, 0, pxe, active("Debian", diskPath(esp, strings.ToUpper(shim))), ours, shell, ours), AfterNetwork, nil,
			[]string{"UEFI PXEv4", mine, "Shell"}, `Boot0003 "debian", Boot0005 "debian"`, "UEFI PXEv4", false},
		{"another file of the same partition", firmware(t, 0, pxe, active("fallback", diskPath(esp, `\EFI\BOOT\BOOTX64.EFI`))), First, nil,
			[]string{mine, "UEFI PXEv4", "fallback"}, "", "", false},
		{"dead entry of the disk", firmware(t, 0, pxe, dead, windows), First, nil, []string{mine, "UEFI PXEv4", "Windows"}, `Boot0002 "old system"`, "", false},
		{"the same system on another disk", firmware(t, 0, pxe, active("debian", diskPath(otherESP, shim))), First, []ID{otherESP.ID},
			[]string{mine, "UEFI PXEv4", "debian\t" + here(otherESP)}, "", "", false},
		{"the same system, on no disk any more", firmware(t, 0, pxe, active("debian", diskPath(otherESP, shim))), First, []ID{esp.ID},
			[]string{mine, "UEFI PXEv4"}, `Boot0002 "debian"`, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{Entries: []Entry{{"debian", esp, shim}}, Place: tt.place, Gone: []ID{oldESP.ID}}
			if tt.present != nil {
				r.Present = func(id ID) bool { return slices.Contains(tt.present, id) }
			}
			c, err := tt.vars.Install(r)
			if err != nil {
				t.Fatal(err)
			}
			got := shown(t, tt.vars)
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("efibootmgr: %q, want %q", got, tt.want)
			}
			if s := strings.Join(c.Removed, ", "); s != tt.removed || c.Behind != tt.behind || c.Written == tt.idle || len(c.Numbers) != 1 {
				t.Errorf("%+v", c)
			}
			// Again: nothing is written.
			if c, err = tt.vars.Install(r); err != nil || c.Written || !slices.Equal(shown(t, tt.vars), got) {
				t.Errorf("again: %+v, %v, %q", c, err, shown(t, tt.vars))
			}
		})
	}
}

// A mirrored ESP has an entry for each of its disks.
func TestInstallMirror(t *testing.T) {
	v := firmware(t, 0, active("UEFI PXEv4", networkPath), active("debian 2", diskPath(otherESP, shim)))
	r := Request{Entries: []Entry{{"debian", esp, shim}, {"debian 2", otherESP, shim}}, Place: AfterNetwork}
	for range 2 {
		c, err := v.Install(r)
		if err != nil || len(c.Numbers) != 2 {
			t.Fatalf("%+v, %v", c, err)
		}
		got := shown(t, v)
		if len(got) != 3 || !strings.HasPrefix(got[1], "debian\tHD(1,GPT,1111") || !strings.HasPrefix(got[2], "debian 2\tHD(1,GPT,2222") {
			t.Errorf("efibootmgr: %q", got)
		}
	}
}

// What is not understood stays, BootNext goes with the entry that it names.
func TestInstallLeavesTheRest(t *testing.T) {
	v := firmware(t, -1, active("old", diskPath(oldESP, shim)), active("x", networkPath))
	broken := []byte{1, 2, 3}
	err := errors.Join(v.write("Boot0000", broken), v.writeWords("BootOrder", []uint16{0, 1, 2, 9}), v.writeWords("BootNext", []uint16{1}),
		v.write("Timeout", []byte{5, 0}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.Install(Request{Entries: []Entry{{"debian", esp, shim}}, Place: First, Gone: []ID{oldESP.ID}})
	if err != nil || !slices.Equal(c.Numbers, []uint16{3}) {
		t.Fatalf("%+v, %v", c, err)
	}
	order, err := v.words("BootOrder")
	if err != nil || !slices.Equal(order, []uint16{3, 0, 2, 9}) {
		t.Errorf("order %v, %v", order, err)
	}
	if b, err := v.read("Boot0000"); err != nil || !slices.Equal(b, broken) {
		t.Errorf("Boot0000: %v, %v", b, err)
	}
	if b, err := v.read("Timeout"); err != nil || !slices.Equal(b, []byte{5, 0}) {
		t.Errorf("Timeout: %v, %v", b, err)
	}
	for _, name := range []string{"Boot0001", "BootNext"} {
		if _, err := v.read(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A full memory is an error of its own; the order has no entry that was deleted, and no half entry is left.
func TestInstallFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k,nr_inodes=6"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	v := &Vars{dir}
	old, err := (&LoadOption{Attributes: loadActive, Description: "old", Path: diskPath(oldESP, shim)}).Marshal()
	err = errors.Join(err, v.write("Boot0001", old), v.writeWords("BootOrder", []uint16{1}),
		os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 8<<10), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 { // until no file can be added
		_ = os.WriteFile(filepath.Join(dir, "more"+string(rune('a'+i))), nil, 0o600)
	}
	r := Request{Entries: []Entry{{"debian", esp, shim}}, Place: First}
	_, err = v.Install(r)
	var full *FullError
	if !errors.As(err, &full) || full.Name != "Boot0000" || !strings.Contains(err.Error(), "full") {
		t.Fatalf("error %v", err)
	}
	if _, err := os.Stat(v.path("Boot0000")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Boot0000 is left: %v", err)
	}
	if order, err := v.words("BootOrder"); err != nil || !slices.Equal(order, []uint16{1}) {
		t.Errorf("order %v, %v", order, err)
	}
	// With the dead entry deleted there is room for ours.
	r.Gone = []ID{oldESP.ID}
	if _, err := v.Install(r); err != nil {
		t.Error(err)
	}
	if got := shown(t, v); len(got) != 1 || !strings.HasPrefix(got[0], "debian\t") {
		t.Errorf("efibootmgr: %q", got)
	}
}

func TestImmutableVariable(t *testing.T) {
	v := firmware(t, -1, active("x", networkPath))
	path := v.path("BootOrder")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|immutable)
	}
	if err != nil {
		t.Fatalf("the file system of %s has no immutable files: %v", path, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err == nil {
		t.Error("an immutable file can be written")
	}
	if err := v.writeWords("BootOrder", []uint16{7}); err != nil {
		t.Error(err)
	}
	if got, err := v.words("BootOrder"); err != nil || !slices.Equal(got, []uint16{7}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOpenVars(t *testing.T) {
	if _, err := OpenVars(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := OpenVars(t.TempDir()); err == nil || !strings.Contains(err.Error(), "efi=noruntime") {
		t.Errorf("empty: %v", err)
	}
	if _, err := OpenVars(firmware(t, -1).dir); err != nil {
		t.Error(err)
	}
}

// efibootmgr makes an entry for a partition of a real disk: ours for the same partition has the same bytes.
func TestEntryIsThatOfEfibootmgr(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", "--new=3:2048:+20M", "--typecode=3:ef00", "--new=1:65536:+1M", disk)
	loop := looptest.Attach(t, disk)

	theirs := firmware(t, -1, active("x", networkPath))
	cmd := exec.Command("efibootmgr", "--quiet", "--create", "--disk", loop, "--part", "3", "--loader", shim, "--label", "Debian ü")
	cmd.Env = append(os.Environ(), "EFIVARFS_PATH="+theirs.dir+"/", "LIBEFIVAR_OPS=efivarfs")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("efibootmgr --create: %v: %s", err, out)
	}
	f, err := os.Open(loop)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts, err := Partitions(f, 512)
	if err != nil || len(parts) != 2 || !parts[1].ESP || parts[0].ESP {
		t.Fatalf("%+v, %v", parts, err)
	}
	ours := firmware(t, -1, active("x", networkPath))
	if _, err := ours.Install(Request{Entries: []Entry{{"Debian ü", parts[1], shim}}, Place: First}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Boot0000", "BootOrder"} {
		want, err := theirs.read(name)
		got, gerr := ours.read(name)
		if err != nil || gerr != nil || !slices.Equal(want, got) {
			t.Errorf("%s: % x (%v), efibootmgr's is % x (%v)", name, got, gerr, want, err)
		}
	}
}

var tool = tooltest.Run

func FuzzLoadOption(f *testing.F) {
	for _, o := range []LoadOption{active("debian", diskPath(esp, shim)), active("net", networkPath, 1, 2), {}} {
		b, err := o.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseLoadOption(b)
		if err != nil {
			return
		}
		file(o.Path)
		network(o.Path)
		again, err := o.Marshal()
		if err != nil {
			return // a long description of someone else's
		}
		p, err := ParseLoadOption(again)
		if err != nil || len(p.Path) != len(o.Path) || !slices.Equal(p.Optional, o.Optional) {
			t.Fatalf("% x: %+v becomes %+v, %v", b, o, p, err)
		}
	})
}

func TestParseLoadOptionErrors(t *testing.T) {
	good, err := (&LoadOption{Description: "x", Path: networkPath}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	endless := binary.LittleEndian.AppendUint32(nil, 1)
	for _, tt := range []struct {
		name, want string
		b          []byte
	}{
		{"short", "5 bytes", good[:5]},
		{"description", "does not end", append(endless, 0, 0, 'x', 0)},
		{"list", "a path list of", good[:len(good)-1]},
		{"node", "says it has", append(append([]byte{}, good[:10]...), 4, 1, 3, 0)},
	} {
		if tt.name == "node" {
			binary.LittleEndian.PutUint16(tt.b[4:], 4)
		}
		if _, err := ParseLoadOption(tt.b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := (&LoadOption{Description: strings.Repeat("x", 300)}).Marshal(); err == nil {
		t.Error("a description of 300 bytes")
	}
}
