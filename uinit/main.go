// Command uinit is PID 1 of a node: it brings the machine up to where the node engine can run, runs
// it as a child, and then does what the parameters say. It never ends.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "modprobe" {
		os.Exit(modprobe(os.Args[2:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "uinit: is for PID 1 of a node only")
		os.Exit(2)
	}
	debug.SetGCPercent(50) // the deployment needs the memory
	n := newNode()
	n.guard("boot", n.boot)
	for { // boot only comes back when something went badly wrong
		n.guard("rescue shell", n.rescue)
		time.Sleep(2 * time.Second) // a panic at once must not fill the screen
	}
}
