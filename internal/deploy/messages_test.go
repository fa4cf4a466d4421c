package deploy

import (
	"strings"
	"testing"

	"swarmboot/internal/cli"
	"swarmboot/internal/swarm"
)

// A map of pieces that is not whole is an error, whichever of the two counts is wrong.
func TestWholeMap(t *testing.T) {
	for done, want := range map[int]string{
		999:  "the image has 1000 pieces, and 999 were counted on the disk",
		1000: "",
		1003: "the image has 1000 pieces, and 1003 were counted on the disk",
	} {
		err := wholeMap(swarm.Stats{PiecesDone: done, PiecesTotal: 1000})
		if (err == nil) != (want == "") || err != nil && (err.Error() != want || cli.Code(err) != cli.CodeVerify) {
			t.Errorf("%d: %v, want %q", done, err, want)
		}
	}
}

// A disk without a table has none that could be cleared.
func TestUndoSaysWhatWasCleared(t *testing.T) {
	bare := bareImage(t, true, 32*mib, "mkfs.ext4", "-q")
	for want, w := range map[string]*planned{
		" is not whole: its superblocks were cleared, it does not boot":    bare.planned(t, bare.Manifest, bare.target),
		" is not whole: its partition table was cleared, it does not boot": severalDisks(t, espType),
	} {
		var said []string
		w.say = func(line string) { said = append(said, line) }
		w.disks[0].dirty = true
		w.undo(t.Context())
		if len(said) != 1 || said[0] != w.disks[0].Disk.Path+want {
			t.Errorf("it says\n%s\nwant%s", strings.Join(said, "\n"), want)
		}
	}
}
