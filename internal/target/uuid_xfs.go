package target

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Of the XFS superblock, big-endian but for the checksum (kernel, fs/xfs/libxfs/xfs_format.h, struct xfs_dsb).
const (
	xfsUUIDOff     = 32
	xfsIncompatOff = 216
	xfsSumOff      = 224
	xfsMetaUUIDOff = 248
	xfsMetaUUID    = 0x4  // incompat: metadata bear the UUID of before
	xfsKnown       = 0xef // incompat: ftype, sparse inodes, meta_uuid, bigtime, nrext64, exchange range, parent pointers; not needsrepair
	xfsMaxAGs      = 1 << 22
)

// Of a record of the XFS log (fs/xfs/libxfs/xfs_log_format.h, struct xlog_rec_header). The log consists of blocks of 512 bytes, each of
// which begins with the magic number of a record's header or the number of the log's cycle, so that headers are known by their first word.
const (
	xlogBlock       = 512
	xlogMagic       = 0xfeedbabe
	xlogSumOff      = 32
	xlogUUIDOff     = 304
	xlogHeader      = 328      // bytes of a header that its checksum covers; 324 when a 32-bit kernel has written it
	xlogExtHeader   = 260      // of each that follows
	xlogCycleSize   = 32 << 10 // bytes of a record for which one header has room
	xlogMaxRecord   = 256 << 10
	xlogUnmountFlag = 0x20
)

// xfsVolume is an XFS whose UUID is to change.
type xfsVolume struct {
	d                           device
	sb                          []byte
	block, sector               int64 // bytes
	agBlocks, agCount           int64
	logStart, logBlocks, agBits int64 // log: bytes, and blocks of 512 bytes
	old                         [16]byte
	budget                      int64 // bytes of records that may still be read: they do not overlap much in a log that the kernel has written
}

// changeXFS does what xfs_admin -U does with an XFS of version 5: the superblocks get the new UUID and remember the old one, which all
// other metadata bear (feature meta_uuid, Linux 4.3). The log, which must be clean, stays as it is, but its records get the new UUID too:
// the kernel compares. The first superblock comes last.
func changeXFS(d device, head []byte, id [16]byte) (Identifier, error) {
	ch := Identifier{Kind: "xfs", Old: formatUUID(head[xfsUUIDOff:][:16]), New: FormatUUID(id)}
	if ch.Old == ch.New {
		return ch, nil
	}
	v, err := openXFS(d, head)
	if err != nil {
		return ch, err
	}
	if err := v.checkGroups(); err != nil {
		return ch, err
	}
	if err := v.checkLog(); err != nil {
		return ch, err
	}
	if err := v.eachRecord(func(r *xlogRecord) error { return r.rename(v, id) }); err != nil {
		return ch, err
	}
	for ag := v.agCount - 1; ag >= 0; ag-- {
		if err := v.writeGroup(ag, id); err != nil {
			return ch, err
		}
	}
	return ch, nil
}

func xfsKept(format string, args ...any) error {
	return &KeptError{"xfs", fmt.Sprintf(format, args...)}
}

// openXFS looks at the superblock. Nothing in it is trusted.
func openXFS(d device, head []byte) (*xfsVolume, error) {
	be := binary.BigEndian
	v := &xfsVolume{d: d, block: int64(be.Uint32(head[4:])), agBlocks: int64(be.Uint32(head[84:])), agCount: int64(be.Uint32(head[88:])),
		sector: int64(be.Uint16(head[102:])), agBits: int64(head[124]), logBlocks: int64(be.Uint32(head[96:])), old: [16]byte(head[xfsUUIDOff:])}
	logStart, incompat := be.Uint64(head[48:]), be.Uint32(head[xfsIncompatOff:])
	switch {
	case be.Uint16(head[100:])&0xf != 5:
		return nil, xfsKept("only XFS of version 5 can have another UUID than its metadata")
	case incompat&^xfsKnown != 0:
		return nil, xfsKept("it has features that are not known here, or needs repair (incompat %#x)", incompat)
	case v.block < 512 || v.block > 64<<10 || v.block&(v.block-1) != 0, v.sector < 512 || v.sector > 32<<10 || v.sector&(v.sector-1) != 0,
		v.agBlocks == 0 || v.agCount == 0 || v.agCount > xfsMaxAGs, v.agBits > 31 || 1<<v.agBits < v.agBlocks, v.logBlocks*v.block > 2<<30:
		return nil, xfsKept("its superblock cannot be right")
	case logStart == 0:
		return nil, xfsKept("its log is on another device")
	case head[126] != 0:
		return nil, xfsKept("it was not made to its end")
	}
	ag, agBlock := int64(logStart>>v.agBits), int64(logStart&(1<<v.agBits-1))
	if ag >= v.agCount || agBlock+v.logBlocks > v.agBlocks {
		return nil, xfsKept("its superblock cannot be right: a log at block %d", logStart)
	}
	v.logStart, v.logBlocks = (ag*v.agBlocks+agBlock)*v.block, v.logBlocks*v.block/xlogBlock
	v.sb = append([]byte(nil), head[:v.sector]...)
	if !xfsSumRight(v.sb) {
		return nil, xfsKept("the checksum of its superblock is wrong")
	}
	return v, nil
}

