package target

import "strings"

// compareVersions orders kernel versions as Debian orders package versions (Debian Policy, 5.6.12; RPM's
// rules give the same order for kernels): runs of digits by value, letters before other
// signs, "~" before everything. A release candidate ("-rc1") comes before its release.
func compareVersions(a, b string) int {
	a, b = strings.Replace(a, "-rc", "~rc", 1), strings.Replace(b, "-rc", "~rc", 1)
	for a != "" || b != "" {
		var c int
		if c, a, b = compareText(a, b); c != 0 {
			return c
		}
		if c, a, b = compareDigits(a, b); c != 0 {
			return c
		}
	}
	return 0
}

// compareText compares what stands before the first digit of each.
func compareText(a, b string) (c int, restA, restB string) {
	for (a != "" && !digit(a[0])) || (b != "" && !digit(b[0])) {
		if x, y := weight(a), weight(b); x != y {
			return x - y, a, b
		}
		a, b = a[1:], b[1:] // equal weights: neither is at its end
	}
	return 0, a, b
}

func compareDigits(a, b string) (c int, restA, restB string) {
	i, j := countDigits(a), countDigits(b)
	x, y := strings.TrimLeft(a[:i], "0"), strings.TrimLeft(b[:j], "0")
	if len(x) != len(y) {
		return len(x) - len(y), a[i:], b[j:]
	}
	return strings.Compare(x, y), a[i:], b[j:]
}

func countDigits(s string) int {
	for i := range len(s) {
		if !digit(s[i]) {
			return i
		}
	}
	return len(s)
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// weight orders the first byte of s: "~", then the end or a digit, then letters, then the rest.
func weight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}
