// Package strictyaml reads one YAML document into a struct, strictly: unknown fields, second documents, anchors, aliases, tags and
// nesting that is deeper than any description's are errors, and every error says where it stands. Fields are named by json tags.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"

	"swarmboot/internal/field"
)

// Error is something wrong in a file.
type Error struct {
	File         string
	Line, Column int    // from 1; 0 when it cannot be said
	Field        string // such as files[0].mode; "" for errors of syntax
	Reason       string
}

func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d:%d", e.Line, e.Column)
	}
	if e.Field != "" {
		s += ": " + e.Field
	}
	return s + ": " + e.Reason
}

// Document is a file that was read.
type Document struct {
	file string
	tree *ast.File
}

// Read decodes at most limit bytes of YAML into the struct that v points to; file is its name for errors. A string gets the letters
// that stand in the file, quoted or not. A file without a document is an error: that is how one looks that an editor is just
// rewriting, or that a full disk has cut; {} is a document that says nothing and leaves v as it is. Errors are *Error.
func Read(file string, b []byte, limit int, v any) (*Document, error) {
	if len(b) > limit {
		return nil, &Error{File: file, Reason: fmt.Sprintf("more than %d bytes", limit)}
	}
	if line := blankRun(b); line > 0 {
		return nil, &Error{File: file, Line: line, Column: 1, Reason: fmt.Sprintf("more than %d blank lines in a row", maxBlank)}
	}
	tokens := lexer.Tokenize(string(b))
	if err := bounded(file, tokens); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, syntax(file, err)
	}
	if err := plain(file, tree); err != nil {
		return nil, err
	}
	if empty(tree) {
		return nil, &Error{File: file, Reason: "is empty: write {} if that is meant"}
	}
	err = yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(v)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, syntax(file, err)
	}
	asWritten(reflect.ValueOf(v).Elem(), tree.Docs[0].Body)
	return &Document{file, tree}, nil
}

// empty says whether the first document, which is the one that the decoder takes, is of comments and directives only.
func empty(tree *ast.File) bool {
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return true
	}
	_, directive := tree.Docs[0].Body.(*ast.DirectiveNode)
	return directive
}

// Error says where in the file a field that is wrong stands, or what is nearest above it.
func (d *Document) Error(e *field.Error) *Error {
	line, column := position(d.tree, e.Path)
	return &Error{File: d.file, Line: line, Column: column, Field: e.Field(), Reason: e.Reason}
}

func syntax(file string, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return &Error{File: file, Reason: err.Error()}
	}
	e := &Error{File: file, Reason: ye.GetMessage()}
	if t := ye.GetToken(); t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// plain refuses what a description has no use for and a mistake, a cut or a bomb could hide in.
func plain(file string, tree *ast.File) error {
	docs := 0
	for _, d := range tree.Docs {
		if d.Body == nil {
			continue
		}
		if docs++; docs > 1 {
			return &Error{File: file, Line: d.Body.GetToken().Position.Line, Column: 1, Reason: "a second document: a file has one"}
		}
		v := &finder{}
		ast.Walk(v, d.Body)
		if v.found != nil {
			pos := v.found.GetToken().Position
			return &Error{File: file, Line: pos.Line, Column: pos.Column, Reason: v.reason}
		}
	}
	return nil
}

// finder takes the first node that is refused.
type finder struct {
	found  ast.Node
	reason string
}

func (f *finder) Visit(n ast.Node) ast.Visitor {
	var reason string
	switch n.(type) {
	case *ast.MergeKeyNode:
		reason = noReferences
	case *ast.NullNode: // what a file ends with that was cut behind a key
		reason = `has no value: leave the field out, or write {}, [] or ""`
	default:
		return f
	}
	if f.found == nil {
		f.found, f.reason = n, reason
	}
	return nil
}

// position finds where a field stands, or what is nearest above it.
func position(tree *ast.File, at []any) (line, column int) {
	if len(tree.Docs) == 0 {
		return 0, 0
	}
	node := tree.Docs[0].Body
	pos := func(n ast.Node) {
		if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
			line, column = n.GetToken().Position.Line, n.GetToken().Position.Column
		}
	}
	for _, step := range at {
		var next ast.Node
		switch step := step.(type) {
		case string:
			key, value := child(node, step)
			if key == nil {
				return line, column
			}
			pos(key)
			next = value
		case int:
			list, ok := node.(*ast.SequenceNode)
			if !ok || step >= len(list.Values) {
				return line, column
			}
			next = list.Values[step]
			pos(first(next))
		}
		node = next
	}
	return line, column
}

// first is the node whose token begins n: of a mapping its first key, not the colon.
func first(n ast.Node) ast.Node {
	if m := values(n); len(m) > 0 {
		return m[0].Key
	}
	return n
}

func values(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func child(n ast.Node, name string) (key, value ast.Node) {
	m := values(n)
	i := slices.IndexFunc(m, func(v *ast.MappingValueNode) bool { return v.Key.GetToken() != nil && v.Key.GetToken().Value == name })
	if i < 0 {
		return nil, nil
	}
	return m[i].Key, m[i].Value
}
