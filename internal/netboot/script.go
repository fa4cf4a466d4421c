package netboot

import (
	"fmt"
	"strings"
)

// Args are what a deployment script gives to the node's kernel.
type Args struct {
	Action  string   // swarmboot.action
	Disk    string   // swarmboot.disk
	Then    string   // swarmboot.then
	Verify  string   // swarmboot.verify
	OnError string   // swarmboot.onerror
	Append  string   // swarmboot.append: for the deployed system's kernel
	Console []string // values of console=, the last is /dev/console
	Extra   string   // further words, as they are
}

// Choice is an image in the menu.
type Choice struct {
	Name  string
	Title string // what people read beside the name
}

// retrySeconds is how long a script waits before it asks again.
const retrySeconds = 5

// menuSeconds is how long the menu waits before it takes the local disk.
const menuSeconds = 60

// FirstScript is what DHCP points iPXE to: it comes back with its MAC address
// and its SMBIOS UUID, if it has one. netX is the card that iPXE booted from.
func FirstScript(base string) string {
	return fmt.Sprintf(`#!ipxe
:again
chain --replace %s/boot/script?mac=${netX/mac:hexhyp}&uuid=${uuid} || goto wait
:wait
echo The server %s does not answer; trying again in %d seconds
sleep %d
goto again
`, base, base, retrySeconds, retrySeconds)
}

// WaitScript says why there is nothing to boot and asks again.
func WaitScript(base, reason string) string {
	// A server that is started again meanwhile must not find its machines gone.
	return fmt.Sprintf("#!ipxe\n:again\necho swarmboot: %s; asking again in %d seconds\nsleep %d\nchain --replace %s/boot/script || goto again\n",
		plain(reason), retrySeconds, retrySeconds, base)
}

// LocalScript boots from the local disk: EFI goes on with its next boot entry,
// a BIOS gets the first disk. message is shown to people.
func LocalScript(message string) string {
	return "#!ipxe\necho swarmboot: " + plain(message) + "\n" + localBoot
}

const localBoot = `iseq ${platform} efi && exit ||
sanboot --no-describe --drive 0x80 || exit
`

// DeployScript loads the node's kernel and deploys image.
func DeployScript(base, image string, a Args) (string, error) {
	boot, err := deployBoot("load", base, image, a)
	if err != nil {
		return "", err
	}
	return "#!ipxe\necho swarmboot: deploying " + plain(image) + " from " + base + "\n" + boot, nil
}

// MenuScript lets a person at the console choose an image; left alone it boots
// from the local disk, since deploying destroys what is there.
func MenuScript(base string, images []Choice, a Args) (string, error) {
	var items, targets strings.Builder
	for i, c := range images {
		boot, err := deployBoot(fmt.Sprintf("load%d", i), base, c.Name, a)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&items, "item image%d Deploy %s %s\n", i, plain(c.Name), plain(c.Title))
		fmt.Fprintf(&targets, ":image%d\n%s", i, boot)
	}
	return fmt.Sprintf(`#!ipxe
menu swarmboot - deploying overwrites the disk
item local Boot from the local disk
%schoose --default local --timeout %d target || goto local
goto ${target}
%s:local
%s`, items.String(), menuSeconds*1000, targets.String(), localBoot), nil
}

// deployBoot is the commands that load and start the node, under the label. A failed download is tried again.
func deployBoot(label, base, image string, a Args) (string, error) {
	cmdline, err := cmdline(base, image, a)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`:%[1]s
imgfree
kernel %[2]s/boot/vmlinuz initrd=initramfs %[3]s || goto %[1]s-again
initrd --name initramfs %[2]s/boot/initramfs || goto %[1]s-again
boot || goto %[1]s-again
:%[1]s-again
echo Cannot load the node's kernel and initramfs from %[2]s; trying again in %[4]d seconds
sleep %[4]d
goto %[1]s
`, label, base, cmdline, retrySeconds), nil
}

// maxCmdline is how long a command line may be. Linux on x86 cuts it at 2,047 octets without a word (COMMAND_LINE_SIZE); a kernel may put
// words of its own in front (CONFIG_CMDLINE).
const maxCmdline = 2000

// CheckArgs says whether a can be put on a kernel command line by an iPXE script, whatever image and server it names.
func CheckArgs(a Args) error {
	line, err := cmdline("http://255.255.255.255:65535", strings.Repeat("x", 128), a) // imagefmt.ValidName: at most 128
	if err != nil {
		return err
	}
	if n := len("initrd=initramfs ") + len(line); n > maxCmdline {
		return fmt.Errorf("the nodes' kernel command line may become %d characters long, and the kernel would cut it off: at least %d are too many", n, n-maxCmdline)
	}
	return nil
}

// cmdline is the node's kernel command line without initrd=.
func cmdline(base, image string, a Args) (string, error) {
	words := []string{"BOOTIF=01-${netX/mac:hexhyp}", "swarmboot.server=" + base, "swarmboot.image=" + image}
	add := func(name, value string) error {
		if value == "" {
			return nil
		}
		w, err := word(name, value)
		words = append(words, w)
		return err
	}
	for _, nv := range [][2]string{{"action", a.Action}, {"disk", a.Disk}, {"then", a.Then}, {"verify", a.Verify}, {"onerror", a.OnError}} {
		if err := add("swarmboot."+nv[0], nv[1]); err != nil {
			return "", err
		}
	}
	for _, c := range a.Console {
		if err := add("console", c); err != nil {
			return "", err
		}
	}
	if err := safe("extra kernel arguments", a.Extra); err != nil {
		return "", err
	}
	if strings.Count(a.Extra, `"`)%2 != 0 {
		return "", fmt.Errorf("extra kernel arguments: a double quote in %q is not closed", a.Extra)
	}
	if a.Extra != "" {
		words = append(words, strings.TrimSpace(a.Extra))
	}
	if err := add("swarmboot.append", a.Append); err != nil { // the longest, and no harm to the disk if it is cut
		return "", err
	}
	return strings.Join(words, " "), nil
}

// word is name=value, quoted as the kernel understands it when it has a space.
func word(name, value string) (string, error) {
	if err := safe(name, value); err != nil {
		return "", err
	}
	if strings.Contains(value, `"`) {
		return "", fmt.Errorf("%s: a value with a double quote cannot stand on a kernel command line", name)
	}
	if strings.ContainsAny(value, " \t") {
		value = `"` + value + `"`
	}
	return name + "=" + value, nil
}

// safe refuses what iPXE would not pass on as it is: settings, commands joined
// by || or &&, comments, control characters.
func safe(name, value string) error {
	if strings.Contains(value, "${") {
		return fmt.Errorf("%s: iPXE would replace ${...} in %q", name, value)
	}
	for _, r := range value {
		if r < ' ' || r > '~' {
			return fmt.Errorf("%s: character %q cannot stand in an iPXE script", name, r)
		}
	}
	for _, f := range strings.Fields(value) {
		if f == "||" || f == "&&" || f == ";" || strings.HasPrefix(f, "#") {
			return fmt.Errorf("%s: iPXE would not pass on the word %q", name, f)
		}
	}
	return nil
}

// plain makes text safe to show with echo or in a menu.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune("${}|&;#", r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = s[:200]
	}
	return s
}
