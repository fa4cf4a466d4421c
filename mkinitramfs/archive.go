package main

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage/initramfs"

	"swarmboot/internal/contents"
)

// image collects the records of the archive.
type image struct {
	files *initramfs.Files
	err   error
}

func newImage() *image { return &image{files: initramfs.NewFiles()} }

func (im *image) record(r cpio.Record) {
	if im.err == nil {
		im.err = im.files.AddRecord(r)
	}
}

func (im *image) file(path string, data []byte, mode uint64) {
	im.record(cpio.StaticFile(path, string(data), mode))
}

func (im *image) link(path, target string) { im.record(cpio.Symlink(path, target)) }

// hostFile adds a file of this machine, or a folder with all in it, without its times and owner. Links in a folder stay links.
func (im *image) hostFile(src, dst string) {
	info, err := os.Stat(src)
	im.hostEntry(src, strings.TrimPrefix(dst, "/"), info, err)
}

func (im *image) hostEntry(src, dst string, info fs.FileInfo, err error) {
	switch {
	case im.err != nil:
	case err != nil:
		im.err = err
	case info.IsDir():
		var entries []fs.DirEntry
		entries, im.err = os.ReadDir(src)
		for _, e := range entries {
			info, err := e.Info()
			im.hostEntry(filepath.Join(src, e.Name()), filepath.Join(dst, e.Name()), info, err)
		}
	case info.Mode().Type() == fs.ModeSymlink:
		var target string
		if target, im.err = os.Readlink(src); im.err == nil {
			im.link(dst, target)
		}
	case info.Mode().IsRegular():
		var data []byte
		if data, im.err = os.ReadFile(src); im.err != nil {
			return
		}
		mode := uint64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		im.file(dst, data, mode)
	default:
		im.err = fmt.Errorf("%s: want a file, a folder or a link", src)
	}
}

// finish adds the list of contents and returns its ID.
func (im *image) finish() (string, error) {
	if im.err != nil {
		return "", im.err
	}
	var list contents.List
	for _, name := range sortedKeys(im.files.Records) {
		r := im.files.Records[name]
		kind := r.Mode & cpio.S_IFMT
		if kind != cpio.S_IFREG && kind != cpio.S_IFLNK {
			continue
		}
		data := make([]byte, r.FileSize)
		if r.FileSize > 0 {
			if _, err := r.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
				return "", fmt.Errorf("read record %s: %w", name, err)
			}
		}
		list = append(list, contents.Entry{Path: name, Size: int64(r.FileSize), Link: kind == cpio.S_IFLNK, SHA256: sha256.Sum256(data)})
	}
	text := list.Marshal()
	im.file(contents.Name, text, 0o444)
	return contents.ID(text), im.err
}

// records adapts a cpio writer to what initramfs.Files wants, numbers the inodes and wipes times and owners.
type records struct {
	cpio.RecordWriter
	ended func() error
	inode uint64
	bytes int64
}

func (w *records) WriteRecord(r cpio.Record) error {
	if err := w.ended(); err != nil {
		return err
	}
	r = cpio.MakeReproducible(r)
	w.inode++
	r.Ino, r.NLink = w.inode, 1
	w.bytes += int64(r.FileSize)
	return w.RecordWriter.WriteRecord(r)
}

func (w *records) Finish() error { return cpio.WriteTrailer(w.RecordWriter) }

// write puts the archive at path, whole or not at all, and returns the bytes of the files in it.
func (im *image) write(ctx context.Context, path, compression string) (unpacked int64, err error) {
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return 0, err
	}
	defer out.Cleanup()
	c, err := compressor(ctx, out, compression)
	if err != nil {
		return 0, err
	}
	w := &records{RecordWriter: cpio.Newc.Writer(c), ended: ctx.Err}
	err = im.files.WriteTo(w)
	if err == nil {
		err = w.Finish()
	}
	// A zstd that has died is a broken pipe here; only Close knows what it died of.
	if err = errors.Join(c.Close(), err); err != nil {
		return 0, fmt.Errorf("write archive: %w", err)
	}
	return w.bytes, out.CloseAtomicallyReplace()
}

// compressions are the values of --compress.
var compressions = []string{"zstd", "gzip", "none"}

// compressor returns what compresses into w.
func compressor(ctx context.Context, w io.Writer, kind string) (io.WriteCloser, error) {
	switch kind {
	case "zstd":
		return startZstd(ctx, w)
	case "gzip":
		return gzip.NewWriterLevel(w, gzip.BestCompression)
	case "none":
		return nopCloser{w}, nil
	}
	return nil, fmt.Errorf("compression %q: want one of %s", kind, strings.Join(compressions, ", "))
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
