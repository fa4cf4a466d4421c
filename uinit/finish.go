package main

import (
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/netup"
	"swarmboot/internal/params"
)

// finish does what then= says after a deployment.
func (n *node) finish(cfg *params.Config) {
	then := next(cfg)
	if cfg.Action == params.ActionPlan {
		n.say("planned, nothing was written; then: %s", then)
	} else {
		n.say("deployed; then: %s", then)
	}
	if then == params.ThenKexec && !kexecLoaded() {
		n.say("no kernel is loaded for kexec: rebooting into the disk instead")
		then = params.ThenReboot
	}
	for _, how := range ways(then) {
		n.end(how)
	}
	n.rescue()
}

// ways are the reboot(2) commands that then= means, each for when the kernel refuses the one before: what is deployed starts from the
// disk as well as by kexec.
func ways(then params.Then) []int {
	switch then {
	case params.ThenKexec:
		return []int{unix.LINUX_REBOOT_CMD_KEXEC, unix.LINUX_REBOOT_CMD_RESTART}
	case params.ThenReboot:
		return []int{unix.LINUX_REBOOT_CMD_RESTART}
	case params.ThenPowerOff:
		return []int{unix.LINUX_REBOOT_CMD_POWER_OFF}
	}
	return nil
}

// next is what follows: after a dry run there is nothing to start.
func next(cfg *params.Config) params.Then {
	if cfg.Action == params.ActionPlan && cfg.Then == params.ThenKexec {
		return params.ThenShell
	}
	return cfg.Then
}

// syncLimit is for the last sync(2): on a disk that has stopped answering it would never end.
const syncLimit = time.Minute

func kexecLoaded() bool {
	b, err := os.ReadFile("/sys/kernel/kexec_loaded")
	return err == nil && string(bytes.TrimSpace(b)) == "1"
}

// end gives the machine away. It comes back only when the kernel refuses.
func (n *node) end(how int) {
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		unix.Sync()
	}()
	select {
	case <-synced: // the engine has synced its disk itself
	case <-time.After(syncLimit):
		n.say("error: a disk does not take its data within %s; going on without", syncLimit)
	}
	if err := unix.Reboot(how); err != nil {
		n.say("error: reboot(%#x): %v", how, err)
	}
}

// fail shows the error, tells the server unless the engine has (told) or there is no network, and does what onerror= says. A server that
// does not answer is told on while the shell runs.
func (n *node) fail(cfg *params.Config, network *netup.Net, err error, told bool) {
	n.say("error: %v", err)
	if !told && network != nil && n.server != "" {
		if n.unsent == nil {
			n.unsent = failure(cfg, network, n.where(), err)
		}
		if rerr := n.tell(reportTries, reportPause); rerr != nil {
			n.say("tell the server: %v", rerr)
		}
	}
	switch cfg.OnError {
	case params.OnErrorReboot:
		n.say("rebooting in %s", reading)
		time.Sleep(reading)
		n.end(unix.LINUX_REBOOT_CMD_RESTART)
	case params.OnErrorPowerOff:
		n.say("switching off in %s", reading)
		time.Sleep(reading)
		n.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	n.rescue()
}
