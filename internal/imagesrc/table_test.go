package imagesrc

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"swarmboot/imagefmt"
	"swarmboot/internal/filetest"
	"swarmboot/internal/looptest"
)

// sfdisk makes a partition table on a new disk.
func sfdisk(t *testing.T, size int64, sector int, script string) string {
	t.Helper()
	path := blank(t, size)
	onSectors(t, path, sector, func(dev string) { runInput(t, script, "sfdisk", "-q", dev) })
	return path
}

// onSectors calls f with the file, or with a loop device over it where its sectors are not of 512 bytes.
func onSectors(t *testing.T, path string, sector int, f func(dev string)) {
	t.Helper()
	if sector == 512 {
		f(path)
		return
	}
	dev, detach := looptest.AttachFor(t, path, "-b", fmt.Sprint(sector))
	defer detach()
	f(dev)
}

const gptScript = `label: gpt
label-id: 5F6B7C1A-3B0E-4B6E-9E0E-2C2A3F0A1B2C
size=8MiB, type=C12A7328-F81F-11D2-BA4B-00C04FC93EC9, uuid=11111111-1111-4111-8111-111111111111, name="EFI System", attrs="RequiredPartition"
size=24MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=22222222-2222-4222-8222-222222222222, name="Wurzel-Ü", attrs="GUID:59"
size=4MiB, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, uuid=33333333-3333-4333-8333-333333333333
`

// wantSame compares a table with what sfdisk --json says.
func wantSame(t *testing.T, path string, s *Source) {
	t.Helper()
	var out struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []struct {
				Node        string
				Start, Size int64
				Type, UUID  string
				Name        string
				Bootable    bool
			}
		}
	}
	var dump string
	onSectors(t, path, s.SectorSize(), func(dev string) { dump = run(t, "sfdisk", "--json", dev) })
	if err := json.Unmarshal([]byte(dump), &out); err != nil {
		t.Fatal(err)
	}
	table := s.Table()
	want := out.PartitionTable
	if table.GUID != want.ID && "0x"+table.DiskSignature != want.ID {
		t.Errorf("id %q %q, want %s", table.GUID, table.DiskSignature, want.ID)
	}
	if len(want.Partitions) != len(table.Partitions) {
		t.Fatalf("%d partitions, want %d", len(table.Partitions), len(want.Partitions))
	}
	for i, w := range want.Partitions {
		p, sector := table.Partitions[i], int64(s.SectorSize())
		if !strings.HasSuffix(w.Node, fmt.Sprint(p.Number)) || p.Start != w.Start*sector || p.Length != w.Size*sector || p.Bootable != w.Bootable {
			t.Errorf("partition %d: %+v, want %+v", i, p, w)
		}
		if table.Kind == imagefmt.TableGPT && (p.Type != w.Type || p.UUID != w.UUID || p.Label != w.Name) {
			t.Errorf("partition %d: %+v, want %+v", i, p, w)
		}
		if table.Kind == imagefmt.TableMBR && (strings.TrimLeft(p.Type[2:], "0") != w.Type || p.UUID != fmt.Sprintf("%s-%02x", table.DiskSignature, p.Number)) {
			t.Errorf("partition %d: %+v, want %+v", i, p, w)
		}
	}
}

// dd copies a file into a disk.
func dd(t *testing.T, from, to string, off int64) {
	t.Helper()
	run(t, "dd", "if="+from, "of="+to, "bs=64k", "conv=notrunc,sparse", "status=none", "oflag=seek_bytes", fmt.Sprintf("seek=%d", off))
}

