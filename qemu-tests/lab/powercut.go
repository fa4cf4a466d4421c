package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// The log of QEMU's driver blklogwrites (block/blklogwrites.c), which is that of Linux's dm-log-writes: a superblock, and for every
// write and flush a header and the data, each beginning at a sector.
const (
	logMagic     = 0x6a736677736872
	logVersion   = 1
	logSector    = 512
	logFlush     = 1 << 0
	logDiscard   = 1 << 2
	maxLogLength = 64 << 20 // of one write, bytes
)

// ErrLogHole says that a log has a write missing before later ones: what has to be on the disk is not known.
var ErrLogHole = errors.New("the log of writes has a hole")

// PowerCut is what became of a machine's writes when its power was cut.
type PowerCut struct {
	Writes  int // that the machine has made
	Flushes int
	Open    int // writes behind the last flush
	Lost    int // of those: not on the disk
	Torn    int // and: on the disk in part
}

// logged is one entry of a log.
type logged struct {
	off, length int64 // on the disk, bytes
	data        int64 // where in the log its bytes are
	flags       uint64
}

// CutPower makes the file of a disk, as it was before the machine was started, what the disk may hold after the machine's power was cut:
// everything up to the last flush, and of what came behind it each write or not, or its first sectors, as rng will have it. log is what QEMU has noted
// (Disk.Log), sector the size of what a disk writes whole or not at all. An ErrLogHole leaves the file as it was.
func CutPower(disk, log string, sector int64, rng *rand.Rand) (PowerCut, error) {
	l, err := os.Open(log)
	if err != nil {
		return PowerCut{}, err
	}
	defer l.Close()
	entries, err := readLog(l)
	if err != nil {
		return PowerCut{}, fmt.Errorf("%s: %w", log, err)
	}
	d, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return PowerCut{}, err
	}
	var c PowerCut
	open := afterFlush(entries)
	for i, e := range entries {
		switch {
		case e.flags&logFlush != 0:
			c.Flushes++
			continue
		case e.flags&logDiscard != 0:
			continue // the bytes may be what they were
		}
		c.Writes++
		if i >= open {
			c.Open++
			e.length = c.keep(e.length, sector, rng)
		}
		if err := apply(d, l, e); err != nil {
			return c, errors.Join(fmt.Errorf("%s: %w", disk, err), d.Close())
		}
	}
	return c, d.Close()
}

// keep decides how many bytes of a write that was not flushed the disk has: half of such writes all, a quarter none, the others some.
func (c *PowerCut) keep(length, sector int64, rng *rand.Rand) int64 {
	switch rng.IntN(4) {
	case 0:
		c.Lost++
		return 0
	case 1:
		if length > sector {
			c.Torn++
			return rng.Int64N(length/sector) * sector
		}
	}
	return length
}

// afterFlush is the index of the first entry behind the last flush.
func afterFlush(entries []logged) int {
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].flags&logFlush != 0 {
			return i + 1
		}
	}
	return 0
}

func apply(d io.WriterAt, l io.ReaderAt, e logged) error {
	b := make([]byte, e.length)
	if _, err := l.ReadAt(b, e.data); err != nil {
		return err
	}
	_, err := d.WriteAt(b, e.off)
	return err
}

// readLog reads the headers. The superblock, which QEMU writes at every flush, counts the entries up to there; what comes behind ends with the first
// that is not whole.
func readLog(l *os.File) (entries []logged, err error) {
	fi, err := l.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() == 0 {
		return nil, nil // cut off before the machine had its disk
	}
	b := make([]byte, 32)
	if _, err := l.ReadAt(b[:28], 0); err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint64(b) != logMagic || le.Uint64(b[8:]) != logVersion || le.Uint32(b[24:]) != logSector {
		return nil, fmt.Errorf("no log of writes: %x", b[:28])
	}
	counted := le.Uint64(b[16:])
	for at := int64(logSector); at+logSector <= fi.Size(); {
		if _, err := l.ReadAt(b, at); err != nil {
			return nil, err
		}
		e := logged{off: int64(le.Uint64(b)) * logSector, length: int64(le.Uint64(b[8:])) * logSector, flags: le.Uint64(b[16:]), data: at + logSector}
		if e.flags&logFlush == 0 && e.length <= 0 || e.off < 0 || e.length > maxLogLength {
			break
		}
		at = e.data
		if e.flags&(logFlush|logDiscard) == 0 {
			at += e.length
		}
		if at > fi.Size() {
			break
		}
		entries = append(entries, e)
	}
	if uint64(len(entries)) < counted {
		return nil, fmt.Errorf("%w: %d entries of %d", ErrLogHole, len(entries), counted)
	}
	return entries, nil
}
