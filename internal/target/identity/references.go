package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// references are the files that name file systems and partitions by UUID, as path.Match patterns: for the mounts, swap, encrypted
// devices, kernel command lines and the menus of boot loaders (GRUB, systemd-boot, syslinux, extlinux). Each may also be seen from the
// root of a partition of its own for /boot or the EFI system partition.
var references = []string{
	"/etc/fstab", "/etc/crypttab", "/etc/default/grub", "/etc/default/grub.d/*.cfg", "/etc/kernel/cmdline", "/etc/cmdline.d/*.conf",
	"/etc/initramfs-tools/conf.d/*", "/etc/dracut.conf.d/*.conf", "/etc/mkinitcpio.conf", "/etc/systemd/system/*.mount", "/etc/systemd/system/*.swap",
	"/boot/grub/grub.cfg", "/boot/grub/custom.cfg", "/boot/grub/grubenv", "/boot/grub/menu.lst", "/boot/grub2/grub.cfg", "/boot/grub2/grubenv", "/boot/loader/entries/*.conf",
	"/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg", "/boot/efi/EFI/*/grub.cfg", "/boot/efi/EFI/*/grubenv", "/boot/efi/loader/entries/*.conf",
	"/efi/EFI/*/grub.cfg", "/efi/loader/entries/*.conf",
}

// prefixes are the mount points of partitions that hold parts of /boot.
var prefixes = []string{"/boot/efi", "/boot", "/efi"}

// maxMatches bounds the files of one pattern.
const maxMatches = 1000

// identifier is anything that looks like a UUID, an MBR's PARTUUID or a FAT's volume ID, with what says in front of it that it is
// a PARTUUID.
var identifier = regexp.MustCompile(`(PARTUUID=|/dev/disk/by-partuuid/)?("?)([0-9A-Fa-f]+(?:-[0-9A-Fa-f]+)+)`)

// What stands in front of a PARTUUID in files. With one of them, an old identifier for Replace is one in this place only, and the
// new one is all that stands there then: what was a partition may become something that has no PARTUUID.
const (
	PartUUID   = "PARTUUID="
	ByPartUUID = "/dev/disk/by-partuuid/"
)

// Replace puts the new identifier in the place of each old one in the files that name them, of the file system that is mounted
// read-write on dir: the root, or one for /boot or the EFI system partition. changed are old identifiers in lower case, as in fstab
// (also behind PartUUID or ByPartUUID), and their new ones; case in files does not matter. It returns which files it changed, each with owner, mode and label kept; they are on the disk when it
// returns.
func Replace(ctx context.Context, dir string, changed map[string]string) (files []string, err error) {
	t, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	defer t.close()
	names, err := t.referring()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return files, context.Cause(ctx)
		}
		text, err := t.read(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return files, fmt.Errorf("look for UUIDs: %w", err)
		}
		replaced := []byte(ReplaceText(string(text), changed))
		if bytes.Equal(replaced, text) {
			continue
		}
		if err := t.write(name, replaced, plain); err != nil {
			return files, err
		}
		files = append(files, name)
	}
	return files, unix.Syncfs(int(t.root.Fd()))
}

// ReplaceText does in a text what Replace does in files.
func ReplaceText(text string, changed map[string]string) string {
	return identifier.ReplaceAllStringFunc(text, func(all string) string {
		m := identifier.FindStringSubmatch(all)
		before, quote, found := m[1], m[2], m[3]
		if to, ok := changed[before+strings.ToLower(found)]; ok && before != "" {
			name, value, tagged := strings.Cut(to, "=")
			if !tagged {
				return quote + to
			}
			return name + "=" + quote + value
		}
		return before + quote + replaceOne(found, changed)
	})
}

func replaceOne(found string, changed map[string]string) string {
	to, ok := changed[strings.ToLower(found)]
	switch {
	case !ok:
		return found
	case found == strings.ToUpper(found) && found != strings.ToLower(found):
		return strings.ToUpper(to)
	case found == strings.ToLower(found) && len(found) > len("1A2B-3C4D"):
		return strings.ToLower(to)
	}
	return to
}

// referring lists the files that are there, each once.
func (t *tree) referring() ([]string, error) {
	var names []string
	for _, pattern := range references {
		all := []string{pattern}
		for _, p := range prefixes {
			if rest, ok := strings.CutPrefix(pattern, p+"/"); ok {
				all = append(all, "/"+rest)
			}
		}
		for _, p := range all {
			found, err := t.match(p)
			if err != nil {
				return nil, fmt.Errorf("look for UUIDs: %w", err)
			}
			for _, name := range found {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names, nil
}

// match lists what a pattern matches below the root; "*" stands in one element. Names without it are not looked for.
func (t *tree) match(pattern string) ([]string, error) {
	dirs := []string{""}
	for element := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		var next []string
		for _, dir := range dirs {
			if !strings.Contains(element, "*") {
				next = append(next, dir+"/"+element)
				continue
			}
			names, err := t.list(dir + "/")
			if errors.Is(err, unix.ENOTDIR) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, n := range names {
				if ok, _ := path.Match(element, n); ok && !strings.HasSuffix(n, "~") && len(next) < maxMatches {
					next = append(next, dir+"/"+n)
				}
			}
		}
		dirs = next
	}
	return dirs, nil
}
