package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"swarmboot/imagefmt"
)

func identify(fi fs.FileInfo) fileID {
	id := fileID{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		id.inode = st.Ino
	}
	return id
}

// check opens the image and compares everything that has a hash. The payload
// stays open in the Image.
func (c *Catalog) check(ctx context.Context, name string, percent func(int)) (*Image, error) {
	im := &Image{Name: name}
	before := c.stamps(name) // first of all: what is replaced from now on is not what is remembered
	var err error
	if im.ManifestJSON, err = readFile(c.path(name, ".json"), maxManifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", reason(err))
	}
	if im.Manifest, err = imagefmt.ParseManifest(im.ManifestJSON); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if im.Manifest.Name != name {
		return nil, fmt.Errorf("manifest: it is of image %q, not of %q", im.Manifest.Name, name)
	}
	if im.Torrent, err = readFile(c.path(name, ".torrent"), maxTorrent); err != nil {
		return nil, fmt.Errorf("torrent: %w", reason(err))
	}
	if im.Metainfo, err = imagefmt.ParseMetainfo(im.Torrent); err != nil {
		return nil, fmt.Errorf("torrent: %w", err)
	}
	if err := im.Metainfo.Check(im.Manifest); err != nil {
		return nil, fmt.Errorf("torrent: %w", err)
	}
	f, fi, err := openRegular(c.path(name, ".payload"))
	if err != nil {
		return nil, fmt.Errorf("payload: %w", reason(err))
	}
	im.Payload, im.ModTime = f, fi.ModTime()
	infoHash := fmt.Sprintf("%x", im.Metainfo.InfoHash)
	known := c.knows(name, infoHash, before)
	if err := c.verify(ctx, im, fi.Size(), !known, percent); err != nil {
		f.Close()
		return nil, fmt.Errorf("payload: %w", err)
	}
	if !known {
		c.remember(name, infoHash, before)
	}
	return im, nil
}

// verify checks the payload: its size, its index and, with pieces, every piece.
func verify(ctx context.Context, im *Image, size int64, pieces bool, percent func(int)) error {
	if size != im.Manifest.PayloadLength {
		return fmt.Errorf("it has %d bytes, not %d: copied in part?", size, im.Manifest.PayloadLength)
	}
	img, err := imagefmt.Open(im.Manifest, im.Payload)
	if err != nil {
		return err
	}
	if !pieces {
		return nil
	}
	last := 0
	return img.VerifyPieces(ctx, im.Metainfo, func(done, total int) {
		if p := int(int64(done) * 100 / int64(max(total, 1))); p != last {
			last = p
			percent(p)
		}
	})
}

// reason leaves out what a reader of the status page has no use for.
func reason(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("not there (yet)")
	}
	return err
}
