package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/durable"
	"swarmboot/internal/imagesrc"
	"swarmboot/internal/progress"
)

// createOptions are the settings of image create.
type createOptions struct {
	layout, created              string
	pieceLength, frameLength     int64
	workers                      int
	root                         string
	force, allBlocks, overwrite  bool
	kernel, initrd, cmdline, src string
	dst                          imagePath
}

func parseCreate(args []string, stdout io.Writer) (*createOptions, error) {
	o := &createOptions{}
	f := flag.NewFlagSet("image create", flag.ContinueOnError)
	f.StringVar(&o.layout, "layout", string(imagefmt.Packed), "packed (compressed) or verbatim")
	f.Int64Var(&o.pieceLength, "piece-length", 0, "bytes in a piece, a power of two; 0 is the format's default")
	f.Int64Var(&o.frameLength, "frame-length", 0, "raw bytes in a frame; 0 is the format's default")
	f.IntVar(&o.workers, "workers", 0, "compress on `N` processors; 0 is all; the bytes are the same")
	f.BoolVar(&o.force, "force", false, "read a disk that is mounted or has dirty file systems, and take a file of another format (qcow2,\nVMDK, ...) for a raw disk")
	f.BoolVar(&o.allBlocks, "all-blocks", false, "copy unused blocks too, but for those that are zero")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace an image of the same name")
	f.StringVar(&o.kernel, "kernel", "", "`PATH` of the kernel in the root file system; default the newest /boot/vmlinuz-*")
	f.StringVar(&o.initrd, "initrd", "", "`PATH` of its initrd; default the one beside the kernel")
	f.StringVar(&o.cmdline, "cmdline", "", "kernel `COMMAND-LINE`; default found on the root file system")
	f.StringVar(&o.root, "root", "", "`NUMBER` of the root partition, or GROUP/VOLUME of LVM; default by type, then the one with a file system for it\n(ext2/3/4, XFS, btrfs), of several the one that may hold a system (ext is looked into) and\nhas a label that says root, or none that says home, var, data, ...; where more are left it has to be said")
	f.StringVar(&o.created, "created", "", "creation `TIME` (RFC 3339) to write down; default $SOURCE_DATE_EPOCH, else now")
	pos, err := parseImageFlags(f, args, stdout, "image create [OPTIONS] SRC DIR/NAME", 2)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(pos[1], "/") || pos[1] == "" {
		return nil, cli.Usagef("image create: %q names a directory: want DIR/NAME", pos[1])
	}
	o.src, o.dst = pos[0], parseImagePath(pos[1])
	if !imagefmt.ValidName(o.dst.name) {
		return nil, cli.Usagef("image create: name %q: want letters, digits, '.', '_', '+' and '-', a letter or digit first", o.dst.name)
	}
	if l := imagefmt.Layout(o.layout); l != imagefmt.Packed && l != imagefmt.Verbatim {
		return nil, cli.Usagef("image create: --layout %q: want packed or verbatim", o.layout)
	}
	if o.workers < 0 {
		return nil, cli.Usagef("image create: --workers %d: want a number of processors, 0 for all", o.workers)
	}
	if err := o.boot().Check(); err != nil {
		return nil, cli.Usagef("image create: %w", err)
	}
	return o, nil
}

func (o *createOptions) boot() *imagefmt.Boot {
	return &imagefmt.Boot{Kernel: o.kernel, Initrd: o.initrd, Cmdline: o.cmdline}
}

