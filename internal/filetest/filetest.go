// Package filetest reads and writes parts of files and devices for tests.
package filetest

import "os"

// T is what is used of a test.
type T interface {
	Helper()
	Fatal(args ...any)
}

// Read returns the n bytes at off of a file or device.
func Read[N int | int64](t T, path string, off int64, n N) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

// Write puts b at off of a file or device that exists.
func Write(t T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}
