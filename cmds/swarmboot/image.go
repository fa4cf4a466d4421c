package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
)

const imageUsage = `Usage: swarmboot image VERB [OPTIONS] ARGUMENTS

  create SRC DIR/NAME      make an image of a disk, a partition or a raw disk file
  inspect DIR/NAME         show what an image holds
  verify DIR/NAME          check every piece and every hash
  write DIR/NAME DISK      write an image to a disk of this machine, or to a file that stands for one
  export DIR/NAME raw FILE make a sparse raw disk file

An image NAME is three files: NAME.json (the manifest), NAME.payload and NAME.torrent.
"swarmboot image VERB --help" lists the options of one of them.

` + cli.ExitCodes

// runImage is the verb image with its own verbs.
func runImage(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return cli.Usagef("image: no verb given; \"swarmboot image --help\" lists them")
	}
	switch args[0] {
	case "create":
		return imageCreate(ctx, args[1:], stdout, stderr)
	case "inspect":
		return imageInspect(ctx, args[1:], stdout, stderr)
	case "verify":
		return imageVerify(ctx, args[1:], stdout, stderr)
	case "write":
		return imageWrite(ctx, args[1:], stdout, stderr)
	case "export":
		return imageExport(ctx, args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(stdout, imageUsage)
		return err
	}
	return cli.Usagef("image: unknown verb %q; \"swarmboot image --help\" lists them", args[0])
}

// parseFlags parses args and returns those that are no options, which may stand anywhere between them.
func parseFlags(f *flag.FlagSet, args []string) (pos []string, err error) {
	f.SetOutput(io.Discard)
	for {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, cli.Usagef("%s: %w", f.Name(), err)
		}
		if f.NArg() == 0 {
			return pos, nil
		}
		pos, args = append(pos, f.Arg(0)), f.Args()[1:]
	}
}

// parseImageFlags parses args, options among the want positional arguments; --help prints to stdout.
func parseImageFlags(f *flag.FlagSet, args []string, stdout io.Writer, synopsis string, want int) ([]string, error) {
	pos, err := parseFlags(f, args)
	if errors.Is(err, flag.ErrHelp) {
		cli.Help(stdout, "Usage: swarmboot "+synopsis+"\n\n", f)
	}
	if err != nil {
		return nil, err
	}
	if len(pos) != want {
		return nil, cli.Usagef("usage: swarmboot %s", synopsis)
	}
	return pos, nil
}

// imagePath names the three files of an image.
type imagePath struct{ dir, name string }

// parseImagePath takes DIR/NAME or the path of any of the three files.
func parseImagePath(arg string) imagePath {
	for _, ext := range []string{".json", ".payload", ".torrent"} {
		if s := strings.TrimSuffix(arg, ext); s != arg {
			arg = s
			break
		}
	}
	return imagePath{filepath.Dir(arg), filepath.Base(arg)}
}

func (p imagePath) manifest() string { return filepath.Join(p.dir, p.name+".json") }
func (p imagePath) payload() string  { return filepath.Join(p.dir, p.name+".payload") }
func (p imagePath) torrent() string  { return filepath.Join(p.dir, p.name+".torrent") }
func (p imagePath) files() []string  { return []string{p.manifest(), p.payload(), p.torrent()} }

// openImage is an image on disk, its parts found to agree.
type openImage struct {
	manifest *imagefmt.Manifest
	metainfo *imagefmt.Metainfo
	payload  *os.File
}

func (im *openImage) Close() error { return im.payload.Close() }

// load opens an image and checks that manifest, torrent and payload are of one image. It reads none of the payload.
func (p imagePath) load() (*openImage, error) {
	m, err := p.loadManifest()
	if err != nil {
		return nil, err
	}
	tb, err := readBounded(p.torrent(), imagefmt.MaxMetainfoLength)
	if err != nil {
		return nil, err
	}
	mi, err := imagefmt.ParseMetainfo(tb)
	if err != nil {
		return nil, bad(p.torrent(), err)
	}
	if err := mi.Check(m); err != nil {
		return nil, bad(p.torrent(), err)
	}
	f, err := os.Open(p.payload())
	if err != nil {
		return nil, fileError(err)
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != m.PayloadLength {
		err = bad(p.payload(), fmt.Errorf("it has %d bytes, the manifest says %d", fi.Size(), m.PayloadLength))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &openImage{m, mi, f}, nil
}

func (p imagePath) loadManifest() (*imagefmt.Manifest, error) {
	b, err := readBounded(p.manifest(), imagefmt.MaxManifestLength)
	if err != nil {
		return nil, err
	}
	m, err := imagefmt.ParseManifest(b)
	if err != nil {
		return nil, bad(p.manifest(), err)
	}
	if m.Name != p.name {
		return nil, bad(p.manifest(), fmt.Errorf("it names itself %q", m.Name))
	}
	return m, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fileError(err)
	}
	if int64(len(b)) > limit {
		return nil, bad(path, fmt.Errorf("more than %d bytes", limit))
	}
	return b, nil
}

// bad is an error about what a file holds.
func bad(path string, err error) error {
	return cli.WithCode(cli.CodeVerify, fmt.Errorf("%s: %w", path, err))
}

// fileError gives an error of the operating system its exit code: a path that is not there is a bad
// parameter, everything else is input/output.
func fileError(err error) error {
	switch {
	case err == nil, cli.Code(err) != cli.CodeOther:
		return err
	case errors.Is(err, os.ErrNotExist):
		return cli.WithCode(cli.CodeUsage, err)
	}
	var pe *os.PathError
	var errno syscall.Errno
	if errors.As(err, &pe) || errors.As(err, &errno) {
		return cli.WithCode(cli.CodeIO, err)
	}
	return err
}
