package lvm

import (
	"bytes"
	"fmt"
	"strconv"
)

const (
	maxDepth = 8
	maxNodes = 1 << 20
)

// node is a section, with children, or a field, with values.
type node struct {
	name     string
	section  bool
	children []*node
	values   []value
}

type value struct {
	text   string
	number int64
	isText bool
}

// child returns the first child of that name, nil when there is none. A nil node has no children.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// text is the value of a field that is one string, "" when it is not.
func (n *node) text(name string) string {
	c := n.child(name)
	if c == nil || len(c.values) != 1 || !c.values[0].isText {
		return ""
	}
	return c.values[0].text
}

// number is the value of a field that is one number, -1 when it is not.
func (n *node) number(name string) int64 {
	c := n.child(name)
	if c == nil || len(c.values) != 1 || c.values[0].isText {
		return -1
	}
	return c.values[0].number
}

// parser reads LVM's configuration syntax, lvm.conf(5): sections in braces, fields with numbers, strings and lists
// of them.
type parser struct {
	b     []byte
	pos   int
	nodes int
}

func parse(b []byte) (*node, error) {
	p := &parser{b: bytes.TrimRight(b, "\x00")}
	root := &node{section: true}
	if err := p.body(root, 0); err != nil {
		return nil, fmt.Errorf("text at byte %d: %w", p.pos, err)
	}
	return root, nil
}

// skip goes on to the next byte that counts and returns it, 0 at the end.
func (p *parser) skip() byte {
	for p.pos < len(p.b) {
		switch c := p.b[p.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			p.pos++
		case c == '#':
			for p.pos < len(p.b) && p.b[p.pos] != '\n' {
				p.pos++
			}
		default:
			return c
		}
	}
	return 0
}

// body reads up to the closing brace of a section, of the outermost one up to the end.
func (p *parser) body(n *node, depth int) error {
	for {
		c := p.skip()
		if c == '}' && depth > 0 {
			p.pos++
			return nil
		}
		if p.pos == len(p.b) {
			if depth > 0 {
				return fmt.Errorf("section %.100q does not end", n.name)
			}
			return nil
		}
		name := p.word()
		if name == "" {
			return fmt.Errorf("%q where a name was expected", c)
		}
		child := &node{name: name}
		if p.nodes++; p.nodes > maxNodes || depth == maxDepth {
			return fmt.Errorf("more than %d fields, or more than %d sections in one another", maxNodes, maxDepth)
		}
		n.children = append(n.children, child)
		switch c := p.skip(); c {
		case '{':
			p.pos++
			child.section = true
			if err := p.body(child, depth+1); err != nil {
				return err
			}
		case '=':
			p.pos++
			if err := p.assign(child); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q behind the name %.100q", c, name)
		}
	}
}

func (p *parser) word() string {
	start := p.pos
	for p.pos < len(p.b) && isWord(p.b[p.pos]) {
		p.pos++
	}
	return string(p.b[start:p.pos])
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '+' || c == '-' || c == '.'
}

func (p *parser) assign(n *node) error {
	if p.skip() != '[' {
		return p.value(n)
	}
	p.pos++
	for {
		switch p.skip() {
		case ']':
			p.pos++
			return nil
		case ',':
			p.pos++
		default:
			if p.nodes++; p.nodes > maxNodes {
				return fmt.Errorf("more than %d values", maxNodes)
			}
			if err := p.value(n); err != nil {
				return err
			}
		}
	}
}

func (p *parser) value(n *node) error {
	if p.skip() == '"' {
		p.pos++
		s, err := p.quoted()
		if err != nil {
			return err
		}
		n.values = append(n.values, value{text: s, isText: true})
		return nil
	}
	w := p.word()
	v, err := strconv.ParseInt(w, 10, 64)
	if err != nil {
		if _, err := strconv.ParseFloat(w, 64); err != nil {
			return fmt.Errorf("%.100q is no value", w)
		}
		n.values = append(n.values, value{text: w, isText: true}) // nothing that matters here is a fraction
		return nil
	}
	n.values = append(n.values, value{number: v})
	return nil
}

func (p *parser) quoted() (string, error) {
	var s []byte
	for ; p.pos < len(p.b); p.pos++ {
		switch c := p.b[p.pos]; {
		case c == '"':
			p.pos++
			return string(s), nil
		case c == '\\' && p.pos+1 < len(p.b):
			p.pos++
			s = append(s, p.b[p.pos])
		default:
			s = append(s, c)
		}
	}
	return "", fmt.Errorf("a string does not end")
}
