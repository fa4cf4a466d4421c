// Package md makes, recognizes, starts and stops Linux software RAID arrays: superblocks of version 1.x are written and
// read here, the kernel's md driver is driven through sysfs. No mdadm is needed; mdadm is the judge in the tests.
//
// Sources: linux/include/uapi/linux/raid/md_p.h (superblock), linux/drivers/md/md-bitmap.h (bitmap),
// Documentation/admin-guide/md.rst (sysfs); sizes and offsets are chosen as mdadm(8) chooses them. md counts in sectors of
// 512 bytes on every disk; this package counts in bytes, but where a name says sectors.
//
// # What an array on a disk means
//
// An array is on its members from the moment their superblocks are: any system that sees the disks (their own after a
// power cut, a rescue system) assembles it, whether or not its content is whole. A superblock is no promise, and nothing here makes one.
// Whoever fills an array must keep back what makes its content look like something until all was verified and synced:
//
//   - the partition table in an array that has one,
//   - the first sectors (boot sector, superblock) of a file system directly on an array,
//   - the tables of the disks whose partitions are members, as for a deployment without arrays. This matters most for mirrors of
//     metadata 1.0: an ESP or /boot on one reads like a plain partition for a firmware, which knows nothing of md.
//
// Without these nothing is mounted and nothing boots, so the array may be made early and filled in place.
//
// An interrupted deployment is repeated with the same Spec: Create finishes superblocks that were written on some members
// only, and takes an array that is already there as it was asked for, so that a deployment goes on where it was, and a
// redeployment needs no new resync. Everything else that is found on members is refused unless Spec.Recreate says otherwise.
//
// # Initial resync
//
// New arrays of levels 1, 4, 5, 6 and 10 are marked as not in sync from their start (resync_offset 0). The kernel brings
// mirrors and parity in line in the background, slowly while others use the array; after a stop, a restart or a kexec it
// goes on where it was. mdadm starts levels 4 and 5 with one member as a spare that is rebuilt, which writes less. We
// choose the resync for all levels. While it runs the array is not degraded, and the kernel calculates parity anew for each
// stripe that is written in the part that is not in sync yet (drivers/md/raid5.c, handle_stripe_dirtying): a member that
// fails in the hours that it takes costs no byte that was deployed. And roles are the same for every level.
package md

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Shape is what decides about the sizes of an array.
type Shape struct {
	Level    int    // 0, 1, 4, 5, 6 or 10 (two near copies)
	Metadata string // "1.2" (4 KiB from the start of each member) or "1.0" (at its end); "" is 1.2
	Chunk    int64  // bytes, a power of two from 4 KiB on; 0 is 512 KiB. Level 1 has none: 0
	Bitmap   bool   // an internal write-intent bitmap; not for level 0
}

// Spec says what array is wanted.
type Spec struct {
	Shape
	Name     string   // it becomes /dev/md/NAME: letters, digits, "-", "_", "."; a letter or digit first
	Homehost string   // host that the array belongs to, in front of the name; "" is "any", which mdadm takes as local on every host
	Members  []string // device nodes in the order of their roles
	Spares   []string // device nodes
	UUID     UUID     // zero: a new random one, or that of the array which is taken as it is
	Recreate bool     // stop and overwrite arrays that the members belong to
}

// Array is an array that runs.
type Array struct {
	Device string // device node: "/dev/md127"
	Link   string // "/dev/md/NAME", a symbolic link to it
	UUID   UUID
	Size   int64 // bytes
	Reused bool  // it was on the members already and was not written anew
}

// UUID identifies an array or a member.
type UUID [16]byte

// String is the form that mdadm prints: four groups of eight hexadecimal digits.
func (u UUID) String() string {
	return fmt.Sprintf("%x:%x:%x:%x", u[0:4], u[4:8], u[8:12], u[12:16])
}

// ParseUUID reads mdadm's form or the usual one with dashes.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	b, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "").Replace(s))
	if err != nil || len(b) != len(u) {
		return u, fmt.Errorf("array UUID %.60q: want 32 hexadecimal digits", s)
	}
	return UUID(b), nil
}

// ErrNoSuperblock says that a device is not a member of an md array.
var ErrNoSuperblock = errors.New("no md superblock")

// ForeignError says that a device belongs to an array that may not be overwritten.
type ForeignError struct {
	Device string
	Array  string // name and UUID, or the running array's device
	Reason string // why it is not the one that was asked for
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s belongs to array %s, %s: it is overwritten only when the layout says recreate", e.Device, e.Array, e.Reason)
}

// BusyError says that a device or an array is in use.
type BusyError struct {
	Device string
	Reason string // by what, "" when unknown
}

func (e *BusyError) Error() string {
	if e.Reason == "" {
		return e.Device + " is in use"
	}
	return e.Device + " is in use: " + e.Reason
}

// Create makes the array of spec and starts it; on return its device can be written to and the initial resync runs in the
// background. Nothing is written before everything was checked: the driver is there (its modules are loaded), all members
// could be opened exclusively, their sizes are enough, and no member belongs to another array (*ForeignError, unless
// Recreate). Old md superblocks on the members, of any version, are cleared; other signatures are the caller's business.
// An array that is already on the members just as spec describes it is started, not made anew: Reused. After an error from
// the kernel the superblocks may be on the members, and no array is left running.
//
// The members must not be open exclusively, nor the disks that they are partitions of.
func Create(ctx context.Context, spec Spec) (Array, error) { return system.create(ctx, spec) }

// Stop stops the array at device ("/dev/md127" or "/dev/md/NAME") and waits until its members are free. A resync goes on at
// the next start where it was. A *BusyError names who uses the array.
func Stop(ctx context.Context, device string) error { return system.stop(ctx, device) }

// Active lists the arrays that run.
func Active() ([]Running, error) { return system.active() }

// Resync reports how far resync, recovery or a check of the array at device has come.
func Resync(device string) (Progress, error) { return system.resync(device) }

// LimitResync has the kernel bring the array at device in line at no more than so many bytes a second, at least 1 KiB; 0 lifts the
// limit. An array of level 0 has nothing to limit.
func LimitResync(device string, bytesPerSecond int64) error {
	return system.limitResync(device, bytesPerSecond)
}

// Load loads the modules that arrays of these levels need and checks that the kernel knows the levels. Create does so
// itself; a plan is better refused before its first step.
func Load(ctx context.Context, levels ...int) error { return system.load(ctx, levels...) }

// Running is an array that the kernel runs.
type Running struct {
	Device   string // "/dev/md127"
	UUID     UUID   // zero when the kernel does not say
	Level    string // "raid1"
	State    string // Documentation/admin-guide/md.rst, array_state: "clean", "active", "inactive", ...
	Metadata string // "1.2", "external:imsm"
	Size     int64  // bytes
	Members  []string
	Degraded int // members that are missing
}

// Progress is how far an array's resync has come.
type Progress struct {
	Action   string // "idle", "resync", "recover", "check", "repair", "reshape", "frozen"
	Done     int64  // bytes
	Total    int64  // bytes, 0 when nothing runs or it has not begun
	Speed    int64  // bytes per second
	Degraded int    // members that are missing
}

// String is one line for a status report.
func (p Progress) String() string {
	s := p.Action
	if p.Total > 0 {
		s += fmt.Sprintf(" %.1f %%, %d MB/s", 100*float64(p.Done)/float64(p.Total), p.Speed/1e6)
	}
	if p.Degraded > 0 {
		s += fmt.Sprintf(", %d members missing", p.Degraded)
	}
	return s
}
