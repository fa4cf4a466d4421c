package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"swarmboot/internal/durable"
)

// lock keeps other servers off the folder of images: each would write the list of deployed machines without those of the other, and the machines
// that are missing are overwritten. The lock ends with the file or the process. A folder that cannot be locked, because it is another
// user's or its file system has no locks, is served all the same, with a warning.
func (s *server) lock() error {
	path := filepath.Join(s.Images, ".swarmboot", "lock")
	err := durable.MkdirAll(filepath.Dir(path))
	if err == nil {
		s.locked, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // O_CLOEXEC: no child keeps it
	}
	if err == nil {
		err = unix.Flock(int(s.locked.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("images: another server serves %s: it holds the lock %s", s.Images, path)
	}
	if err != nil {
		s.Logger.Warn("a second server of this folder would not be noticed, and machines that one of them deployed be overwritten by the other", "error", err)
	}
	return nil
}
