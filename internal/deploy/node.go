package deploy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/url"
	"os"
	"time"
)

// NodeID returns what a node calls itself towards server: the MAC address of the network interface that
// reaches it, in lower case with colons, or the host name where there is none (loopback, a tunnel).
func NodeID(server string) string {
	if mac := macTowards(server); mac != "" {
		return mac
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "unknown"
}

// macTowards asks the routing table by connecting a UDP socket, which sends nothing.
func macTowards(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	d := net.Dialer{Timeout: 5 * time.Second} // for the name server, if server is a name
	c, err := d.DialContext(context.Background(), "udp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return ""
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return ""
	}
	ifs, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil || len(i.HardwareAddr) == 0 {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(local.IP) {
				return i.HardwareAddr.String()
			}
		}
	}
	return ""
}

// newRun returns the random id of one run.
func newRun() string {
	var b [8]byte
	rand.Read(b[:]) //nolint:errcheck // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
