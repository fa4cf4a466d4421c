// Package contents is the list of an initramfs's files. mkinitramfs puts it in
// as the first file; at start PID 1 compares it with what is there, because a
// kernel that runs out of memory while unpacking the archive only prints a line
// and starts init with the files it got so far (init/initramfs.c).
package contents

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Name is the list's path in the archive. It sorts in front of every other name.
const Name = ".contents"

const (
	magic    = "swarmboot-contents 1"
	maxBytes = 4 << 20
)

// Entry is one file or symbolic link.
type Entry struct {
	Path   string // relative to the root
	Size   int64  // bytes; of a symbolic link the length of its target
	Link   bool
	SHA256 [32]byte // of the content, or of the link's target
}

// List is every file of an archive, sorted by path. Folders are not in it.
type List []Entry

// Marshal returns the list as text with the hash of it all in the last line.
func (l List) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d\n", magic, len(l))
	for _, e := range l {
		kind := "file"
		if e.Link {
			kind = "link"
		}
		fmt.Fprintf(&b, "%s %d %x %s\n", kind, e.Size, e.SHA256, e.Path)
	}
	fmt.Fprintf(&b, "end %x\n", sha256.Sum256(b.Bytes()))
	return b.Bytes()
}

// ID is the first 12 hexadecimal digits of the list's hash: it names a build.
func ID(data []byte) string {
	i := bytes.LastIndex(data, []byte("end "))
	if i < 0 || len(data) < i+16 {
		return "unknown"
	}
	return string(data[i+4 : i+16])
}

// Parse reads what Marshal wrote; a list that was cut or changed is an error.
func Parse(data []byte) (List, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("contents: %d bytes, more than %d", len(data), maxBytes)
	}
	i := bytes.LastIndex(data, []byte("end "))
	if i < 0 || string(data[i:]) != fmt.Sprintf("end %x\n", sha256.Sum256(data[:i])) {
		return nil, errors.New("contents: the list is cut short or changed")
	}
	sc := bufio.NewScanner(bytes.NewReader(data[:i]))
	sc.Scan()
	count, err := strconv.Atoi(strings.TrimPrefix(sc.Text(), magic+" "))
	if err != nil {
		return nil, fmt.Errorf("contents: first line is not %q and a count", magic)
	}
	var l List
	for sc.Scan() {
		e, err := parseEntry(sc.Text())
		if err != nil {
			return nil, err
		}
		l = append(l, e)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("contents: %w", err)
	}
	if len(l) != count {
		return nil, fmt.Errorf("contents: %d entries, the first line says %d", len(l), count)
	}
	return l, nil
}

func parseEntry(line string) (Entry, error) {
	f := strings.SplitN(line, " ", 4)
	if len(f) != 4 || (f[0] != "file" && f[0] != "link") || !filepath.IsLocal(f[3]) {
		return Entry{}, fmt.Errorf("contents: bad line %q", line)
	}
	e := Entry{Path: f[3], Link: f[0] == "link"}
	var err error
	if e.Size, err = strconv.ParseInt(f[1], 10, 64); err != nil || e.Size < 0 {
		return Entry{}, fmt.Errorf("contents: bad size in %q", line)
	}
	sum, err := hex.DecodeString(f[2])
	if err != nil || len(sum) != len(e.SHA256) {
		return Entry{}, fmt.Errorf("contents: bad hash in %q", line)
	}
	copy(e.SHA256[:], sum)
	return e, nil
}

// Check compares sizes and kinds of the files under root with the list in it and returns the
// build's ID. It does not read the files: what the kernel unpacks in part is missing or too short.
func Check(root string) (id string, err error) {
	data, err := os.ReadFile(filepath.Join(root, Name))
	if err != nil {
		return "", fmt.Errorf("initramfs incomplete: %w", err)
	}
	list, err := Parse(data)
	if err != nil {
		return "", fmt.Errorf("initramfs incomplete: %w", err)
	}
	id = ID(data)
	var first error
	bad := 0
	for _, e := range list {
		if err := e.check(root); err != nil {
			bad++
			if first == nil {
				first = err
			}
		}
	}
	if bad > 0 {
		return id, fmt.Errorf("initramfs incomplete, too little memory? %d of %d files wrong, first: %w", bad, len(list), first)
	}
	return id, nil
}

func (e Entry) check(root string) error {
	info, err := os.Lstat(filepath.Join(root, e.Path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("/%s is missing", e.Path)
	case err != nil:
		return err
	case e.Link != (info.Mode().Type() == fs.ModeSymlink) || !e.Link && !info.Mode().IsRegular():
		return fmt.Errorf("/%s is of another kind: %s", e.Path, info.Mode())
	case info.Size() != e.Size:
		return fmt.Errorf("/%s has %d bytes, want %d", e.Path, info.Size(), e.Size)
	}
	return nil
}
