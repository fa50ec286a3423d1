package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	_ "embed" // for init.sh

	golibvirt "github.com/digitalocean/go-libvirt"
)

//go:embed init.sh
var initScript string

// NIC is one network interface of a guest.
type NIC struct {
	MAC   string
	Model string // empty: virtio
	Extra string // more XML inside the interface element
}

// Guest describes a domain. Without Cmdline it has nothing to boot and is meant
// to be started paused: libvirt and QEMU are real, and no CPU is used.
type Guest struct {
	Name, UUID string
	PanelID    string // written to <metadata> as a panel would, when set
	NICs       []NIC
	Cmdline    string // more kernel arguments; set, it boots kernel and initramfs
}

// ScanArgs are the kernel arguments of a guest that scans TCP 22.
func ScanArgs(ip string, perSecond int) string {
	return fmt.Sprintf("guestip=%s/24 gateway=%s scannet=%s scanport=22 scanrate=%d", ip, Gateway, Scanned, perSecond)
}

// TalkArgs are more arguments for one that also talks to ServerIP on port 443,
// and over IPv6 to Gateway6 on the ports 22 and 80.
func TalkArgs() string {
	return fmt.Sprintf(" talk=%s guestip6=%s/64 peer6=%s", ServerIP, Guest6, Gateway6)
}

// XML is the domain definition as a panel would write it.
func (l *Lab) XML(g Guest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<domain type='qemu'>\n  <name>%s</name>\n  <uuid>%s</uuid>\n", g.Name, g.UUID)
	if g.PanelID != "" {
		fmt.Fprintf(&b, "  <metadata><vds:vds xmlns:vds='urn:example:vds:1'><vds:id>%s</vds:id><vds:client>42</vds:client></vds:vds></metadata>\n", g.PanelID)
	}
	mem := 16
	b.WriteString("  <vcpu>1</vcpu>\n  <os><type arch='x86_64' machine='pc'>hvm</type>")
	if g.Cmdline != "" {
		mem = 128
		fmt.Fprintf(&b, "<kernel>%s</kernel><initrd>%s</initrd><cmdline>console=ttyS0 quiet panic=-1 random.trust_cpu=on %s</cmdline>",
			filepath.Join(l.cache(), "vmlinuz"), filepath.Join(l.Dir, "initrd.gz"), g.Cmdline)
	}
	fmt.Fprintf(&b, "</os>\n  <memory unit='MiB'>%d</memory>\n  <features><acpi/></features>\n  <on_reboot>restart</on_reboot>\n  <devices>\n", mem)
	b.WriteString("    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n    <controller type='usb' model='none'/>\n")
	for _, n := range g.NICs {
		if n.Model == "" {
			n.Model = "virtio"
		}
		fmt.Fprintf(&b, "    <interface type='bridge'><mac address='%s'/><source bridge='%s'/><model type='%s'/>%s</interface>\n",
			n.MAC, Bridge, n.Model, n.Extra)
	}
	fmt.Fprintf(&b, "    <serial type='file'><source path='%s'/><target port='0'/></serial>\n", l.serial(g.Name))
	b.WriteString("    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>\n    <video><model type='vga' vram='2048'/></video>\n" +
		"    <memballoon model='none'/>\n  </devices>\n</domain>\n")
	return b.String()
}

func (l *Lab) cache() string             { return filepath.Join(l.root, ".cache", "e2e") }
func (l *Lab) serial(name string) string { return filepath.Join(l.Dir, name+"-serial.log") }

// Image makes the initramfs that guests with a Cmdline boot. The kernel is
// fetched by e2e/prepare.sh when it is not in .cache/e2e yet.
func (l *Lab) Image() error {
	prep := exec.Command(filepath.Join(l.root, "e2e", "prepare.sh"), l.cache())
	if out, err := prep.CombinedOutput(); err != nil {
		return &MissingError{[]string{strings.TrimSpace(string(out))}}
	}
	tree := filepath.Join(l.Dir, "initrd")
	if err := os.MkdirAll(filepath.Join(tree, "bin"), 0o755); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(tree, "scan"), "./e2e/guest")
	build.Dir, build.Env = l.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's scanner: %w\n%s", err, out)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	sh := exec.Command("sh", "-ec", `cp "$1" bin/busybox; cp -r "$2/mod" .; cat >init; chmod 755 init
		find . | cpio --quiet -o -H newc | gzip -1 >"$3"`, "sh", busybox, l.cache(), filepath.Join(l.Dir, "initrd.gz"))
	sh.Dir, sh.Stdin = tree, strings.NewReader(initScript)
	if out, err := sh.CombinedOutput(); err != nil {
		return fmt.Errorf("make the initramfs: %w\n%s", err, out)
	}
	return nil
}

// Define defines the domain, anew if it is there.
func (l *Lab) Define(c *golibvirt.Libvirt, g Guest) (golibvirt.Domain, error) {
	return c.DomainDefineXML(l.XML(g))
}

var heartbeat = regexp.MustCompile(`HB (\d+) up=\S+ carrier=\d* tx=\d+`)

// Heartbeat is the number of the guest's last sign of life on its console, and
// the whole line. 0 before the first.
func (l *Lab) Heartbeat(name string) (int, string) {
	b, err := os.ReadFile(l.serial(name))
	if err != nil {
		return 0, ""
	}
	all := heartbeat.FindAllSubmatch(bytes.ReplaceAll(b, []byte("\r"), nil), -1)
	if len(all) == 0 {
		return 0, ""
	}
	last := all[len(all)-1]
	n, _ := strconv.Atoi(string(last[1]))
	return n, string(last[0])
}

// Console is what the guest wrote to its serial console.
func (l *Lab) Console(name string) string {
	b, _ := os.ReadFile(l.serial(name))
	return string(b)
}

var vncPort = regexp.MustCompile(`<graphics type='vnc' port='(\d+)'`)

// VNC connects to the guest's VNC console and returns the protocol banner that
// the server begins with (RFC 6143 §7.1.1).
func (l *Lab) VNC(c *golibvirt.Libvirt, d golibvirt.Domain) (string, error) {
	x, err := c.DomainGetXMLDesc(d, 0)
	if err != nil {
		return "", err
	}
	m := vncPort.FindStringSubmatch(x)
	if m == nil {
		return "", errors.New("the domain has no VNC port")
	}
	return l.banner("127.0.0.1:" + m[1])
}