func xfsSumRight(sb []byte) bool {
	b := append([]byte(nil), sb...)
	clear(b[xfsSumOff : xfsSumOff+4])
	return binary.LittleEndian.Uint32(sb[xfsSumOff:]) == ^crc32c(^uint32(0), b)
}

// group reads the superblock of an allocation group.
func (v *xfsVolume) group(ag int64) (b []byte, at int64, err error) {
	b, at = make([]byte, v.sector), ag*v.agBlocks*v.block
	return b, at, readFull(v.d, b, at)
}

func (v *xfsVolume) checkGroups() error {
	for ag := range v.agCount {
		b, _, err := v.group(ag)
		if err != nil {
			return err
		}
		if string(b[:4]) != "XFSB" || [16]byte(b[xfsUUIDOff:]) != v.old || !xfsSumRight(b) {
			return xfsKept("the superblock of allocation group %d is not like the first", ag)
		}
	}
	return nil
}

// writeGroup changes the superblock of one group.
func (v *xfsVolume) writeGroup(ag int64, id [16]byte) error {
	b, at, err := v.group(ag)
	if err != nil {
		return err
	}
	be := binary.BigEndian
	if flags := be.Uint32(b[xfsIncompatOff:]); flags&xfsMetaUUID == 0 {
		be.PutUint32(b[xfsIncompatOff:], flags|xfsMetaUUID)
		copy(b[xfsMetaUUIDOff:], v.old[:])
	}
	copy(b[xfsUUIDOff:], id[:])
	clear(b[xfsSumOff : xfsSumOff+4])
	binary.LittleEndian.PutUint32(b[xfsSumOff:], ^crc32c(^uint32(0), b))
	_, err = v.d.WriteAt(b, at)
	return err
}

// xlogRecord is the header of a record in the log.
type xlogRecord struct {
	at    int64 // block of the log
	b     []byte
	lsn   uint64
	ops   uint32
	head  int64 // blocks of headers
	bytes int64 // behind them
}

