package params

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseCmdline(t *testing.T) {
	with := func(change func(*Config)) *Config {
		c := Default()
		c.Image = "debian-12"
		change(c)
		return c
	}
	tests := []struct {
		name, line string
		want       *Config
	}{
		{"defaults", "BOOT_IMAGE=/vmlinuz ro quiet swarmboot.image=debian-12", with(func(*Config) {})},
		{"everything", "console=tty0 swarmboot.server=http://10.0.0.1:8080/ swarmboot.image=debian-12 swarmboot.disk=model=INTEL*,size=400G.. " +
			"swarmboot.action=deploy swarmboot.then=poweroff swarmboot.onerror=reboot swarmboot.verify=readback swarmboot.seed=1h30m " +
			`swarmboot.append="quiet splash=a" swarmboot.grow=none swarmboot.write=direct swarmboot.carrier=5s swarmboot.dhcp=1m swarmboot.nic=52:54:00:AA:BB:CC console=ttyS0,115200n8`,
			with(func(c *Config) {
				c.Server, c.Disk = "http://10.0.0.1:8080", "model=INTEL*,size=400G.."
				c.Then, c.OnError, c.Verify = ThenPowerOff, OnErrorReboot, VerifyReadBack
				c.Seed, c.Carrier, c.DHCP = 90*time.Minute, 5*time.Second, time.Minute
				c.Grow, c.Write = GrowNone, WriteDirect
				c.Append, c.NIC = "quiet splash=a", "52:54:00:aa:bb:cc"
				c.Console = []string{"tty0", "ttyS0,115200n8"}
			})},
		{"quoted whole word", `swarmboot.image=debian-12 "swarmboot.append=a b"`, with(func(c *Config) { c.Append = "a b" })},
		{"quotes inside", `swarmboot.image=debian-12 swarmboot.append=dyndbg="a b"`, with(func(c *Config) { c.Append = `dyndbg="a b"` })},
		{"empty append", "swarmboot.image=debian-12 swarmboot.append=", with(func(*Config) {})},
		{"same value twice", "swarmboot.image=debian-12 swarmboot.image=debian-12", with(func(*Config) {})},
		{"after double dash", "swarmboot.image=debian-12 -- swarmboot.nonsense=1", with(func(*Config) {})},
		{"shell needs no image", "swarmboot.action=shell", with(func(c *Config) { c.Action, c.Image = ActionShell, "" })},
		{"rack", "swarmboot.image=debian-12 swarmboot.rack=r7/sw-2", with(func(c *Config) { c.Rack = "r7/sw-2" })},
		{"plan", "swarmboot.action=plan swarmboot.image=debian-12 swarmboot.layout=raid1", with(func(c *Config) { c.Action, c.Layout = ActionPlan, "raid1" })},
		{"trailing newline", "swarmboot.image=debian-12\n", with(func(*Config) {})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseCmdline(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParseCmdlineErrors(t *testing.T) {
	tests := []struct{ line, parameter, reason string }{
		{"swarmboot.imgae=x", "swarmboot.imgae", "swarmboot.image?"},
		{"swarmboot.Image=x", "swarmboot.Image", "swarmboot.image?"},
		{"swarmboot.frobnicate=x", "swarmboot.frobnicate", "known: swarmboot.action, "},
		{"swarmboot.=x", "swarmboot.", "no such parameter"},
		{"swarmboot.image", "swarmboot.image", "needs a value"},
		{"swarmboot.image=", "swarmboot.image", "letters"},
		{"swarmboot.image=../x", "swarmboot.image", "letters"},
		{"swarmboot.image=a swarmboot.image=b", "swarmboot.image", "given before"},
		{"swarmboot.image=a swarmboot.disk=", "swarmboot.disk", "no disk named"},
		{"swarmboot.image=a swarmboot.then=halt", "swarmboot.then", "kexec, reboot, poweroff, shell"},
		{"swarmboot.image=a swarmboot.grow=all", "swarmboot.grow", "last, proportional, exact, none"},
		{"swarmboot.image=a swarmboot.verify=READBACK", "swarmboot.verify", "none, write, readback"},
		{"swarmboot.image=a swarmboot.write=fast", "swarmboot.write", "cache, direct"},
		{"swarmboot.image=a swarmboot.seed=10", "swarmboot.seed", "unit"},
		{"swarmboot.image=a swarmboot.seed=-1s", "swarmboot.seed", "0s to"},
		{"swarmboot.image=a swarmboot.carrier=100000h", "swarmboot.carrier", "0s to"},
		{"swarmboot.image=a swarmboot.server=10.0.0.1", "swarmboot.server", "want a URL"},
		{"swarmboot.image=a swarmboot.server=ftp://x", "swarmboot.server", "want a URL"},
		{"swarmboot.image=a swarmboot.server=http://u:p@x/", "swarmboot.server", "scheme, host"},
		{"swarmboot.image=a swarmboot.nic=52:54:00", "swarmboot.nic", "MAC"},
		{"quiet", "swarmboot.image", "missing"},
		{"swarmboot.action=plan", "swarmboot.image", "missing"},
		{"swarmboot.image=a swarmboot.rack=r&7", "swarmboot.rack", "letters"},
		{"swarmboot.image=a swarmboot.layout=../x", "swarmboot.layout", "letters"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			c, err := ParseCmdline(tt.line)
			var pe *Error
			if !errors.As(err, &pe) {
				t.Fatalf("error %v, want *Error", err)
			}
			if pe.Name != tt.parameter || !strings.Contains(pe.Reason, tt.reason) {
				t.Errorf("got %s: %s, want %s: …%s…", pe.Name, pe.Reason, tt.parameter, tt.reason)
			}
			if c == nil {
				t.Error("no Config beside the error")
			}
		})
	}
}

func TestErrorsAreAllReportedAndTheRestUnderstood(t *testing.T) {
	c, err := ParseCmdline("swarmboot.dsik=only swarmboot.server=http://10.0.0.1 swarmboot.then=x swarmboot.onerror=reboot")
	for _, name := range []string{"swarmboot.dsik", "swarmboot.then"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
	if c.Server != "http://10.0.0.1" || c.OnError != OnErrorReboot {
		t.Errorf("the good parameters were lost: %+v", c)
	}
}

func TestHelpIsTrue(t *testing.T) {
	if !slices.IsSorted(Names()) {
		t.Error("definitions are not in alphabetical order")
	}
	help := Help()
	for _, d := range definitions {
		if !strings.Contains(help, Prefix+d.name+"="+d.value) {
			t.Errorf("help lacks %s", d.name)
		}
		if d.def == "" {
			continue
		}
		c := Default()
		if err := d.set(c, d.def); err != nil {
			t.Errorf("%s: stated default: %v", d.name, err)
		}
		if d.name != "disk" && !reflect.DeepEqual(c, Default()) {
			t.Errorf("%s: stated default %s is not the default", d.name, d.def)
		}
		for value := range strings.SplitSeq(d.value, "|") {
			if strings.ToLower(value) == value && d.set(Default(), value) != nil {
				t.Errorf("%s: stated value %s is refused", d.name, value)
			}
		}
	}
}

func FuzzParseCmdline(f *testing.F) {
	for _, s := range []string{"", "quiet", `a="b c" "d=e f"`, `swarmboot.append="`, "swarmboot.image=x console=ttyS0",
		`"`, `""=""`, "swarmboot.image=a -- b", "swarmboot.server=http://[::1]:80/ swarmboot.image=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ParseCmdline(line)
		if c == nil {
			t.Fatal("nil Config")
		}
		if err == nil && c.Action == ActionDeploy && !imageName.MatchString(c.Image) {
			t.Fatalf("image %q accepted", c.Image)
		}
		for _, p := range Split(line) {
			if p.Name == "" && p.Value == "" && !p.HasValue && !strings.Contains(line, `"`) {
				t.Fatal("empty parameter from a line without quotes")
			}
		}
	})
}
