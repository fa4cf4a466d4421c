package swarm

import (
	"fmt"
	"time"
)

// CorruptError says that a piece was received whole but wrong again and again, or that the only
// peers that have it were caught sending wrong bytes. Nothing of it was written.
type CorruptError struct {
	Piece int
	From  string // address and peer id of the last peer that sent it
	Err   error  // what was wrong with it, if not the SHA-1 of the piece
}

func (e *CorruptError) Error() string {
	s := fmt.Sprintf("piece %d is corrupt, received from %s", e.Piece, e.From)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *CorruptError) Unwrap() error { return e.Err }

// StallError says that nothing was received for too long.
type StallError struct {
	For      time.Duration // how long nothing came
	Peers    int           // connected peers
	Pieces   int           // pieces that are done
	Total    int           // pieces of the payload
	Announce error         // the last announce's error, nil if the tracker answers
}

func (e *StallError) Error() string {
	s := fmt.Sprintf("nothing received for %v with %d peers, %d of %d pieces done",
		e.For.Round(time.Second), e.Peers, e.Pieces, e.Total)
	if e.Announce != nil {
		s += ": " + e.Announce.Error()
	}
	return s
}

func (e *StallError) Unwrap() error { return e.Announce }

// HungError says that pieces wait for the target and it has finished no write for too long. The write under way cannot be
// called off: until it ends Close does not return.
type HungError struct {
	For    time.Duration // how long no write ended and nothing came
	Pieces int           // pieces that are done
	Total  int           // pieces of the payload
}

func (e *HungError) Error() string {
	return fmt.Sprintf("the disk does not answer: no write has ended for %v, %d of %d pieces done", e.For.Round(time.Second), e.Pieces, e.Total)
}
