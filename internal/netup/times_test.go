package netup

import (
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
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
