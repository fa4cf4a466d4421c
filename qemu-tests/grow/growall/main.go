// Growall grows the file system on every virtio disk of a node, says what became of each, and powers the machine off. It is what
// the tests of growing start from the rescue shell.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"swarmboot/internal/target"
)

func main() {
	fmt.Println() // the shell's prompt stands in the line
	disks, err := filepath.Glob("/sys/block/vd*")
	if err != nil || len(disks) == 0 {
		fmt.Printf("GROW none failed: no disks (%v)\n", err)
	}
	for _, d := range disks {
		serial, err := os.ReadFile(filepath.Join(d, "serial"))
		if err != nil {
			fmt.Printf("GROW %s failed: %v\n", d, err)
			continue
		}
		name := strings.TrimSpace(string(serial))
		began := time.Now()
		g, err := target.GrowFileSystem(context.Background(), "/dev/"+filepath.Base(d))
		if err != nil {
			fmt.Printf("GROW %s failed: %v\n", name, err)
			continue
		}
		fmt.Printf("GROW %s %s %d %d in %.2f s\n", name, g.FileSystem, g.Before, g.After, time.Since(began).Seconds())
	}
	fmt.Println("GROW-END")
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
}
