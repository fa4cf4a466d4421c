package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"swarmboot/imagefmt"
	"swarmboot/internal/cli"
	"swarmboot/internal/progress"
)

func imageInspect(_ context.Context, args []string, stdout, _ io.Writer) error {
	f := flag.NewFlagSet("image inspect", flag.ContinueOnError)
	asJSON := f.Bool("json", false, "print the manifest")
	pos, err := parseImageFlags(f, args, stdout, "image inspect [--json] DIR/NAME", 1)
	if err != nil {
		return err
	}
	m, err := parseImagePath(pos[0]).loadManifest()
	if err != nil {
		return err
	}
	if *asJSON {
		b, err := m.Marshal()
		if err != nil {
			return err
		}
		_, err = stdout.Write(b)
		return err
	}
	return showManifest(stdout, m)
}

func showManifest(out io.Writer, m *imagefmt.Manifest) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) { fmt.Fprintf(w, "%s:\t%s\n", name, fmt.Sprintf(format, a...)) }
	row("name", "%s", m.Name)
	row("created", "%s", m.Created.UTC().Format(time.RFC3339))
	row("disk", "%s (%d bytes), sectors of %d bytes", progress.Bytes(m.DiskSize), m.DiskSize, m.SectorSize)
	row("needs a disk of", "%s (%d bytes)", progress.Bytes(m.MinDiskSize), m.MinDiskSize)
	row("used", "%s, and %s that are zero", progress.Bytes(m.UsedBytes), progress.Bytes(m.ZeroBytes))
	row("payload", "%s, %s, %d pieces of %s", m.Layout, progress.Bytes(m.PayloadLength), m.Pieces(), progress.Bytes(m.PieceLength))
	row("info-hash", "%s", m.InfoHash)
	row("index", "%s, SHA-256 %s", progress.Bytes(m.IndexLength), m.IndexSHA256)
	row("root", "%s", rootText(m))
	row("kernel", "%s", orText(m.Boot.Kernel, "newest /boot/vmlinuz-*"))
	row("initrd", "%s", orText(m.Boot.Initrd, "beside the kernel"))
	row("command line", "%s", orText(m.Boot.Cmdline, "found on the root file system"))
	row("table", "%s %s%s", m.Table.Kind, m.Table.GUID, m.Table.DiskSignature)
	if err := w.Flush(); err != nil || len(m.Table.Partitions) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nNO\tSTART\tSIZE\tUSED\tFILE SYSTEM\tFS LABEL\tNAME\tUUID\tTYPE")
	for _, p := range m.Table.Partitions {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Number, progress.Bytes(p.Start), progress.Bytes(p.Length),
			progress.Bytes(p.UsedBytes), orText(p.FileSystem, "-"), orText(p.FSLabel, "-"), orText(p.Label, "-"), orText(p.UUID, "-"), p.Type)
	}
	return w.Flush()
}

func rootText(m *imagefmt.Manifest) string {
	if v := m.Boot.Volume; v != nil {
		return "logical volume " + v.Name
	}
	if m.Boot.Root == 0 {
		return "the whole disk"
	}
	return fmt.Sprintf("partition %d", m.Boot.Root)
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func imageVerify(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("image verify", flag.ContinueOnError)
	pos, err := parseImageFlags(f, args, stdout, "image verify DIR/NAME", 1)
	if err != nil {
		return err
	}
	p := parseImagePath(pos[0])
	im, err := p.load()
	if err != nil {
		return err
	}
	defer im.Close()
	r, err := imagefmt.Open(im.manifest, im.payload)
	if err != nil {
		return verifyError(p.payload(), err)
	}
	m := im.manifest
	bar := progress.New(stderr, "verify")
	err = r.VerifyPieces(ctx, im.metainfo, func(done, total int) {
		bar.Set(min(int64(done)*m.PieceLength, m.PayloadLength), m.PayloadLength)
	})
	bar.Finish()
	if err != nil {
		return verifyError(p.payload(), err)
	}
	_, err = fmt.Fprintf(stdout, "%s: all %d pieces and every hash are right\n", pos[0], m.Pieces())
	return err
}

// verifyError tells a payload that cannot be read from one that holds something else.
func verifyError(path string, err error) error {
	if c := cli.Code(fileError(err)); c != cli.CodeOther {
		return cli.WithCode(c, fmt.Errorf("%s: %w", path, err))
	}
	return bad(path, err)
}
