package main

import (
	"errors"
	"flag"
	"io"
	"testing"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/internal/deploy"
	"swarmboot/internal/params"
)

// Options on the command line win over the kernel's; what neither gives has the default.
func TestMergeCmdline(t *testing.T) {
	p, err := params.ParseCmdline(`swarmboot.server=http://192.0.2.1:8080 swarmboot.image=a swarmboot.disk=serial=X swarmboot.then=reboot swarmboot.verify=readback swarmboot.grow=none swarmboot.seed=3m swarmboot.append="x y" console=ttyS0`)
	if err != nil {
		t.Fatal(err)
	}
	c := &config{o: deploy.Options{Image: "b", Seed: time.Second, Then: ""}}
	c.merge(p, map[string]bool{"image": true, "linger": true})
	if c.o.Image != "b" || c.o.Seed != time.Second {
		t.Errorf("given options were replaced: %+v", c.o)
	}
	if c.o.Server != "http://192.0.2.1:8080" || c.o.Disk != "serial=X" || c.o.Then != "reboot" || c.o.Verify != params.VerifyReadBack || c.o.Grow != params.GrowNone ||
		c.o.Append != "x y" || len(c.o.Console) != 1 || c.o.Console[0] != "ttyS0" {
		t.Errorf("parameters were lost: %+v", c.o)
	}
}

func TestParse(t *testing.T) {
	base := []string{"--server", "http://192.0.2.1", "--image", "i", "--disk", "d"}
	c, err := parse(base, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.o.Then != "exit" || c.o.Seed != deploy.DefaultSeed || c.o.Stall != deploy.DefaultStall || c.createSize != 0 {
		t.Errorf("defaults: %+v", c)
	}
	if c, err := parse(append(base, "--create-size", "3G"), io.Discard); err != nil || c.createSize != 3<<30 {
		t.Errorf("--create-size 3G: %v, %v", c, err)
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	for _, bad := range [][]string{{"--create-size", "0"}, {"--create-size", "12X"}, {"--create-size", "K"}, {"--create-size", "99999999999T"},
		{"--linger", "-1s"}, {"--stall", "0s"}, {"--linger", "5"}} {
		if _, err := parse(append(base[:6:6], bad...), io.Discard); cli.Code(err) != cli.CodeUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
