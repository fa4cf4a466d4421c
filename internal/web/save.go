package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"swarmboot/internal/durable"
)

// saveAgain is how often a list that could not be saved is tried again.
const saveAgain = 5 * time.Second

// ErrNotSaved says that a change holds, but only until the server ends.
var ErrNotSaved = errors.New("the list of deployed nodes cannot be saved")

// Save returns nil when every change of the list of deployed nodes up to now is in the file. Whole racks end in the same second: who waits
// for its turn shares the first attempt that began after its change. An error is logged once: the table in memory still works.
func (t *Nodes) Save() error {
	if t.o.File == "" {
		return nil
	}
	t.mu.Lock()
	begun := t.saves
	t.mu.Unlock()
	t.saving.Lock()
	defer t.saving.Unlock()
	t.mu.Lock()
	if t.saves > begun || t.saved == t.changes {
		defer t.mu.Unlock()
		return t.saveErr
	}
	t.saves++
	all, changes := maps.Clone(t.deployed), t.changes
	t.mu.Unlock()

	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = t.o.Folder.Same() // else the list of another server's machines would be lost, or this one be written where a mount hides it
	}
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(t.o.File))
	}
	if err == nil {
		err = durable.WriteFile(t.o.File, append(b, '\n'))
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.saveErr
	if err != nil {
		t.saveErr = fmt.Errorf("%w: %w", ErrNotSaved, err)
		if was == nil {
			t.o.Logger.Error("the list of deployed nodes cannot be kept: after a restart this server deploys them again when they boot from the network", "error", err)
		}
		return t.saveErr
	}
	t.saved, t.saveErr = changes, nil
	if was != nil {
		t.o.Logger.Info("the list of deployed nodes is saved again")
	}
	return nil
}

// Run tries again to save what could not be saved, until ctx ends.
func (t *Nodes) Run(ctx context.Context) {
	tick := time.NewTicker(saveAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = t.Save() // Save says it
		}
	}
}

// Warnings are what is wrong with the table, for people.
func (t *Nodes) Warnings() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.saveErr == nil {
		return []string{}
	}
	return []string{fmt.Sprintf("%v; when this server is started again it deploys those that are not in it once more. It tries again every %s.", t.saveErr, saveAgain)}
}