func TestGPT(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			path := sfdisk(t, 64*mib, sector, gptScript)
			fatArgs := "-F 16 -s 1"
			if sector == 4096 {
				fatArgs = "-F 12 -S 4096"
			}
			esp, espFiles := makeFAT(t, 8*mib, fatArgs)
			root, rootFiles := makeExt(t, 24*mib, "-t ext4")
			sw := blank(t, 4*mib)
			run(t, "mkswap", sw)
			off := []int64{1 * mib, 9 * mib, 33 * mib}
			dd(t, esp, path, off[0])
			dd(t, root, path, off[1])
			dd(t, sw, path, off[2])
			filetest.Write(t, path, 500*1024, []byte("in the gap"))
			filetest.Write(t, path, 50*mib, []byte("unpartitioned"))
			filetest.Write(t, path, 0, []byte("boot code"))

			s := open(t, path, Options{})
			wantSame(t, path, s)
			p := s.Table().Partitions
			if s.SectorSize() != sector || len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], "4096 bytes behind the last partition, from byte 52428800 on") || p[0].FileSystem != "vfat" || p[1].FileSystem != "ext4" ||
				p[1].FSLabel != "the label" || p[1].FSUUID != testUUID || p[2].FileSystem != "swap" {
				t.Errorf("sector %d, notes %q, partitions %+v", s.SectorSize(), s.Notes(), p)
			}
			if p[0].Attributes != 1 || p[1].Attributes != 1<<59 {
				t.Errorf("attributes %#x %#x", p[0].Attributes, p[1].Attributes)
			}
			if code := s.Table().BootCode; len(code) != 440 || !bytes.HasPrefix(code, []byte("boot code")) {
				t.Errorf("boot code %q", code)
			}
			if first := s.Extents()[0]; first.Off != 500*1024 || first.Len != 4096 {
				t.Errorf("first extent %+v, want the block with data in the gap", first)
			}
			if !covered(s.Extents(), 50*mib, 4096) || covered(s.Extents(), 50*mib+4096, 1) {
				t.Errorf("data in the unpartitioned space is not an extent of its own")
			}
			target := restore(t, s)
			espOut, rootOut := cut(t, target, off[0], 8*mib), cut(t, target, off[1], 24*mib)
			run(t, "fsck.fat", "-n", espOut)
			run(t, "e2fsck", "-fn", rootOut)
			run(t, "swaplabel", cut(t, target, off[2], 4*mib))
			out := scratch(t)
			run(t, "mcopy", "-s", "-i", espOut, "::*", out)
			sameTree(t, espFiles, out)
			out = scratch(t)
			run(t, "debugfs", "-R", "rdump / "+out, rootOut)
			sameTree(t, rootFiles, out)
		})
	}
}

func TestGPTDamaged(t *testing.T) {
	blankBytes := make([]byte, 4096)
	for _, c := range []struct {
		name      string
		damage    func(t *testing.T, p string)
		note, err string
	}{
		{"primary header", func(t *testing.T, p string) { filetest.Write(t, p, 512, blankBytes[:512]) }, "backup at its end was read", ""},
		{"primary header checksum", func(t *testing.T, p string) { filetest.Write(t, p, 512+60, []byte{1, 2, 3}) }, "backup at its end was read", ""},
		{"primary array", func(t *testing.T, p string) { filetest.Write(t, p, 1024+40, []byte{1}) }, "backup at its end was read", ""},
		{"hostile entry count", func(t *testing.T, p string) { filetest.Write(t, p, 512+80, []byte{255, 255, 255, 255}) }, "backup at its end was read", ""},
		{"hostile array", func(t *testing.T, p string) { filetest.Write(t, p, 512+72, bytes.Repeat([]byte{255}, 8)) }, "backup at its end was read", ""},
		{"backup header", func(t *testing.T, p string) { filetest.Write(t, p, 64*mib-512, blankBytes[:512]) }, "backup GPT is damaged", ""},
		{"grown file", func(t *testing.T, p string) { run(t, "truncate", "-s", "80M", p) }, "not at the end", ""},
		{"both", func(t *testing.T, p string) {
			filetest.Write(t, p, 512, blankBytes[:512])
			filetest.Write(t, p, 64*mib-512, blankBytes[:512])
		}, "", "both copies are damaged"},
		{"both, signature left", func(t *testing.T, p string) {
			filetest.Write(t, p, 512+60, []byte{1, 2, 3})
			filetest.Write(t, p, 64*mib-512, blankBytes[:512])
		}, "", "GPT"},
		{"cut short", func(t *testing.T, p string) { run(t, "truncate", "-s", "20M", p) }, "", "cut short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := sfdisk(t, 64*mib, 512, gptScript)
			good := open(t, path, Options{}).Table()
			c.damage(t, path)
			if c.err != "" {
				if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				s := open(t, path, Options{AllBlocks: true})
				if s.Table().Kind != imagefmt.TableNone || used(s) != s.Size() {
					t.Errorf("AllBlocks: %+v, %d bytes", s.Table(), used(s))
				}
				return
			}
			s := open(t, path, Options{})
			if fmt.Sprint(s.Table()) != fmt.Sprint(good) || !strings.Contains(strings.Join(s.Notes(), "\n"), c.note) {
				t.Errorf("table %+v\nwant %+v\nnotes %q", s.Table(), good, s.Notes())
			}
			for _, e := range s.Extents() {
				if e.Off < mib || e.Off >= 64*mib-17*1024 || e.Off > 37*mib {
					t.Errorf("extent %+v holds a part of the GPT", e)
				}
			}
		})
	}
}

