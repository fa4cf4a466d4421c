// Package event holds the messages that a node and the server exchange about a
// deployment, and that cmds/deploy prints with --json: one JSON object a line.
package event

import (
	"strings"
	"time"
)

// Phase names where in its deployment a node is.
type Phase string

// The phases in the order in which a node goes through them. Failed may follow any of them.
const (
	PhaseBoot        Phase = "boot"         // drivers, network
	PhaseManifest    Phase = "manifest"     // manifest and metainfo from the server
	PhaseBeforeDisks Phase = "before-disks" // hooks of the profile
	PhaseSelect      Phase = "select"       // which disk
	PhaseWipe        Phase = "wipe"         // old signatures
	PhasePartition   Phase = "partition"    // the new table
	PhaseRAID        Phase = "raid"         // arrays of a layout
	PhaseFetch       Phase = "fetch"        // pieces through the swarm, straight to the disk
	PhaseSync        Phase = "sync"         // fsync
	PhaseVerify      Phase = "verify"       // raw hashes read back
	PhaseMkfs        Phase = "mkfs"         // new file systems and swap areas of a layout
	PhaseReread      Phase = "reread"       // the kernel reads the new table
	PhaseSeed        Phase = "seed"         // finished, others still depend on this node
	PhaseGrow        Phase = "grow"         // the last file system grown into the rest of a larger disk
	PhaseAfterWrite  Phase = "after-write"  // hooks of the profile
	PhaseIdentity    Phase = "identity"     // the deployed system gets its name, keys, network and files
	PhaseUUIDs       Phase = "uuids"        // new UUIDs for disk, partitions and file systems
	PhaseTable       Phase = "table"        // the final table, where steps after reread have changed what it lists
	PhaseBeforeKexec Phase = "before-kexec" // hooks of the profile
	PhaseBootEntry   Phase = "bootentry"    // the firmware is told of the deployed system
	PhaseLoad        Phase = "load"         // kernel and initrd of the deployed system loaded
	PhaseDone        Phase = "done"
	PhasePlan        Phase = "plan" // the end of a dry run: what would have been done was shown, nothing was written
	PhaseFailed      Phase = "failed"
)

// Ended says whether no message follows one with this phase.
func (p Phase) Ended() bool { return p == PhaseDone || p == PhaseFailed || p == PhasePlan }

// Complete says whether a node in this phase holds every piece of its image.
func (p Phase) Complete() bool {
	switch p {
	case PhaseSync, PhaseVerify, PhaseMkfs, PhaseReread, PhaseSeed, PhaseGrow, PhaseAfterWrite, PhaseIdentity, PhaseUUIDs, PhaseTable, PhaseBeforeKexec, PhaseBootEntry, PhaseLoad, PhaseDone:
		return true
	}
	return false
}

// Step is one finished step and how long it took.
type Step struct {
	Name    Phase   `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Hook is what a hook of the profile did.
type Hook struct {
	Name    string  `json:"name"`
	Point   Phase   `json:"point"`
	Seconds float64 `json:"seconds"`
	Output  string  `json:"output,omitempty"` // the end of it, lines joined by newlines
	Error   string  `json:"error,omitempty"`
}

// The most bytes that the texts of a Switch have.
const (
	MaxSwitchID   = 64 // as the tracker takes for a rack
	MaxSwitchText = 128
)

// Switch is the port of a switch that a node is connected to, as the switch itself says by LLDP (IEEE 802.1AB). Its texts are
// valid UTF-8 without control characters.
type Switch struct {
	ID              string `json:"id,omitempty"`   // the kind of its chassis ID and that itself, "mac:00:1b:21:aa:bb:cc"; "" if it has none of its own
	Name            string `json:"name,omitempty"` // system name
	Port            string `json:"port,omitempty"` // port ID
	PortDescription string `json:"portDescription,omitempty"`
}

// String is the switch and its port for people: "sw-r7 Ethernet1/7 (node 42)".
func (s Switch) String() string {
	text := s.Name
	if text == "" {
		text = s.ID
	}
	text += " " + s.Port
	if s.PortDescription != "" {
		text += " (" + s.PortDescription + ")"
	}
	return strings.TrimSpace(text)
}

// MaxMACs is how many addresses a Machine has at most.
const MaxMACs = 32

// Machine is by what a machine is known, whichever of its network cards it boots by.
type Machine struct {
	MACs []string `json:"macs,omitempty"` // of its network cards, in lower case with colons
	UUID string   `json:"uuid,omitempty"` // of its SMBIOS
}

// Progress is one report of a node. Numbers are totals since the start of the run unless said otherwise.
type Progress struct {
	Node  string    `json:"node"` // MAC address in lower case with colons; a host name for cmds/deploy
	Run   string    `json:"run"`  // random, one for each run: tells a second deployment from a late message
	Time  time.Time `json:"time"`
	Image string    `json:"image,omitempty"`
	Phase Phase     `json:"phase"`
	Disk  string    `json:"disk,omitempty"`

	Machine

	Switch Switch `json:"switch,omitzero"` // empty until it was heard

	PiecesDone  int   `json:"piecesDone"`
	PiecesTotal int   `json:"piecesTotal"`
	BytesDone   int64 `json:"bytesDone"`  // raw bytes written to the disk
	BytesTotal  int64 `json:"bytesTotal"` // raw bytes of the image
	Rate        int64 `json:"rate"`       // raw bytes per second, over the last few seconds

	FromServer   int64 `json:"fromServer"` // payload bytes received from the server's seeder
	FromNodes    int64 `json:"fromNodes"`  // payload bytes received from other nodes
	Uploaded     int64 `json:"uploaded"`   // payload bytes sent to other nodes
	HashFailures int   `json:"hashFailures,omitempty"`

	Seconds float64 `json:"seconds"` // since the start of the run
	Steps   []Step  `json:"steps,omitempty"`

	Message  string `json:"message,omitempty"` // a remark for people: which disk was chosen, what was wiped
	Error    string `json:"error,omitempty"`   // only with PhaseFailed
	ExitCode int    `json:"exitCode,omitempty"`

	// Warnings are what went wrong without making the deployment a failure, in order: the image is whole on the disk.
	Warnings []string `json:"warnings,omitempty"`

	// Arrays are those of a layout that are being brought in line, with how far that has come; it goes on after the deployment.
	Arrays []string `json:"arrays,omitempty"`

	// Hooks are those that have run, in order.
	Hooks []Hook `json:"hooks,omitempty"`
}

// Reply is the server's answer to a Progress.
type Reply struct {
	// Leave tells a node that holds every piece that nobody depends on it.
	Leave bool `json:"leave"`
}

// Settled is what cmds/deploy tells process 1 with --settled: what is to follow, by the command line and the node's profile, and what
// the server was not told.
type Settled struct {
	Then    string `json:"then"`
	OnError string `json:"onError"`
	Action  string `json:"action,omitempty"` // "plan": it was a dry run

	Unsent *Progress `json:"unsent,omitempty"` // the last report, when the server did not get it
}
