package netboot

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// One that has an address is answered there, at once but for the random delay; all others together, and not more often than every 3 s.
func TestAdvertisementsAnswerSolicitations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		type sent struct {
			to netip.Addr
			at time.Duration
		}
		out := make(chan sent, 10_000)
		solicited := make(chan netip.Addr)
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			advertise(ctx, solicited, func(to netip.Addr) { out <- sent{to, time.Since(start)} })
		}()
		take := func() (all []time.Duration, single map[netip.Addr][]time.Duration) {
			synctest.Wait()
			single = map[netip.Addr][]time.Duration{}
			for len(out) > 0 {
				if s := <-out; s.to == allNodes {
					all = append(all, s.at)
				} else {
					single[s.to] = append(single[s.to], s.at)
				}
			}
			return all, single
		}
		none := netip.IPv6Unspecified()
		if all, single := take(); len(all) != 1 || all[0] != 0 || len(single) != 0 {
			t.Fatalf("at first: %v %v", all, single)
		}

		// A rack is switched on, each node asks once, and some before they have an address.
		time.Sleep(time.Second)
		const nodes = 300
		for i := range nodes {
			solicited <- netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: byte(i >> 8), 15: byte(i)})
			solicited <- none
		}
		solicited <- netip.MustParseAddr("2001:db8::1") // an advertisement to it would not come from a link-local address
		time.Sleep(raMaxDelay)
		all, single := take()
		if len(all) != 0 || len(single) != nodes {
			t.Errorf("%d of %d nodes answered; to all: %v", len(single), nodes, all)
		}
		spread := map[time.Duration]bool{}
		for a, at := range single {
			if len(at) != 1 || at[0] < time.Second || at[0] > time.Second+raMaxDelay {
				t.Errorf("%s was answered after %v", a, at)
			}
			spread[at[0]] = true
		}
		if len(spread) < nodes/2 {
			t.Errorf("%d answers at %d moments", nodes, len(spread))
		}

		time.Sleep(raMinGap) // 4.5 s: the one answer to all, no sooner than 3 s after the first
		if all, single = take(); len(all) != 1 || all[0] != raMinGap || len(single) != 0 {
			t.Errorf("to all: %v, to single nodes: %v", all, single)
		}
		time.Sleep(raInterval)
		if all, _ = take(); len(all) != 1 || all[0] != raMinGap+raInterval {
			t.Errorf("unsolicited: %v", all)
		}
		time.Sleep(raInterval - time.Second) // 23.5 s; the last was at 13 s, so that one came at 23 s
		solicited <- none
		time.Sleep(raInterval)
		if all, _ = take(); len(all) != 2 || all[0] != raMinGap+2*raInterval || all[1] != raMinGap+2*raInterval+raMinGap {
			t.Errorf("after a solicitation: %v", all)
		}
		cancel()
		<-done
	})
}
