package efiboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// LoadOption is an EFI_LOAD_OPTION, the content of a variable Boot####.
type LoadOption struct {
	Attributes  uint32 // loadActive and others
	Description string
	Path        []Node
	Optional    []byte // given to the program; what follows the path list's first path in that list is left out
}

const (
	loadActive = 1

	optionHeader   = 6 // attributes, length of the path list
	maxDescription = 200
)

// ParseLoadOption reads the content of a variable Boot####.
func ParseLoadOption(b []byte) (*LoadOption, error) {
	if len(b) < optionHeader {
		return nil, fmt.Errorf("load option of %d bytes", len(b))
	}
	o := &LoadOption{Attributes: binary.LittleEndian.Uint32(b)}
	n := int(binary.LittleEndian.Uint16(b[4:]))
	description, rest, ok := cutUTF16(b[optionHeader:])
	if !ok {
		return nil, errors.New("load option: its description does not end")
	}
	if n > len(rest) {
		return nil, fmt.Errorf("load option: a path list of %d bytes, there are %d", n, len(rest))
	}
	var err error
	if o.Path, err = parsePath(rest[:n]); err != nil {
		return nil, fmt.Errorf("load option %.40q: %w", description, err)
	}
	o.Description, o.Optional = description, append([]byte(nil), rest[n:]...)
	return o, nil
}

// Marshal is the content of a variable Boot####.
func (o *LoadOption) Marshal() ([]byte, error) {
	if len(o.Description) > maxDescription || strings.ContainsRune(o.Description, 0) {
		return nil, fmt.Errorf("load option: description %.40q: want %d bytes at most", o.Description, maxDescription)
	}
	path := appendPath(nil, o.Path)
	if len(path) > 0xffff {
		return nil, fmt.Errorf("load option %q: a device path of %d bytes", o.Description, len(path))
	}
	b := binary.LittleEndian.AppendUint32(nil, o.Attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, utf16z(o.Description)...)
	return append(append(b, path...), o.Optional...), nil
}
