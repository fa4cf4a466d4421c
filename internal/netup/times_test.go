package netup

import (
	"context"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"swarmboot/internal/spread"
)

func TestTimesOfALease(t *testing.T) {
	start := time.Unix(1e9, 0)
	for _, test := range []struct{ length, t1, renew, end time.Duration }{
		{time.Hour, 0, 30 * time.Minute, time.Hour},
		{time.Hour, 10 * time.Minute, 10 * time.Minute, time.Hour},
		{time.Hour, 2 * time.Hour, 30 * time.Minute, time.Hour}, // T1 behind the end
		{0, 0, leastRenewal, 0},
		{time.Second, 0, leastRenewal, time.Second},
	} {
		ack, err := dhcpv4.New(dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(test.length)))
		if err != nil {
			t.Fatal(err)
		}
		if test.t1 > 0 {
			ack.UpdateOption(dhcpv4.OptRenewTimeValue(test.t1))
		}
		renew, end := (&lease{&nclient4.Lease{ACK: ack, CreationTime: start}}).times()
		if renew.Sub(start) != test.renew || end.Sub(start) != test.end {
			t.Errorf("lease of %s, T1 %s: renewed after %s, over after %s", test.length, test.t1, renew.Sub(start), end.Sub(start))
		}
	}
}

// Nodes that got their leases, or nothing, in the same second must not all come back in the same second.
func TestTimesAreSpread(t *testing.T) {
	start := time.Unix(1e9, 0)
	ack, err := dhcpv4.New(dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	short, err := dhcpv4.New(dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	pauses, renewals := map[time.Duration]bool{}, map[time.Time]bool{}
	for range 100 {
		d := spread.Around(10*time.Second, 2)
		if d < 5*time.Second || d > 15*time.Second {
			t.Fatalf("a pause of 10 s became %s", d)
		}
		at := (&lease{&nclient4.Lease{ACK: ack, CreationTime: start}}).renewal()
		if d := at.Sub(start); d < 27*time.Minute || d > 30*time.Minute {
			t.Fatalf("a lease of an hour is renewed after %s", d)
		}
		if at := (&lease{&nclient4.Lease{ACK: short, CreationTime: start}}).renewal(); at.Sub(start) != leastRenewal {
			t.Fatalf("a lease of a second is renewed after %s", at.Sub(start))
		}
		pauses[d], renewals[at] = true, true
	}
	if len(pauses) < 50 || len(renewals) < 50 {
		t.Errorf("%d pauses and %d renewals of 100 differ", len(pauses), len(renewals))
	}
}

// Attempts of nodes that began together drift apart. (The interface is none: each attempt fails at once.)
func TestAttemptsDriftApart(t *testing.T) {
	const nodes = 20
	second := make(chan time.Duration, nodes)
	begin := time.Now()
	for range nodes {
		go func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var o Options
			o.Log = func(_ string, args ...any) {
				if args[1] == 2 {
					second <- time.Since(begin)
					cancel()
				}
			}
			_, _ = o.acquire(ctx, "sb-none", nil)
		}()
	}
	first, last := time.Hour, time.Duration(0)
	for range nodes {
		d := <-second
		first, last = min(first, d), max(last, d)
	}
	// By chance alone all of 20 come within a fifth of their span once in 10^12 runs.
	if first < firstPause/2 || last-first < firstPause/5 {
		t.Errorf("the second attempts came between %s and %s", first, last)
	}
}
