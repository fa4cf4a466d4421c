package layouts

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"swarmboot/internal/strictyaml"
)

// refuses parses text and looks for want among what is wrong.
func refuses(t *testing.T, text, want string) {
	t.Helper()
	_, err := Parse("x.yaml", []byte(text))
	var pe *strictyaml.Error
	if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &pe) {
		t.Errorf("%.200s\ngot %v\nwant %s", text, err, want)
	}
}

// A type is the same whether its name or its GUID stands there.
func TestESPByGUID(t *testing.T) {
	const esp = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	for _, kind := range []string{"esp", esp, strings.ToLower(esp)} {
		mirror := func(raid string) string {
			return "candidates:\n- name: a\n  disks:\n  - {name: os, count: 2, partitions: [{name: p, size: 1G, type: " + kind + "}]}\n" +
				"  raid: [{name: r, of: os/p, " + raid + ", fs: vfat}]\n"
		}
		for _, raid := range []string{"level: 0, metadata: 1.0", "level: 1, metadata: 1.2", "level: 1"} {
			refuses(t, mirror(raid), "raid[0].metadata: firmware reads an ESP in an array")
		}
		if _, err := Parse("x.yaml", []byte(mirror("level: 1, metadata: 1.0"))); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A mount path or a UUID is given once, but by sets that stand for each other: of these one may have no disks.
func TestSharedNames(t *testing.T) {
	const head = "candidates:\n- name: a\n  disks:\n"
	const id, upper = "abcdef01-2222-4333-8444-555555555501", "ABCDEF01-2222-4333-8444-555555555501"
	parts := func(first, second string) string {
		return head + "  - {name: os, partitions: [{name: p, size: 1G, fs: xfs, " + first + "}, {name: q, size: 1G, fs: xfs, " + second + "}]}\n"
	}
	sets := func(first, second string) string {
		return head + "  - {name: a, fs: xfs, " + first + "}\n  - {name: b, fs: xfs, " + second + "}\n"
	}
	array := func(second string) string {
		return head + "  - {name: os, count: 2, partitions: [{name: p, size: 1G, fs: xfs, mount: \"/p{n}\"}, {name: q, size: 1G}]}\n" +
			"  raid: [{name: r, of: os/q, level: 1, fs: xfs, mount: " + second + "}]\n"
	}
	for _, tt := range []struct{ text, want string }{
		{parts("mount: /d", "mount: /d"), `x.yaml:4:99: candidates[0].disks[0].partitions[1].mount: "/d": another place has this too`},
		{parts("fsUUID: "+id, "fsUUID: "+upper), "disks[0].partitions[1].fsUUID: "},
		{parts("uuid: "+id, "uuid: "+upper), "disks[0].partitions[1].uuid: "},
		{sets("mount: /d", "mount: /d"), "disks[1].mount: "},
		{sets("fsUUID: "+id, "fsUUID: "+id), "disks[1].fsUUID: "},
		{sets(`count: 2.., mount: "/d{n}"`, `count: 1.., mount: "/d{n}"`), "disks[1].mount: "},
		{array("/p1"), "raid[0].mount: "},
	} {
		refuses(t, tt.text, tt.want)
	}
	for _, text := range []string{
		parts("mount: /d", "mount: /e"), parts("fsUUID: "+id, "uuid: "+id), array("/p"),
		sets("count: 0..1, mount: /d", "count: 0..1, mount: /d"), sets("count: 0..1, fsUUID: "+id, "fsUUID: "+id),
	} {
		if _, err := Parse("x.yaml", []byte(text)); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

// What is short enough as YAML may be too long for the node.
func TestLongAsJSON(t *testing.T) {
	text := "candidates:\n- name: a\n  disks:\n  - name: os\n    partitions:\n"
	for i := range 12 {
		text += fmt.Sprintf("    - {name: p%d, size: 1G, fs: xfs, mount: /p%d, options: \"%s\"}\n", i, i, strings.Repeat("<", 1000))
	}
	refuses(t, text, "x.yaml: more than 65536 bytes as JSON")
	if _, err := Parse("x.yaml", []byte(strings.ReplaceAll(text, "<", "x"))); err != nil {
		t.Error(err)
	}
}
