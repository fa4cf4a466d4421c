package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"swarmboot/internal/md"
)

func mdadm(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "/usr/sbin/mdadm", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("mdadm %s: %w: %s", strings.Join(args, " "), err, strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "; "))
	}
	return string(out), nil
}

func judgeAll(ctx context.Context) {
	if !check("all", "load", md.Load(ctx, 0, 1, 4, 5, 6, 10)) {
		return
	}
	check("all", "limit", speedLimit(1_000_000))
	_, err := mdadm(ctx, "--assemble", "--scan")
	check("all", "mdadm --assemble --scan", err)
	for _, a := range arrays {
		judge(ctx, a)
	}
	for _, a := range arrays {
		compare(ctx, a)
	}
}

func judge(ctx context.Context, a array) {
	device := "/dev/md/" + a.name
	check(a.name, "data", read(device, a.name))
	detail, err := mdadm(ctx, "--detail", device)
	if !check(a.name, "mdadm --detail", err) {
		return
	}
	check(a.name, "described", describes(detail, a))
	if a.shape.Level == 0 {
		return
	}
	name, err := filepath.EvalSymlinks(device)
	if err != nil {
		failed(a.name, "find", err)
		return
	}
	sys := filepath.Join("/sys/block", filepath.Base(name), "md")
	if !check(a.name, "resync ends", idle(ctx, sys)) {
		return
	}
	check(a.name, "check", func() error {
		if err := os.WriteFile(filepath.Join(sys, "sync_action"), []byte("check"), 0); err != nil {
			return err
		}
		return idle(ctx, sys)
	}())
	check(a.name, "mismatch_cnt 0", want(attr(sys, "mismatch_cnt"), "0"))
	examined, err := mdadm(ctx, "--examine", a.spec().Members[0])
	if err == nil {
		err = want(field(examined, "State"), "clean")
	}
	check(a.name, "mdadm --examine", err)
	degrade(ctx, a, device)
}

// degrade takes the first member away (and the spare, which would take its place) and reads the data again.
func degrade(ctx context.Context, a array, device string) {
	for _, s := range a.spec().Spares {
		_, err := mdadm(ctx, device, "--remove", s)
		check(a.name, "remove spare", err)
	}
	first := a.spec().Members[0]
	if _, err := mdadm(ctx, device, "--fail", first); err != nil {
		failed(a.name, "fail a member", err)
		return
	}
	check(a.name, "data without a member", read(device, a.name))
	if p, err := md.Resync(device); err != nil || p.Degraded != 1 {
		failed(a.name, "degraded", fmt.Errorf("%+v: %w", p, err))
	}
	_, err := mdadm(ctx, "--stop", device)
	check(a.name, "stop", err)
}

