package efiboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Arch is the kind of program that firmware starts.
type Arch struct {
	Suffix  string // in file names: x64
	machine uint16 // in PE headers (Microsoft, PE format, "Machine types")
}

// FirmwareArch returns what the firmware of a machine starts: goarch is that of its kernel, bits the size of its firmware's
// words (/sys/firmware/efi/fw_platform_size); 64-bit kernels run on 32-bit firmware too.
func FirmwareArch(goarch string, bits int) (Arch, error) {
	switch {
	case goarch == "amd64" && bits == 64:
		return Arch{"x64", 0x8664}, nil
	case (goarch == "amd64" || goarch == "386") && bits == 32:
		return Arch{"ia32", 0x14c}, nil
	case goarch == "arm64" && bits == 64:
		return Arch{"aa64", 0xaa64}, nil
	}
	return Arch{}, fmt.Errorf("boot loaders for %s with %d-bit firmware are not known", goarch, bits)
}

const (
	efiDir  = "EFI"
	bootDir = "BOOT"

	maxEntries = 4096     // of a directory
	maxLoader  = 64 << 20 // bytes
)

// fallback is the file name in \EFI\BOOT that firmware looks for (UEFI 2.10, table 3.5).
func (a Arch) fallback() string { return "BOOT" + strings.ToUpper(a.Suffix) + ".EFI" }

// loaders are names of boot loaders below a directory of \EFI, best first: shim comes before what it starts, a loader with a
// menu before one without.
func (a Arch) loaders() []string {
	return []string{"shim" + a.Suffix + ".efi", "shim.efi", "grub" + a.Suffix + ".efi", "grub.efi", "systemd-boot" + a.Suffix + ".efi",
		"refind_" + a.Suffix + ".efi", "Boot/bootmgfw.efi"}
}

// startedByShim are names of what shim starts from its own directory, those with the suffix by default, the others on SUSE: the second
// stage, and what enrolls keys.
func (a Arch) startedByShim() (second, others []string) {
	return []string{"grub" + a.Suffix + ".efi", "grub.efi"}, []string{"mm" + a.Suffix + ".efi", "MokManager.efi"}
}

// NoLoaderError says that an ESP has no boot loader for the firmware.
type NoLoaderError struct {
	Arch Arch
	Seen []string // directories of \EFI
}

func (e *NoLoaderError) Error() string {
	seen := "no directory"
	if len(e.Seen) > 0 {
		seen = strings.Join(e.Seen, ", ")
	}
	return fmt.Sprintf(`no boot loader for %s on the EFI system partition (in \EFI: %s)`, e.Arch.Suffix, seen)
}

