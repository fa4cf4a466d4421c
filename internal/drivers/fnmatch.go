package drivers

// fnmatch matches name against a pattern in the manner of fnmatch(3) with no
// flags, which is what modprobe uses for aliases: * and ? match any byte, a
// slash too; [set], [!set] and ranges; a backslash takes the next byte as it is.
// An unfinished set matches its bracket literally.
func fnmatch(pattern, name string) bool {
	var starP, starN = -1, 0
	p, n := 0, 0
	for n < len(name) {
		width, ok := 0, false
		if p < len(pattern) {
			if pattern[p] == '*' {
				starP, starN = p, n
				p++
				continue
			}
			width, ok = matchOne(pattern[p:], name[n])
		}
		switch {
		case ok:
			p += width
			n++
		case starP >= 0:
			starN++
			p, n = starP+1, starN
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one byte against the pattern's first element and returns the element's length.
func matchOne(pattern string, c byte) (width int, ok bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	case '[':
		if w, in := matchSet(pattern, c); w > 0 {
			return w, in
		}
	}
	return 1, pattern[0] == c
}

// matchSet matches c against the set at the start of pattern; width 0 when the set has no end.
func matchSet(pattern string, c byte) (width int, in bool) {
	i := 1
	negate := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negate {
		i++
	}
	for first := i; i < len(pattern); {
		if pattern[i] == ']' && i > first {
			return i + 1, in != negate
		}
		lo, hi := pattern[i], pattern[i]
		i++
		if i+1 < len(pattern) && pattern[i] == '-' && pattern[i+1] != ']' {
			hi = pattern[i+1]
			i += 2
		}
		if lo <= c && c <= hi {
			in = true
		}
	}
	return 0, false
}
