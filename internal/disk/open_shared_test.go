package disk

import (
	"errors"
	"os"
	"testing"

	"swarmboot/imagefmt"
)

// What somebody else holds can be cleared, as it is on the medium now.
func TestOpenShared(t *testing.T) {
	file := sparse(t, 64*mib)
	for _, path := range []string{loop(t, file), file} {
		holder := open(t, path)
		table := imagefmt.Table{Kind: imagefmt.TableGPT, GUID: diskGUID, Partitions: gptPartitions(mib, 16*mib)}
		if err := WriteTable(holder, table); err != nil {
			t.Fatal(err)
		}
		if err := holder.Sync(); err != nil {
			t.Fatal(err)
		}
		var busy *BusyError
		if _, err := Open(path); !errors.As(err, &busy) {
			t.Errorf("%s: %v, want busy", path, err)
		}
		d, err := OpenShared(path)
		if err != nil {
			t.Fatal(err)
		}
		if d.Size() != 64*mib || d.IsBlock() != (path != file) {
			t.Errorf("%s: %d bytes, block device: %v", path, d.Size(), d.IsBlock())
		}
		if cleared, err := WipeKeeping(t.Context(), d, nil); err != nil || len(cleared) == 0 {
			t.Errorf("%s: cleared %q (%v)", path, cleared, err)
		}
		if err := errors.Join(d.Close(), holder.Close()); err != nil {
			t.Error(err)
		}
		checkBlank(t, file)
	}
	// Who has the device open keeps the kernel's copy of what has changed beneath it.
	dev := loop(t, file)
	holder := open(t, dev)
	b := make([]byte, 4096)
	if _, err := holder.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	d, err := OpenShared(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.ReadAt(b, 0); err != nil || string(b[:3]) != "new" {
		t.Errorf("it reads %q (%v)", b[:3], err)
	}
}

func checkBlank(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(b[510:512]) != "\x00\x00" || string(b[512:520]) == "EFI PART" {
		t.Errorf("there is a table: % x, %q", b[510:512], b[512:520])
	}
}
