// Package lldp hears which switch, and which port of it, a network interface is connected to (IEEE 802.1AB-2016, Link
// Layer Discovery Protocol), and has the switch say so within seconds in place of half a minute.
package lldp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// ethertype of LLDP (802.1AB, 7.4.1).
const ethertype = 0x88cc

// The group addresses of LLDP (7.1). A bridge passes on none of those behind its own kind, so that what comes to the
// first one is from the nearest device of all. That may be a two-port relay (a media converter), which passes on the other two.
var (
	nearestBridge         = net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0x0e}
	nearestNonTPMRBridge  = net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0x03}
	nearestCustomerBridge = net.HardwareAddr{0x01, 0x80, 0xc2, 0, 0, 0x00}
)

// TLV types (8.4.1).
const (
	tlvEnd             = 0
	tlvChassisID       = 1
	tlvPortID          = 2
	tlvTTL             = 3
	tlvPortDescription = 4
	tlvSystemName      = 5
	tlvSystemDesc      = 6
	tlvCapabilities    = 7
	tlvOrganization    = 127
)

// Subtypes of a chassis ID (8.5.2.2) and a port ID (8.5.3.2): of those that a switch names itself by, text unless a comment says otherwise.
const (
	chassisComponent = 1
	chassisAlias     = 2 // ifAlias
	chassisPort      = 3
	chassisMAC       = 4 // 6 octets
	chassisAddress   = 5 // family, address
	chassisName      = 6 // ifName
	chassisLocal     = 7

	portMAC     = 3 // 6 octets
	portAddress = 4 // family, address
	portLocal   = 7
)

// System capabilities (8.5.8.1).
const (
	capRepeater  = 1 << 1
	capBridge    = 1 << 2
	capWLAN      = 1 << 3
	capRouter    = 1 << 4
	capTelephone = 1 << 5
	capStation   = 1 << 7
	capCVLAN     = 1 << 8
	capSVLAN     = 1 << 9

	capForwards = capRepeater | capBridge | capWLAN | capRouter | capCVLAN | capSVLAN
)

const (
	headerLen = 14   // Ethernet: destination, source, type
	maxFrame  = 1518 // an LLDPDU is one untagged frame
	maxID     = 255  // octets of an ID behind its subtype
	minPDU    = 3 * 2
)

// id is a chassis ID or a port ID.
type id struct {
	subtype byte
	value   []byte // 1 to maxID octets
}

// pdu is what a device says of itself in one frame.
type pdu struct {
	to            net.HardwareAddr // the group address it came to
	chassis, port id
	ttl           uint16 // seconds; 0: the device ends what it said before
	portDesc      []byte
	name          []byte
	enabled       uint16 // capabilities that it uses
}

var errShort = errors.New("it ends within a field")

// parse reads an Ethernet frame. What it returns points into the frame. Whatever 802.1AB has a receiver drop is an
// error; TLVs that it does not know, and what stands behind the end (padding), are skipped.
func parse(frame []byte) (*pdu, error) {
	if len(frame) < headerLen+minPDU {
		return nil, errShort
	}
	if t := binary.BigEndian.Uint16(frame[12:]); t != ethertype {
		return nil, fmt.Errorf("its type is %#04x", t)
	}
	p := &pdu{to: frame[0:6:6]}
	if !isGroup(p.to) {
		return nil, fmt.Errorf("it was sent to %s", p.to)
	}
	b := frame[headerLen:]
	n := 0
	for ; len(b) > 0; n++ {
		if len(b) < 2 {
			return nil, errShort
		}
		head := binary.BigEndian.Uint16(b) // 7 bits of type, 9 of length
		typ, end := int(head>>9), 2+int(head&0x1ff)
		if len(b) < end {
			return nil, errShort
		}
		if typ == tlvEnd {
			break
		}
		if err := p.take(n, typ, b[2:end:end]); err != nil {
			return nil, err
		}
		b = b[end:]
	}
	// That there was no end is no matter: it may be missing where the frame is full.
	if n < tlvTTL {
		return nil, errors.New("it has no chassis ID, port ID and time to live")
	}
	return p, nil
}

func isGroup(to net.HardwareAddr) bool {
	a := string(to)
	return a == string(nearestBridge) || a == string(nearestNonTPMRBridge) || a == string(nearestCustomerBridge)
}

// take reads TLV number i. The first three have their order (8.2), none of them comes again.
func (p *pdu) take(i, typ int, v []byte) (err error) {
	if i < tlvTTL && typ != i+1 || i >= tlvTTL && typ <= tlvTTL {
		return fmt.Errorf("TLV of type %d at place %d", typ, i+1)
	}
	switch typ {
	case tlvChassisID:
		p.chassis, err = parseID(v)
	case tlvPortID:
		p.port, err = parseID(v)
	case tlvTTL:
		if len(v) < 2 {
			return fmt.Errorf("TLV of type %d: %d octets", typ, len(v))
		}
		p.ttl = binary.BigEndian.Uint16(v)
	case tlvPortDescription:
		p.portDesc = v
	case tlvSystemName:
		p.name = v
	case tlvCapabilities:
		if len(v) >= 4 { // what it could do, what it does
			p.enabled = binary.BigEndian.Uint16(v[2:])
		}
	}
	if err != nil {
		return fmt.Errorf("TLV of type %d: %w", typ, err)
	}
	return nil
}

func parseID(v []byte) (id, error) {
	if len(v) < 2 || len(v) > 1+maxID {
		return id{}, fmt.Errorf("an ID of %d octets", len(v))
	}
	return id{v[0], v[1:]}, nil
}

// self is what a node says of itself.
type self struct {
	mac  net.HardwareAddr
	port string // names the port, another way each time that the node starts
	name string // of the interface
}

// ttl is how long, in seconds, a switch shows a node that has gone silent: people look for it there.
const ttl = 120

// frame makes the Ethernet frame by which a node makes itself known. It has what LLDP-MED (ANSI/TIA-1057, 10.2.2)
// calls its capabilities, since many switches have the fast start of that standard, which is older, in place of 802.1AB's.
func (s self) frame() []byte {
	b := append([]byte{}, nearestBridge...)
	b = append(b, s.mac...)
	b = binary.BigEndian.AppendUint16(b, ethertype)
	b = tlv(b, tlvChassisID, append([]byte{chassisMAC}, s.mac...))
	b = tlv(b, tlvPortID, append([]byte{portLocal}, s.port...))
	b = tlv(b, tlvTTL, binary.BigEndian.AppendUint16(nil, ttl))
	b = tlv(b, tlvPortDescription, []byte(s.name))
	b = tlv(b, tlvSystemName, fmt.Appendf(nil, "swarmboot-%x", []byte(s.mac)))
	b = tlv(b, tlvSystemDesc, []byte("swarmboot node"))
	// A station: other nodes, at a switch without management that spreads the frame, must not take this one for a switch.
	b = tlv(b, tlvCapabilities, []byte{0, capStation, 0, capStation})
	b = tlv(b, tlvOrganization, []byte{0x00, 0x12, 0xbb, 1, 0, 1, 1}) // TIA, capabilities: just these; endpoint of class I
	return tlv(b, tlvEnd, nil)
}

func tlv(b []byte, typ int, v []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(typ<<9|len(v)))
	return append(b, v...)
}
