package imagefmt

import (
	"fmt"
	"strconv"
)

// A reader for canonical bencode (BEP 3): a dozen lines for each rule, no allocation beyond the input, no recursion
// deeper than maxDepth. Integers are 64 bits, dictionary keys sorted and unique.

const maxDepth = 32

type bdecoder struct {
	b   []byte
	off int
}

func (d *bdecoder) fail(what string) error {
	return fmt.Errorf("metainfo: byte %d: %s: %w", d.off, what, ErrFormat)
}

func (d *bdecoder) peek() byte {
	if d.off < len(d.b) {
		return d.b[d.off]
	}
	return 0
}

// digits reads a canonical unsigned number up to the byte end.
func (d *bdecoder) digits(end byte) (int64, error) {
	start := d.off
	for d.peek() >= '0' && d.peek() <= '9' && d.off-start < 19 {
		d.off++
	}
	s := string(d.b[start:d.off])
	if s == "" || len(s) > 1 && s[0] == '0' || d.peek() != end {
		return 0, d.fail("number")
	}
	d.off++
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, d.fail("number")
	}
	return n, nil
}

func (d *bdecoder) integer() (int64, error) {
	if d.peek() != 'i' {
		return 0, d.fail("want an integer")
	}
	d.off++
	neg := d.peek() == '-'
	if neg {
		d.off++
	}
	n, err := d.digits('e')
	if neg && n == 0 && err == nil {
		return 0, d.fail("number")
	}
	if neg {
		n = -n
	}
	return n, err
}

// str reads a string; it is a part of the input.
func (d *bdecoder) str() ([]byte, error) {
	n, err := d.digits(':')
	if err != nil {
		return nil, err
	}
	if n > int64(len(d.b)-d.off) {
		return nil, d.fail("string cut short")
	}
	d.off += int(n)
	return d.b[d.off-int(n) : d.off], nil
}

// skip passes over one value of any kind.
func (d *bdecoder) skip(depth int) error {
	switch c := d.peek(); {
	case depth > maxDepth:
		return d.fail("nested too deep")
	case c == 'i':
		_, err := d.integer()
		return err
	case c == 'd':
		return d.dict(func(string) error { return d.skip(depth + 1) })
	case c == 'l':
		d.off++
		for d.peek() != 'e' {
			if err := d.skip(depth + 1); err != nil {
				return err
			}
		}
		d.off++
		return nil
	default:
		_, err := d.str()
		return err
	}
}

// dict calls value for each key; value must consume the key's value.
func (d *bdecoder) dict(value func(key string) error) error {
	if d.peek() != 'd' {
		return d.fail("want a dictionary")
	}
	d.off++
	last, first := "", true
	for d.peek() != 'e' {
		k, err := d.str()
		if err != nil {
			return err
		}
		if len(k) > 256 || !first && string(k) <= last {
			return d.fail("dictionary key too long or out of order")
		}
		last, first = string(k), false
		if err := value(last); err != nil {
			return err
		}
	}
	d.off++
	return nil
}

func appendString[T string | []byte](b []byte, s T) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	return append(append(b, ':'), s...)
}

func appendInt(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, 'i'), n, 10), 'e')
}
