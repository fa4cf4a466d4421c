package identity

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	oldUUID = "7e27bf6b-ca08-4e70-b15a-2b1e64a36e4b"
	newUUID = "11111111-2222-8333-9444-555555555555"
)

var exchange = map[string]string{oldUUID: newUUID, "1a2b-3c4d": "9F8E-7D6C", "5a3b0001-02": "0badf00d-02",
	PartUUID + "0badf00d-01": "UUID=" + newUUID, ByPartUUID + "0badf00d-01": "/dev/disk/by-uuid/" + newUUID, PartUUID + "0badf00d-03": "/dev/md/data"}

func TestReplaceText(t *testing.T) {
	for text, want := range map[string]string{
		"UUID=" + oldUUID + " / ext4":            "UUID=" + newUUID + " / ext4",
		strings.ToUpper(oldUUID):                 strings.ToUpper(newUUID),
		"a" + oldUUID:                            "a" + oldUUID, // another one
		oldUUID + "-1":                           oldUUID + "-1",
		"/dev/disk/by-uuid/1A2B-3C4D,x":          "/dev/disk/by-uuid/9F8E-7D6C,x",
		"uuid=1a2b-3c4d":                         "uuid=9F8E-7D6C",
		"PARTUUID=5a3b0001-02 PARTUUID=5a3b0001": "PARTUUID=0badf00d-02 PARTUUID=5a3b0001",
		"PARTUUID=0BADF00D-01 / ext4 ro\nquiet root=PARTUUID=0badf00d-01 x": "UUID=" + newUUID + " / ext4 ro\nquiet root=UUID=" + newUUID + " x",
		`PARTUUID="0badf00d-01" PARTUUID="0badf00d-03"`:                     `UUID="` + newUUID + `" "/dev/md/data"`,
		"/dev/disk/by-partuuid/0badf00d-01, PARTUUID=0badf00d-03":           "/dev/disk/by-uuid/" + newUUID + ", /dev/md/data",
		"UUID=0badf00d-01 0badf00d-01 PARTUUID=0badf00d-011":                "UUID=0badf00d-01 0badf00d-01 PARTUUID=0badf00d-011",
		`PARTUUID="5a3b0001-02"`:                                            `PARTUUID="0badf00d-02"`,
		"root=UUID=" + oldUUID + "\nresume=UUID=" + oldUUID:                 "root=UUID=" + newUUID + "\nresume=UUID=" + newUUID,
	} {
		if got := ReplaceText(text, exchange); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// TestReplace: files of a root, of a /boot and of an EFI system partition; links that lead outside; what must not be touched.
func TestReplace(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	text := "UUID=" + oldUUID + "\n"
	touched := []string{"/etc/fstab", "/etc/crypttab", "/etc/default/grub", "/boot/grub/grub.cfg", "/grub2/grubenv", "/boot/loader/entries/a.conf",
		"/loader/entries/b.conf", "/EFI/debian/grub.cfg", "/boot/efi/EFI/fedora/grub.cfg", "/etc/initramfs-tools/conf.d/resume"}
	kept := []string{"/etc/hostname", "/etc/default/other", "/root/fstab", "/loader/entries/b.conf~", "/etc/initramfs-tools/other"}
	for _, name := range append(slices.Clone(touched), kept...) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(outside, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"/etc/kernel/cmdline", "/boot/extlinux/extlinux.conf"} {
		p := filepath.Join(dir, link)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, p); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Replace(t.Context(), dir, exchange)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	slices.Sort(touched)
	if !slices.Equal(files, touched) {
		t.Errorf("changed %q, want %q", files, touched)
	}
	for _, name := range touched {
		b, err := os.ReadFile(filepath.Join(dir, name))
		fi, _ := os.Stat(filepath.Join(dir, name))
		if err != nil || string(b) != "UUID="+newUUID+"\n" || fi.Mode().Perm() != 0o640 {
			t.Errorf("%s: %q, %v, %v", name, b, fi.Mode(), err)
		}
	}
	for _, path := range append([]string{outside}, filepath.Join(dir, kept[0]), filepath.Join(dir, kept[1]), filepath.Join(dir, kept[2]), filepath.Join(dir, kept[3]), filepath.Join(dir, kept[4])) {
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if again, err := Replace(t.Context(), dir, exchange); err != nil || len(again) != 0 {
		t.Errorf("again: %q, %v", again, err)
	}
}
