package lab

// Kill ends QEMU itself at once: what the machine has not given to its disks is lost. It waits until the process has ended.
func (vm *VM) Kill() {
	select {
	case <-vm.done:
		return
	default:
	}
	_ = vm.cmd.Process.Kill()
	<-vm.done
}
