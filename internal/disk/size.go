package disk

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var units = []struct {
	suffix string
	bytes  float64
}{ // longer suffixes first
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40}, {"PIB", 1 << 50},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"P", 1 << 50}, {"B", 1},
}

// ParseSize reads a size in bytes. K, M, G, T, P and KiB ... PiB are powers of 1024, KB ... PB (as on a
// disk's label) powers of 1000; without a unit it is bytes. Fractions are
// allowed with a unit: "1.5T". Case does not matter.
func ParseSize(s string) (int64, error) {
	text, factor := strings.ToUpper(strings.TrimSpace(s)), 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	if strings.Trim(text, "0123456789.") != "" || (factor == 1 && strings.Contains(text, ".")) {
		return 0, fmt.Errorf("size %.40q: want a number with K, M, G, T (1024-based), KB, MB, GB or TB (1000-based)", s)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n*factor >= math.MaxInt64 {
		return 0, fmt.Errorf("size %.40q: want a number with K, M, G, T (1024-based), KB, MB, GB or TB (1000-based)", s)
	}
	return int64(n * factor), nil
}

// FormatSize writes a size for people, 1024-based with one decimal: "447.1 GiB".
func FormatSize(n int64) string {
	v, unit := float64(n), 0
	for v >= 1024 && unit < 6 {
		v, unit = v/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[unit-1])
}
