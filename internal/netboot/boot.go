package netboot

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// NodeClass is the vendor class with which our own initramfs asks for an
// address: it is past booting, and must not be offered a boot file.
const NodeClass = "swarmboot"

// Names of iPXE binaries as Debian's package ipxe has them. Of the two for EFI
// the one that drives the card through the firmware comes first: it works with
// every card the firmware can boot from.
const biosFile = "undionly.kpxe"

var efiFiles = []string{"snponly.efi", "ipxe.efi"}

// optionIPXE is the encapsulated options of iPXE (ipxe.org/howto/dhcpd).
const optionIPXE = 175

// kind is what sort of DHCP client asks.
type kind int

const (
	kindOther       kind = iota // an operating system; gets an address only
	kindNode                    // our initramfs
	kindIPXE                    // iPXE in a ROM or loaded before
	kindBIOS                    // a PXE ROM under a PC BIOS
	kindEFI                     // UEFI PXE, x86-64
	kindHTTP                    // UEFI HTTP boot, x86-64
	kindUnsupported             // boots from the network, but on a processor we have nothing for
)

func (k kind) String() string {
	return [...]string{"system", "node", "iPXE", "PXE (BIOS)", "PXE (EFI)", "HTTP boot (EFI)", "PXE (unsupported)"}[k]
}

// classify says what sort of client sent req.
func classify(req *dhcpv4.DHCPv4) kind {
	class := req.ClassIdentifier()
	switch {
	case class == NodeClass:
		return kindNode
	case isIPXE(req):
		return kindIPXE
	case !strings.HasPrefix(class, "PXEClient") && !strings.HasPrefix(class, "HTTPClient"):
		return kindOther
	}
	arch, ok := clientArch(req)
	if !ok {
		return kindUnsupported
	}
	switch arch {
	case iana.INTEL_X86PC:
		return kindBIOS
	case iana.EFI_X86_64, iana.EFI_BC:
		// Type 9 was taken for x86-64 by an erratum of RFC 4578; firmware uses both.
		return kindEFI
	case iana.EFI_X86_64_HTTP:
		return kindHTTP
	}
	return kindUnsupported
}

// isIPXE knows iPXE by its user class, which it sends without the length octet
// of RFC 3004, or by its own option, which no other client sends.
func isIPXE(req *dhcpv4.DHCPv4) bool {
	if req.Options.Has(dhcpv4.GenericOptionCode(optionIPXE)) {
		return true
	}
	user := req.Options.Get(dhcpv4.OptionUserClassInformation)
	return bytes.Equal(user, []byte("iPXE")) || bytes.Equal(user, []byte("\x04iPXE"))
}

// clientArch reads option 93, or failing that the class "PXEClient:Arch:00007:...".
func clientArch(req *dhcpv4.DHCPv4) (iana.Arch, bool) {
	if b := req.Options.Get(dhcpv4.OptionClientSystemArchitectureType); len(b) >= 2 {
		return iana.Arch(uint16(b[0])<<8 | uint16(b[1])), true
	}
	var arch uint16
	_, rest, _ := strings.Cut(req.ClassIdentifier(), ":")
	if _, err := fmt.Sscanf(rest, "Arch:%05d", &arch); err != nil {
		return 0, false
	}
	return iana.Arch(arch), true
}

// bootFiles is the directory with iPXE binaries.
type bootFiles struct{ root *os.Root }

func (b *bootFiles) has(name string) bool {
	if b == nil {
		return false
	}
	fi, err := b.root.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}

// efi is the name of the EFI binary that is there, or "".
func (b *bootFiles) efi() string {
	if i := slices.IndexFunc(efiFiles, b.has); i >= 0 {
		return efiFiles[i]
	}
	return ""
}

// open opens a boot file for reading: one of the names this package offers and
// nothing else.
func (b *bootFiles) open(name string) (fs.File, error) {
	if b == nil || name != biosFile && !slices.Contains(efiFiles, name) {
		return nil, fs.ErrNotExist
	}
	return b.root.Open(name)
}

// answerBoot puts into resp what a client of kind k needs to go on booting.
// base is the URL of the HTTP server, without a slash at its end.
// It reports why there is no boot file for a client that wants one.
func (l *link) answerBoot(k kind, req, resp *dhcpv4.DHCPv4) error {
	switch k {
	case kindIPXE:
		// Sub-option 176, no-pxedhcp: do not wait for a proxyDHCP server.
		resp.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(optionIPXE), []byte{176, 1, 1}))
		setBootFile(req, resp, l.base()+"/boot/script")
	case kindBIOS:
		if !l.files.has(biosFile) {
			return fmt.Errorf("no %s for its BIOS ROM: give --ipxe", biosFile)
		}
		l.answerPXE(req, resp, biosFile)
	case kindEFI:
		name := l.files.efi()
		if name == "" {
			return fmt.Errorf("no %s for its EFI firmware: give --ipxe", strings.Join(efiFiles, " or "))
		}
		l.answerPXE(req, resp, name)
	case kindHTTP:
		name := l.files.efi()
		if name == "" {
			return fmt.Errorf("no %s for its EFI firmware: give --ipxe", strings.Join(efiFiles, " or "))
		}
		// UEFI drops an offer that does not name the class back.
		resp.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
		setBootFile(req, resp, l.base()+"/boot/ipxe/"+name)
	case kindUnsupported:
		return fmt.Errorf("nothing to boot for class %q", req.ClassIdentifier())
	}
	return nil
}

// answerPXE names a TFTP boot file to a PXE ROM (RFC 4578; PXE 2.1, section 2.2).
func (l *link) answerPXE(req, resp *dhcpv4.DHCPv4, name string) {
	resp.ServerIPAddr = l.Addr.AsSlice()
	resp.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
	// PXE_DISCOVERY_CONTROL 8: take the boot file named here, ask no boot server, show no menu.
	resp.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
	if id := req.Options.Get(dhcpv4.OptionClientMachineIdentifier); id != nil {
		resp.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, id))
	}
	if req.IsOptionRequested(dhcpv4.OptionTFTPServerName) {
		resp.UpdateOption(dhcpv4.OptTFTPServerName(l.Addr.String()))
	}
	setBootFile(req, resp, name)
}

// setBootFile puts name into the header and, where asked for, into option 67:
// some ROMs read only one of them.
func setBootFile(req, resp *dhcpv4.DHCPv4, name string) {
	resp.BootFileName = name
	if req.IsOptionRequested(dhcpv4.OptionBootfileName) {
		resp.UpdateOption(dhcpv4.OptBootFileName(name))
	}
}

// OpenIPXE opens an iPXE binary by the name that DHCP gave for HTTP boot.
func (s *Server) OpenIPXE(name string) (fs.File, error) {
	if len(s.links) == 0 {
		return nil, fs.ErrNotExist
	}
	return s.links[0].files.open(name)
}
