package layout

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"swarmboot/imagefmt"
	"swarmboot/internal/disk"
)

// maxCount is the most disks that one set may have.
const maxCount = 1024

// parseCount reads "2", "4..", "..2" and "2..4"; "" is 1.
func parseCount(s string) (least, most int, err error) {
	if s == "" {
		return 1, 1, nil
	}
	a, b, isRange := strings.Cut(s, "..")
	if !isRange {
		b = a
	}
	least, most = 0, maxCount
	if a != "" {
		least, err = strconv.Atoi(a)
	}
	if err == nil && b != "" {
		most, err = strconv.Atoi(b)
	}
	if err != nil || s == ".." || least < 0 || most < 1 || least > most || most > maxCount {
		return 1, 1, fmt.Errorf(`%.40q: want a number of disks such as "2", "4.." or "2..4", at most %d`, s, maxCount)
	}
	return least, most, nil
}

// partitionSize is a Partition.Size; with all zero it is the image's.
type partitionSize struct {
	bytes   int64
	percent float64
	rest    bool
}

func parsePartitionSize(s string) (partitionSize, error) {
	if s == "" || s == "rest" {
		return partitionSize{rest: s == "rest"}, nil
	}
	if p, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return partitionSize{}, fmt.Errorf("%.40q: want more than 0 and at most 100 %%", s)
		}
		return partitionSize{percent: v}, nil
	}
	n, err := parseSize(s)
	return partitionSize{bytes: n}, err
}

// parseSize reads a size in bytes that is more than nothing and less than the largest disk there can be.
func parseSize(s string) (int64, error) {
	n, err := disk.ParseSize(s)
	if err == nil && (n <= 0 || n > imagefmt.MaxDiskSize) {
		err = fmt.Errorf("size %.40q: out of range", s)
	}
	return n, err
}

// percentOf is a part of n, rounded down.
func percentOf(n int64, percent float64) int64 {
	return min(n, int64(math.Floor(float64(n)*(percent/100))))
}

// types are partition types by name: UEFI 2.10 table 5-7 and the Discoverable Partitions Specification.
var types = map[string]string{
	"esp":            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
	"bios":           "21686148-6449-6E6F-744E-656564454649",
	"prep":           "9E1A2D38-C612-4316-AA26-8B49521E5A8B",
	"linux":          "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
	"swap":           "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
	"raid":           "A19D880F-05FC-4D3B-A006-743F0F84911E",
	"lvm":            "E6D6D379-F507-44C2-A23C-238F2A3DF928",
	"luks":           "CA7D7CCB-63ED-4C53-861C-1742536059CC",
	"xbootldr":       "BC13C2FF-59E6-4262-A352-B275FD6F7172",
	"home":           "933AC7E1-2EB4-4F13-B844-0E14E2AEF915",
	"srv":            "3B8F8425-20E0-4F3B-907F-1A25A76F98E8",
	"var":            "4D21B016-B534-45C2-A9FB-5C16E091FD2D",
	"tmp":            "7EC6F557-3BC5-4ACA-B293-16EF5DF639D1",
	"root-x86":       "44479540-F297-41B2-9AF7-D131D5F0458A",
	"root-x86-64":    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
	"root-arm":       "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3",
	"root-arm64":     "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
	"root-riscv64":   "72EC70A6-CF74-40E6-BD49-4BDA08E8F224",
	"root-ppc64-le":  "C31C45E6-3F39-412E-80FB-4809C4980599",
	"usr-x86-64":     "8484680C-9521-48C6-9C11-B0720656F69E",
	"usr-arm64":      "B0E01050-EE5F-4390-949A-9101B17104E9",
	"microsoft-data": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
}

// mbrTypes says what the types of an MBR are called in a GPT.
var mbrTypes = map[string]string{
	"0x82": "swap", "0x83": "linux", "0x8e": "lvm", "0xef": "esp", "0xfd": "raid", "0x07": "microsoft-data", "0x0b": "microsoft-data",
	"0x0c": "microsoft-data", "0x06": "microsoft-data", "0x0e": "microsoft-data", "0x41": "prep",
}

// TypeNames lists the names of partition types.
func TypeNames() []string { return slices.Sorted(maps.Keys(types)) }

// typeGUID returns the GUID of a type in upper case; "" is allowed and means that none was given.
func typeGUID(s string) (string, bool) {
	if g, ok := types[s]; ok {
		return g, true
	}
	if uuidRE.MatchString(s) && strings.Trim(s, "0-") != "" {
		return strings.ToUpper(s), true
	}
	return "", s == ""
}

// typeName is the name of a type for people; its GUID where it has none.
func typeName(guid string) string {
	for _, name := range TypeNames() {
		if strings.EqualFold(types[name], guid) {
			return name
		}
	}
	return guid
}

// attributeBits are GPT attributes: UEFI 2.10 table 5-8 and the Discoverable Partitions Specification.
var attributeBits = map[string]uint{"required": 0, "no-block-io": 1, "legacy-boot": 2, "grow-file-system": 59, "read-only": 60, "no-automount": 63}

func attributeNames() []string { return slices.Sorted(maps.Keys(attributeBits)) }

func attribute(name string) (uint64, bool) {
	bit, ok := attributeBits[name]
	return 1 << bit, ok
}

// UnmarshalYAML takes one selector or a list of them.
func (s *Selectors) UnmarshalYAML(decode func(any) error) error {
	var one string
	if decode(&one) == nil {
		*s = Selectors{one}
		return nil
	}
	var list []string
	if err := decode(&list); err != nil {
		return err
	}
	*s = list
	return nil
}

// UnmarshalYAML takes true and false too.
func (k *Keep) UnmarshalYAML(decode func(any) error) error {
	var yes bool
	if decode(&yes) == nil {
		*k = ""
		if yes {
			*k = KeepYes
		}
		return nil
	}
	var s string
	err := decode(&s)
	*k = Keep(s)
	return err
}

// UnmarshalJSON takes true and false too, for layouts that people write as JSON.
func (k *Keep) UnmarshalJSON(b []byte) error {
	return k.UnmarshalYAML(func(v any) error { return json.Unmarshal(b, v) })
}
