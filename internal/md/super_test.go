package md

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func example() *Superblock {
	now := time.Unix(1700000000, 123456000).UTC()
	return &Superblock{
		Minor: 1, Features: featureBitmap, UUID: UUID{1, 2}, Name: "any:x", Created: now, Updated: now, Level: 5, Layout: leftSymmetric, Used: 8 * mib,
		Chunk: defaultChunk, Disks: 3, BitmapOffset: 4096, DataOffset: mib, DataSize: 8 * mib, Device: 1, DeviceUUID: UUID{15: 9}, BadLogSize: 4096, BadLogOffset: 8192,
		Events: 77, Resync: 1024, Roles: []uint16{0, 1, 2, RoleSpare},
	}
}

// TestVersionInFront reads version 1.1, which we do not write; mdadm reads the same.
func TestVersionInFront(t *testing.T) {
	_, paths := disks(t, 512, 16*mib)
	sb := example()
	if err := os.WriteFile(paths[0], append(sb.marshal(), make([]byte, 16*mib)...), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Examine(paths[0])
	if err != nil || !reflect.DeepEqual(got, sb) {
		t.Errorf("%+v, %v; want %+v", got, err, sb)
	}
	said := fields(tool(t, "mdadm", "--examine", paths[0]))
	for key, want := range map[string]string{"Version": "1.1", "Events": "77", "Device Role": "Active device 1", "Raid Level": "raid5"} {
		if said[key] != want {
			t.Errorf("mdadm says %s %q, want %q", key, said[key], want)
		}
	}
	want := `md array "any:x", level 5, metadata 1.1, UUID 01020000:00000000:00000000:00000000, member 1 of 3, not in sync`
	if got.String() != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDamaged(t *testing.T) {
	whole := example().marshal()
	for _, tt := range []struct {
		name string
		do   func(b []byte)
		want string
	}{
		{"no magic", func(b []byte) { b[0] = 0 }, ErrNoSuperblock.Error()},
		{"other version", func(b []byte) { b[4] = 0 }, "major version 0"},
		{"bit", func(b []byte) { b[40] ^= 1 }, "checksum"},
		{"too many roles", func(b []byte) { le.PutUint32(b[220:], 1921) }, "1921 members"},
		{"huge size", func(b []byte) { le.PutUint64(b[80:], 1<<63) }, "size of"},
		{"elsewhere", func(b []byte) { le.PutUint64(b[144:], 8) }, "lies at 4096"},
		{"no members", func(b []byte) { le.PutUint32(b[92:], 0) }, "0 members"},
		{"control character", func(b []byte) { b[34] = 27 }, "control"},
		{"data behind the end", func(b []byte) { le.PutUint64(b[136:], 1<<40) }, "behind the end"},
	} {
		b := bytes.Clone(whole)
		tt.do(b)
		if tt.name != "bit" && tt.name != "too many roles" {
			le.PutUint32(b[216:], checksum(b, 4))
		}
		_, err := Read(bytes.NewReader(append(b, make([]byte, 16*mib)...)), 16*mib)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, size := range []int64{0, 1, 511, 12287, 12288} {
		if _, err := Read(bytes.NewReader(make([]byte, size)), size); !errors.Is(err, ErrNoSuperblock) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := Examine(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// FuzzRead has a superblock at each of the three places of a small disk.
func FuzzRead(f *testing.F) {
	f.Add(example().marshal(), uint16(20))
	f.Add([]byte{}, uint16(3))
	f.Fuzz(func(t *testing.T, head []byte, blocks uint16) {
		size := int64(blocks)*512 + 24*512
		if len(head) >= headSize {
			le.PutUint32(head, magic) // without it and the checksum nothing is ever reached
			if n := le.Uint32(head[220:]); n < maxRoles && headSize+2*int(n) <= len(head) {
				le.PutUint32(head[216:], checksum(head, int(n)))
			}
		}
		for minor := range 3 {
			disk := make([]byte, size)
			copy(disk[superOffset(minor, size):], head)
			sb, err := Read(bytes.NewReader(disk), size)
			if err != nil {
				continue
			}
			_ = sb.String()
			again, err := parse(append(sb.marshal(), make([]byte, maxSuper)...), sb.SuperOffset)
			if err != nil {
				t.Fatalf("%+v is not read again: %v", sb, err)
			}
			again.Minor = sb.Minor
			if !reflect.DeepEqual(again, sb) {
				t.Fatalf("%+v becomes %+v", sb, again)
			}
		}
	})
}

func TestUUID(t *testing.T) {
	const text = "01020304:05060708:090a0b0c:0d0e0f10"
	u, err := ParseUUID("01020304-0506-0708-090a-0b0c0d0e0f10")
	if err != nil || u.String() != text {
		t.Errorf("%s, %v", u, err)
	}
	if v, err := ParseUUID(text); err != nil || v != u {
		t.Errorf("%s, %v", v, err)
	}
	for _, bad := range []string{"", "01", text + "00", strings.Replace(text, "0", "x", 1)} {
		if _, err := ParseUUID(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
