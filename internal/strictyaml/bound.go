package strictyaml

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// Bounds of a document. The parser takes memory by the square of the nesting, and some KiB for every token, and the scanner time by the
// blank lines at the end of a block of text times its length.
const (
	maxDepth  = 32      // collections within each other
	maxTokens = 1 << 16 // words and signs
	maxBlank  = 200     // blank lines in a row
)

const noReferences = "anchors, aliases and tags are not taken"

// blankRun returns the line, from 1, at which too many blank lines in a row begin; 0: nowhere.
func blankRun(b []byte) int {
	blank, line := 0, 0
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
	for text != "" {
		var one string
		one, text, _ = strings.Cut(text, "\n")
		line++
		if strings.Trim(one, " \t") != "" {
			blank = 0
		} else if blank++; blank > maxBlank {
			return line - maxBlank
		}
	}
	return 0
}

// bounded refuses, before the parser sees them, tokens that it would take much memory for, and those that no description has a use for.
func bounded(file string, tokens token.Tokens) error {
	refuse := func(t *token.Token, reason string) error {
		return &Error{File: file, Line: t.Position.Line, Column: t.Position.Column, Reason: reason}
	}
	var blocks []int // the columns of the block collections that the token is in; a list may begin at that of the key it belongs to
	flows := 0
	for i, t := range tokens {
		begins := 0
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType:
			return refuse(t, noReferences)
		case token.SequenceStartType, token.MappingStartType:
			flows++
		case token.SequenceEndType, token.MappingEndType:
			flows = max(0, flows-1)
		case token.SequenceEntryType, token.MappingKeyType:
			begins = t.Position.Column
		case token.MappingValueType:
			begins = t.Position.Column
			if i > 0 && tokens[i-1].Position.Line == t.Position.Line {
				begins = tokens[i-1].Position.Column
			}
		}
		if begins > 0 && flows == 0 {
			for len(blocks) > 0 && blocks[len(blocks)-1] >= begins {
				blocks = blocks[:len(blocks)-1]
			}
			blocks = append(blocks, begins)
		}
		switch {
		case len(blocks)+flows > maxDepth:
			return refuse(t, fmt.Sprintf("nested more than %d deep", maxDepth))
		case i >= maxTokens:
			return refuse(t, fmt.Sprintf("more than %d words and signs", maxTokens))
		}
	}
	return nil
}
