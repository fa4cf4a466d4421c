package netboot

import (
	"strings"
	"testing"

	"swarmboot/imagefmt"
)

const base = "http://192.168.77.1:8080"

func TestDeployScript(t *testing.T) {
	got, err := DeployScript(base, "debian", Args{Disk: "size=10G..2T", Then: "kexec", Append: "console=ttyS0 quiet", Console: []string{"tty0", "ttyS0,115200"}, Extra: "panic=5"})
	if err != nil {
		t.Fatal(err)
	}
	want := `#!ipxe
echo swarmboot: deploying debian from http://192.168.77.1:8080
:load
imgfree
kernel http://192.168.77.1:8080/boot/vmlinuz initrd=initramfs BOOTIF=01-${netX/mac:hexhyp} swarmboot.server=http://192.168.77.1:8080 swarmboot.image=debian swarmboot.disk=size=10G..2T swarmboot.then=kexec console=tty0 console=ttyS0,115200 panic=5 swarmboot.append="console=ttyS0 quiet" || goto load-again
initrd --name initramfs http://192.168.77.1:8080/boot/initramfs || goto load-again
boot || goto load-again
:load-again
echo Cannot load the node's kernel and initramfs from http://192.168.77.1:8080; trying again in 5 seconds
sleep 5
goto load
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A dry run of every node.
func TestDeployScriptSaysPlan(t *testing.T) {
	got, err := DeployScript(base, "debian", Args{Action: "plan"})
	if err != nil || !strings.Contains(got, " swarmboot.image=debian swarmboot.action=plan ") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestArgsThatAnIPXEScriptCannotCarry(t *testing.T) {
	for _, a := range []Args{
		{Append: `a="b"`}, {Append: "a ${net0/ip}"}, {Append: "a || shell"}, {Append: "a\nshell"}, {Append: "a && shell"},
		{Extra: "a #b"}, {Disk: "model=\x01"}, {Disk: "model=é"}, {Console: []string{"a\tb\n"}}, {Append: "a ; b"}, {Extra: `a="b c`},
	} {
		if err := CheckArgs(a); err == nil {
			t.Errorf("%+v was taken", a)
		}
	}
	for _, a := range []Args{{}, {Append: "a|b root=UUID=1;2"}, {Extra: `a="b c"`}, {Disk: "/dev/disk/by-id/nvme-Samsung_SSD#1"}} {
		if err := CheckArgs(a); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// With the longest image name and the longest URL no command line is longer than the kernel takes.
func TestArgsTooLongForAKernel(t *testing.T) {
	const extra = "swarmboot.layout=keep"
	a := Args{Extra: extra}
	for len(a.Append) < 4000 && CheckArgs(a) == nil {
		a.Append += "x"
	}
	if err := CheckArgs(a); err == nil || len(a.Append) < 1500 || !strings.Contains(err.Error(), "at least 1 are too many") {
		t.Errorf("refused with %d characters: %v", len(a.Append), err)
	}
	a.Append = a.Append[1:]
	got, err := DeployScript("http://255.255.255.255:65535", strings.Repeat("a", 128), a)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.ReplaceAll(got, "${netX/mac:hexhyp}", "52-54-00-00-00-0a")
	_, line, _ = strings.Cut(line, "/boot/vmlinuz ")
	line, _, _ = strings.Cut(line, " || ")
	if len(line) > 2000 || !strings.Contains(line, " "+extra+" swarmboot.append=") {
		t.Errorf("%d characters:\n%s", len(line), line)
	}
	if !imagefmt.ValidName(strings.Repeat("a", 128)) || imagefmt.ValidName(strings.Repeat("a", 129)) {
		t.Error("names of images have another limit than 128")
	}
}

func TestMenuDefaultsToTheDisk(t *testing.T) {
	got, err := MenuScript(base, []Choice{{"a.b", "(1 GB)"}, {"a-b", "${x} || shell"}}, Args{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"choose --default local --timeout 60000 target || goto local", "item image0 Deploy a.b (1 GB)\n", ":image0\n:load0\n", ":image1\n:load1\n", "swarmboot.image=a-b "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "${x}") || strings.Contains(got, "|| shell") {
		t.Errorf("a title is run as commands:\n%s", got)
	}
	if labels := strings.Count(got, "\n:load0\n"); labels != 1 {
		t.Errorf("label defined %d times", labels)
	}
	if !strings.HasSuffix(got, ":local\n"+localBoot) {
		t.Errorf("it does not end with the local disk:\n%s", got)
	}
}

func TestScriptsThatDeployNothing(t *testing.T) {
	for name, s := range map[string]string{"first": FirstScript(base), "wait": WaitScript(base, "no image\nboot"), "local": LocalScript("done")} {
		if !strings.HasPrefix(s, "#!ipxe\n") || strings.Contains(s, "kernel") || strings.Contains(s, "\nboot") {
			t.Errorf("%s:\n%s", name, s)
		}
	}
	if s := WaitScript(base, "x"); !strings.Contains(s, "/boot/script || goto again\n") || strings.Contains(s, "exit") {
		t.Errorf("a machine does not outwait a restart of the server:\n%s", s)
	}
	if !strings.Contains(FirstScript(base), "chain --replace "+base+"/boot/script?mac=${netX/mac:hexhyp}&uuid=${uuid} ") {
		t.Error(FirstScript(base))
	}
}
