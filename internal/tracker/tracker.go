// Package tracker is the BitTorrent tracker of a swarmboot server (BEP 3, 7, 23 and 48, HTTP only).
// It knows only the images that were registered, and it decides the topology: nodes of swarmboot
// get the one upstream they should take the image from, ordinary clients a random list of peers.
package tracker

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	defRack4      = 24
	defRack6      = 64
	otherInterval = 30 * time.Second // of ordinary clients
	defMaxPeers   = 32768
	helpers       = 4 // ordinary clients that a node in need is sent to
	// keepConns is up to how many nodes of an image keep their connection between announces. A
	// kept one costs net/http about 20 KB, a new one some 40 µs.
	keepConns = 4096
	// rejoin is how soon after a start of the server the nodes of before have announced: they try every 5 s at least, and a half.
	rejoin = 10 * time.Second
)

// Options are the settings of New. The zero value is good.
type Options struct {
	Interval time.Duration    // how often our nodes announce; 0: by their number, see Topology.Interval
	MaxPeers int              // per image; 0 is 32768
	Rack4    int              // bits of an IPv4 address that nodes of one rack share, if they do not name it; 0 is 24
	Rack6    int              // of an IPv6 address; 0 is 64
	Now      func() time.Time // nil is time.Now
	Logger   *slog.Logger     // nil is slog.Default
}

// Tracker is safe for concurrent use.
type Tracker struct {
	o Options

	mu     sync.Mutex
	images map[[20]byte]*image
	seeder uint16 // port, 0 for none
}

type image struct {
	pieces     int
	nodes      *Topology
	others     *others
	downloaded int

	registered time.Time
	older      bool // a node came without BEP 3's "started": there was a swarm before this server
	left       bool // a node said goodbye
}

var (
	errUnknown = errors.New("this server does not serve that info-hash")
	errFull    = errors.New("too many peers")
)

// New makes a tracker that knows no image.
func New(o Options) *Tracker {
	if o.Rack4 <= 0 || o.Rack4 > 32 {
		o.Rack4 = defRack4
	}
	if o.Rack6 <= 0 || o.Rack6 > 128 {
		o.Rack6 = defRack6
	}
	if o.MaxPeers <= 0 {
		o.MaxPeers = defMaxPeers
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Tracker{o: o, images: make(map[[20]byte]*image)}
}

// ServeHTTP answers paths that end in /announce and /scrape.
func (t *Tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/announce"):
		t.Announce(w, r)
	case strings.HasSuffix(r.URL.Path, "/scrape"):
		t.Scrape(w, r)
	default:
		http.NotFound(w, r)
	}
}

// Announce is the handler of /announce.
func (t *Tracker) Announce(w http.ResponseWriter, r *http.Request) {
	req, err := parseAnnounce(r.URL.RawQuery)
	if err != nil {
		send(w, failure(err))
		return
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		send(w, failure(errors.New("your address is unknown")))
		return
	}
	from := netip.AddrPortFrom(remote.Addr().Unmap().WithZone(""), req.port)
	rep, err := t.announce(req, from, localAddr(r))
	if err != nil {
		send(w, failure(err))
		return
	}
	if rep.complete+rep.incomplete > keepConns {
		w.Header().Set("Connection", "close")
	}
	send(w, rep.encode(req.compact))
}

