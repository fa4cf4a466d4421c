package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/pause"
	"swarmboot/internal/spread"
)

const (
	requestTimeout = 15 * time.Second // of one GET
	postTimeout    = 5 * time.Second  // of one progress report
	maxBackoff     = 5 * time.Second
	maxMetainfo    = 64 << 20 // 20 bytes a piece: 800 GiB in pieces of 256 KiB
	maxManifest    = 1 << 20
	maxReply       = 64 << 10
)

// client talks to the server's HTTP API.
type client struct {
	base string // without a slash at the end
	http *http.Client
}

// newClient checks server, which is a URL as in swarmboot.server=http://192.0.2.1:8080.
func newClient(server string) (*client, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, cli.Usagef("server: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, cli.Usagef("server %q: not a URL such as http://192.0.2.1:8080", server)
	}
	// No proxy: the server is on this network, and a proxy variable left over in a shell must not change that.
	tr := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     30 * time.Second,
	}
	return &client{base: strings.TrimRight(server, "/"), http: &http.Client{Transport: tr}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

func (c *client) announce() string { return c.base + "/announce" }

// statusError is an answer other than 200 OK.
type statusError struct {
	URL    string
	Status int
	Text   string // the first of what the server says about it
	Later  bool   // it says when to ask again
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("GET %s: the server says %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.Later && e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// image gets and checks the manifest and the metainfo of an image. It tries again until patience is over
// when the server does not answer or says that it cannot (5xx, 404 shortly after its start). A server that is still
// checking the image (503 with Retry-After) is waited for as long as that takes: it has just been started, and large images need minutes.
func (c *client) image(ctx context.Context, name string, patience time.Duration, say func(string)) (*imagefmt.Manifest, *imagefmt.Metainfo, error) {
	var m *imagefmt.Manifest
	var mi *imagefmt.Metainfo
	err := again(ctx, patience, say, func() (err error) {
		m, mi, err = c.tryImage(ctx, name)
		return err
	})
	switch {
	case err == nil:
		return m, mi, nil
	case ctx.Err() != nil:
		return nil, nil, err
	}
	return nil, nil, imageError(name, patience, err)
}

// again calls ask until it succeeds, until another attempt is of no use, or until patience is over; then it returns ask's last error.
// While the server promises an answer patience does not end.
func again(ctx context.Context, patience time.Duration, say func(string), ask func() error) error {
	deadline := time.Now().Add(patience)
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, maxBackoff) {
		err := ask()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if later(err) {
			deadline = time.Now().Add(wait + patience)
		}
		if permanent(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		say(fmt.Sprintf("%v; trying again in about %s", err, wait))
		if err := pause.For(ctx, spread.Around(wait, 2)); err != nil {
			return err
		}
	}
}

// fetch gets what the server has for a node, with attempts until patience is over. Of a request that the server refuses (4xx) another attempt
// is of no use; the error of one for what it does not have is a *statusError.
func (c *client) fetch(ctx context.Context, url string, limit int64, patience time.Duration, say func(string)) (b []byte, err error) {
	err = again(ctx, patience, say, func() error {
		b, err = c.get(ctx, url, limit)
		var se *statusError
		switch {
		case !errors.As(err, &se) || se.Status/100 != 4:
			return err
		case se.Status == http.StatusNotFound:
			return cli.WithCode(cli.CodeUsage, err)
		}
		return cli.WithCode(cli.CodeUsage, fmt.Errorf("the server says: %s", strings.ReplaceAll(se.Text, "\n", "; ")))
	})
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil, permanent(err):
		return nil, err
	}
	return nil, cli.WithCode(cli.CodeUnreachable, fmt.Errorf("no answer within %s: %w", patience, err))
}

// imageError gives the error that ended the attempts its exit code.
func imageError(name string, patience time.Duration, err error) error {
	var se *statusError
	switch {
	case errors.As(err, &se) && se.Status == http.StatusNotFound:
		return cli.WithCode(cli.CodeUsage, fmt.Errorf("image %q: the server has no image of this name: %w", name, err))
	case permanent(err):
		return err
	}
	return cli.WithCode(cli.CodeUnreachable, fmt.Errorf("image %q: no answer within %s: %w", name, patience, err))
}

// permanent says whether another attempt is of no use: what the server sent is wrong in itself.
func permanent(err error) bool {
	return cli.Code(err) == cli.CodeVerify || cli.Code(err) == cli.CodeUsage
}

// later says whether the server has promised an answer.
func later(err error) bool {
	var se *statusError
	return errors.As(err, &se) && se.Status == http.StatusServiceUnavailable && se.Later
}

func (c *client) tryImage(ctx context.Context, name string) (*imagefmt.Manifest, *imagefmt.Metainfo, error) {
	path := c.base + "/images/" + url.PathEscape(name)
	mb, err := c.get(ctx, path+".json", maxManifest)
	if err != nil {
		return nil, nil, err
	}
	tb, err := c.get(ctx, path+".torrent", maxMetainfo)
	if err != nil {
		return nil, nil, err
	}
	return parseImage(name, mb, tb)
}

// parseImage parses manifest and metainfo and checks that they are of one image called name.
func parseImage(name string, manifest, metainfo []byte) (*imagefmt.Manifest, *imagefmt.Metainfo, error) {
	m, err := imagefmt.ParseManifest(manifest)
	if err != nil {
		return nil, nil, cli.WithCode(cli.CodeVerify, fmt.Errorf("manifest of %q: %w", name, err))
	}
	if m.Name != name {
		return nil, nil, cli.WithCode(cli.CodeVerify, fmt.Errorf("manifest of %q: it names itself %q", name, m.Name))
	}
	mi, err := imagefmt.ParseMetainfo(metainfo)
	if err != nil {
		return nil, nil, cli.WithCode(cli.CodeVerify, fmt.Errorf("torrent of %q: %w", name, err))
	}
	if err := mi.Check(m); err != nil {
		return nil, nil, cli.WithCode(cli.CodeVerify, fmt.Errorf("image %q: manifest and torrent disagree: %w", name, err))
	}
	return m, mi, nil
}

func (c *client) get(ctx context.Context, url string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, cli.Usagef("%w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 2<<10)) // what came of it
		return nil, &statusError{url, resp.StatusCode, strings.TrimSpace(string(text)), resp.Header.Get("Retry-After") != ""}
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	if int64(len(b)) > limit {
		return nil, cli.WithCode(cli.CodeVerify, fmt.Errorf("GET %s: more than the %d bytes that it may have", url, limit))
	}
	return b, nil
}

// post sends one report and returns the server's answer.
func (c *client) post(ctx context.Context, p event.Progress) (event.Reply, error) {
	var reply event.Reply
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	body, err := p.Body()
	if err != nil {
		return reply, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/api/v1/nodes", bytes.NewReader(body))
	if err != nil {
		return reply, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return reply, err
	}
	if resp.StatusCode != http.StatusOK {
		return reply, fmt.Errorf("POST %s: the server says %s", req.URL, resp.Status)
	}
	return reply, json.Unmarshal(b, &reply)
}
