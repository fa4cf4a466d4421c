package drivers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// maxModule bounds an unpacked module, in bytes; the largest of Debian's kernels has 10 MiB.
const maxModule = 64 << 20

// Loader loads modules of one folder. Its methods may be called at the same time.
type Loader struct {
	Index *Index

	dir    string // the modules and the index
	sys    string // sysfs
	insert func(image []byte) error

	slots chan struct{} // bounds how many modules are in memory unpacked

	mu      sync.Mutex
	modules map[string]*attempt
}

type attempt struct {
	done chan struct{}
	err  error
}

// Open reads the index in dir (/lib/modules/VERSION).
func Open(dir string) (*Loader, error) {
	f, err := os.Open(filepath.Join(dir, IndexName))
	if err != nil {
		return nil, fmt.Errorf("read module index: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("read module index: %w", err)
	}
	ix, err := ParseIndex(data)
	if err != nil {
		return nil, err
	}
	return newLoader(ix, dir, "/sys", initModule), nil
}

func newLoader(ix *Index, dir, sys string, insert func([]byte) error) *Loader {
	return &Loader{Index: ix, dir: dir, sys: sys, insert: insert, slots: make(chan struct{}, 4), modules: map[string]*attempt{}}
}

// initModule is init_module(2). The modules lie compressed in the archive to save memory, and not every kernel can
// unpack them itself, so finit_module(2) is of no use.
func initModule(image []byte) error { return unix.InitModule(image, "") }

// Load loads the module of that name, or the modules that have it as an alias, with all they
// depend on. A module that is loaded or built in already is not an error.
func (l *Loader) Load(name string) error {
	name = strings.TrimSpace(name)
	if l.Index.IsBuiltin(name) {
		return nil
	}
	if l.Index.Lookup(name) != nil {
		return l.loadModule(name)
	}
	names := l.Index.Match(name)
	if len(names) == 0 {
		return fmt.Errorf("module %s: %w", name, fs.ErrNotExist)
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, l.loadModule(n))
	}
	return errors.Join(errs...)
}

// loadModule loads one module after those it depends on. Only a failure of the module itself or of
// a hard dependency counts; the module's own failure tells of a soft one if that mattered.
func (l *Loader) loadModule(name string) error {
	order, err := l.Index.Order(name)
	if err != nil {
		return err
	}
	var failed error
	for _, m := range order {
		if err := l.once(m); err != nil && m.Name == Canonical(name) {
			failed = err
		}
	}
	return failed
}

// once inserts a module unless that was tried before or is being done by someone else, then waits for that one's result.
func (l *Loader) once(m *Module) error {
	l.mu.Lock()
	a, tried := l.modules[m.Name]
	if !tried {
		a = &attempt{done: make(chan struct{})}
		l.modules[m.Name] = a
	}
	l.mu.Unlock()
	if tried {
		<-a.done
		return a.err
	}
	l.slots <- struct{}{}
	a.err = l.insertFile(m)
	<-l.slots
	close(a.done)
	return a.err
}

// untried are those of names that nobody has begun to load. A device that comes after its driver gets it from the kernel.
func (l *Loader) untried(names []string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		_, tried := l.modules[Canonical(n)]
		return tried
	})
}

func (l *Loader) insertFile(m *Module) error {
	if l.live(m.Name) {
		return nil
	}
	image, err := l.read(m)
	if err != nil {
		return fmt.Errorf("module %s: %w", m.Name, err)
	}
	if err := l.insert(image); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", m.Name, err)
	}
	return nil
}

// live says whether the kernel has the module already.
func (l *Loader) live(name string) bool {
	state, err := os.ReadFile(filepath.Join(l.sys, "module", name, "initstate"))
	return err == nil && string(bytes.TrimSpace(state)) == "live"
}

func (l *Loader) read(m *Module) ([]byte, error) {
	f, err := os.Open(filepath.Join(l.dir, m.Path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(m.Path, ".zst") {
		d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		r = d
	}
	image, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.Path, err)
	}
	if len(image) > maxModule {
		return nil, fmt.Errorf("read %s: more than %d bytes", m.Path, maxModule)
	}
	return image, nil
}

// Pending returns the names of the modules that are being loaded.
func (l *Loader) Pending() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for n, a := range l.modules {
		select {
		case <-a.done:
		default:
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// Loaded returns the names of the modules that this loader loaded or found in the kernel.
func (l *Loader) Loaded() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for n, a := range l.modules {
		select {
		case <-a.done:
			if a.err == nil {
				names = append(names, n)
			}
		default:
		}
	}
	return names
}
