package target

import (
	"fmt"
	"slices"
	"strings"

	"swarmboot/imagefmt"
)

// maxCmdline is what x86 (COMMAND_LINE_SIZE) and arm64 kernels take, the NUL included; the kernel would cut the rest off silently.
const maxCmdline = 2048

// CmdlineOptions is what goes into the deployed kernel's command line beside the image's own.
type CmdlineOptions struct {
	Console []string // values of the node's console= parameters, in order
	Append  string   // added at the end, where it overrides
}

// Cmdline builds the kernel command line of the deployed system: the image's own, or root=... ro, with root added where it is
// missing; then the node's consoles that are not there yet; then o.Append. fsUUID is the UUID of the
// root file system, needed only for a disk without a partition table.
func Cmdline(m *imagefmt.Manifest, fsUUID string, o CmdlineOptions) (string, error) {
	words := strings.Fields(m.Boot.Cmdline)
	appended := strings.Fields(o.Append)
	if !hasParam(words, "root=") && !hasParam(appended, "root=") {
		root, err := rootSpec(m, fsUUID)
		if err != nil {
			return "", err
		}
		words = append([]string{"root=" + root}, words...)
		if !slices.Contains(words, "ro") && !slices.Contains(words, "rw") {
			words = slices.Insert(words, 1, "ro")
		}
	}
	for _, c := range o.Console {
		if !slices.Contains(words, "console="+c) {
			words = append(words, "console="+c)
		}
	}
	line := strings.Join(append(words, appended...), " ")
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("kernel command line %q holds control characters", line)
	}
	if len(line) >= maxCmdline {
		return "", fmt.Errorf("kernel command line of %d bytes, the kernel takes %d", len(line), maxCmdline-1)
	}
	return line, nil
}

func hasParam(words []string, prefix string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(strings.TrimPrefix(w, `"`), prefix) })
}

// rootSpec names the root for root=: by PARTUUID, which the kernel resolves without an initrd, or by
// UUID where there are no partitions.
func rootSpec(m *imagefmt.Manifest, fsUUID string) (string, error) {
	if v := m.Boot.Volume; v != nil {
		return VolumePath(v.Name), nil
	}
	if m.Boot.Root == 0 {
		if fsUUID == "" {
			return "", fmt.Errorf("the file system on the whole disk has no UUID to name as root; give root= in the image's command line or swarmboot.append")
		}
		return "UUID=" + fsUUID, nil
	}
	p, err := partition(m, m.Boot.Root)
	switch {
	case err != nil:
		return "", err
	case p.UUID != "":
		return "PARTUUID=" + strings.ToLower(p.UUID), nil
	case m.Table.Kind == imagefmt.TableMBR && m.Table.DiskSignature != "":
		return fmt.Sprintf("PARTUUID=%s-%02x", strings.ToLower(m.Table.DiskSignature), p.Number), nil
	}
	return "", fmt.Errorf("root partition %d has no UUID to name as root; give root= in the image's command line or swarmboot.append", p.Number)
}

func partition(m *imagefmt.Manifest, n int) (imagefmt.Partition, error) {
	for _, p := range m.Table.Partitions {
		if p.Number == n {
			return p, nil
		}
	}
	return imagefmt.Partition{}, fmt.Errorf("the boot entry's root is partition %d, which the image does not have", n)
}
