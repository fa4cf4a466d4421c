package main

import (
	"fmt"
	"strings"

	"swarmboot/internal/md"
)

// array is one array that is made: on the partitions of that number on the first disks by us, on those with ten
// more by mdadm. Number 0 is whole disks, those behind, which have sectors of 4096 bytes.
type array struct {
	name      string
	partition int
	shape     md.Shape
	members   int
	spares    int
}

var arrays = []array{
	{"stripe", 1, md.Shape{Level: 0}, 4, 0},
	{"mirror", 2, md.Shape{Level: 1, Bitmap: true}, 2, 1},
	{"esp", 3, md.Shape{Level: 1, Metadata: "1.0"}, 2, 0},
	{"four", 4, md.Shape{Level: 4}, 3, 0},
	{"five", 5, md.Shape{Level: 5, Bitmap: true, Chunk: 64 << 10}, 3, 1},
	{"six", 6, md.Shape{Level: 6}, 4, 0},
	{"ten", 7, md.Shape{Level: 10, Bitmap: true}, 4, 0},
	{"odd", 8, md.Shape{Level: 10, Metadata: "1.0"}, 3, 0},
	{"end", 9, md.Shape{Level: 5, Metadata: "1.0", Bitmap: true}, 5, 0},
	{"wide", 0, md.Shape{Level: 1, Metadata: "1.0", Bitmap: true}, 2, 0},
}

// disks are the last letters of their names.
const disks, wideDisks = "abcde", "fghi"

func (a array) devices(first int) (members, spares []string) {
	for i := range a.members + a.spares {
		d := fmt.Sprintf("/dev/vd%c%d", disks[i], first+a.partition)
		if a.partition == 0 {
			d = fmt.Sprintf("/dev/vd%c", wideDisks[first/10*a.members+i])
		}
		if i < a.members {
			members = append(members, d)
		} else {
			spares = append(spares, d)
		}
	}
	return members, spares
}

func (a array) spec() md.Spec {
	s := md.Spec{Shape: a.shape, Name: a.name}
	s.Members, s.Spares = a.devices(0)
	return s
}

// createArgs has mdadm make the same array on other partitions. --force: no member of level 5 is left out at first.
func (a array) createArgs() []string {
	metadata := a.shape.Metadata
	if metadata == "" {
		metadata = "1.2"
	}
	args := strings.Fields(fmt.Sprintf("--create /dev/md/cmp-%s --run --force --homehost=any --name=%s --level=%d --raid-devices=%d --metadata=%s",
		a.name, a.name, a.shape.Level, a.members, metadata))
	if a.spares > 0 {
		args = append(args, fmt.Sprintf("--spare-devices=%d", a.spares))
	}
	if a.shape.Bitmap {
		args = append(args, "--bitmap=internal")
	} else if a.shape.Level != 0 {
		args = append(args, "--bitmap=none")
	}
	if a.shape.Chunk != 0 {
		args = append(args, fmt.Sprintf("--chunk=%d", a.shape.Chunk>>10))
	}
	members, spares := a.devices(10)
	return append(append(args, members...), spares...)
}