// TestLeftOvers: what the disk's last owner left outside the file systems is copied, but not in silence.
func TestLeftOvers(t *testing.T) {
	junk := bytes.Repeat([]byte("of old files "), 2*mib/13)
	for _, c := range []struct {
		name   string
		off    int64
		data   []byte
		o      Options
		copied bool
		want   string // the note, "" for none
	}{
		{"nothing", 0, nil, Options{}, false, ""},
		{"boot loader", 512, junk[:mib-512], Options{}, true, ""},
		{"behind the last partition", 60 * mib, junk[:5], Options{}, true, "4096 bytes behind the last partition, from byte 62914560 on, are not zero and are copied: the image needs a disk of more than 62918656 bytes"},
		{"between partitions", 30 * mib, junk, Options{}, true, "2097152 bytes outside all partitions, from byte 31457280 on"},
		{"little between partitions", 30 * mib, junk[:4096], Options{}, true, ""},
		{"behind a file system", 20 * mib, junk[:5], Options{}, true, "partition 1: 4096 bytes behind its ext2 are not zero and are copied"},
		{"all blocks", 60 * mib, junk[:5], Options{AllBlocks: true}, true, ""},
	} {
		path := sfdisk(t, 64*mib, 512, "label: dos\nstart=1MiB, size=23MiB, type=83\nstart=48MiB, size=8MiB, type=82\n")
		run(t, "mke2fs", "-q", "-F", "-E", fmt.Sprintf("offset=%d", mib), path, "16M")
		sw := blank(t, 8*mib)
		run(t, "mkswap", sw)
		dd(t, sw, path, 48*mib)
		filetest.Write(t, path, c.off, c.data)
		s := open(t, path, c.o)
		if notes := strings.Join(s.Notes(), "\n"); c.want == "" && notes != "" || !strings.HasPrefix(notes, c.want) || len(s.Notes()) > 1 {
			t.Errorf("%s: notes %q, want %q", c.name, notes, c.want)
		}
		if got := covered(s.Extents(), max(c.off, 512), int64(len(c.data))); c.copied && !got {
			t.Errorf("%s: not copied", c.name)
		}
	}
}

