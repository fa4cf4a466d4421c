// Package catalog watches a directory of images and publishes those that are
// whole: manifest, torrent and payload agree, and every piece and the index
// match their hashes. Half-copied images never show, changed and removed ones
// are withdrawn, also while another is being checked. A check reads at full
// speed, so there is one at a time.
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/durable"
)

// Poll is how often the directory is read.
const Poll = 2 * time.Second

// Settle is how long the files of a broken image have to be unchanged before
// it is listed: until then somebody is probably still copying it.
const Settle = 10 * time.Second

// The pauses before an image is checked again whose files could not be read
// grow from the first to the last.
const (
	firstPause = time.Minute
	lastPause  = time.Hour
)

// Limits of what is read from the directory.
const (
	maxImages   = 1024
	maxManifest = 1 << 20
	maxTorrent  = 64 << 20 // 20 octets a piece: 3.3 million pieces
)

// State says how far an image is.
type State string

// The states of an image.
const (
	StateChecking State = "checking"
	StateReady    State = "ready"
	StateBroken   State = "broken"
)

// Image is a published image. It stays readable until Release, also when the
// files are removed meanwhile.
type Image struct {
	Name         string
	ManifestJSON []byte // as in the file
	Manifest     *imagefmt.Manifest
	Metainfo     *imagefmt.Metainfo
	Torrent      []byte // as in the file
	Payload      *os.File
	ModTime      time.Time // of the payload
}

// Status describes an image for people and the API.
type Status struct {
	Name    string
	State   State
	Percent int    // checked, with StateChecking
	Reason  string // with StateBroken
	Image   *Image // with StateReady
}

// Options of a catalog.
type Options struct {
	Dir    string
	Folder *durable.Folder // Dir as it has to stay: Run ends with durable.ErrReplaced when it is another one; nil = any
	Poll   time.Duration   // 0 = Poll
	Settle time.Duration   // 0 = Settle
	Logger *slog.Logger

	// Remember is a file in which images that were found right are kept, so that a restarted server need not read those
	// whole again whose files did not change; "" = none.
	Remember string

	// Ready and Gone are called in turn, never at the same time, when an image
	// is published and withdrawn. An error of Ready marks the image as broken.
	Ready func(*Image) error
	Gone  func(*Image)
}

// Catalog is the set of images of a directory.
type Catalog struct {
	o Options

	refused  map[string]bool       // names that are no image names; only used by the goroutine of Run
	over     string                // likewise: the first image that there is no room for
	checking *entry                // likewise: the one that is being checked; nil = none
	stop     context.CancelFunc    // likewise: ends that check
	known    map[string]remembered // only used by the check
	checked  chan result
	verify   func(ctx context.Context, im *Image, size int64, pieces bool, percent func(int)) error

	mu      sync.Mutex // images changes only in the goroutine of Run
	images  map[string]*entry
	several bool // there was more than one image at a time
}

// result is what a check found.
type result struct {
	im  *Image
	err error
}

// entry is an image as last seen. Fields other than status are only used by
// the goroutine of Run.
type entry struct {
	name   string
	seen   fingerprint
	since  time.Time     // first seen so
	again  time.Time     // when it is checked again, being broken
	pause  time.Duration // before that; 0 = only when the files change
	status Status        // guarded by Catalog.mu
}

// suffixes of an image's files.
var suffixes = [3]string{".json", ".torrent", ".payload"}

// fingerprint tells whether an image's files changed.
type fingerprint [3]fileID

type fileID struct {
	inode uint64
	size  int64
	mtime int64 // ns
}

