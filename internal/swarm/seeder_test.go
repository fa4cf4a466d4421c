package swarm

import (
	"testing"

	"swarmboot/imagefmt"
)

// TestImagesShareTheSeeder: two images that are fetched at once get about the same of the upload limit.
func TestImagesShareTheSeeder(t *testing.T) {
	t.Parallel()
	one, two := makeImage(t, 24<<20, 256<<10, imagefmt.Verbatim), makeImage(t, 26<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, one, SeederOptions{UploadRate: 6 << 20})
	if err := r.seeder.Add(two.meta.Marshal(""), two.payload); err != nil {
		t.Fatal(err)
	}
	r.tracker.Register(two.meta.InfoHash, two.manifest.Pieces())
	s1 := r.join(1, one.blank(), nil)
	s2 := r.join(2, two.blank(), func(o *NodeOptions) { o.Metainfo, o.Manifest = two.meta, two.manifest })
	// The first node has the seeder to itself until the second has connected, however long that takes here.
	waitPieces(t, s1, 1)
	waitPieces(t, s2, 1)
	alone1, alone2 := s1.Stats().FromServer, s2.Stats().FromServer
	mustWait(t, s1)
	first, second := s1.Stats().FromServer-alone1, s2.Stats().FromServer-alone2
	if first < one.manifest.PayloadLength/3 {
		t.Fatalf("the first had only %d bytes left when the second began", first)
	}
	if second < first/2 {
		t.Errorf("while one image got %d bytes, the other got %d", first, second)
	}
	mustWait(t, s2)
}
