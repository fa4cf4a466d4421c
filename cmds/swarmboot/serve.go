package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"swarmboot/internal/cli"
	"swarmboot/internal/disk"
	"swarmboot/internal/netboot"
	"swarmboot/internal/params"
	"swarmboot/internal/server"
)

const serveUsage = `Usage: swarmboot serve --images DIR --interface IF [--interface IF2] [OPTIONS]
       swarmboot serve --images DIR --no-netboot [OPTIONS]

Boots machines from the network and feeds them the images in DIR: DHCP, TFTP,
iPXE scripts, HTTP, BitTorrent tracker and seeder in one process. New images
appear without a restart. The page at the HTTP address shows images and nodes.

A machine that boots from the network is deployed once: after that it is told
to boot from its disk, until "swarmboot status --redeploy". Which ones are
deployed is kept in DIR/.swarmboot: with another DIR all are deployed again. Two
servers of one DIR are refused, and a server ends when another file system or
folder takes the place of DIR. A machine is known by the MAC addresses of all
its cards and by its SMBIOS UUID.
With several images, or where there were several, and no --image a menu asks
which; left alone it boots from the disk. DIR/profiles and DIR/files hold what
is particular to single nodes: see "swarmboot profile --help".

Options:
`

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// oneOf is a flag with a fixed set of values.
func oneOf(p *string, values ...string) func(string) error {
	return func(s string) error {
		for _, v := range values {
			if s == v {
				*p = s
				return nil
			}
		}
		return fmt.Errorf("must be one of %s", strings.Join(values, ", "))
	}
}

func runServe(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := serveOptions(args, stdout)
	if err != nil {
		return err
	}
	for _, name := range o.Interfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			return cli.Usagef("serve: --interface %s: %w", name, err)
		}
	}
	o.Out = stdout
	o.Logger = slog.New(slog.NewTextHandler(stderr, nil))
	err = server.Run(ctx, *o)
	if errors.Is(err, os.ErrNotExist) {
		return cli.WithCode(cli.CodeUsage, err)
	}
	return err
}

// serveOptions reads the command line; help goes to stdout.
func serveOptions(args []string, stdout io.Writer) (*server.Options, error) {
	o := &server.Options{}
	var noNetboot bool
	var rate string
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.Images, "images", "", "`DIR` with NAME.json, NAME.torrent and NAME.payload of every image")
	fs.Var((*list)(&o.Interfaces), "interface", "answer DHCP on this `IF` and no other; may be given several times")
	fs.BoolVar(&noNetboot, "no-netboot", false, "no DHCP, no TFTP: needs no privileges")
	fs.StringVar(&o.HTTP, "http", ":8080", "`ADDR` of the HTTP server")
	fs.StringVar(&o.BTListen, "bt-listen", ":6881", "`ADDR` of the seeder")
	fs.StringVar(&rate, "upload-rate", "", "limit of the seeder in bytes per second, with k, M or G as suffix (`RATE`)")
	fs.StringVar(&o.Kernel, "kernel", "", "the nodes' kernel `FILE` (default DIR/boot/vmlinuz)")
	fs.StringVar(&o.Initramfs, "initramfs", "", "the nodes' initramfs `FILE` (default DIR/boot/initramfs)")
	fs.StringVar(&o.IPXE, "ipxe", "", "`DIR` with undionly.kpxe and snponly.efi or ipxe.efi, for machines whose ROM is not iPXE (Debian: /usr/lib/ipxe)")
	fs.StringVar(&o.Range, "range", "", "addresses to hand out, `FIRST-LAST` (default: the interface's subnet)")
	fs.BoolVar(&o.ForceDHCP, "force-dhcp", false, "go on when another DHCP server answers on the interface")
	fs.StringVar(&o.Image, "image", "", "`NAME` of the image to deploy when there are several")
	fs.Func("action", "what nodes do: deploy, or plan, a dry run that shows on console, status page and in \"swarmboot status\" what would\nbecome of which disks, and writes nothing (`ACTION`, default deploy); a profile can say it of single nodes", oneOf(&o.Args.Action, "deploy", "plan"))
	fs.StringVar(&o.Args.Disk, "disk", "", "`SELECTOR` of the disk to overwrite: /dev/PATH, serial=X, wwn=X, model=X, transport=T (nvme, sata, sas, usb...),\nrotational=yes|no, size=A..B, joined by commas; only = the only disk (the default)")
	fs.Func("then", "what a node does at the end: kexec, reboot, poweroff or shell (`ACTION`)", oneOf(&o.Args.Then, "kexec", "reboot", "poweroff", "shell"))
	fs.Func("verify", "none, write or readback (`MODE`)", oneOf(&o.Args.Verify, "none", "write", "readback"))
	fs.Func("on-error", "what a node does after a failure: shell, reboot or poweroff (`ACTION`)", oneOf(&o.Args.OnError, "shell", "reboot", "poweroff"))
	fs.StringVar(&o.Args.Append, "append", "", "`WORDS` to add to the command line of the deployed system's kernel")
	fs.Var((*list)(&o.Args.Console), "console", "console=`VALUE` of the nodes' kernel; may be given several times, the last is for messages (default tty0 and ttyS0,115200)")
	fs.StringVar(&o.Args.Extra, "cmdline", "", "`WORDS` to add to the command line of the nodes' own kernel")
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		cli.Help(stdout, serveUsage, fs)
		return nil, err
	}
	if err == nil {
		o.UploadRate, err = parseRate(rate)
	}
	if err != nil {
		return nil, cli.Usagef("serve: %w", err)
	}
	if noNetboot {
		err = onlyNetboot(fs)
	}
	if err != nil {
		return nil, err
	}
	return o, checkServe(o, fs.Args(), noNetboot)
}

