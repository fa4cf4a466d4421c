package lldp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"swarmboot/internal/event"
)

// trust is how much a device looks like the switch that the node hangs on.
type trust int

const (
	notASwitch trust = iota
	unknown          // it does not say what it does
	forwards
)

// trust tells switches from what else may be heard: telephones that the cable goes through, and, at a switch
// without management that spreads these frames, all other machines there.
func (p *pdu) trust() trust {
	switch {
	case p.ttl == 0:
		return notASwitch // it says goodbye
	case p.enabled == 0:
		return unknown
	case p.enabled&capTelephone != 0, p.enabled&capForwards == 0:
		return notASwitch
	}
	return forwards
}

// asSwitch is what the device says, fit for people and files.
func (p *pdu) asSwitch() event.Switch {
	s := event.Switch{ID: p.chassis.unique(), Name: clean(p.name), Port: p.port.portText(), PortDescription: clean(p.portDesc)}
	if s.PortDescription == s.Port {
		s.PortDescription = ""
	}
	return s
}

// unique names a switch as no other: the chassis ID is unique with its subtype (802.1AB, 8.5.2), and stays the same at
// all ports of a switch, or of a stack of several. A system name is for people: many switches have the one that they
// came with. "" for an ID that can be nobody's own: firmware that was never given its address sends zeros, or all ones.
func (c id) unique() string {
	if !slices.ContainsFunc(c.value, func(b byte) bool { return b != 0 }) || !slices.ContainsFunc(c.value, func(b byte) bool { return b != 0xff }) {
		return ""
	}
	kind, ok := chassisKinds[c.subtype]
	if !ok {
		kind = fmt.Sprint("subtype-", c.subtype)
	}
	text := kind + ":" + c.text(chassisMAC, chassisAddress)
	if len(text) > event.MaxSwitchID {
		sum := sha256.Sum256(c.value)
		text = kind + ":sha256:" + hex.EncodeToString(sum[:16])
	}
	return text
}

var chassisKinds = map[byte]string{chassisComponent: "component", chassisAlias: "alias", chassisPort: "port", chassisMAC: "mac",
	chassisAddress: "address", chassisName: "interface", chassisLocal: "local"}

// portText is a port ID for people.
func (c id) portText() string {
	if t := clean(c.value); t != "" && c.subtype != portMAC && c.subtype != portAddress {
		return t
	}
	return limit(c.text(portMAC, portAddress))
}

// text writes an ID; mac and address are the subtypes that are not text. What is not fit for people is in hexadecimal digits.
func (c id) text(mac, address byte) string {
	switch {
	case c.subtype == mac && len(c.value) == 6:
		return net.HardwareAddr(c.value).String()
	case c.subtype == address && len(c.value) > 1:
		// The family (IANA's address family numbers) stands before it; the lengths of the two that matter differ.
		if a, ok := netip.AddrFromSlice(c.value[1:]); ok {
			return a.String()
		}
	case c.subtype != mac && c.subtype != address && isText(c.value):
		return string(c.value)
	}
	return "0x" + hex.EncodeToString(c.value)
}

// isText says whether bytes are text that can be shown as it is.
func isText(b []byte) bool {
	return utf8.Valid(b) && string(b) == clean(b)
}

// clean makes text fit for pages, terminals and logs: valid UTF-8 without anything that cannot be seen (control
// characters, characters that turn the direction of writing), not longer than event.MaxSwitchText. Some switches end it with a NUL.
func clean(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	s := strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return -1
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, string(b))
	return limit(strings.TrimSpace(s))
}

// limit cuts text at the end of a character.
func limit(s string) string {
	if len(s) <= event.MaxSwitchText {
		return s
	}
	s = s[:event.MaxSwitchText]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return strings.TrimSpace(s)
}
