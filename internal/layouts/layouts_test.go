package layouts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmboot/internal/layout"
	"swarmboot/internal/params"
	"swarmboot/internal/strictyaml"
)

const simple = "candidates:\n- name: a\n  disks:\n  - {name: os, scale: last}\n"

// Everything that is wrong is named by line, column and field.
func TestParseErrors(t *testing.T) {
	set := func(fields string) string {
		return "candidates:\n- name: a\n  disks:\n  - {name: os, " + fields + "}\n"
	}
	parts := func(fields string) string { return set("partitions: [{name: p, " + fields + "}]") }
	raid := func(fields string) string {
		return "candidates:\n- name: a\n  disks:\n  - {name: os, count: 4, partitions: [{name: p, size: 1G}, {name: q, size: 1G, fs: ext4}]}\n  raid:\n  - {name: r, of: os/p, level: 1, " + fields + "}\n"
	}
	for _, tt := range []struct{ text, want string }{
		{"", "x.yaml: is empty"},
		{"{}", "candidates: is missing"},
		{"candidate: []\n", `x.yaml:1:1: unknown field "candidate"`},
		{"candidates:\n- name: a\n", "x.yaml:2:3: candidates[0].disks: is missing"},
		{"candidates:\n- name: a\n  disks:\n  - {name: os}\n", "x.yaml:4:6: candidates[0].disks[0]: nothing is to be done"},
		{simple + "- name: a\n  disks:\n  - {name: os, scale: last}\n", `x.yaml:5:3: candidates[1].name: "a": stands here twice`},
		{simple + "  - {name: os, fs: ext4}\n", `x.yaml:5:6: candidates[0].disks[1].name: "os": stands here twice`},
		{simple + "  - {name: two, scale: exact}\n", "scale: stands in 2 sets"},
		{simple + "  - {name: two, image: 2}\n", "image: and scale: exclude each other"},
		{set("scale: twice"), `x.yaml:4:16: candidates[0].disks[0].scale: "twice": want one of last, proportional, exact`},
		{set("scale: last, count: 2.."), "exactly one disk"},
		{set("scale: last, count: 0"), `candidates[0].disks[0].count: "0": want a number of disks`},
		{set("scale: last, count: 4..2"), `.count: "4..2"`},
		{set("scale: last, pick: any"), `.pick: "any": want one of smallest, largest, first`},
		{set("scale: last, wipe: shred"), `.wipe: "shred": want one of none, discard, zero`},
		{set("scale: last, fs: ext4"), "exclude each other"},
		{set("scale: last, select: [only, sizzle=3]"), `x.yaml:4:44: candidates[0].disks[0].select[1]: disk selector "sizzle=3"`},
		{set("fs: ext5"), `.fs: "ext5": want one of ext4, swap, vfat, xfs`},
		{set("fs: ext4, image: 1"), "image and fs exclude each other"},
		{set("fs: ext4, grow: true"), "goes with image only"},
		{set("image: 1, fsLabel: x"), ".fsLabel: goes with fs only"},
		{set("fs: vfat, fsUUID: 11111111-2222-4333-8444-555555555501"), ".fsUUID: "},
		{set("fs: ext4, fsLabel: seventeen-letters"), ".fsLabel: \"seventeen-letters\": ext4 has room for 16 bytes"},
		{set("fs: xfs, count: 2, fsUUID: 11111111-2222-4333-8444-555555555501"), "several disks would have"},
		{set("fs: xfs, count: 2, mount: /data"), "several disks would be mounted there"},
		{set("fs: xfs, mount: data"), ".mount: "},
		{set("fs: xfs, mount: /data/../x"), ".mount: "},
		{set("fs: xfs, options: noatime"), ".options: goes with mount only"},
		{set("fs: xfs, mount: /d, options: 'a b'"), ".options: "},
		{set("fs: swap, mount: /d"), "swap is not mounted"},
		{parts("size: 1X"), `x.yaml:4:39: candidates[0].disks[0].partitions[0].size: size "1X"`},
		{parts("size: 0%"), ".size: "},
		{parts("size: 101%"), ".size: "},
		{parts("size: NaN%"), ".size: "},
		{parts("fs: ext4"), ".size: is missing"},
		{parts("size: 1G, type: efi"), `.type: "efi": want a GUID or one of bios, esp`},
		{parts("size: 1G, type: 00000000-0000-0000-0000-000000000000"), ".type: "},
		{parts("size: 1G, label: 0123456789012345678901234567890123456"), ".label: "},
		{parts("size: 1G, uuid: x"), ".uuid: "},
		{parts("size: 1G, attributes: [hidden]"), `.attributes[0]: "hidden"`},
		{parts("size: 1G, number: 129"), ".number: 129"},
		{parts("size: 1G, mount: /x"), "there is nothing to mount"},
		{parts("keep: maybe"), `.keep: "maybe": want one of yes, or-create`},
		{parts("keep: true, size: 1G"), ".size: the partition is kept as it is"},
		{parts("keep: or-create, image: 2"), ".image: a partition that is kept holds nothing of the image"},
		{set("partitions: [{name: a, size: rest}, {name: b, size: rest}]"), "size: rest stands in 2 partitions"},
		{set("partitions: [{name: a, size: 60%}, {name: b, size: 41%}]"), "101 % of the disk"},
		{set("partitions: [{name: a, size: 1G}, {name: a, size: 1G}]"), `partitions[1].name: "a": stands here twice`},
		{set("partitions: [{name: a, size: 1G, number: 2}, {name: b, size: 1G, number: 2}]"), "that no other partition has"},
		{set("count: 2, partitions: [{name: a, size: 1G, uuid: 11111111-2222-4333-8444-555555555501}]"), "several disks would have partitions with this UUID"},
		{raid("level: 1"), "x.yaml:6:35"},
		{strings.Replace(raid("chunk: 64K"), "level: 1", "level: 3", 1), "raid[0].level: 3: want 0, 1, 4, 5, 6 or 10"},
		{raid("chunk: 64K"), ".chunk: level 1 has no chunks"},
		{strings.Replace(raid("chunk: 65K"), "level: 1", "level: 5", 1), ".chunk: \"65K\": want a power of two"},
		{strings.Replace(raid("bitmap: true"), "level: 1", "level: 0", 1), ".bitmap: level 0"},
		{strings.Replace(raid("spares: 1"), "level: 1", "level: 0", 1), ".spares: 1"},
		{raid("spares: 3"), "level 1 needs 2"},
		{raid("spares: -1"), ".spares: -1"},
		{raid("metadata: 0.90"), `.metadata: "0.90": want one of 1.2, 1.0`},
		{strings.Replace(raid("spares: 0"), "os/p", "os/x", 1), "raid[0].of: \"os/x\": want the name of a set"},
		{strings.Replace(raid("spares: 0"), "os/p", "os/q", 1), "a part of an array holds nothing else"},
		{strings.Replace(raid("spares: 0"), "os/p", "os", 1), "exclude each other"},
		{raid("spares: 0") + "  - {name: s, of: os/p, level: 1}\n", "belongs to another array"},
		{raid("spares: 0") + "  - {name: r, of: os/q, level: 1}\n", `raid[1].name: "r": stands here twice`},
		{strings.Replace(raid("image: 1"), "{name: p, ", "{name: p, type: esp, ", 1), `metadata: firmware reads an ESP`},
		{strings.Repeat("# x\n", layout.MaxLayout/4+1), "more than"},
	} {
		_, err := Parse("x.yaml", []byte(tt.text))
		var pe *strictyaml.Error
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, &pe) {
			t.Errorf("%.200s\ngot %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

// A name that the parameter takes is one that the server has a file for, and no other is.
func TestValidName(t *testing.T) {
	for _, name := range []string{"a+b", "raid1", "A.b_c-d", "+a", "-a", ".a", "a b", "a/b", "", strings.Repeat("a", 128), strings.Repeat("a", 129)} {
		if _, err := params.ParseCmdline(`swarmboot.image=i swarmboot.layout="` + name + `"`); (err == nil) != ValidName(name) {
			t.Errorf("%q: %v, %v", name, ValidName(name), err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a+b.yaml"), []byte(simple), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := JSON(dir, "a+b"); err != nil {
		t.Error(err)
	}
}

func TestJSON(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good.yaml": simple, "bad.yaml": "candidates: 3\n", "empty.yaml": "# candidates:\n", "x.yml": simple, "-y.yaml": simple, ".hidden.yaml": "", "README": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := JSON(dir, "good")
	if err != nil {
		t.Fatal(err)
	}
	if l, err := layout.Parse(b); err != nil || l.Candidates[0].Disks[0].Scale != "last" {
		t.Errorf("%s: %v", b, err)
	}
	for _, name := range []string{"none", "", "../good", "good.yaml/..", "-y"} {
		if _, err := JSON(dir, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := JSON(dir, "bad"); err == nil || !strings.Contains(err.Error(), "bad.yaml:1:13: ") {
		t.Errorf("bad: %v", err)
	}
	if _, err := JSON(dir, "empty"); err == nil || !strings.Contains(err.Error(), "empty.yaml: is empty") {
		t.Errorf("empty: %v", err)
	}
	n, err := CheckDir(dir)
	for _, want := range []string{"bad.yaml:1:13", "empty.yaml: is empty", "x.yml: is not read: name it x.yaml", "-y.yaml: is not read"} {
		if n != 4 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d files, %v; want %s", n, err, want)
		}
	}
}

// The node refuses what the server would not send.
func TestNodeIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		`{"candidates":[{"name":"a","disks":[{"name":"os","scale":"last","x":1}]}]}`: "unknown field",
		`{"candidates":[{"name":"a","disks":[{"name":"os","scale":"last"}]}]} {}`:    "data after",
		`{"candidates":[]}`: "candidates: is missing",
		`{"candidates":[{"name":"a","disks":[{"name":"os","scale":"last","select":["x"]}]}]}`: "candidates[0].disks[0].select[0]",
		strings.Repeat(" ", layout.MaxLayout+1):                                               "more than",
	} {
		if _, err := layout.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(simple))
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			_, text, _ := strings.Cut(string(b), "-- layout.yaml --\n")
			text, _, _ = strings.Cut(text, "-- disks --")
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse("x.yaml", b)
		if err == nil && len(l.Check()) > 0 {
			t.Fatal("a layout that is wrong was taken")
		}
	})
}