// New makes a catalog; Run fills it.
func New(o Options) (*Catalog, error) {
	fi, err := os.Stat(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("image directory: %w", err)
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("image directory: %s is not a directory", o.Dir)
	}
	if o.Poll == 0 {
		o.Poll = Poll
	}
	if o.Settle == 0 {
		o.Settle = Settle
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Catalog{o: o, images: map[string]*entry{}, refused: map[string]bool{}, checked: make(chan result), verify: verify}
	c.recall()
	return c, nil
}

// Run watches the directory until ctx ends or it is another one, then withdraws every image.
func (c *Catalog) Run(ctx context.Context) error {
	defer c.withdrawAll()
	defer c.abandon()
	poll := time.NewTimer(0)
	defer poll.Stop()
	var failed string
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-c.checked:
			c.finish(ctx, r)
		case <-poll.C:
			err := c.scan()
			if errors.Is(err, durable.ErrReplaced) {
				return fmt.Errorf("images: %w", err)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != "" && text != failed {
				c.o.Logger.Error("cannot read the image directory", "error", err)
			}
			failed = text
			poll.Reset(c.o.Poll)
		}
		c.start(ctx)
	}
}

// List returns every image's status by name, without those that seem to be
// copied just now.
func (c *Catalog) List() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Status, 0, len(c.images))
	for _, e := range c.images {
		if e.status.State != StateBroken || time.Since(e.since) >= c.o.Settle {
			out = append(out, e.status)
		}
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Several says whether there ever was more than one image at a time, whole or
// not. It stays true when images go: that one of two is taken away or copied
// anew must not make the other one the machines' only choice.
func (c *Catalog) Several() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.several
}

// Checking says whether an image of that name is there and not yet checked.
func (c *Catalog) Checking(name string) (percent int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.images[name]
	if e == nil || e.status.State != StateChecking {
		return 0, false
	}
	return e.status.Percent, true
}

// Get returns a published image.
func (c *Catalog) Get(name string) (*Image, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.images[name]
	if e == nil || e.status.State != StateReady {
		return nil, false
	}
	return e.status.Image, true
}

