package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"swarmboot/internal/md"
)

// loseEarly has a member fail while the initial resync has not come far: what was written until then, in pieces far smaller than a stripe
// and where the resync has not been, must still be there.
func loseEarly(ctx context.Context) error {
	a := array{"early", 10, md.Shape{Level: 5}, 3, 0}
	made, err := md.Create(ctx, a.spec())
	if err != nil {
		return err
	}
	f, err := os.OpenFile(made.Device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const piece, pieces = 4096, 64
	content := data(a.name, 0)
	place := func(i int64) int64 { return made.Size - 16*mib + i*(200<<10)/piece*piece }
	for i := range int64(pieces) {
		if _, err := f.WriteAt(content[i*piece:(i+1)*piece], place(i)); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	sys := filepath.Join("/sys/block", filepath.Base(made.Device), "md")
	if got := attr(sys, "resync_start"); got == "none" {
		return fmt.Errorf("the resync has ended already")
	}
	first := filepath.Base(a.spec().Members[0])
	if err := os.WriteFile(filepath.Join(sys, "dev-"+first, "state"), []byte("faulty"), 0); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return err
	}
	got := make([]byte, piece)
	for i := range int64(pieces) {
		if _, err := f.ReadAt(got, place(i)); err != nil && err != io.EOF { //nolint:errorlint // ReaderAt returns it bare
			return err
		}
		if !bytes.Equal(got, content[i*piece:(i+1)*piece]) {
			return fmt.Errorf("other data at %d", place(i))
		}
	}
	if p, err := md.Resync(made.Device); err != nil || p.Degraded != 1 {
		return fmt.Errorf("%+v, %v", p, err) //nolint:errorlint // for people
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := md.Stop(ctx, made.Device); err != nil {
		return err
	}
	if _, err := md.Create(ctx, a.spec()); wantForeign(md.Array{}, err) != nil {
		return fmt.Errorf("an array that lost a member is taken as whole: %v", err) //nolint:errorlint // for people
	}
	return nil
}