// TestOldGPT has a GPT made an MBR, with what the GPT had at the end of the disk still there.
func TestOldGPT(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, gptScript)
	backup := filetest.Read(t, path, 64*mib-33*512, 33*512)
	run(t, "wipefs", "-q", "-a", path)
	runInput(t, "label: dos\nstart=1MiB, size=24MiB, type=83\n", "sfdisk", "-q", path)
	run(t, "mke2fs", "-q", "-F", "-E", fmt.Sprintf("offset=%d", mib), path, "24M")
	filetest.Write(t, path, 64*mib-33*512, backup)
	s := open(t, path, Options{})
	if e := s.Extents(); e[len(e)-1].End() > 25*mib || len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], "backup of an old GPT") {
		t.Errorf("the last extent is %+v, notes %q", e[len(e)-1], s.Notes())
	}

	// A partition that reaches there is copied all the same.
	runInput(t, "label: dos\nstart=1MiB, size=63MiB, type=83\n", "sfdisk", "-q", "--wipe", "never", path)
	filetest.Write(t, path, 64*mib-33*512, backup)
	run(t, "dd", "if=/dev/zero", "of="+path, "bs=64k", "seek=16", "count=1", "conv=notrunc", "status=none")
	if s = open(t, path, Options{}); !covered(s.Extents(), 1*mib, 63*mib) {
		t.Errorf("the partition is not copied to its end: %v", s.Extents())
	}

	// One that is not whole is no GPT's, wherever it says that its array is: boot code lies in front of the first partition.
	runInput(t, "label: dos\nstart=1MiB, size=24MiB, type=83\n", "sfdisk", "-q", "--wipe", "never", path)
	filetest.Write(t, path, 512, bytes.Repeat([]byte("boot"), 60*128))
	array := crc32.ChecksumIEEE(filetest.Read(t, path, 2*512, 128*128))
	for name, damage := range map[string]func(header []byte){
		"no place of its own": func(h []byte) { clear(h[24:32]) },
		"array elsewhere":     func(h []byte) { binary.LittleEndian.PutUint64(h[72:], 2) },
		"array elsewhere, checksums": func(h []byte) {
			binary.LittleEndian.PutUint64(h[72:], 2)
			binary.LittleEndian.PutUint32(h[88:], array)
			clear(h[16:20])
			binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		},
		"array overwritten": func([]byte) { filetest.Write(t, path, 64*mib-33*512, []byte("data")) },
	} {
		filetest.Write(t, path, 64*mib-33*512, backup)
		header := bytes.Clone(backup[32*512:])
		damage(header)
		filetest.Write(t, path, 64*mib-512, header)
		if s = open(t, path, Options{}); !covered(s.Extents(), 64*mib-512, 512) || !covered(s.Extents(), 512, 60*512) || !strings.Contains(fmt.Sprint(s.Notes()), "behind the last partition") {
			t.Errorf("%s: extents %v, notes %q", name, s.Extents(), s.Notes())
		}
	}
}

const mbrScript = `label: dos
label-id: 0xdeadbeef
1: size=8MiB, type=c, bootable
2: size=8MiB, type=83
3: size=40MiB, type=f
5: size=8MiB, type=83
6: size=4MiB, type=82
7: size=4MiB, type=83
`

func TestMBR(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, mbrScript)
	var all []imagefmt.Partition
	{
		s := open(t, path, Options{})
		wantSame(t, path, s)
		all = s.Table().Partitions
	}
	fat, fatFiles := makeFAT(t, all[0].Length, "-F 16 -s 1")
	root, rootFiles := makeExt(t, all[1].Length+0, "-t ext2 -b 1024")
	logical, logicalFiles := makeExt(t, all[3].Length, "-t ext4 -b 1024")
	sw := blank(t, all[4].Length)
	run(t, "mkswap", sw)
	for i, part := range map[int]string{0: fat, 1: root, 3: logical, 4: sw} {
		dd(t, part, path, all[i].Start)
	}
	filetest.Write(t, path, 512, []byte("the rest of the boot loader"))
	filetest.Write(t, path, 0, []byte("boot code"))

	s := open(t, path, Options{})
	wantSame(t, path, s)
	if len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], "partition 7: no known file system") {
		t.Errorf("notes %q", s.Notes())
	}
	if first := s.Extents()[0]; first.Off != 512 {
		t.Errorf("first extent %+v", first)
	}
	// sfdisk reads the logical partitions from the copied EBRs once sector 0 is there.
	target := restore(t, s)
	filetest.Write(t, target, 0, filetest.Read(t, path, 0, 512))
	want, got := run(t, "sfdisk", "-d", path), run(t, "sfdisk", "-d", target)
	if strings.ReplaceAll(want, path, "X") != strings.ReplaceAll(got, target, "X") {
		t.Errorf("sfdisk reads\n%s\nwant\n%s", got, want)
	}
	out := scratch(t)
	fat = cut(t, target, all[0].Start, all[0].Length)
	run(t, "fsck.fat", "-n", fat)
	run(t, "mcopy", "-s", "-i", fat, "::*", out)
	sameTree(t, fatFiles, out)
	for i, files := range map[int]map[string]string{1: rootFiles, 3: logicalFiles} {
		part := cut(t, target, all[i].Start, all[i].Length)
		run(t, "e2fsck", "-fn", part)
		out := scratch(t)
		run(t, "debugfs", "-R", "rdump / "+out, part)
		sameTree(t, files, out)
	}
}