// scan compares the directory with what is known, withdraws what is no longer
// there and lists what is new.
func (c *Catalog) scan() error {
	found, err := c.find()
	if serr := c.o.Folder.Same(); serr != nil { // asked after it was read: what another one holds must not be taken for its images
		return serr
	}
	if err != nil {
		return err
	}
	now := time.Now()
	for name, e := range c.images {
		if fp, ok := found[name]; !ok || fp != e.seen {
			if e.status.Image != nil {
				c.o.Logger.Info("image withdrawn: its files changed or are gone", "image", name)
			}
			c.withdraw(name, e)
			if e == c.checking {
				c.stop()
			}
		} else if e.status.State == StateBroken && e.pause > 0 && !now.Before(e.again) {
			c.set(e, Status{Name: name, State: StateChecking})
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		if c.images[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	over := ""
	if room := maxImages - len(c.images); len(names) > room {
		over, names = names[room], names[:room]
	}
	if over != "" && over != c.over {
		c.o.Logger.Warn("too many images; some are left out", "first", over, "limit", maxImages)
	}
	c.over = over
	// All are shown before the first is ready: else it would look like the only one.
	for _, name := range names {
		c.set(&entry{name: name, seen: found[name], since: now}, Status{Name: name, State: StateChecking})
	}
	return nil
}

// start begins the next check, unless one is still running: of the image that has been as it is for longest, so that one
// that is being copied in and changes all the time does not keep the others waiting.
func (c *Catalog) start(ctx context.Context) {
	var next *entry
	for _, e := range c.images {
		if e.status.State == StateChecking && (next == nil || cmp.Or(e.since.Compare(next.since), strings.Compare(e.name, next.name)) < 0) {
			next = e
		}
	}
	if c.checking != nil || next == nil || ctx.Err() != nil {
		return
	}
	c.checking = next
	ctx, c.stop = context.WithCancel(ctx)
	go func() {
		im, err := c.check(ctx, next.name, func(percent int) {
			c.mu.Lock()
			defer c.mu.Unlock()
			next.status.Percent = percent
		})
		c.checked <- result{im, err}
	}()
}

// finish publishes what was checked, if its files are still those.
func (c *Catalog) finish(ctx context.Context, r result) {
	e := c.checking
	c.stop()
	c.checking = nil
	if c.images[e.name] != e || ctx.Err() != nil { // withdrawn meanwhile, or about to be
		if r.err == nil {
			r.im.Payload.Close()
		}
		return
	}
	log := c.o.Logger.With("image", e.name)
	err := r.err
	if err == nil {
		if err = c.publish(e, r.im); err != nil {
			r.im.Payload.Close()
		}
	}
	if err != nil {
		// An error of the kernel (EIO, ESTALE, EMFILE, EACCES) goes by without a change of the files that a scan could see.
		var errno syscall.Errno
		if errors.As(err, &errno) {
			e.pause = min(max(2*e.pause, firstPause), lastPause)
			e.again = time.Now().Add(e.pause)
			log = log.With("retry", e.pause)
		} else {
			e.pause = 0
		}
		c.set(e, Status{Name: e.name, State: StateBroken, Reason: err.Error()})
		log.Warn("image is not served", "reason", err)
		return
	}
	c.set(e, Status{Name: e.name, State: StateReady, Percent: 100, Image: r.im})
	log.Info("image ready", "pieces", len(r.im.Metainfo.Pieces)/20, "payload", r.im.Metainfo.Length)
}

func (c *Catalog) publish(e *entry, im *Image) error {
	if c.fingerprint(e.name) != e.seen {
		return errors.New("changed while it was checked")
	}
	if c.o.Ready == nil {
		return nil
	}
	return c.o.Ready(im)
}

// abandon ends the check that is running and waits for it.
func (c *Catalog) abandon() {
	if c.checking == nil {
		return
	}
	c.stop()
	if r := <-c.checked; r.err == nil {
		r.im.Payload.Close()
	}
	c.checking = nil
}

// find lists images: names of manifests, with the fingerprint of their three
// files (zero where one is missing).
func (c *Catalog) find() (map[string]fingerprint, error) {
	entries, err := os.ReadDir(c.o.Dir)
	if err != nil {
		return nil, err
	}
	found := map[string]fingerprint{}
	for _, de := range entries {
		name, ok := strings.CutSuffix(de.Name(), ".json")
		switch {
		case !ok:
		case validName(name):
			found[name] = c.fingerprint(name)
		case c.fingerprint(name)[2] != fileID{}:
			c.refuse(name)
		}
	}
	return found, nil
}

// refuse says once that an image cannot be served because of its name.
func (c *Catalog) refuse(name string) {
	if !c.refused[name] && len(c.refused) < maxImages {
		c.refused[name] = true
		c.o.Logger.Warn("image is not served: its name has to be of letters, digits and . _ - + and not start with . or -", "name", name)
	}
}

func (c *Catalog) path(name, suffix string) string { return filepath.Join(c.o.Dir, name+suffix) }

func (c *Catalog) fingerprint(name string) fingerprint {
	var fp fingerprint
	for i, suffix := range suffixes {
		if fi, err := os.Stat(c.path(name, suffix)); err == nil {
			fp[i] = identify(fi)
		}
	}
	return fp
}

// validName: what can be a URL path element and a word on the kernel command line.
func validName(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-+", r) {
			return false
		}
	}
	return true
}

func (c *Catalog) set(e *entry, s Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.status = s
	c.images[e.name] = e
	c.several = c.several || len(c.images) > 1
}

func (c *Catalog) withdraw(name string, e *entry) {
	c.mu.Lock()
	im := e.status.Image
	delete(c.images, name)
	c.mu.Unlock()
	if im == nil {
		return
	}
	if c.o.Gone != nil {
		c.o.Gone(im)
	}
	im.Payload.Close()
}

func (c *Catalog) withdrawAll() {
	for name, e := range c.images {
		c.withdraw(name, e)
	}
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, fi, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", filepath.Base(path), limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// openRegular opens a regular file; anything else could block.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	fi, err := os.Stat(path)
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", filepath.Base(path))
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	if fi, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}
