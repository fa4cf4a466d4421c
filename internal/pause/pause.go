// Package pause waits for times that can be cut short.
package pause

import (
	"context"
	"time"
)

// For waits for d; an error says that ctx ended first.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
