package deploy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

// look reads what is in an image before anything is written: which bytes are used, and what a file system says of itself. The few
// plans that depend on it are those for a disk of another sector size, and for one that is smaller than the image's.
type look func() (*imagefmt.Image, error)

// used is layout.Image.Used.
func (l look) used() ([]imagefmt.Extent, error) {
	im, err := l()
	if err != nil {
		return nil, err
	}
	return UsedExtents(im.Index())
}

// UsedExtents are the extents that an image has bytes or zeros for.
func UsedExtents(ix *imagefmt.Index) ([]imagefmt.Extent, error) {
	all := ix.Zero()
	for piece := ix.IndexPieces(); piece < ix.Pieces(); piece++ {
		frames, err := ix.Frames(piece)
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			all = append(all, f.Extents...)
		}
	}
	return all, nil
}

// localImage looks into a payload that is here.
func localImage(m *imagefmt.Manifest, payload io.ReaderAt) look {
	return sync.OnceValues(func() (*imagefmt.Image, error) {
		im, err := imagefmt.Open(m, payload)
		if err != nil {
			return nil, cli.WithCode(verifyCode(err), fmt.Errorf("payload of %s: %w", m.Name, err))
		}
		return im, nil
	})
}

// remoteImage looks into the payload on the server, by ranges over HTTP. Every byte is checked by the hashes of the index, whose own
// is in the manifest.
func (e *engine) remoteImage(ctx context.Context) look {
	return localImage(e.m, &remotePayload{ctx: ctx, http: e.c.http, url: e.c.base + "/images/" + url.PathEscape(e.m.Name) + imagefmt.PayloadSuffix})
}

// remotePayload is a payload on the server.
type remotePayload struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt has none
	http *http.Client
	url  string
}

// ReadAt implements io.ReaderAt.
func (p *remotePayload) ReadAt(b []byte, off int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(len(b))-1))
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, cli.WithCode(cli.CodeUnreachable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return 0, cli.WithCode(cli.CodeUnreachable, fmt.Errorf("GET %s: the server does not give a part of the payload: %s", p.url, resp.Status))
	}
	n, err := io.ReadFull(resp.Body, b)
	if err != nil {
		err = cli.WithCode(cli.CodeUnreachable, fmt.Errorf("GET %s: %w", p.url, err))
	}
	return n, err
}
