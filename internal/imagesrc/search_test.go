package imagesrc

import (
	"context"
	"errors"
	"os"
	"testing"
)

// TestSearchIsShownAndCanBeStopped: where no file system accounts for the bytes all are read, which takes hours on a large disk.
func TestSearchIsShownAndCanBeStopped(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, "label: gpt\nstart=1MiB, size=1MiB\n")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off := int64(8 * mib); off < 40*mib; off += mib {
		if _, err := f.WriteAt(make([]byte, mib), off); err != nil { // zeros, but no hole
			t.Fatal(err)
		}
	}
	var last, all int64
	open(t, path, Options{Progress: func(done, total int64) {
		if done < last || done > total {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last, all = done, total
	}})
	if last < 39*mib || all < 60*mib {
		t.Errorf("it was told of %d bytes of %d", last, all)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err = Open(ctx, path, Options{Progress: func(done, _ int64) {
		if done > 16*mib {
			calls++
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