// checkLog says why the log is not clean: its last record is then not the one that unmounting writes (xlog_check_unmount_rec).
func (v *xfsVolume) checkLog() error {
	var last *xlogRecord
	err := v.eachRecord(func(r *xlogRecord) error {
		if _, err := r.summed(v); err != nil { // before anything is written
			return err
		}
		if last == nil || r.lsn >= last.lsn {
			c := *r
			c.b = append([]byte(nil), r.b...)
			last = &c
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case last == nil:
		return xfsKept("its log has no records")
	}
	op := make([]byte, xlogBlock)
	if err := v.readLog(op, last.at+last.head); err != nil {
		return err
	}
	if last.ops != 1 || op[9]&xlogUnmountFlag == 0 {
		return xfsKept("its log is to be replayed first: it was not unmounted")
	}
	if sum := binary.LittleEndian.Uint32(last.b[xlogSumOff:]); sum != 0 {
		if n, err := last.summed(v); err != nil || n == 0 {
			return errors.Join(err, xfsKept("the checksum of the last record of its log is wrong"))
		}
	}
	return nil
}

// readLog reads blocks of the log, which is a ring.
func (v *xfsVolume) readLog(b []byte, at int64) error {
	for len(b) > 0 {
		at %= v.logBlocks
		n := min(int64(len(b)), (v.logBlocks-at)*xlogBlock)
		if err := readFull(v.d, b[:n], v.logStart+at*xlogBlock); err != nil {
			return err
		}
		b, at = b[n:], at+n/xlogBlock
	}
	return nil
}

// eachRecord calls f for the header of every record of this file system that is in the log, whole or overwritten in part.
func (v *xfsVolume) eachRecord(f func(*xlogRecord) error) error {
	const step = 2048
	be := binary.BigEndian
	buf := make([]byte, step*xlogBlock)
	v.budget = 4*v.logBlocks*xlogBlock + xlogMaxRecord
	for at := int64(0); at < v.logBlocks; at += step {
		b := buf[:min(step, v.logBlocks-at)*xlogBlock]
		if err := readFull(v.d, b, v.logStart+at*xlogBlock); err != nil {
			return err
		}
		for i := int64(0); len(b) > 0; i, b = i+1, b[xlogBlock:] {
			if be.Uint32(b) != xlogMagic || [16]byte(b[xlogUUIDOff:]) != v.old {
				continue
			}
			r := &xlogRecord{at: at + i, b: b[:xlogBlock], lsn: be.Uint64(b[16:]), ops: be.Uint32(b[40:]), head: 1, bytes: int64(be.Uint32(b[12:]))}
			if size := int64(be.Uint32(b[320:])); be.Uint32(b[8:])&2 != 0 && size > xlogCycleSize && size <= xlogMaxRecord {
				r.head = (size + xlogCycleSize - 1) / xlogCycleSize
			}
			if err := f(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// summed returns how many bytes of the first header the checksum of a record covers, 0 when it is wrong whatever it covers: what is left of
// a record that was overwritten in part (xlog_cksum).
func (r *xlogRecord) summed(v *xfsVolume) (int, error) {
	if r.bytes > xlogMaxRecord+xlogCycleSize || r.head+r.bytes/xlogBlock > v.logBlocks {
		return 0, nil
	}
	rest := make([]byte, (r.head-1)*xlogBlock+(r.bytes+xlogBlock-1)/xlogBlock*xlogBlock)
	if v.budget -= int64(len(rest)); v.budget < 0 {
		return 0, xfsKept("the records of its log overlap")
	}
	if err := v.readLog(rest, r.at+1); err != nil {
		return 0, err
	}
	for _, n := range []int{xlogHeader, xlogHeader - 4} {
		if r.sum(n, rest) == binary.LittleEndian.Uint32(r.b[xlogSumOff:]) {
			return n, nil
		}
	}
	return 0, nil
}

// sum is the checksum of a record: its header without the field for it, the headers that the data needs, and the data.
func (r *xlogRecord) sum(header int, rest []byte) uint32 {
	h := append([]byte(nil), r.b[:header]...)
	clear(h[xlogSumOff : xlogSumOff+4])
	crc := crc32c(^uint32(0), h)
	for i := int64(1); i < (r.bytes+xlogCycleSize-1)/xlogCycleSize && i < r.head; i++ {
		crc = crc32c(crc, rest[(i-1)*xlogBlock:][:xlogExtHeader])
	}
	return ^crc32c(crc, rest[(r.head-1)*xlogBlock:][:r.bytes])
}

// rename puts the new UUID into a record. One whose checksum is wrong already, or that has none, keeps it.
func (r *xlogRecord) rename(v *xfsVolume, id [16]byte) error {
	n, err := r.summed(v)
	if err != nil {
		return err
	}
	copy(r.b[xlogUUIDOff:], id[:])
	if n > 0 && binary.LittleEndian.Uint32(r.b[xlogSumOff:]) != 0 {
		rest := make([]byte, (r.head-1)*xlogBlock+(r.bytes+xlogBlock-1)/xlogBlock*xlogBlock)
		if err := v.readLog(rest, r.at+1); err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(r.b[xlogSumOff:], r.sum(n, rest))
	}
	_, err = v.d.WriteAt(r.b, v.logStart+r.at*xlogBlock)
	return err
}
