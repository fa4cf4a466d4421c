package disk

import (
	"os"
	"path/filepath"
	"strings"
)

// uses knows what of the system's block devices is mounted or swapped to.
type uses struct {
	byNumber map[string]string // "8:1" → "mounted on /"
	byPath   map[string]string // "/dev/sda1" → the same: btrfs mounts carry a number of their own
}

// readUses reads mounts and swap areas below root. Without a mount table nothing can be said
// to be free, so that is an error; a kernel without swap has no list of it.
func readUses(root string) (*uses, error) {
	u := &uses{map[string]string{}, map[string]string{}}
	mounts, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		u.addMount(line)
	}
	swaps, err := os.ReadFile(filepath.Join(root, "proc/swaps"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for line := range strings.Lines(string(swaps)) {
		if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(f[0], "/") {
			u.byPath[unescape(f[0])] = "swap is on it"
		}
	}
	return u, nil
}

// addMount reads one line of mountinfo (proc_pid_mountinfo(5)): "36 35 98:0 /root /mnt opts tag... - type source opts".
func (u *uses) addMount(line string) {
	before, after, ok := strings.Cut(line, " - ")
	f, g := strings.Fields(before), strings.Fields(after)
	if !ok || len(f) < 5 {
		return
	}
	reason := "mounted on " + unescape(f[4])
	if _, known := u.byNumber[f[2]]; !known {
		u.byNumber[f[2]] = reason
	}
	if len(g) < 2 || !strings.HasPrefix(g[1], "/dev/") {
		return
	}
	if source := unescape(g[1]); u.byPath[source] == "" {
		u.byPath[source] = reason
	}
}

// unescape undoes the octal escapes of procfs.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// of says what uses the disk or one of its partitions, "" = nothing.
func (u *uses) of(root, name string) string {
	sys := filepath.Join(root, "sys/block", name)
	if r := u.node(sys, name); r != "" {
		return r
	}
	for _, part := range partitions(sys) {
		if r := u.node(filepath.Join(sys, part), part); r != "" {
			return part + ": " + r
		}
	}
	return ""
}

func (u *uses) node(sys, name string) string {
	if r := u.byNumber[attr(sys, "dev")]; r != "" {
		return r
	}
	if r := u.byPath["/dev/"+strings.ReplaceAll(name, "!", "/")]; r != "" {
		return r
	}
	holders, err := os.ReadDir(filepath.Join(sys, "holders"))
	if err != nil || len(holders) == 0 {
		return ""
	}
	names := make([]string, len(holders))
	for i, h := range holders {
		names[i] = h.Name()
		if dm := attr(sys, "holders", h.Name(), "dm/name"); dm != "" {
			names[i] = dm
		}
	}
	return "part of " + strings.Join(names, ", ")
}

// partitions lists the kernel names of a disk's partitions.
func partitions(sys string) []string {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if attr(sys, e.Name(), "partition") != "" {
			names = append(names, e.Name())
		}
	}
	return names
}

// indirectUse says what uses a file or device in ways that opening it does not tell: as swap, or through a
// loop device over it that is mounted or held. "" = nothing; a loop device alone is no use.
func indirectUse(root, path string, fi os.FileInfo) (string, error) {
	u, err := readUses(root)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if use := u.byPath[path]; use != "" && fi.Mode().IsRegular() {
		return use, nil
	}
	backing, err := filepath.Glob(filepath.Join(root, "sys/block/loop*/loop/backing_file"))
	if err != nil {
		return "", err
	}
	for _, b := range backing {
		dir := filepath.Dir(filepath.Dir(b))
		other, err := os.Stat(attr(b))
		if err != nil || !os.SameFile(fi, other) {
			continue // detached meanwhile, or the file was deleted
		}
		name := filepath.Base(dir)
		if use := u.of(root, name); use != "" {
			return name + " is over it: " + use, nil
		}
	}
	return "", nil
}
