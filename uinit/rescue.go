package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// environment is what programs on a node get.
var environment = []string{"PATH=/bbin:/sbin", "HOME=/root", "TERM=linux", "USER=root"}

// rescue runs a shell on every console, again when it ends, for ever.
func (n *node) rescue() {
	if p := n.unsent; p != nil {
		n.unsent = nil
		go n.guard("report", func() { n.tellOn(p, reportPause, deploysByHand) })
	}
	n.say("rescue shell; \"poweroff\" or \"shutdown reboot\" ends it")
	names := n.con.names
	if len(names) == 0 {
		names = []string{"console"}
	}
	for _, name := range names[1:] {
		go n.guard("shell on "+name, func() { n.shells(name) })
	}
	n.shells(names[0])
}

func (n *node) shells(tty string) {
	for {
		if err := n.shell(tty); err != nil {
			n.say("shell on %s: %v", tty, err)
		}
		time.Sleep(2 * time.Second) // a console that cannot be opened must not fill the log
	}
}

// shell runs one shell in a session of its own with tty as its controlling terminal.
func (n *node) shell(tty string) error {
	if tty == "tty0" {
		tty = "tty1" // tty0 is whatever screen is in front and cannot control a session
	}
	f, err := os.OpenFile(filepath.Join("/dev", tty), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command("/bbin/gosh")
	cmd.Env = environment
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	ended, err := n.children.start(cmd)
	if err != nil {
		return err
	}
	<-ended
	return nil
}
