package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/field"
	"swarmboot/internal/params"
	"swarmboot/internal/profiles"
)

const profileUsage = `Usage: swarmboot profile check DIR|FILE...
       swarmboot profile show DIR NODE

Check reads the profiles in the directory DIR, or single files, as "swarmboot serve" does, and names file, line and
field of everything that is wrong. Show prints what NODE (a MAC address or host name) gets, as JSON.

The server reads DIR/profiles of its --images DIR: default.yaml for all nodes and aa-bb-cc-dd-ee-ff.yaml (or, for
cmds/deploy without a MAC address, HOSTNAME.yaml) for one, which wins. Changes count at once. Any machine of the network
can ask for any profile: keep secrets out. DIR/files holds what profiles refer to as /files/NAME. An example:

` + profileExample + `
A file that is empty or has a field with nothing behind it is wrong: it may have been cut short. {} is a profile that says nothing.

Hooks run as root with /bin/sh of the node (gosh) where what their #! line names is not there: before-disks before a disk
is chosen, after-write when the image is on it, before-kexec at the very end, whatever follows. They know SWARMBOOT_HOOK,
_SERVER, _IMAGE and _NODE; the latter two points also SWARMBOOT_DISK, _ROOT (the device) and _TARGET, where the root
file system is mounted. What they leave running or mounted ends with them; after timeout (60s) they are killed.
Until hooks of after-write, names, files and UUIDs are all in place the tables on the disks list nothing of the image, so that a node that loses
power does not start half made; the kernel shows the partitions. What looks into the table (a boot loader's installer) belongs to before-kexec.
A hook that fails makes the deployment fail, the end of its output is in "status" and in the server's log.

newUUIDs derives UUIDs from the names of node and image: GUIDs of disk and partitions, UUIDs of ext2, ext3, ext4 (which gets the feature
metadata_csum_seed: Linux 4.4, e2fsprogs 1.43, GRUB 2.12 or that of Debian 12), XFS (feature meta_uuid: Linux 4.3), btrfs (metadata_uuid: Linux 5.0) and swap, volume IDs of FAT. They replace the old ones in fstab, crypttab, GRUB's and
systemd-boot's files and kernel command lines, but not inside an initrd or in a GRUB for BIOS that searches by UUID. What cannot
be changed safely (a log to be replayed, XFS of version 4, several devices of btrfs) keeps its UUID, with a warning; an image with LVM is refused.

With action: plan among the parameters the node writes nothing: it shows on its console, on the status page and in "swarmboot status" what it
would do to which disks, and why. The next time it boots it does what the profile says then.

Parameters that a node's kernel command line gives win over the profile's. Of the image is kept what the profile does not
name. Everything but the image itself is checked before the first write to the disk.

`

// profileExample has every field.
const profileExample = `    parameters: {action: deploy, disk: "size=400G..", then: reboot, verify: readback, append: quiet, grow: none, seed: 5m, rack: r7, onerror: reboot,
      bootentry: first, write: direct} # or layout: NAME instead of disk and grow
    hostname: node-7.example.org       # and its line in /etc/hosts
    machineID: reset                   # or keep
    ssh:
      hostKeys: generate               # or remove, or keep
      authorizedKeys:                  # added to those that the image has
        root: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Xv9Qn5Y7sQJ6V0m1pXo8v8c0mY0b5E1hQm5bq7Q1A admin]
    files:                             # mode and owner: else those of the file that is replaced
      - {path: /etc/motd, mode: 0644, uid: 0, gid: 0, content: "Welcome"}
      - {path: /etc/tool.conf, url: /files/tool.conf, sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae}
    network:
      renderer: auto                   # or netplan, networkmanager, networkd, ifupdown
      interfaces:
        - {mac: boot, dhcp: true}      # boot: the interface that reaches the server
        - {name: eth1, addresses: [10.0.0.5/24], gateway: 10.0.0.1, dns: [10.0.0.53], search: [example.org]}
    cloudInit: {userData: "#cloud-config", metaData: "instance-id: 7", networkConfig: "version: 2"}
    fstab:
      - {device: LABEL=scratch, path: /scratch, type: xfs, options: nofail, pass: 2}
    newUUIDs: true                     # of disk, partitions and file systems, and wherever the system names them
    hooks:                             # programs that the node runs: static ones or scripts; the name is for messages
      - {name: controller, at: before-disks, url: /files/raid-setup, sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae, timeout: 5m}
      - {name: tune, at: after-write, onFailure: ignore, content: "echo $SWARMBOOT_NODE >$SWARMBOOT_TARGET/etc/node"}
      - {name: note, at: before-kexec, content: "echo $SWARMBOOT_DISK is ready"}
`

func runProfile(_ context.Context, args []string, stdout, _ io.Writer) error {
	switch {
	case slices.ContainsFunc(args, cli.IsHelp):
		_, err := fmt.Fprint(stdout, profileUsage, cli.ExitCodes)
		return err
	case len(args) >= 2 && args[0] == "check":
		return checkProfiles(args[1:], stdout)
	case len(args) == 3 && args[0] == "show":
		return showProfile(args[1], args[2], stdout)
	}
	return cli.Usagef("profile: want \"check DIR|FILE...\" or \"show DIR NODE\" (swarmboot profile --help)")
}

func checkProfiles(names []string, stdout io.Writer) error {
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil {
			return cli.WithCode(cli.CodeUsage, err)
		}
		files := []string{name}
		if fi.IsDir() {
			files, err = profiles.CheckDir(name, checkDisks)
		} else {
			_, err = profiles.ReadFile(name, checkDisks)
		}
		if err != nil {
			return cli.WithCode(cli.CodeUsage, fmt.Errorf("%s:\n%w", name, err))
		}
		if _, err := fmt.Fprintf(stdout, "%s: good (%d files)\n", name, len(files)); err != nil {
			return err
		}
	}
	return nil
}

// checkDisks checks what package profiles has no knowledge of: which disks are meant.
func checkDisks(p *params.Profile) (errs []*field.Error) {
	c := field.New(&errs).In("parameters")
	if _, err := disk.ParseSelector(p.Parameters["disk"]); err != nil {
		c.In("disk").Fail("%v", err)
	}
	if p.Parameters["disk"] != "" && p.Parameters["layout"] != "" {
		c.In("layout").Fail("excludes disk: the layout says which disks are meant")
	}
	return errs
}

func showProfile(dir, node string, stdout io.Writer) error {
	if _, err := os.ReadDir(dir); err != nil { // a server may have no profiles; who names a directory has
		return cli.WithCode(cli.CodeUsage, err)
	}
	b, err := profiles.JSON(dir, node)
	if err != nil {
		return cli.WithCode(cli.CodeUsage, err)
	}
	_, err = fmt.Fprintf(stdout, "%s\n", b)
	return err
}
