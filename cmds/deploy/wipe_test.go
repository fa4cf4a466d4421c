package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/filetest"
	"swarmboot/internal/looptest"
)

// TestWipeModes: what lies where a layout puts nothing is zero after wipe: zero and wipe: discard, which say so in reports, and as it was after
// wipe: none; what is kept is kept in any case.
func TestWipeModes(t *testing.T) {
	s := newServer(t, 0)
	im := s.publish(t, "img", 24*mib, imagefmt.Packed, nil)
	const free, end = 46 * mib, 62 * mib // behind everything that the layout places
	for _, mode := range []string{"none", "discard", "zero"} {
		dev := looptest.Attach(t, makeTarget(t, keptDisk))
		data := oldDisk(t, dev)
		before, junk := sfdisk(t, dev), filetest.Read(t, dev, free, end-free)
		p := startLayout(t, s, layoutFile(t, strings.Replace(keepingLayout(dev), `"wipe": "discard"`, `"wipe": "`+mode+`"`, 1)), "--json", "--verify", "readback")
		if c := p.code(); c != cli.CodeDone {
			t.Fatalf("%s: code %d\n%s", mode, c, p.err.String())
		}
		checkKept(t, mode, dev, data, before)
		checkPlaced(t, mode, dev, im)
		want := junk
		if mode != "none" {
			want = make([]byte, len(junk))
		}
		if !bytes.Equal(filetest.Read(t, dev, free, end-free), want) {
			t.Errorf("wipe: %s: what lies behind the last partition is not as it is to be", mode)
		}
		m := regexp.MustCompile(regexp.QuoteMeta(dev) + `: (\w+): (\d\S* \w+) of (\d\S* \w+)"`).FindStringSubmatch(p.out.String())
		if said := m != nil && m[1] == mode && m[2] == m[3]; said != (mode != "none") {
			t.Errorf("wipe: %s: the reports say of its progress %q", mode, m)
		}
	}
}