// onlyNetboot refuses what means nothing without network boot: who gives it expects machines to boot.
func onlyNetboot(fs *flag.FlagSet) (err error) {
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "ipxe", "range", "force-dhcp":
			err = cli.Usagef("serve: --%s means nothing with --no-netboot", f.Name)
		}
	})
	return err
}

func checkServe(o *server.Options, rest []string, noNetboot bool) error {
	switch {
	case len(rest) > 0:
		return cli.Usagef("serve: unexpected argument %q", rest[0])
	case o.Images == "":
		return cli.Usagef("serve: --images DIR is missing")
	case noNetboot && len(o.Interfaces) > 0:
		return cli.Usagef("serve: --no-netboot and --interface exclude each other")
	case !noNetboot && len(o.Interfaces) == 0:
		return cli.Usagef("serve: name the interface to answer DHCP on with --interface, or say --no-netboot")
	}
	if _, err := disk.ParseSelector(o.Args.Disk); err != nil {
		return cli.Usagef("serve: --disk: %w", err)
	}
	if err := checkArgs(o.Args); err != nil {
		return cli.Usagef("serve: %w", err)
	}
	for flag, addr := range map[string]string{"http": o.HTTP, "bt-listen": o.BTListen} {
		_, port, err := net.SplitHostPort(addr)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			return cli.Usagef("serve: --%s: %w; want HOST:PORT or :PORT", flag, err)
		}
	}
	for i, name := range o.Interfaces {
		if slices.Contains(o.Interfaces[:i], name) { // the second would find the ports taken, by itself
			return cli.Usagef("serve: --interface %s is given twice", name)
		}
	}
	if len(o.Args.Console) == 0 {
		o.Args.Console = []string{"tty0", "ttyS0,115200"}
	}
	return nil
}

// checkArgs refuses a command line that every node would refuse, too, after it has booted.
func checkArgs(a netboot.Args) error {
	if err := netboot.CheckArgs(a); err != nil {
		return err
	}
	script, err := netboot.DeployScript("http://192.0.2.1", "image", a)
	if err == nil {
		_, err = params.ParseCmdline(script)
	}
	return err
}

// parseRate reads bytes per second with a suffix of powers of 1000.
func parseRate(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	factor := int64(1)
	switch s[len(s)-1] {
	case 'k', 'K':
		factor = 1e3
	case 'm', 'M':
		factor = 1e6
	case 'g', 'G':
		factor = 1e9
	}
	digits := s
	if factor > 1 {
		digits = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("upload rate %q is not a number of bytes per second", s)
	}
	return n * factor, nil
}
