// Package params turns a kernel command line into one typed Config. It is the
// only place where the names of swarmboot's parameters appear.
//
// A parameter that is unknown, malformed or given twice with different values
// is an error that names it: a typing error must not lead to another disk or
// image than the one meant.
package params

import "time"

// Prefix begins every parameter of swarmboot; all others are the kernel's.
const Prefix = "swarmboot."

// Config is what the swarmboot.* parameters say, with defaults filled in.
type Config struct {
	Server string // base URL of the server, without a trailing slash; "" = the DHCP server's
	Image  string // "" only with ActionShell
	Disk   string // disk selector, see disk.ParseSelector; "" = the only disk
	Layout string // name of a layout on the server, which says what goes to which disks; "" = none

	Action  Action
	Then    Then
	OnError OnError
	Verify  Verify
	Grow    Grow
	Write   Write

	BootEntry BootEntry

	Rack    string        // name of the node's rack or switch; "" = by LLDP or its address
	Seed    time.Duration // longest time to seed after the own fetch is complete
	Append  string        // added to the kernel command line of the deployed system
	Carrier time.Duration // longest wait for a link
	DHCP    time.Duration // longest wait for a lease
	NIC     string        // MAC address (lower case) or name of the only interface to use; "" = all

	Console []string // values of the kernel's console= parameters, in order
}

// Action is what the node does.
type Action string

// Then is what the node does after a deployment.
type Then string

// OnError is what the node does after a failed deployment.
type OnError string

// Verify is how the written disk is checked.
type Verify string

// Grow is what becomes of the image's own table on a disk of another size.
type Grow string

// Write is how the image's bytes get to the disk.
type Write string

// BootEntry is where UEFI firmware gets a boot entry for the deployed system.
type BootEntry string

// The values of the parameters.
const (
	ActionDeploy Action = "deploy"
	ActionPlan   Action = "plan" // a dry run
	ActionShell  Action = "shell"

	ThenKexec    Then = "kexec"
	ThenReboot   Then = "reboot"
	ThenPowerOff Then = "poweroff"
	ThenShell    Then = "shell"

	OnErrorShell    OnError = "shell"
	OnErrorReboot   OnError = "reboot"
	OnErrorPowerOff OnError = "poweroff"

	GrowLast         Grow = "last"         // the last partition and its file system take it
	GrowProportional Grow = "proportional" // all partitions that can grow share it, in proportion; Clonezilla's -k1
	GrowExact        Grow = "exact"        // it stays unused; a smaller disk is taken if nothing that is used would be cut off
	GrowNone         Grow = "none"         // it stays unused

	BootEntryFirst        BootEntry = "first"         // of all
	BootEntryAfterNetwork BootEntry = "after-network" // behind the network entry that the node was booted from
	BootEntryNone         BootEntry = "none"

	WriteCache  Write = "cache"  // through the kernel's page cache
	WriteDirect Write = "direct" // past it (O_DIRECT)

	VerifyNone     Verify = "none"     // trust the write
	VerifyWrite    Verify = "write"    // raw hashes are checked on what is written
	VerifyReadBack Verify = "readback" // and on what the device returns afterwards
)

// Default returns the Config of an empty command line.
func Default() *Config {
	return &Config{
		Action:  ActionDeploy,
		Then:    ThenKexec,
		OnError: OnErrorShell,
		Verify:  VerifyWrite,
		Grow:    GrowLast,
		Write:   WriteCache,

		BootEntry: BootEntryAfterNetwork,

		Seed:    10 * time.Minute,
		Carrier: 90 * time.Second,
		DHCP:    2 * time.Minute,
	}
}
