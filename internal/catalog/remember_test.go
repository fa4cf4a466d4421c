package catalog

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"swarmboot/internal/tooltest"
)

// scanned returns the states of a new catalog after one look, which remembers in state.
func scanned(t *testing.T, dir, state string) string {
	t.Helper()
	c, err := New(Options{Dir: dir, Settle: time.Nanosecond, Remember: state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.withdrawAll()
	scan(t, c)
	return c.states()
}

func TestRestartedServerRemembers(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, ".swarmboot", "checked.json")
	makeImage(t, dir, "debian", 1)
	payload := filepath.Join(dir, "debian.payload")
	if got := scanned(t, dir, state); got != "debian=ready" {
		t.Fatal(got)
	}

	// A tool that puts other bytes there with the old size and time does not get past.
	fi, err := os.Stat(payload)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, payload, -1)
	if err := os.Chtimes(payload, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
	if got := scanned(t, dir, state); got != "debian=broken" {
		t.Errorf("a changed payload with the old time: %s", got)
	}

	// Only when the record says that this very file was read is it not read again: shown by a record that lies.
	var known map[string]remembered
	if err := json.Unmarshal(read(t, state), &known); err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	honest := read(t, state)
	entry := known["debian"]
	entry.Files = c.stamps("debian")
	known["debian"] = entry
	b, err := json.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	write(t, state, b)
	if got := scanned(t, dir, state); got != "debian=ready" {
		t.Errorf("the payload was read again: %s", got)
	}
	for name, b := range map[string][]byte{"old record": honest, "no JSON": []byte("x"), "other type": []byte("[]"), "empty": nil, "null": []byte("null")} {
		write(t, state, b)
		if got := scanned(t, dir, state); got != "debian=broken" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestRemovedImagesAreForgotten(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "checked.json")
	makeImage(t, dir, "old", 1)
	scanned(t, dir, state)
	for _, s := range suffixes {
		remove(t, filepath.Join(dir, "old"+s))
	}
	makeImage(t, dir, "new", 2)
	scanned(t, dir, state)
	var known map[string]remembered
	if err := json.Unmarshal(read(t, state), &known); err != nil {
		t.Fatal(err)
	}
	if _, ok := known["new"]; len(known) != 1 || !ok {
		t.Errorf("remembered: %v", known)
	}
}

func TestRecordSurvivesAPowerCut(t *testing.T) {
	if dir := tooltest.Inside(); dir != "" {
		makeImage(t, dir, "debian", 1)
		if got := scanned(t, dir, filepath.Join(dir, ".swarmboot", "checked.json")); got != "debian=ready" {
			t.Fatal(got)
		}
		return
	}
	did := tooltest.Folders(t, "TestRecordSurvivesAPowerCut", t.TempDir())
	if len(did) < 3 || !slices.Equal(did[:2], []string{"mkdir .swarmboot", "sync ."}) || did[len(did)-1] != "sync .swarmboot" {
		t.Errorf("%q", did)
	}
}