func attr(path ...string) string {
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func want(got, want string) error {
	if got != want {
		return fmt.Errorf("%q, want %q", got, want)
	}
	return nil
}

// idle waits until an array is in line. A resync that waits for that of another array on the same disks is "resync" too.
func idle(ctx context.Context, sys string) error {
	for {
		if attr(sys, "sync_action") == "idle" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: sync_action %s", context.Cause(ctx), attr(sys, "sync_action"))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// field is the value of "KEY : VALUE" in mdadm's output.
func field(text, key string) string {
	for line := range strings.Lines(text) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), " : ")
		if ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// describes compares what mdadm --detail says of the running array with what was asked for.
func describes(detail string, a array) error {
	size, _, _ := strings.Cut(field(detail, "Array Size"), " ")
	state := field(detail, "State")
	metadata := a.shape.Metadata
	if metadata == "" {
		metadata = "1.2"
	}
	var members, spares []int64
	for range a.members {
		members = append(members, partitionSize)
	}
	for range a.spares {
		spares = append(spares, partitionSize)
	}
	g, err := a.shape.Geometry(members, spares)
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(field(detail, "Name"), " ")
	return errors.Join(
		want(size, strconv.FormatInt(g.Size>>10, 10)),
		want(field(detail, "Version"), metadata),
		want(field(detail, "Raid Level"), fmt.Sprintf("raid%d", a.shape.Level)),
		want(field(detail, "Raid Devices"), strconv.Itoa(a.members)),
		want(field(detail, "Active Devices"), strconv.Itoa(a.members)),
		want(field(detail, "Spare Devices"), strconv.Itoa(a.spares)),
		want(field(detail, "Failed Devices"), "0"),
		want(name, "any:"+a.name),
		want(strconv.FormatBool(strings.Contains(state, "degraded")), "false"),
		want(strconv.FormatBool(field(detail, "Intent Bitmap") != ""), strconv.FormatBool(a.shape.Bitmap)),
	)
}

// partitionSize is that of every partition, bytes.
const partitionSize = 24 * mib

// compare has mdadm make the same array and compares the superblocks of all members, and the bitmaps.
func compare(ctx context.Context, a array) {
	if _, err := mdadm(ctx, a.createArgs()...); err != nil {
		failed(a.name, "mdadm --create", err)
		return
	}
	if _, err := mdadm(ctx, "--stop", "/dev/md/cmp-"+a.name); err != nil {
		failed(a.name, "mdadm --stop", err)
	}
	ours, ourSpares := a.devices(0)
	theirs, theirSpares := a.devices(10)
	ours, theirs = append(ours, ourSpares...), append(theirs, theirSpares...)
	for i := range ours {
		check(a.name, fmt.Sprintf("like mdadm's, %d", i), compareMember(ctx, a, ours[i], theirs[i]))
	}
}

func compareMember(ctx context.Context, a array, our, their string) error {
	o, err := md.Examine(our)
	if err != nil {
		return err
	}
	t, err := md.Examine(their)
	if err != nil {
		return err
	}
	if a.shape.Level != 0 && our == a.spec().Members[0] {
		t.Resync, t.Events = o.Resync, o.Events // this member was taken out
	}
	var errs []error
	for _, c := range []struct {
		name       string
		our, their any
	}{
		{"metadata", o.Metadata(), t.Metadata()}, {"name", o.Name, t.Name}, {"features", o.Features, t.Features},
		{"level", o.Level, t.Level}, {"layout", o.Layout, t.Layout}, {"used", o.Used, t.Used}, {"chunk", o.Chunk, t.Chunk}, {"disks", o.Disks, t.Disks},
		{"bitmap", o.BitmapOffset, t.BitmapOffset}, {"data offset", o.DataOffset, t.DataOffset}, {"data size", o.DataSize, t.DataSize},
		{"superblock", o.SuperOffset, t.SuperOffset}, {"bad blocks", o.BadLogSize, t.BadLogSize}, {"bad blocks offset", o.BadLogOffset, t.BadLogOffset},
		{"number", o.Device, t.Device}, {"places", len(o.Roles), len(t.Roles)},
	} {
		if !reflect.DeepEqual(c.our, c.their) {
			errs = append(errs, fmt.Errorf("%s %v, mdadm has %v", c.name, c.our, c.their))
		}
	}
	if a.shape.Bitmap {
		errs = append(errs, compareBitmap(ctx, our, their))
	}
	return errors.Join(errs...)
}

func compareBitmap(ctx context.Context, our, their string) error {
	o, err := mdadm(ctx, "--examine-bitmap", our)
	if err != nil {
		return err
	}
	t, err := mdadm(ctx, "--examine-bitmap", their)
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range []string{"Magic", "Version", "Chunksize", "Daemon", "Write Mode", "Sync Size"} {
		if field(t, key) == "" || field(o, key) != field(t, key) {
			errs = append(errs, fmt.Errorf("bitmap: %s %q, mdadm has %q", key, field(o, key), field(t, key)))
		}
	}
	return errors.Join(errs...)
}
