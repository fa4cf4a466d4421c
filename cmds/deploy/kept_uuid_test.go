package main

import (
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

// TestUUIDsThatStay: of a file system that cannot have another UUID the server hears, it keeps the one it has, and fstab goes on naming it; all else is
// the node's own.
func TestUUIDsThatStay(t *testing.T) {
	d, dir := makeUUIDDisk(t, "gpt"), t.TempDir()
	place := imagefmt.Partition{Start: uuidOff["xfs"], Length: uuidLength["xfs"]}
	attached(t, d.path, place, func(dev string) { tool(t, "mkfs.xfs", "-q", "-f", "-m", "crc=0,finobt=0,uuid="+d.old["xfs"], dev) })
	imageOf(t, swarmbootProgram(t), dir, "full", d.path, "--root", "4", "--cmdline", "root=UUID="+rootID+" quiet")
	writeFiles(t, dir, map[string]string{"profiles/default.yaml": "newUUIDs: true\n"})
	s := &testServer{URL: wholeServer(t, dir)}
	target := sparse(t, uuidSize)
	p := start(t, s, target, "--image", "full", "--node", "one")
	if c := p.code(); c != cli.CodeDone {
		t.Fatalf("code %d\n%s", c, p.err.String())
	}
	if n := nodeAt(t, s.URL, "one"); len(n.Warnings) != 1 || !strings.HasPrefix(n.Warnings[0], "partition 3 keeps its UUID: only XFS of version 5") {
		t.Errorf("warnings %q", n.Warnings)
	}
	var change []string
	for i, n := range uuidOrder {
		fresh := probed(t, target, uuidOff[n])
		if (fresh == d.old[n]) != (n == "xfs") {
			t.Errorf("%s had %s, and has %s", n, d.old[n], fresh)
		}
		change = append(change, d.old[n], fresh, d.parts[i], partUUIDs(t, target)[i])
	}
	want := strings.NewReplacer(change...).Replace(d.fstab)
	if got := inImage(t, target, uuidOff["root"], "/etc/fstab"); got != want {
		t.Errorf("fstab: %q, want %q", got, want)
	}
	attached(t, target, place, func(dev string) { tool(t, "timeout", "60", "xfs_repair", "-n", dev) })
}
