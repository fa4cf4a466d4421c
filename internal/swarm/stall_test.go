package swarm

import (
	"testing"
	"time"
	"unsafe"
)

// TestClockIsSet: how long nothing came goes by the monotonic clock alone.
func TestClockIsSet(t *testing.T) {
	s := &Session{joined: time.Now()}
	s.touch()
	if last, most := time.Duration(s.progress.Load()), time.Since(s.joined); last < 0 || last > most {
		t.Errorf("the last progress was %v after the start, at most %v have passed", last, most)
	}
	// As if the clock had been set an hour on since: time.Time keeps the second in the first of its words, above 30 bits of
	// nanoseconds, and the monotonic reading in the second.
	before := s.joined
	*(*uint64)(unsafe.Pointer(&s.joined)) -= 3600 << 30
	if s.joined.Round(0).Sub(before.Round(0)) != -time.Hour || s.joined.Sub(before) != 0 {
		t.Fatal("time.Time is laid out in another way")
	}
	if quiet, most := s.quietFor(), time.Since(before); quiet < 0 || quiet > most {
		t.Errorf("quiet for %v, at most %v have passed", quiet, most)
	}
}
