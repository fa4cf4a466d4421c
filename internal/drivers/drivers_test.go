package drivers

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFnmatch(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"pci:v00008086d0000100Esv*sd*bc*sc*i*", "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00", true},
		{"pci:v00008086d0000100Fsv*sd*bc*sc*i*", "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00", false},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		{"virtio:d00000001v*", "virtio:d00000001v00001AF4", true},
		{"virtio:d00000001v*", "virtio:d00000002v00001AF4", false},
		{"usb:v*p*d*dc*dsc*dp*ic08isc06ip[56]0in*", "usb:v1p2d3dc0dsc0dp0ic08isc06ip50in00", true},
		{"usb:v*p*d*dc*dsc*dp*ic08isc06ip[56]0in*", "usb:v1p2d3dc0dsc0dp0ic08isc06ip70in00", false},
		{"a[!b-d]e", "axe", true},
		{"a[!b-d]e", "ace", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{`a\*c`, "a*c", true},
		{`a\*c`, "abc", false},
		{"*", "", true},
		{"", "x", false},
		{"a[b", "a[b", true},
		{"a**b*c", "axxbyyc", true},
	}
	for _, tt := range tests {
		if got := fnmatch(tt.pattern, tt.name); got != tt.want {
			t.Errorf("fnmatch(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}

func testIndex(t *testing.T) *Index {
	t.Helper()
	ix := &Index{
		Builtin: []string{"libcrc"},
		Modules: []Module{
			{Name: "e1000", Path: "e1000.ko", Aliases: []string{"pci:v00008086d0000100Esv*"}},
			{Name: "virtio", Path: "virtio.ko", Depends: []string{"ring"}},
			{Name: "ring", Path: "ring.ko"},
			{Name: "virtio_pci", Path: "virtio-pci.ko", Depends: []string{"virtio"}, Aliases: []string{"pci:v00001AF4d*"}},
			{Name: "virtio_net", Path: "virtio_net.ko", Depends: []string{"virtio", "libcrc"}, Aliases: []string{"virtio:d00000001v*"}},
			{Name: "ext4", Path: "ext4.ko", Pre: []string{"crc32c", "absent"}, Aliases: []string{"fs-ext4", "fs-ext3"}},
			{Name: "crc32c_generic", Path: "crc.ko", Aliases: []string{"crc32c", "crypto-crc32c"}},
			{Name: "loop_a", Path: "a.ko", Pre: []string{"loop_b"}},
			{Name: "loop_b", Path: "b.ko", Pre: []string{"loop_a"}},
			{Name: "broken", Path: "broken.ko", Depends: []string{"nowhere"}},
		},
	}
	parsed, err := ParseIndex(ix.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestOrder(t *testing.T) {
	ix := testIndex(t)
	for name, want := range map[string]string{
		"virtio-net": "ring virtio virtio_net", // a dash in the name, a built-in dependency
		"ext4":       "crc32c_generic ext4",    // softdep by alias; one that is missing
		"loop_a":     "loop_b loop_a",
		"libcrc":     "",
	} {
		order, err := ix.Order(name)
		var got []string
		for _, m := range order {
			got = append(got, m.Name)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v; want %s", name, got, err, want)
		}
	}
	if _, err := ix.Order("broken"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("missing dependency: %v", err)
	}
}

// fake is a kernel: inserting virtio_pci makes a virtio device appear, as on a real bus.
type fake struct {
	mu     sync.Mutex
	sys    string
	loaded []string
	fail   map[string]error
}

func (f *fake) device(t *testing.T, path, alias string) {
	t.Helper()
	dir := filepath.Join(f.sys, "devices", path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func newFake(t *testing.T) (*fake, *Loader) {
	t.Helper()
	f := &fake{sys: t.TempDir(), fail: map[string]error{}}
	ix := testIndex(t)
	dir := t.TempDir()
	for _, m := range ix.Modules {
		if err := os.WriteFile(filepath.Join(dir, m.Path), []byte(m.Name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f, newLoader(ix, dir, f.sys, func(image []byte) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		name := string(image)
		if err := f.fail[name]; err != nil {
			return err
		}
		f.loaded = append(f.loaded, name)
		if name == "virtio_pci" {
			f.device(t, "pci0/04/virtio0", "virtio:d00000001v00001AF4")
		}
		return nil
	})
}

func TestColdplugFindsBusesBehindBuses(t *testing.T) {
	f, l := newFake(t)
	f.device(t, "pci0/03", "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00")
	f.device(t, "pci0/04", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00")
	f.device(t, "pci0/05", "pci:v0000FFFFd00000000sv0sd0bc0sc0i0")
	if errs := l.Coldplug(context.Background(), time.Millisecond); len(errs) > 0 {
		t.Error(errs)
	}
	slices.Sort(f.loaded)
	if got := strings.Join(f.loaded, " "); got != "e1000 ring virtio virtio_net virtio_pci" {
		t.Errorf("loaded %s", got)
	}
}

func TestEachModuleIsInsertedOnce(t *testing.T) {
	f, l := newFake(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(2)
		go func() { defer wg.Done(); _ = l.Load("virtio_net") }()
		go func() { defer wg.Done(); _ = l.Load("virtio-pci") }()
	}
	wg.Wait()
	slices.Sort(f.loaded)
	if got := strings.Join(f.loaded, " "); got != "ring virtio virtio_net virtio_pci" {
		t.Errorf("loaded %s", got)
	}
}

func TestLoadErrors(t *testing.T) {
	f, l := newFake(t)
	f.fail["e1000"], f.fail["ring"] = unix.ENODEV, unix.EEXIST
	if err := l.Load("e1000"); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "e1000") {
		t.Errorf("a driver that fails: %v", err)
	}
	if err := l.Load("ring"); err != nil {
		t.Errorf("a module that is there already: %v", err)
	}
	if err := l.Load("nonesuch"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "nonesuch") {
		t.Errorf("an unknown module: %v", err)
	}
	if err := l.Load("fs-ext3"); err != nil || !slices.Contains(f.loaded, "ext4") {
		t.Errorf("a module by alias: %v, loaded %v", err, f.loaded)
	}
	if err := os.MkdirAll(filepath.Join(f.sys, "module/virtio"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.sys, "module/virtio/initstate"), []byte("live\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.Load("virtio"); err != nil || slices.Contains(f.loaded, "virtio") {
		t.Errorf("a live module: %v, loaded %v", err, f.loaded)
	}
}

func TestUeventModalias(t *testing.T) {
	for msg, want := range map[string]string{
		"add@/devices/x\x00ACTION=add\x00MODALIAS=usb:v1\x00SEQNUM=1\x00": "usb:v1",
		"remove@/devices/x\x00ACTION=remove\x00MODALIAS=usb:v1\x00":       "",
		"add@/devices/x\x00ACTION=add\x00":                                "",
	} {
		if got := ueventModalias([]byte(msg)); got != want {
			t.Errorf("%q: %q", msg, got)
		}
	}
}

// uevents are what a netlink socket gives, one read each; then it ends.
type uevents []func() (string, error)

func (u *uevents) Read(b []byte) (int, error) {
	if len(*u) == 0 {
		return 0, io.EOF
	}
	next := (*u)[0]
	*u = (*u)[1:]
	text, err := next()
	return copy(b, text), err
}

// added is the uevent of a new device.
func added(alias string) func() (string, error) {
	return func() (string, error) { return "add@/devices/x\x00ACTION=add\x00MODALIAS=" + alias + "\x00", nil }
}

const nic, virtioNIC = "pci:v00008086d0000100Esv1", "virtio:d00000001v00001AF4"

// Devices that come after one whose driver hangs in its init get theirs.
func TestWatchWithDriverThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t)
		release, insert := make(chan struct{}), l.insert
		l.insert = func(image []byte) error {
			if string(image) == "e1000" {
				<-release
			}
			return insert(image)
		}
		l.slots = make(chan struct{}, 2) // fewer than there are devices of the driver that hangs
		ended := make(chan error)
		events := uevents{added(nic), added(nic), added(nic), added(virtioNIC)}
		go func() { ended <- l.watch(t.Context(), &events, func(err error) { t.Error(err) }) }()
		synctest.Wait()
		select {
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		default:
			t.Error("uevents are no longer read")
		}
		f.mu.Lock()
		if got := strings.Join(f.loaded, " "); got != "ring virtio virtio_net" {
			t.Errorf("loaded %q", got)
		}
		f.mu.Unlock()
		close(release)
	})
}

// Devices whose uevents were lost are in sysfs.
func TestWatchAfterLostEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFake(t)
		f.device(t, "pci0/03", nic)
		lost := func() (string, error) { return "", unix.ENOBUFS }
		events := uevents{lost, added(virtioNIC)}
		if err := l.watch(t.Context(), &events, func(err error) { t.Error(err) }); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		synctest.Wait()
		slices.Sort(f.loaded)
		if got := strings.Join(f.loaded, " "); got != "e1000 ring virtio virtio_net" {
			t.Errorf("loaded %q", got)
		}
	})
}

func TestParseIndexErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "first line",
		indexMagic + "\nalias x\n":          "before the first module",
		indexMagic + "\nmodule a\n":         "line 2",
		indexMagic + "\nmodule a b\nwhat x": `unknown key "what"`,
		indexMagic + "\nmodule a b\nmodule a b\n": "twice",
	} {
		if _, err := ParseIndex([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(indexMagic + "\nmodule a a.ko\ndepends b\nalias pci:v*\nmodule b b.ko\npre a\nbuiltin c\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ix, err := ParseIndex(data)
		if err != nil {
			return
		}
		for _, m := range ix.Modules {
			_, _ = ix.Order(m.Name)
		}
		ix.Match("pci:v1d2")
	})
}
