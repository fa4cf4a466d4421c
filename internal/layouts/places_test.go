package layouts

import (
	"errors"
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
