package spread

import (
	"testing"
	"time"
)

// TestAround: times stay near what was asked for, and differ.
func TestAround(t *testing.T) {
	for part, within := range map[int64]time.Duration{2: 5 * time.Second, 10: time.Second} {
		seen := map[time.Duration]bool{}
		for range 50 {
			d := Around(10*time.Second, part)
			if d < 10*time.Second-within || d > 10*time.Second+within {
				t.Fatalf("part %d: %v", part, d)
			}
			seen[d] = true
		}
		if len(seen) < 25 {
			t.Errorf("part %d: %d different times of 50", part, len(seen))
		}
	}
	if d := Around(0, 2); d != 0 {
		t.Errorf("nothing became %v", d)
	}
}