// TestEBRFlags: the kernel takes logical partitions whatever their boot flags, and so does sfdisk.
func TestEBRFlags(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, mbrScript)
	all := open(t, path, Options{}).Table().Partitions
	filetest.Write(t, path, all[3].Start-2048*512+446, []byte{0x41})
	if got := open(t, path, Options{}).Table().Partitions; len(got) != len(all) {
		t.Errorf("%d partitions, want %d", len(got), len(all))
	}
}

// TestGPTOfOtherLength: a target gets arrays of 128 entries, so what needs more, or lies where they will be, is refused before the disk is read.
func TestGPTOfOtherLength(t *testing.T) {
	const last = 8*mib/512 - 1
	for _, c := range []struct {
		name    string
		entries int
		script  string
		err     string
	}{
		{"a long array, low numbers", 256, "1: start=2048, size=2048\n128: start=4096, size=2048\n", ""},
		{"a number too high", 256, "1: start=2048, size=2048\n129: start=4096, size=2048\n", "partition number 129: a target gets a GPT of 128 entries"},
		{"a short array, usual places", 8, fmt.Sprintf("2: start=34, size=%d\n", last-32-34), ""},
		{"where the first array will be", 8, "1: start=2048, size=2048\n3: start=33, size=100\n", "partition 3 lies at LBA 33 to 132: on a target the GPT leaves 34 to 16350 of as many"},
		{"where the last array will be", 8, fmt.Sprintf("5: start=2048, size=%d\n", last-31-2048), "partition 5 lies at LBA 2048 to 16351: on a target the GPT leaves 34 to 16350 of as many"},
	} {
		path := sfdisk(t, 8*mib, 512, fmt.Sprintf("label: gpt\ntable-length: %d\nfirst-lba: %d\n%s", c.entries, 2+c.entries/4, c.script))
		s, err := Open(t.Context(), path, Options{})
		if c.err == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			wantSame(t, path, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %s", c.name, err, c.err)
		}
		if s := open(t, path, Options{AllBlocks: true}); s.Table().Kind != imagefmt.TableNone || used(s) != s.Size() {
			t.Errorf("%s: AllBlocks: %+v, %d bytes", c.name, s.Table(), used(s))
		}
	}
}

func TestHybridMBR(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, gptScript)
	run(t, "sgdisk", "--hybrid=2", path)
	if s := open(t, path, Options{}); s.Table().Kind != imagefmt.TableGPT || !strings.Contains(s.Notes()[0], "hybrid MBR") {
		t.Errorf("%s, notes %q", s.Table().Kind, s.Notes())
	}
}

