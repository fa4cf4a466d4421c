package main

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"swarmboot/internal/params"
)

// A kernel that refuses kexec still starts what is on the disk.
func TestWays(t *testing.T) {
	for then, want := range map[params.Then][]int{
		params.ThenKexec:    {unix.LINUX_REBOOT_CMD_KEXEC, unix.LINUX_REBOOT_CMD_RESTART},
		params.ThenReboot:   {unix.LINUX_REBOOT_CMD_RESTART},
		params.ThenPowerOff: {unix.LINUX_REBOOT_CMD_POWER_OFF},
		params.ThenShell:    nil,
	} {
		if got := ways(then); !slices.Equal(got, want) {
			t.Errorf("%s: %#x, want %#x", then, got, want)
		}
	}
}
