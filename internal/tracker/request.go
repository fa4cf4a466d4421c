package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	maxQuery   = 4 << 10 // bytes of a query string
	maxParams  = 64
	maxName    = 64 // bytes of sb_node, sb_run and sb_rack
	maxLost    = 8
	maxSpeed   = 10_000_000 // Mbit/s
	maxRate    = 1 << 40    // bytes per second
	maxNumWant = 200
	defNumWant = 50
	maxScrape  = 64 // info-hashes in one request
)

// request is an announce: BEP 3, with BEP 23's compact and swarmboot's sb_ parameters.
type request struct {
	infoHash [20]byte
	peerID   [20]byte
	port     uint16
	left     int64 // bytes; -1 if it was not said
	received int64 // downloaded: bytes
	event    string
	compact  bool
	numWant  int

	node, run string           // sb_node, sb_run: only nodes of swarmboot have them
	rack      string           // sb_rack: the switch it is connected to
	done      int              // sb_done: pieces
	stalled   bool             // sb_stall
	busy      bool             // sb_busy
	speed     int              // sb_speed: of the port, Mbit/s
	rate      int64            // sb_rate: bytes per second while pieces came
	disk      int64            // sb_disk: bytes per second while they were written
	lost      []netip.AddrPort // sb_lost, once for each
	bad       []netip.AddrPort // sb_bad, likewise
}

var errQuery = errors.New("query too long")

// eachParam calls f for each parameter of a raw query, in its order. Trackers get the 20 bytes of
// an info-hash percent-encoded, whatever they are.
func eachParam(raw string, f func(key, value string) error) error {
	if len(raw) > maxQuery {
		return errQuery
	}
	for i := 0; raw != ""; i++ {
		if i == maxParams {
			return errQuery
		}
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		k, err := url.QueryUnescape(key)
		if err != nil {
			return fmt.Errorf("malformed query: %w", err)
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			return fmt.Errorf("malformed %s: %w", k, err)
		}
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func parseAnnounce(raw string) (request, error) {
	r := request{left: -1, compact: true, numWant: defNumWant}
	var haveHash, haveID bool
	err := eachParam(raw, func(key, v string) (err error) {
		switch key {
		case "info_hash":
			haveHash = copy(r.infoHash[:], v) == len(v) && len(v) == 20
		case "peer_id":
			haveID = copy(r.peerID[:], v) == len(v) && len(v) == 20
		case "port":
			r.port, err = parsePort(v)
		case "left":
			r.left, err = parseInt(key, v)
		case "downloaded":
			r.received, _ = parseInt(key, v) // whatever it is, no ordinary client was ever refused for it
		case "event":
			r.event = v
		case "compact":
			r.compact = v != "0"
		case "numwant":
			r.numWant = parseNumWant(v)
		default:
			err = r.setOwn(key, v)
		}
		return err
	})
	switch {
	case err != nil:
		return r, err
	case !haveHash:
		return r, errors.New("info_hash is not 20 bytes")
	case !haveID:
		return r, errors.New("peer_id is not 20 bytes")
	case r.port == 0:
		return r, errors.New("no port")
	}
	return r, nil
}

// setOwn takes swarmboot's own parameters.
func (r *request) setOwn(key, v string) error {
	switch key {
	case "sb_node":
		return setName(&r.node, key, v)
	case "sb_run":
		return setName(&r.run, key, v)
	case "sb_rack":
		return setName(&r.rack, key, v)
	case "sb_done":
		return setNumber(&r.done, key, v, 1<<31-1)
	case "sb_stall":
		r.stalled = v == "1"
	case "sb_busy":
		r.busy = v == "1"
	case "sb_speed":
		return setNumber(&r.speed, key, v, maxSpeed)
	case "sb_rate":
		return setNumber(&r.rate, key, v, maxRate)
	case "sb_disk":
		return setNumber(&r.disk, key, v, maxRate)
	case "sb_lost":
		return addAddress(&r.lost, key, v)
	case "sb_bad":
		return addAddress(&r.bad, key, v)
	}
	return nil
}

func addAddress(to *[]netip.AddrPort, key, v string) error {
	a, err := netip.ParseAddrPort(v)
	if err != nil {
		return fmt.Errorf("malformed %s", key)
	}
	if len(*to) < maxLost {
		*to = append(*to, netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()))
	}
	return nil
}

// setNumber takes what is more than most for that.
func setNumber[N int | int64](to *N, key, v string, most N) error {
	n, err := parseInt(key, v)
	if err != nil {
		return err
	}
	*to = N(min(n, int64(most)))
	return nil
}

func setName(to *string, key, v string) error {
	if len(v) > maxName {
		return fmt.Errorf("%s is longer than %d bytes", key, maxName)
	}
	*to = v
	return nil
}

func parsePort(v string) (uint16, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return 0, errors.New("malformed port")
	}
	return uint16(n), nil
}

func parseInt(key, v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("malformed %s", key)
	}
	return n, nil
}

// parseNumWant forgives: some clients send -1 for "as many as you like".
func parseNumWant(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return defNumWant
	}
	return min(n, maxNumWant)
}

// parseScrape returns the info-hashes asked for; none means all.
func parseScrape(raw string) (hashes [][20]byte, err error) {
	err = eachParam(raw, func(key, v string) error {
		if key != "info_hash" {
			return nil
		}
		if len(v) != 20 {
			return errors.New("info_hash is not 20 bytes")
		}
		if len(hashes) == maxScrape {
			return errQuery
		}
		hashes = append(hashes, [20]byte([]byte(v)))
		return nil
	})
	return hashes, err
}
