package swarm

import (
	"testing"

	"swarmboot/imagefmt"
)

// TestImagesShareTheSeeder: two images that are fetched at once get about the same of the upload limit.
func TestImagesShareTheSeeder(t *testing.T) {
	t.Parallel()
	one, two := makeImage(t, 12<<20, 256<<10, imagefmt.Verbatim), makeImage(t, 13<<20, 256<<10, imagefmt.Verbatim)
	r := newRig(t, one, SeederOptions{UploadRate: 6 << 20})
	if err := r.seeder.Add(two.meta.Marshal(""), two.payload); err != nil {
		t.Fatal(err)
	}
	r.tracker.Register(two.meta.InfoHash, two.manifest.Pieces())
	s1 := r.join(1, one.blank(), nil)
	s2 := r.join(2, two.blank(), func(o *NodeOptions) { o.Metainfo, o.Manifest = two.meta, two.manifest })
	mustWait(t, s1)
	first, second := float64(s1.Stats().FromServer), float64(s2.Stats().FromServer)
	if second < first/2 {
		t.Errorf("when one image was whole with %.0f bytes, the other had %.0f", first, second)
	}
	mustWait(t, s2)
}