func imageCreate(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseCreate(args, stdout)
	if err != nil {
		return err
	}
	created, err := creationTime(o.created)
	if err != nil {
		return err
	}
	if err := o.dst.refuseExisting(o.overwrite); err != nil {
		return err
	}
	src, err := openSource(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer src.Close()
	for _, n := range src.Notes() {
		fmt.Fprintf(stderr, "note: %s\n", n)
	}
	m := &imagefmt.Manifest{
		FormatVersion: imagefmt.FormatVersion, Name: o.dst.name, Created: created,
		DiskSize: src.Size(), SectorSize: src.SectorSize(), Table: src.Table(),
		Boot: *o.boot(),
	}
	if m.Table.Kind == imagefmt.TableNone {
		m.MinDiskSize = m.DiskSize // a file system ends where it says, used or not
	}
	if err := chooseRoot(m, src.LogicalVolumes(), src.Foreign(), src.Top(), o.root); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "root: %s\n", describeRoot(m, src.LogicalVolumes(), src.Foreign()))
	if v := m.Boot.Volume; v != nil && len(v.Segments) > 1 {
		fmt.Fprintf(stderr, "note: the root, logical volume %s, lies in %d pieces: nodes reboot into it instead of kexec, and cannot change it\n", v.Name, len(v.Segments))
	}
	res, err := o.dst.write(ctx, m, src, o, stderr)
	if err != nil {
		return createError(ctx, err)
	}
	ratio := ""
	if m.UsedBytes > 0 {
		ratio = fmt.Sprintf(" (%.1f%% of the used bytes)", 100*float64(m.PayloadLength)/float64(m.UsedBytes))
	}
	_, err = fmt.Fprintf(stdout, "%s: %s used of %s, payload %s%s, %d pieces of %s, padding %s\n",
		filepath.Join(o.dst.dir, o.dst.name), progress.Bytes(m.UsedBytes), progress.Bytes(m.DiskSize), progress.Bytes(m.PayloadLength),
		ratio, m.Pieces(), progress.Bytes(m.PieceLength), progress.Bytes(res.PaddingBytes))
	return err
}

// openSource looks at the source, which takes long, and so is shown, only where much of it belongs to no file system.
func openSource(ctx context.Context, o *createOptions, stderr io.Writer) (*imagesrc.Source, error) {
	began := time.Now()
	bar := progress.New(stderr, "search")
	defer bar.Finish()
	src, err := imagesrc.Open(ctx, o.src, imagesrc.Options{Force: o.force, AllBlocks: o.allBlocks, Progress: func(done, total int64) {
		if time.Since(began) > time.Second {
			bar.Set(done, total)
		}
	}})
	switch {
	case err == nil:
		return src, nil
	case ctx.Err() != nil:
		return nil, createError(ctx, err)
	}
	return nil, sourceError(err)
}

// createError gives an error of write its exit code.
func createError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return cli.WithCode(cli.CodeInterrupted, fmt.Errorf("image create: interrupted, nothing was kept: %w", err))
	case errors.Is(err, imagefmt.ErrFormat): // the lengths asked for: nothing else is said to be malformed while writing
		return cli.Usagef("image create: %w", err)
	}
	return fileError(err)
}

// sourceError adds what to do about a source that cannot be read as it is.
func sourceError(err error) error {
	var dirty *imagesrc.DirtyError
	var mounted *imagesrc.MountedError
	var container *imagesrc.ContainerError
	switch {
	case errors.As(err, &container):
		return cli.WithCode(cli.CodeUsage, fmt.Errorf("%w (%s; --force images its bytes as they are)", err, container.Hint))
	case errors.As(err, &dirty):
		return fmt.Errorf("%w (repair it with fsck, or use --force to copy that file system as a whole)", err)
	case errors.As(err, &mounted):
		return fmt.Errorf("%w (unmount it, or use --force to read it while it changes)", err)
	}
	return fileError(err)
}