// localAddr is the address that a request came in on, where the seeder can be reached too.
func localAddr(r *http.Request) netip.Addr {
	tcp, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// announce is the tracker's state machine.
func (t *Tracker) announce(req request, from netip.AddrPort, local netip.Addr) (reply, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	im := t.images[req.infoHash]
	if im == nil {
		return reply{}, errUnknown
	}
	now := t.o.Now()
	im.others.expire(now)
	im.nodes.Expire(now)
	var rep reply
	var err error
	if req.node != "" {
		rep, err = t.announceNode(im, now, req, from, local)
	} else {
		rep, err = t.announceOther(im, now, req, from, local)
	}
	if err != nil {
		return reply{}, err
	}
	if req.event == "completed" {
		im.downloaded++
	}
	rep.counts = t.counts(im)
	return rep, nil
}

func (t *Tracker) announceNode(im *image, now time.Time, req request, from netip.AddrPort, local netip.Addr) (reply, error) {
	rep := reply{interval: im.nodes.Interval()}
	known := im.nodes.Knows(req.node)
	im.older = im.older || !known && req.event != "started"
	if req.event == "stopped" {
		im.left = true
		im.nodes.Leave(req.node, req.run)
		return rep, nil
	}
	if !known && im.nodes.Len() >= t.o.MaxPeers {
		return rep, errFull
	}
	place := im.nodes.Announce(now, Report{
		Node: req.node, Run: req.run, Addr: from,
		Rack:     t.rack(req.rack, from.Addr()),
		Done:     req.done,
		Complete: req.left == 0 || (im.pieces > 0 && req.done >= im.pieces),
		Stalled:  req.stalled,
		Busy:     req.busy,
		Speed:    req.speed,
		Left:     req.left,
		Received: req.received,
		Rate:     req.rate,
		Disk:     req.disk,
		Lost:     req.lost,
		Bad:      req.bad,
	})
	rep.again = place.Again
	rep.peers = place.Upstreams
	if place.Seeder {
		rep.peers = append(rep.peers, t.seederAddr(local)...)
	}
	if place.Help || (place.Seeder && len(rep.peers) == 0) {
		rep.peers = append(rep.peers, im.others.sample(helpers, from)...)
	}
	return rep, nil
}

// rack is what a node says, or the network that its address is in.
func (t *Tracker) rack(said string, addr netip.Addr) string {
	if said != "" {
		return said
	}
	bits := t.o.Rack4
	if addr.Is6() {
		bits = t.o.Rack6
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

func (t *Tracker) announceOther(im *image, now time.Time, req request, from netip.AddrPort, local netip.Addr) (reply, error) {
	rep := reply{interval: otherInterval}
	key := otherKey{req.peerID, from}
	if req.event == "stopped" {
		im.others.leave(key)
		return rep, nil
	}
	if im.others.peers[key] == nil && len(im.others.all) >= t.o.MaxPeers {
		return rep, errFull
	}
	im.others.announce(now, key, req.left == 0)
	if req.numWant == 0 {
		return rep, nil
	}
	rep.peers = append(im.nodes.Sample(req.numWant), im.others.sample(req.numWant, from)...)
	rand.Shuffle(len(rep.peers), func(i, j int) { rep.peers[i], rep.peers[j] = rep.peers[j], rep.peers[i] })
	seeder := t.seederAddr(local)
	rep.peers = rep.peers[:min(len(rep.peers), req.numWant-len(seeder))]
	rep.peers = append(rep.peers, seeder...)
	return rep, nil
}

func (t *Tracker) seederAddr(local netip.Addr) []netip.AddrPort {
	if t.seeder == 0 || !local.IsValid() {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(local, t.seeder)}
}

func (t *Tracker) counts(im *image) counts {
	c := counts{
		complete:   im.nodes.Complete() + im.others.complete,
		downloaded: im.downloaded,
	}
	c.incomplete = im.nodes.Len() + len(im.others.all) - c.complete
	if t.seeder != 0 {
		c.complete++
	}
	return c
}

// Scrape is the handler of /scrape (BEP 48); without an info_hash it lists every image.
func (t *Tracker) Scrape(w http.ResponseWriter, r *http.Request) {
	hashes, err := parseScrape(r.URL.RawQuery)
	if err != nil {
		send(w, failure(err))
		return
	}
	send(w, encodeScrape(t.scrape(hashes)))
}

func (t *Tracker) scrape(hashes [][20]byte) map[[20]byte]counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(hashes) == 0 {
		for h := range t.images {
			hashes = append(hashes, h)
		}
	}
	now := t.o.Now()
	files := make(map[[20]byte]counts)
	for _, h := range hashes {
		if im := t.images[h]; im != nil {
			im.nodes.Expire(now)
			im.others.expire(now)
			files[h] = t.counts(im)
		}
	}
	return files
}

// Register makes the tracker answer for an image. Registering it again changes nothing.
func (t *Tracker) Register(infoHash [20]byte, pieces int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.images[infoHash] == nil {
		t.images[infoHash] = &image{
			pieces: pieces,
			nodes:  NewTopology(Settings{Interval: t.o.Interval, Pieces: pieces}),
			others: newOthers(otherInterval),

			registered: t.o.Now(),
		}
	}
}

// Unregister forgets an image and its peers.
func (t *Tracker) Unregister(infoHash [20]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.images, infoHash)
}

// SetSeeder sets the port of the server's own seeder, 0 for none. Its address is the local address
// that an announce request comes in on.
func (t *Tracker) SetSeeder(port int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seeder = uint16(port)
}

// Needed says whether an unfinished node depends on the node. Right after the server was started again nobody can tell: those that
// take from it may not have announced, nor itself.
func (t *Tracker) Needed(infoHash [20]byte, node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	im := t.images[infoHash]
	if im == nil {
		return false
	}
	now := t.o.Now()
	im.nodes.Expire(now)
	if now.Sub(im.registered) < rejoin && (im.older || !im.left && !im.nodes.Knows(node)) {
		return true
	}
	return im.nodes.Needed(node)
}
