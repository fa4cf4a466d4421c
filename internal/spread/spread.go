// Package spread varies times: thousands of nodes that began together, or whose server was away, must not all come in the
// same instant, again and again.
package spread

import (
	"math/rand/v2"
	"time"
)

// Around returns d made longer or shorter by up to its given part: a tenth for part 10. d is not negative, part at least 1.
func Around(d time.Duration, part int64) time.Duration {
	most := d / time.Duration(part)
	return d - most + rand.N(2*most+1)
}
