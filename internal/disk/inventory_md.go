package disk

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// readMembers looks for the superblocks of md arrays in a region (linux/raid/md_p.h): one that is meant for this region says
// where it lies in it.
func (inv *Inventory) readMembers(w *wiper, partition int, off, n int64) error {
	for _, place := range []struct {
		at       int64
		metadata string
	}{{md10(n), "1.0"}, {0, "1.1"}, {4096, "1.2"}} {
		b, err := w.readIn(off, n, place.at, 256)
		if err != nil {
			return err
		}
		if b == nil || string(b[:4]) != mdMagic || binary.LittleEndian.Uint32(b[4:]) != 1 || binary.LittleEndian.Uint64(b[144:]) != uint64(place.at/512) {
			continue
		}
		inv.Members = append(inv.Members, Member{
			Partition: partition, Metadata: place.metadata, Level: int(int32(binary.LittleEndian.Uint32(b[72:]))),
			Array: fmt.Sprintf("%x:%x:%x:%x", b[16:20], b[20:24], b[24:28], b[28:32]), Name: printable(strings.TrimRight(string(b[32:64]), "\x00")),
		})
		return nil
	}
	b, err := w.readIn(off, n, md090(n), 256)
	if err != nil || b == nil {
		return err
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if string(b[:4]) == mdMagicBig {
		order = binary.BigEndian
	}
	word := func(i int) uint32 { return order.Uint32(b[4*i:]) }
	if word(0) == 0xa92b4efc && word(1) == 0 && word(2) == 90 {
		inv.Members = append(inv.Members, Member{
			Partition: partition, Metadata: "0.90", Level: int(int32(word(7))),
			Array: fmt.Sprintf("%08x:%08x:%08x:%08x", word(5), word(13), word(14), word(15)),
		})
	}
	return nil
}

// readIn returns bytes of a region, nil when they do not all lie in it.
func (w *wiper) readIn(off, n, at, count int64) ([]byte, error) {
	if at < 0 || at > n-count {
		return nil, nil
	}
	return w.read(off+at, count)
}
