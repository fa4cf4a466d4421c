package pause

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	if err := For(ctx, 20*time.Millisecond); err != nil || time.Since(began) < 20*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if err := For(ctx, -time.Second); err != nil {
		t.Errorf("a time that has passed: %v", err)
	}
	cancel()
	if err := For(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, its context has ended", err)
	}
}
