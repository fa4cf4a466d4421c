package efiboot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// image makes a disk file with the table that a foreign tool writes.
func image(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(64 << 20)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if script == "" {
		return path
	}
	cmd := exec.Command("sfdisk", "--quiet", path)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	return path
}

func TestPartitions(t *testing.T) {
	for _, tt := range []struct {
		name, script, want string
	}{
		{"gpt", "label: gpt\n5: start=4096, size=8192, type=U, uuid=5A3B0001-0A0B-4000-8000-0102030405FF\n2: start=40960, size=100, type=L, uuid=11111111-2222-3333-4444-555555555555\n",
			"2 40960+100 11111111-2222-3333-4444-555555555555 5 4096+8192 5a3b0001-0a0b-4000-8000-0102030405ff ESP"},
		{"mbr", "label: dos\nlabel-id: 0x1234abcd\n2048,4096,ef,*\n8192,,83\n", "1 2048+4096 1234abcd ESP 2 8192+122880 1234abcd"},
		{"none", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := os.Open(image(t, tt.script))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			list, err := Partitions(f, 512)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range list {
				got = append(got, describe(p))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s, want %s", s, tt.want)
			}
		})
	}
}

func describe(p Partition) string {
	var b strings.Builder
	b.WriteString(strings.Join([]string{strconv.Itoa(p.Number), strconv.Itoa(int(p.Start)) + "+" + strconv.Itoa(int(p.Sectors)), p.ID.String()}, " "))
	if p.ESP {
		b.WriteString(" ESP")
	}
	return b.String()
}

// A damaged table is none: a GUID that was never there must not make an entry count as dead.
func TestDamagedTable(t *testing.T) {
	path := image(t, "label: gpt\n1: start=4096, size=8192, type=U\n")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{512 + 16, 512 + 56, 512 + 88, 1024 + 16} {
		b := bytes.Clone(good)
		b[at] ^= 1
		if list, err := Partitions(bytes.NewReader(b), 512); err != nil || len(list) > 1 || len(list) == 1 && list[0].Kind == SignatureGUID {
			t.Errorf("byte %d changed: %+v, %v", at, list, err)
		}
	}
	if list, err := Partitions(bytes.NewReader(good[:100]), 512); err != nil || list != nil {
		t.Errorf("100 bytes: %v, %v", list, err)
	}
}

func FuzzPartitions(f *testing.F) {
	mbr := make([]byte, 1024)
	copy(mbr[440:], "abcd")
	copy(mbr[446:], []byte{0x80, 0, 0, 0, 0xef, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0})
	mbr[510], mbr[511] = 0x55, 0xaa
	f.Add(mbr)
	f.Add(append(make([]byte, 512), gptMagic...))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Partitions(bytes.NewReader(b), 512)
		if err == nil && len(list) > maxGPTEntries {
			t.Fatal(len(list))
		}
	})
}