// creationTime is the option, else SOURCE_DATE_EPOCH (reproducible-builds.org), else now; whole seconds.
func creationTime(option string) (time.Time, error) {
	if option != "" {
		t, err := time.Parse(time.RFC3339, option)
		if err != nil {
			return t, cli.Usagef("image create: --created %q: want a time such as 2026-01-31T12:00:00Z", option)
		}
		return t.UTC().Truncate(time.Second), nil
	}
	if e := os.Getenv("SOURCE_DATE_EPOCH"); e != "" {
		n, err := strconv.ParseInt(e, 10, 64)
		if err != nil {
			return time.Time{}, cli.Usagef("image create: SOURCE_DATE_EPOCH %q: want seconds since 1970", e)
		}
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Now().UTC().Truncate(time.Second), nil
}

// refuseExisting checks the destination before anything is read.
func (p imagePath) refuseExisting(overwrite bool) error {
	if fi, err := os.Stat(p.dir); err != nil {
		return fileError(err)
	} else if !fi.IsDir() {
		return cli.Usagef("%s is not a directory", p.dir)
	}
	for _, f := range p.files() {
		if _, err := os.Lstat(f); err == nil && !overwrite {
			return cli.Usagef("%s exists; --overwrite replaces the image", f)
		}
	}
	return nil
}

// write makes the three files under temporary names and then renames them, the manifest last. On an error or
// an interrupt nothing of them is left.
func (p imagePath) write(ctx context.Context, m *imagefmt.Manifest, src imagefmt.Source, o *createOptions, stderr io.Writer) (_ *imagefmt.Result, err error) {
	tmp := newTempSet(p)
	defer tmp.discard()
	defer func() { err = tmp.named(err) }()
	payload, err := tmp.create(p.payload())
	if err != nil {
		return nil, err
	}
	bar := progress.New(stderr, "create")
	res, err := imagefmt.Write(ctx, payload, src, p.name, imagefmt.WriterOptions{
		Layout: imagefmt.Layout(o.layout), PieceLength: o.pieceLength, FrameLength: o.frameLength, Workers: o.workers, Progress: bar.Set,
	})
	bar.Finish()
	if err != nil {
		return nil, err
	}
	res.Fill(m)
	manifest, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{p.torrent(), res.Metainfo}, {p.manifest(), manifest}} {
		w, err := tmp.create(f.path)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return res, tmp.commit(p.manifest())
}

// tempSet is a set of files that appear together or not at all.
type tempSet struct {
	dir, suffix string
	files       []tempFile
	names       []string // of each file, now and at last
}

type tempFile struct {
	*os.File
	final string
}

func newTempSet(p imagePath) *tempSet {
	var b [4]byte
	rand.Read(b[:]) //nolint:errcheck // never fails since Go 1.24
	return &tempSet{dir: p.dir, suffix: ".tmp-" + hex.EncodeToString(b[:])}
}

// create opens a file that commit will name path. Its temporary name starts with a dot: no catalog takes it for an image.
func (t *tempSet) create(path string) (*os.File, error) {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+t.suffix)
	t.names = append(t.names, tmp, path)
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	t.files = append(t.files, tempFile{f, path})
	return f, nil
}

// named is err with the names that people know in place of the temporary ones.
func (t *tempSet) named(err error) error {
	if err == nil {
		return nil
	}
	return &namedError{err, strings.NewReplacer(t.names...).Replace(err.Error())}
}

type namedError struct {
	error
	text string
}

func (e *namedError) Error() string { return e.text }
func (e *namedError) Unwrap() error { return e.error }

// commit syncs the files, removes the old one of several named by first (a manifest says that an image is whole) and renames in order.
func (t *tempSet) commit(first string) error {
	for _, f := range t.files {
		if err := f.Sync(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if len(t.files) > 1 {
		if err := os.Remove(first); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for i, f := range t.files {
		if err := os.Rename(f.Name(), f.final); err != nil {
			for _, done := range t.files[:i] {
				os.Remove(done.final) //nolint:errcheck // the rename's error is the one to tell
			}
			return err
		}
	}
	t.files = nil
	return durable.SyncDir(t.dir)
}

// discard removes what commit has not renamed.
func (t *tempSet) discard() {
	for _, f := range t.files {
		f.Close()           //nolint:errcheck // thrown away
		os.Remove(f.Name()) //nolint:errcheck // nothing more can be done
	}
}