func TestMBRDamaged(t *testing.T) {
	ebr := func(n int) func(t *testing.T, p string) int64 { // sector of the EBR of logical partition n
		return func(t *testing.T, p string) int64 {
			return (open(t, p, Options{}).Table().Partitions[3+n].Start/512 - 2048) * 512
		}
	}
	for _, c := range []struct {
		name, err string
		damage    func(t *testing.T, p string)
	}{
		{"EBR loop", "circle", func(t *testing.T, p string) { filetest.Write(t, p, ebr(0)(t, p)+446+16+8, []byte{0, 0, 0, 0}) }},
		{"EBR outside", "outside", func(t *testing.T, p string) { filetest.Write(t, p, ebr(0)(t, p)+446+16+8, []byte{0, 0, 0, 0x7F}) }},
		{"EBR blank", "no signature", func(t *testing.T, p string) { filetest.Write(t, p, ebr(1)(t, p)+510, []byte{0, 0}) }},
		{"overlap", "overlap", func(t *testing.T, p string) { filetest.Write(t, p, 446+16+8, []byte{0, 9}) }},
		{"beyond the disk", "cut short", func(t *testing.T, p string) { filetest.Write(t, p, 446+16+12, []byte{0, 0, 0, 1}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := sfdisk(t, 64*mib, 512, mbrScript)
			c.damage(t, path)
			if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}

// TestForeignNamed: who looks for the root learns what is on partitions that are not understood, but not of a doubtful one.
func TestForeignNamed(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, "label: gpt\nstart=1MiB, size=20MiB\nstart=21MiB, size=20MiB\nstart=41MiB, size=20MiB\n")
	filetest.Write(t, path, 1*mib, []byte("XFSB"))
	filetest.Write(t, path, 21*mib+65600, []byte("_BHRfS_M"))
	filetest.Write(t, path, 41*mib, []byte("XFSB"))
	filetest.Write(t, path, 41*mib+512, []byte("LABELONE"))
	if got := fmt.Sprint(open(t, path, Options{}).Foreign()); got != "map[1:XFS 2:Btrfs]" {
		t.Errorf("%s", got)
	}
}

// TestForeign leaves a second signature, or only a foreign one: the partition is then copied as a whole.
func TestForeign(t *testing.T) {
	for _, c := range []struct {
		note  string
		off   int64
		magic string
		ext   bool
	}{
		{"XFS is not understood", 0, "XFSB", false},
		{"LUKS is not understood", 0, "LUKS\xba\xbe", false},
		{"signatures of ext2/3/4 and XFS", 0, "XFSB", true},
		{"signatures of ext2/3/4 and Btrfs", 65600, "_BHRfS_M", true},
		{"signatures of ext2/3/4 and Linux RAID", 40*mib - 64<<10, mdMagic, true},
		{"signatures of ext2/3/4 and swap", 4086, "SWAPSPACE2", true},
		{"signatures of ext2/3/4 and ZFS", 133 << 10, "\x0c\xb1\xba\x00\x00\x00\x00\x00", true},
	} {
		path := blank(t, 40*mib)
		if c.ext {
			run(t, "mke2fs", "-q", "-F", "-b", "1024", path)
		}
		filetest.Write(t, path, c.off, []byte(c.magic))
		s := open(t, path, Options{})
		if used(s) != s.Size() || len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], c.note) {
			t.Errorf("%d bytes used, notes %q, want %q", used(s), s.Notes(), c.note)
		}
	}
}

func TestAllBlocks(t *testing.T) {
	path := sfdisk(t, 64*mib, 512, gptScript)
	s := open(t, path, Options{AllBlocks: true})
	if free := s.Size() - used(s); free > 64<<10 {
		t.Errorf("%d bytes are left out", free)
	}
}

// TestShrunk has a file system shorter than its disk: what is behind it is copied where it is not zero.
func TestShrunk(t *testing.T) {
	path := blank(t, 40*mib)
	run(t, "mke2fs", "-q", "-F", path, "20M")
	filetest.Write(t, path, 30*mib, []byte("RAID metadata, say"))
	s := open(t, path, Options{})
	if !covered(s.Extents(), 30*mib, 4096) || covered(s.Extents(), 30*mib+4096, 1) || used(s) > 3*mib {
		t.Errorf("extents %v", s.Extents())
	}
}

// TestBootSectorOnly has a boot sector with code up to the table's place, as NTFS has: no table, and nothing to understand.
func TestBootSectorOnly(t *testing.T) {
	path := blank(t, 4*mib)
	text, _ := base64.StdEncoding.DecodeString("UmVtb3ZlIGRpc2tzIG9yIG90aGVyIG1lZGlhLg0KRGlzayBlcnJvcg0KUHJlc3MgYW55IGtleSB0byByZXN0YXJ0DQo=")
	filetest.Write(t, path, 440, text)
	filetest.Write(t, path, 510, []byte{0x55, 0xAA})
	filetest.Write(t, path, 0, []byte("\xeb\x52\x90NTFS    "))
	s := open(t, path, Options{})
	if s.Table().Kind != imagefmt.TableNone || used(s) != s.Size() || !strings.Contains(s.Notes()[0], "NTFS") {
		t.Errorf("table %+v, notes %q", s.Table(), s.Notes())
	}
}
