package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"swarmboot/internal/params"
)

const sshDir = "/etc/ssh"

// hostKeys removes the image's host keys, which every node would share, and makes new ones when asked: Debian's and most
// other SSH servers do not make them by themselves.
func (j *job) hostKeys() error {
	how := j.p.SSH.HostKeys
	if how != params.HostKeysRemove && how != params.HostKeysGenerate {
		return nil
	}
	names, err := j.list(sshDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "ssh_host_") && strings.Contains(name, "_key") {
			if err := j.remove(sshDir + "/" + name); err != nil {
				return err
			}
		}
	}
	if how == params.HostKeysRemove {
		j.did("SSH host keys removed")
		return nil
	}
	comment := "root@" + j.p.Hostname
	if j.p.Hostname == "" {
		comment = "root@" + j.o.Node
	}
	keys, err := generateKeys(comment)
	if err != nil {
		return fmt.Errorf("make SSH host keys: %w", err)
	}
	for _, k := range keys {
		name := sshDir + "/ssh_host_" + k.name + "_key"
		if err := j.write(name, k.private, change{owner: owner{mode: 0o600, seType: "sshd_key_t"}}); err != nil {
			return err
		}
		if err := j.write(name+".pub", k.public, change{owner: owner{mode: 0o644, seType: "sshd_key_t"}}); err != nil {
			return err
		}
	}
	j.did("SSH host keys made")
	return nil
}

// account is a line of /etc/passwd.
type account struct {
	home     string
	uid, gid int
}

func (j *job) account(user string) (account, error) {
	passwd, err := j.text("/etc/passwd")
	if err != nil {
		return account{}, err
	}
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 || f[0] != user {
			continue
		}
		uid, uerr := strconv.ParseUint(f[2], 10, 32)
		gid, gerr := strconv.ParseUint(f[3], 10, 32)
		if uerr != nil || gerr != nil || !strings.HasPrefix(f[5], "/") {
			return account{}, fmt.Errorf("user %s: its line in /etc/passwd is damaged", user)
		}
		return account{strings.TrimRight(f[5], "/"), int(uid), int(gid)}, nil
	}
	return account{}, fmt.Errorf("user %s: not in /etc/passwd of the image", user)
}

func (j *job) authorizedKeys() error {
	for _, user := range slices.Sorted(maps.Keys(j.p.SSH.AuthorizedKeys)) {
		keys := j.p.SSH.AuthorizedKeys[user]
		if len(keys) == 0 {
			continue
		}
		if err := j.authorize(user, keys); err != nil {
			return fmt.Errorf("authorized keys of %s: %w", user, err)
		}
		j.did("authorized keys of %s", user)
	}
	return nil
}

// authorize adds the keys that the user does not have. sshd wants directory and file to be the user's own and nobody
// else's to write (sshd_config(5), StrictModes).
func (j *job) authorize(user string, keys []string) error {
	a, err := j.account(user)
	if err != nil {
		return err
	}
	if !j.exists(a.home + "/.") {
		return fmt.Errorf("home directory %s is missing in the image", a.home)
	}
	dir := a.home + "/.ssh"
	o := owner{uid: a.uid, gid: a.gid, mode: 0o700, seType: "ssh_home_t"}
	if err := j.mkdir(dir, o); err != nil {
		return err
	}
	name := dir + "/authorized_keys"
	text, err := j.text(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	present := map[string]bool{}
	for line := range strings.Lines(text) {
		present[strings.TrimSpace(line)] = true
	}
	for _, key := range keys {
		if key = strings.TrimSpace(key); !present[key] {
			text += key + "\n"
		}
		present[key] = true
	}
	o.mode = 0o600
	return j.write(name, []byte(text), change{owner: o})
}
