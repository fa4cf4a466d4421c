package catalog

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"swarmboot/internal/durable"
)

// maxRemembered bounds the file of Options.Remember.
const maxRemembered = 4 << 20

// remembered is an image that was read whole and found right.
type remembered struct {
	InfoHash string   `json:"infoHash"`
	Files    [3]stamp `json:"files"` // manifest, torrent, payload
}

// stamp tells whether a file is what it was. The time of change (ctime) cannot be set by tools that copy or restore
// files with their old times; it is not part of fingerprint, because a new mode or link would withdraw an image then.
type stamp struct {
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime"` // ns
	Ctime  int64  `json:"ctime"` // ns
	Device uint64 `json:"device"`
}

// stamps returns zeros when a file is not there.
func (c *Catalog) stamps(name string) (s [3]stamp) {
	for i, suffix := range suffixes {
		var st syscall.Stat_t
		if err := syscall.Stat(c.path(name, suffix), &st); err != nil {
			return [3]stamp{}
		}
		s[i] = stamp{Inode: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(), Device: st.Dev}
	}
	return s
}

// recall reads what an earlier server found right. Anything wrong with the file only costs checks.
func (c *Catalog) recall() {
	c.known = map[string]remembered{}
	if c.o.Remember == "" {
		return
	}
	b, err := readFile(c.o.Remember, maxRemembered)
	if err == nil {
		err = json.Unmarshal(b, &c.known)
	}
	if err != nil || c.known == nil { // nil: the file says null
		c.known = map[string]remembered{}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.o.Logger.Warn("every image is checked again", "error", err)
		}
	}
}

// knows says whether an image with these files was already read whole.
func (c *Catalog) knows(name, infoHash string, now [3]stamp) bool {
	old, found := c.known[name]
	return found && now != ([3]stamp{}) && old == (remembered{InfoHash: infoHash, Files: now})
}

// remember keeps that an image was read whole, its files being as they were before that.
func (c *Catalog) remember(name, infoHash string, before [3]stamp) {
	if c.o.Remember == "" {
		return
	}
	for other := range c.known {
		if _, err := os.Stat(c.path(other, ".json")); errors.Is(err, fs.ErrNotExist) {
			delete(c.known, other)
		}
	}
	c.known[name] = remembered{InfoHash: infoHash, Files: before}
	b, err := json.MarshalIndent(c.known, "", " ")
	if err == nil {
		err = c.o.Folder.Same()
	}
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(c.o.Remember))
	}
	if err == nil {
		err = durable.WriteFile(c.o.Remember, append(b, '\n'))
	}
	if err != nil {
		c.o.Logger.Debug("a restarted server will check this image again", "image", name, "error", err)
	}
}