// FindLoader returns the path, with backslashes, of the boot loader of an ESP: the best known one of an operating system's
// directory, by the alphabet of directories among equals, else the one in the fallback path. *NoLoaderError.
func FindLoader(esp *os.Root, a Arch) (string, error) {
	none := &NoLoaderError{Arch: a}
	efi, err := find(esp, ".", efiDir)
	if err != nil {
		return "", orNone(err, none)
	}
	names, err := list(esp, efi)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	none.Seen = names
	for _, loader := range a.loaders() {
		for _, dir := range names {
			if strings.EqualFold(dir, bootDir) {
				continue
			}
			if p, err := program(esp, path.Join(efi, dir), loader, a); err == nil {
				return backslashed(p), nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	p, err := program(esp, efi, bootDir+"/"+a.fallback(), a)
	if err != nil {
		return "", orNone(err, none)
	}
	return backslashed(p), nil
}

func orNone(err error, none *NoLoaderError) error {
	if errors.Is(err, fs.ErrNotExist) {
		return none
	}
	return err
}

func backslashed(p string) string { return `\` + strings.ReplaceAll(p, "/", `\`) }

// HasFallback says whether firmware that has no entry for the disk finds a program in \EFI\BOOT.
func HasFallback(esp *os.Root, a Arch) (bool, error) {
	_, err := program(esp, ".", path.Join(efiDir, bootDir, a.fallback()), a)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// AddFallback copies a loader, a path as FindLoader returns it, to the fallback path, shim with what it starts from its
// own directory. It returns the names that it wrote. The file that makes the path count is written last. Shim that would find
// nothing to start is not copied: firmware then goes on to what it finds elsewhere.
func AddFallback(esp *os.Root, a Arch, loader string) (wrote []string, err error) {
	from := strings.ReplaceAll(strings.TrimPrefix(loader, `\`), `\`, "/")
	var beside []string
	if strings.HasPrefix(strings.ToLower(path.Base(from)), "shim") {
		second, others := a.startedByShim()
		if !slices.ContainsFunc(second, func(name string) bool {
			_, err := program(esp, path.Dir(from), name, a)
			return err == nil
		}) {
			return nil, fmt.Errorf("%s has none of %s beside it, which it would start", loader, strings.Join(second, ", "))
		}
		beside = slices.Concat(second, others)
	}
	to, err := makeBootDir(esp)
	if err != nil {
		return nil, err
	}
	for _, name := range beside {
		ok, err := copyBeside(esp, a, path.Dir(from), to, name)
		if err != nil {
			return wrote, err
		}
		if ok {
			wrote = append(wrote, name)
		}
	}
	if err := copyFile(esp, from, path.Join(to, a.fallback())); err != nil {
		return wrote, err
	}
	return append(wrote, a.fallback()), nil
}

// makeBootDir returns \EFI\BOOT by the names that it has.
func makeBootDir(esp *os.Root) (string, error) {
	efi, err := find(esp, ".", efiDir)
	if err != nil {
		return "", err
	}
	dir, err := find(esp, efi, bootDir)
	if errors.Is(err, fs.ErrNotExist) {
		dir = path.Join(efi, bootDir)
		err = esp.Mkdir(dir, 0o755)
	}
	return dir, err
}

// copyBeside copies a program, if there is one, unless the other directory has a file of that name.
func copyBeside(esp *os.Root, a Arch, from, to, name string) (copied bool, err error) {
	source, err := program(esp, from, name, a)
	if err == nil {
		if _, err = find(esp, to, name); err == nil {
			return false, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return true, copyFile(esp, source, path.Join(to, name))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return false, err
}

// copyFile copies a file under another name first, so that a name never stands for half a file.
func copyFile(esp *os.Root, from, to string) (err error) {
	in, err := esp.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	part := path.Join(path.Dir(to), "SWARMBT.TMP")
	out, err := esp.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, maxLoader))
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = esp.Rename(part, to)
	}
	if err != nil {
		_ = esp.Remove(part)
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return nil
}

// program finds a file that the firmware can start.
func program(esp *os.Root, dir, name string, a Arch) (string, error) {
	p, err := find(esp, dir, name)
	if err != nil {
		return "", err
	}
	f, err := esp.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxLoader || peMachine(f, fi.Size()) != a.machine {
		return "", &fs.PathError{Op: "start", Path: p, Err: fs.ErrNotExist}
	}
	return p, nil
}

// peMachine is the machine of a program in PE format, 0 when it is none.
func peMachine(r io.ReaderAt, size int64) uint16 {
	var dos [64]byte
	if n, _ := r.ReadAt(dos[:], 0); n < len(dos) || string(dos[:2]) != "MZ" {
		return 0
	}
	var pe [6]byte
	at := int64(binary.LittleEndian.Uint32(dos[60:]))
	if at > size-int64(len(pe)) {
		return 0
	}
	if n, _ := r.ReadAt(pe[:], at); n < len(pe) || string(pe[:4]) != "PE\x00\x00" {
		return 0
	}
	return binary.LittleEndian.Uint16(pe[4:])
}

// find walks from dir along a relative path, upper and lower case being the same as on a FAT, and returns the names as they
// are there.
func find(esp *os.Root, dir, name string) (string, error) {
	for _, part := range strings.Split(name, "/") {
		names, err := list(esp, dir)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, part) })
		if i < 0 {
			return "", &fs.PathError{Op: "find", Path: path.Join(dir, part), Err: fs.ErrNotExist}
		}
		dir = path.Join(dir, names[i])
	}
	return dir, nil
}

// list returns the names in a directory; what is no directory has none.
func list(esp *os.Root, dir string) ([]string, error) {
	f, err := esp.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.IsDir() {
		return nil, err
	}
	names, err := f.Readdirnames(maxEntries)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
