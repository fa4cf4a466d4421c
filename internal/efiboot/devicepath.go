package efiboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Node is one node of a device path (UEFI 2.10, section 10.3.1).
type Node struct {
	Type, SubType byte
	Data          []byte // without the header of four bytes
}

// Types and sub-types of nodes.
const (
	typeMessaging = 0x03
	typeMedia     = 0x04
	typeEnd       = 0x7f

	mediaHardDrive = 1 // 10.3.5.1
	mediaFilePath  = 4 // 10.3.5.4

	messagingMAC  = 11
	messagingIPv4 = 12
	messagingIPv6 = 13
	messagingURI  = 24

	endEntire = 0xff

	nodeHeader    = 4
	hardDriveSize = 38 // data bytes
	maxNodes      = 256
)

// parsePath reads a device path up to its end node; what follows that (further instances are for drivers) is left out.
func parsePath(b []byte) ([]Node, error) {
	var nodes []Node
	for {
		if len(b) < nodeHeader {
			return nil, errors.New("device path: no end node")
		}
		n := int(binary.LittleEndian.Uint16(b[2:]))
		if n < nodeHeader || n > len(b) {
			return nil, fmt.Errorf("device path: node %d says it has %d bytes, there are %d", len(nodes), n, len(b))
		}
		if b[0] == typeEnd && b[1] == endEntire {
			return nodes, nil
		}
		if len(nodes) == maxNodes {
			return nil, fmt.Errorf("device path: more than %d nodes", maxNodes)
		}
		nodes = append(nodes, Node{b[0], b[1], append([]byte(nil), b[nodeHeader:n]...)})
		b = b[n:]
	}
}

func appendPath(b []byte, nodes []Node) []byte {
	for _, n := range append(nodes[:len(nodes):len(nodes)], Node{Type: typeEnd, SubType: endEntire}) {
		b = append(b, n.Type, n.SubType)
		b = binary.LittleEndian.AppendUint16(b, uint16(nodeHeader+len(n.Data)))
		b = append(b, n.Data...)
	}
	return b
}

// hardDriveNode describes a partition.
func hardDriveNode(p Partition) Node {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(p.Number))
	b = le.AppendUint64(b, p.Start)
	b = le.AppendUint64(b, p.Sectors)
	b = append(b, p.Sig[:]...)
	return Node{typeMedia, mediaHardDrive, append(b, p.Kind, p.Kind)} // table and signature have the same numbers
}

// hardDrive reads a node that hardDriveNode makes.
func (n Node) hardDrive() (p Partition, ok bool) {
	if n.Type != typeMedia || n.SubType != mediaHardDrive || len(n.Data) != hardDriveSize {
		return p, false
	}
	le := binary.LittleEndian
	p = Partition{Number: int(le.Uint32(n.Data)), Start: le.Uint64(n.Data[4:]), Sectors: le.Uint64(n.Data[12:])}
	p.Kind = n.Data[37]
	copy(p.Sig[:], n.Data[20:])
	return p, p.Kind == SignatureMBR || p.Kind == SignatureGUID
}

// fileNode names a file by its path with backslashes.
func fileNode(path string) Node {
	return Node{typeMedia, mediaFilePath, utf16z(path)}
}

// file returns the partition and the path that a device path ends in: HD(...)/File(...), which is what operating systems
// write, or the same behind the path of its controller. A path may be cut into several nodes.
func file(nodes []Node) (p Partition, path string, ok bool) {
	for i, n := range nodes {
		if p, ok = n.hardDrive(); !ok {
			continue
		}
		for _, f := range nodes[i+1:] {
			if f.Type != typeMedia || f.SubType != mediaFilePath {
				return p, "", false
			}
			s, _, _ := cutUTF16(f.Data)
			path = strings.TrimSuffix(path, `\`) + `\` + strings.TrimPrefix(s, `\`)
		}
		return p, path, path != ""
	}
	return p, "", false
}

// network says whether a device path leads to a network.
func network(nodes []Node) bool {
	for _, n := range nodes {
		if n.Type == typeMessaging {
			switch n.SubType {
			case messagingMAC, messagingIPv4, messagingIPv6, messagingURI:
				return true
			}
		}
	}
	return false
}

// utf16z is UTF-16, little endian, with a final NUL.
func utf16z(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}

// cutUTF16 reads UTF-16 up to a NUL, or to the end without one, and returns what follows it.
func cutUTF16(b []byte) (s string, rest []byte, terminated bool) {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			return string(utf16.Decode(units)), b[2:], true
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), b, false
}
