package tracker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

type counts struct{ complete, downloaded, incomplete int }

// reply is the answer to an announce.
type reply struct {
	counts
	interval time.Duration
	again    time.Duration // a node should come back then, once; 0: after the interval
	peers    []netip.AddrPort
}

func send(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	// The client has gone if this fails; it will announce again.
	_, _ = w.Write(body)
}

func failure(err error) []byte {
	msg := err.Error()
	return fmt.Appendf(nil, "d14:failure reason%d:%se", len(msg), msg)
}

// encode bencodes the answer, its keys sorted as BEP 3 wants: compact peers (BEP 23, BEP 7) or a
// list of dictionaries.
func (r reply) encode(compact bool) []byte {
	var b bytes.Buffer
	seconds := max(1, int(r.interval/time.Second))
	fmt.Fprintf(&b, "d8:completei%de10:downloadedi%de10:incompletei%de8:intervali%de", r.complete, r.downloaded, r.incomplete, seconds)
	b.WriteString("5:peers")
	if !compact {
		r.encodeList(&b)
		return r.end(&b)
	}
	var v4, v6 []byte
	for _, p := range r.peers {
		if p.Addr().Is4() {
			v4 = binary.BigEndian.AppendUint16(append(v4, p.Addr().AsSlice()...), p.Port())
		} else {
			v6 = binary.BigEndian.AppendUint16(append(v6, p.Addr().AsSlice()...), p.Port())
		}
	}
	fmt.Fprintf(&b, "%d:%s", len(v4), v4)
	if len(v6) > 0 {
		fmt.Fprintf(&b, "6:peers6%d:%s", len(v6), v6)
	}
	return r.end(&b)
}

// end adds swarmboot's own key, which sorts behind the others.
func (r reply) end(b *bytes.Buffer) []byte {
	if r.again > 0 {
		fmt.Fprintf(b, "8:sb_againi%de", r.again.Milliseconds())
	}
	b.WriteByte('e')
	return b.Bytes()
}

// encodeList leaves out the peer ids, which BEP 3 has but no client needs.
func (r reply) encodeList(b *bytes.Buffer) {
	b.WriteByte('l')
	for _, p := range r.peers {
		ip := p.Addr().String()
		fmt.Fprintf(b, "d2:ip%d:%s4:porti%dee", len(ip), ip, p.Port())
	}
	b.WriteByte('e')
}

func encodeScrape(files map[[20]byte]counts) []byte {
	var b bytes.Buffer
	b.WriteString("d5:filesd")
	sorted := slices.SortedFunc(maps.Keys(files), func(x, y [20]byte) int { return bytes.Compare(x[:], y[:]) })
	for _, h := range sorted {
		c := files[h]
		fmt.Fprintf(&b, "20:%sd8:completei%de10:downloadedi%de10:incompletei%dee", h[:], c.complete, c.downloaded, c.incomplete)
	}
	b.WriteString("ee")
	return b.Bytes()
}
