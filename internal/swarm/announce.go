package swarm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/anacrolix/torrent/bencode"

	"swarmboot/internal/spread"
)

const (
	announceInterval = 5 * time.Second // until the tracker says otherwise
	minInterval      = time.Second     // between two announces, and the first retry
	maxInterval      = 60 * time.Second
	minAgain         = 300 * time.Millisecond // when the tracker itself asks to come back sooner
	announceTimeout  = 4 * time.Second
	stoppedTimeout   = time.Second // a node that leaves does not wait long for the tracker
	maxAnswer        = 256 << 10   // bytes
)

// announcer asks the tracker over HTTP (BEP 3, 23, 7).
type announcer struct {
	url    *url.URL
	client *http.Client
	fixed  url.Values
}

// answer is what a tracker said.
type answer struct {
	interval time.Duration
	again    time.Duration    // when to come back instead, once; 0: after the interval
	peers    []netip.AddrPort // in the tracker's order
}

func newAnnouncer(announce string, local net.IP, fixed url.Values) (*announcer, error) {
	u, err := url.Parse(announce)
	if err != nil {
		return nil, fmt.Errorf("announce URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("announce URL %q: only http is spoken", announce)
	}
	tr := &http.Transport{
		DialContext:         peerDialer(local).DialContext,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     30 * time.Second,
	}
	if speed := portSpeed(u); speed > 0 {
		fixed.Set("sb_speed", strconv.Itoa(speed))
	}
	return &announcer{url: u, client: &http.Client{Transport: tr}, fixed: fixed}, nil
}

func (a *announcer) close() { a.client.CloseIdleConnections() }

// do sends one announce. The values are added to the fixed ones.
func (a *announcer) do(ctx context.Context, values url.Values) (answer, error) {
	u := *a.url
	q := u.RawQuery
	for _, v := range []url.Values{a.fixed, values} {
		if q != "" {
			q += "&"
		}
		q += v.Encode()
	}
	u.RawQuery = q
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return answer{}, fmt.Errorf("announce: %w", err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("announce: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("announce: read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("announce: the tracker answers %s", resp.Status)
	}
	return parseAnswer(body)
}

// withoutURL drops the long query from an error of net/http.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// parseAnswer reads a tracker's bencoded answer: compact peers (BEP 23, BEP 7) or a list.
func parseAnswer(body []byte) (answer, error) {
	var r struct {
		Failure  string        `bencode:"failure reason"`
		Interval int64         `bencode:"interval"`
		Peers    bencode.Bytes `bencode:"peers"`
		Peers6   string        `bencode:"peers6"`
		Again    int64         `bencode:"sb_again"` // milliseconds
	}
	if err := bencode.Unmarshal(body, &r); err != nil {
		return answer{}, fmt.Errorf("announce: the answer is no tracker's: %w", err)
	}
	if r.Failure != "" {
		return answer{}, fmt.Errorf("announce: the tracker says: %.200s", r.Failure)
	}
	a := answer{interval: announceInterval}
	if r.Interval > 0 {
		a.interval = min(max(time.Duration(min(r.Interval, 3600))*time.Second, minInterval), maxInterval)
	}
	if r.Again > 0 {
		a.again = min(max(time.Duration(min(r.Again, 60000))*time.Millisecond, minAgain), a.interval)
	}
	peers, err := parsePeers(r.Peers)
	if err != nil {
		return answer{}, err
	}
	a.peers = append(peers, compactPeers(r.Peers6, 16)...)
	return a, nil
}

func parsePeers(b bencode.Bytes) ([]netip.AddrPort, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[0] != 'l' {
		var s string
		if err := bencode.Unmarshal(b, &s); err != nil {
			return nil, fmt.Errorf("announce: peers: %w", err)
		}
		return compactPeers(s, 4), nil
	}
	var list []struct {
		IP   string `bencode:"ip"`
		Port int64  `bencode:"port"`
	}
	if err := bencode.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("announce: peers: %w", err)
	}
	var peers []netip.AddrPort
	for _, p := range list {
		ip, err := netip.ParseAddr(p.IP)
		if err != nil || p.Port <= 0 || p.Port > 65535 {
			continue
		}
		peers = append(peers, netip.AddrPortFrom(ip.Unmap(), uint16(p.Port)))
	}
	return peers, nil
}

// compactPeers reads addresses of n bytes, each with a port.
func compactPeers(s string, n int) (peers []netip.AddrPort) {
	for ; len(s) >= n+2; s = s[n+2:] {
		ip, _ := netip.AddrFromSlice([]byte(s[:n]))
		if port := binary.BigEndian.Uint16([]byte(s[n : n+2])); port != 0 {
			peers = append(peers, netip.AddrPortFrom(ip.Unmap(), port))
		}
	}
	return peers
}

// announceLoop keeps the session's peers up to date until the session ends.
func (s *Session) announceLoop() {
	defer s.announcer.close()
	event, retry := "started", minInterval
	var peers []netip.AddrPort
	ups := make(upstreams)
	failed := false
	for {
		asked := event
		if asked == "" && s.complete() && !s.toldDone {
			asked = "completed"
		}
		a, err := s.announce(s.ctx, asked, announceTimeout, ups)
		wait := retry
		if err == nil {
			event, retry = "", minInterval
			s.toldDone = s.toldDone || asked == "completed"
			peers, wait = a.peers, spread.Around(a.interval, 10)
			if a.again > 0 {
				wait = a.again
			}
			s.asking.answer(time.Now(), peers, failed)
			s.choose()
			s.trim(peers)
			ups.named(peers, time.Now())
		} else if s.ctx.Err() == nil {
			retry = min(retry*3/2, announceInterval)
			wait = spread.Around(wait, 2)
			s.log.Info("tracker", "err", err)
		}
		failed = err != nil
		s.setAnnounceErr(err)
		// A failed dial makes the library forget the address: say it again each time.
		s.addPeers(peers)
		if !s.pause(wait, peers, ups) {
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), stoppedTimeout)
	defer cancel()
	if _, err := s.announce(ctx, "stopped", stoppedTimeout, nil); err != nil {
		s.log.Debug("tracker", "event", "stopped", "err", err)
	}
}

// pause waits, less long when something happened that the tracker should know. It returns false
// when the session has ended.
func (s *Session) pause(wait time.Duration, peers []netip.AddrPort, ups upstreams) bool {
	done := s.finished
	if s.sawDone {
		done = nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	least := time.NewTimer(minInterval)
	defer least.Stop()
	var wake chan struct{} // not before minInterval
	hungUp := s.hungUp
	var dialed <-chan time.Time
	var refused <-chan netip.AddrPort
	for {
		select {
		case <-s.ctx.Done():
			return false
		case <-done:
			s.sawDone = true
			return true
		case <-least.C:
			wake = s.wake
		case <-hungUp:
			s.lostUpstreams(ups)
			s.addPeers(peers)
			hungUp, dialed, refused = nil, time.After(redialWait), s.refused
		case a := <-refused:
			if ups.refuses(a); len(s.lostUpstreams(ups)) > 0 {
				return true // sooner than minInterval: those behind this node wait too
			}
		case <-dialed:
			if len(s.lostUpstreams(ups)) > 0 {
				return true
			}
			s.wakeUp()
		case <-wake:
			return true
		case <-timer.C:
			return true
		}
	}
}

// announce tells the tracker how far this node is, and which of the peers that it named are gone or send bad pieces.
func (s *Session) announce(ctx context.Context, event string, timeout time.Duration, ups upstreams) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	st := s.Stats()
	served := s.store.served()
	// A node that learns late which switch it is at moves there as long as it has no piece: so long nobody has taken one from
	// it. The tracker has a node whose rack changes begin anew, behind the others of that rack; later that would link a running
	// chain anew, and those behind the node would have to wait for what it lacks there.
	if s.o.Rack != nil && served == 0 {
		if rack := s.o.Rack(); rack != "" {
			s.announcer.fixed.Set("sb_rack", rack)
		}
	}
	v := url.Values{
		"uploaded":   {strconv.FormatInt(st.Uploaded, 10)},
		"downloaded": {strconv.FormatInt(st.FromServer+st.FromNodes, 10)},
		"left":       {strconv.FormatInt(s.left(served), 10)},
		"sb_done":    {strconv.Itoa(served)},
	}
	if event != "" {
		v.Set("event", event)
	}
	if s.needsHelp() {
		v.Set("sb_stall", "1")
	}
	if s.diskBound() {
		v.Set("sb_busy", "1")
	}
	if r := s.disk.read(); r > 0 {
		v.Set("sb_disk", strconv.FormatInt(r, 10))
	}
	if r := s.gauge.read(); r > 0 {
		v.Set("sb_rate", strconv.FormatInt(r, 10))
	}
	for _, a := range s.lostUpstreams(ups) {
		v.Add("sb_lost", a.String())
	}
	for _, a := range s.badUpstreams(ups) {
		v.Add("sb_bad", a.String())
	}
	return s.announcer.do(ctx, v)
}

// left is how many payload bytes are missing, to the piece.
func (s *Session) left(served int) int64 {
	m := s.store.manifest
	return max(0, m.PayloadLength-int64(served)*m.PieceLength)
}
