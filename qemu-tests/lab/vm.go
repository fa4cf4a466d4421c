package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// accelVariable names the environment variable that overrides QEMU's accelerator. The
// default is emulation, which works everywhere: KVM may open and then hang.
const accelVariable = "SWARMBOOT_QEMU_ACCEL"

// Disk is one disk of a machine.
type Disk struct {
	Path   string
	Format string // raw or qcow2
	Bus    string // virtio, nvme, ahci, or usb (a stick)
	Serial string
	Sector int // logical and, unless Physical says otherwise, physical, in bytes, of a virtio disk; 0: 512

	Physical int // sector size in bytes of a virtio disk

	// Log is an empty file in which QEMU notes every write and flush of a raw virtio disk, for CutPower; "": none.
	Log string
}

// Machine says what a virtual machine is made of.
type Machine struct {
	Name    string // of its console log
	MAC     string
	Memory  int    // MiB
	CPUs    int    // 0 is one
	Chipset string // pc or q35; "" is pc
	NIC     string // QEMU's device name, such as virtio-net-pci or e1000; "" is a machine without a network
	Disks   []Disk

	UEFI     *UEFI // nil: a BIOS
	Restarts bool  // a restart does not end the machine

	// Kernel, Initrd and Append boot a kernel directly instead of from the network.
	Kernel, Initrd, Append string
}

// UEFI is firmware by its files in flash memory (Debian's package ovmf).
type UEFI struct {
	Code string
	Vars string // variables: the machine writes to it
}

// VM is a running machine.
type VM struct {
	Machine
	Console *Console
	Log     string // path of the file that receives the serial console

	cmd   *exec.Cmd
	input io.WriteCloser
	done  chan struct{}
	err   error // of the process; valid when done is closed
}

// Start boots a machine on the network; its serial console goes to NAME.log in logDir.
// The machine ends when ctx ends, and, unless m says otherwise, when it restarts.
func (n *Network) Start(ctx context.Context, m Machine, logDir string) (*VM, error) {
	tap := ""
	if m.NIC != "" {
		var err error
		if tap, err = n.AddTap(ctx); err != nil {
			return nil, fmt.Errorf("machine %s: %w", m.Name, err)
		}
	}
	args, err := m.args(tap)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", m.Name, err)
	}
	vm := &VM{Machine: m, Log: filepath.Join(logDir, m.Name+".log"), done: make(chan struct{})}
	log, err := os.Create(vm.Log)
	if err != nil {
		return nil, fmt.Errorf("console log: %w", err)
	}
	vm.cmd = n.Command(ctx, "qemu-system-x86_64", args...)
	vm.cmd.Stderr = log
	stdout, outErr := vm.cmd.StdoutPipe()
	stdin, inErr := vm.cmd.StdinPipe()
	if err := errors.Join(outErr, inErr); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	vm.input = stdin
	if err := vm.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("machine %s: %w", m.Name, err), log.Close())
	}
	vm.Console = readConsole(stdout, log)
	go func() {
		// Wait closes the pipe, so the console must be read to its end first.
		<-vm.Console.end
		vm.err = errors.Join(vm.cmd.Wait(), log.Close())
		close(vm.done)
	}()
	return vm, nil
}

func (m Machine) args(tap string) ([]string, error) {
	accel := os.Getenv(accelVariable)
	if accel == "" {
		accel = "tcg"
	}
	chipset := m.Chipset
	if chipset == "" {
		chipset = "pc"
	}
	args := []string{
		"-nodefaults", "-nographic",
		"-machine", chipset, "-accel", accel, "-cpu", "max",
		"-m", strconv.Itoa(m.Memory), "-smp", strconv.Itoa(max(m.CPUs, 1)),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", "virtio-rng-pci",
	}
	if !m.Restarts {
		args = append(args, "-no-reboot")
	}
	if m.UEFI != nil {
		args = append(args, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+m.UEFI.Code, "-drive", "if=pflash,unit=1,format=raw,file="+m.UEFI.Vars)
	}
	if tap != "" {
		args = append(args, "-netdev", "tap,id=net0,script=no,downscript=no,ifname="+tap, "-device", m.NIC+",netdev=net0,mac="+m.MAC)
	}
	for i, d := range m.Disks {
		id := "disk" + strconv.Itoa(i)
		// The disks live as long as the test: a power cut on the host may lose them.
		if d.Log == "" {
			args = append(args, "-drive", fmt.Sprintf("file=%s,format=%s,if=none,id=%s,cache=unsafe,discard=unmap", d.Path, d.Format, id))
		} else {
			args = append(args, "-blockdev", "node-name="+id+","+logOptions(d.Path, d.Log))
		}
		switch d.Bus {
		case "virtio":
			device := fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s", id, d.Serial)
			if d.Log != "" { // the log mixes up what zeroes and what writes at the same time, and cannot take merged requests (QEMU 7.2)
				device += ",discard=off,write-zeroes=off,request-merging=off"
			}
			if d.Sector > 0 {
				device += fmt.Sprintf(",logical_block_size=%d,physical_block_size=%d", d.Sector, cmp.Or(d.Physical, d.Sector))
			}
			args = append(args, "-device", device)
		case "nvme":
			args = append(args, "-device", fmt.Sprintf("nvme,drive=%s,serial=%s", id, d.Serial))
		case "ahci":
			args = append(args, "-device", fmt.Sprintf("ahci,id=ahci%d", i), "-device", fmt.Sprintf("ide-hd,bus=ahci%d.0,drive=%s,serial=%s", i, id, d.Serial))
		case "usb":
			args = append(args, "-device", fmt.Sprintf("qemu-xhci,id=xhci%d", i), "-device", fmt.Sprintf("usb-storage,bus=xhci%d.0,drive=%s,serial=%s,removable=on", i, id, d.Serial))
		default:
			return nil, fmt.Errorf("disk bus %q: want virtio, nvme, ahci or usb", d.Bus)
		}
	}
	if m.Kernel != "" {
		return append(args, "-kernel", m.Kernel, "-initrd", m.Initrd, "-append", m.Append), nil
	}
	if tap == "" || m.UEFI != nil { // UEFI keeps its own order, as long as QEMU gives none
		return args, nil
	}
	return append(args, "-boot", "n"), nil
}

// logOptions has QEMU note in log what is written to a raw disk.
func logOptions(disk, log string) string {
	return fmt.Sprintf("driver=blklogwrites,file.driver=raw,file.file.driver=file,file.file.filename=%s,log.driver=raw,log.file.driver=file,log.file.filename=%s", disk, log)
}

// Send types text on the machine's console.
func (vm *VM) Send(text string) error {
	if _, err := io.WriteString(vm.input, text); err != nil {
		return fmt.Errorf("type on the console of %s: %w", vm.Name, err)
	}
	return nil
}

// Done is closed when the machine has ended.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// MaxRSS is QEMU's own peak resident memory in bytes; 0 while it runs.
func (vm *VM) MaxRSS() int64 {
	select {
	case <-vm.done:
	default:
		return 0
	}
	if u, ok := vm.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

// Stop ends the machine as if its power was cut and waits until it has. QEMU writes what it holds for its disk files.
func (vm *VM) Stop() {
	select {
	case <-vm.done:
		return
	default:
	}
	_ = vm.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-vm.done:
	case <-time.After(10 * time.Second):
		_ = vm.cmd.Process.Kill()
		<-vm.done
	}
}
