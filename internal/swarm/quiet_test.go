package swarm

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestQuiet: warnings pass, chatter and the echo of our own closing do not.
func TestQuiet(t *testing.T) {
	var out bytes.Buffer
	log := quiet(slog.New(slog.NewTextHandler(&out, nil)))
	log.Info("connected")
	log.Warn("error reading chunk", "err", fmt.Errorf("piece 3: %w", errClosed))
	log.Error(fmt.Sprintf("writing chunk: %v", errClosed))
	log.Warn("disk", "err", "out of space")
	if s := out.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "out of space") {
		t.Errorf("logged:\n%s", s)
	}
}
