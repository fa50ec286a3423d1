// Package lab builds a small hoster on one machine for tests: network
// namespaces for a hypervisor node, a honest tenant, the Internet and a
// management host, a real libvirtd with QEMU in the node, guests that boot a
// Debian kernel, and a flow exporter on the node's bridge.
//
//	Internet ── up0 │ upl0 ─ vmbr0 ─ tap ── guests
//	 (inet)         │ (node)   └─── veth ── tenant
//	                │  mg0 ── mg1 (mgmt): where a collector listens
//
// Nothing outside the namespaces and one temporary folder is touched, and Stop
// or the end of the test process ends all of it. Needs root and the programs in
// require.go; it is imported by tests only.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	_ "embed" // for node.sh

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"golang.org/x/sys/unix"
)

// Addresses in the lab. The scanned prefix looks like the Internet's, because
// a detector rightly takes no notice of scans of private space; it is routed
// inside the namespaces only.
const (
	Gateway   = "198.51.100.1"  // the Internet's side of the uplink
	NodeIP    = "198.51.100.2"  // the node on its own bridge
	TenantIP  = "198.51.100.20" // the honest tenant
	ServerIP  = "93.184.216.34" // a host on the Internet that answers
	Scanned   = "93.184.0.0/16"
	ExporterA = "10.99.0.1" // the node in the management network
	MgmtIP    = "10.99.0.2"
	Bridge    = "vmbr0"
	Gateway6  = "2608::1"  // the Internet's side, IPv6
	Guest6    = "2608::10" // of a guest with TalkArgs
)

const stockFilters = "/etc/libvirt/nwfilter" // of libvirt-daemon-config-nwfilter

const startTimeout = 3 * time.Minute // of libvirtd: 2 s alone, more on a busy machine

//go:embed node.sh
var nodeScript string

// Lab is a running lab.
type Lab struct {
	Dir                      string // everything the lab writes
	Node, Inet, Tenant, Mgmt string // names of the network namespaces
	Socket                   string // libvirtd's unix socket, reachable from everywhere
	PKI                      string // folder of the client's certificate for TLS

	root             string
	listen, hostUUID string // of the daemon
	node             *exec.Cmd
	undo             []func()

	fetched atomic.Int64
}

// Start builds the lab. A machine without the tools gives a *MissingError.
func Start() (*Lab, error) {
	if err := check(); err != nil {
		return nil, err
	}
	root, err := Root()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fclab")
	if err != nil {
		return nil, err
	}
	p := fmt.Sprintf("fc%d-", os.Getpid())
	l := &Lab{
		Dir: dir, root: root, Node: p + "node", Inet: p + "inet", Tenant: p + "tenant", Mgmt: p + "mgmt",
		Socket: filepath.Join(dir, "sock", "libvirt-sock"), PKI: filepath.Join(dir, "pki", "client"),
		listen: "127.0.0.1", hostUUID: "1f0e6a2c-5b7d-4c3e-9a81-0d2b4c6e8f01",
	}
	l.onStop(func() { _ = os.RemoveAll(dir) })
	for _, step := range []func() error{l.networks, l.files, l.startNode, l.waitDaemon} {
		if err := step(); err != nil {
			log := l.Logs()
			l.Stop()
			return nil, fmt.Errorf("start the lab: %w\n%s", err, log)
		}
	}
	return l, nil
}

// onStop keeps what Stop must undo, last first.
func (l *Lab) onStop(f func()) { l.undo = append(l.undo, f) }

// Stop ends the guests and the daemon and takes the namespaces down.
func (l *Lab) Stop() {
	for i := len(l.undo) - 1; i >= 0; i-- {
		l.undo[i]()
	}
	l.undo = nil
}

// Logs is the end of what the node's programs wrote.
func (l *Lab) Logs() string {
	var b strings.Builder
	for _, name := range []string{"stdout", "libvirtd.log", "softflowd"} {
		text, err := os.ReadFile(filepath.Join(l.Dir, "log", name))
		if err == nil && len(text) > 0 {
			fmt.Fprintf(&b, "%s: …%s\n", name, text[max(0, len(text)-1500):])
		}
	}
	return b.String()
}

// sweep takes down what labs of test processes that were killed left behind;
// their programs ended with them.
func sweep() {
	all, _ := filepath.Glob("/run/netns/fc*-*")
	for _, f := range all {
		name := filepath.Base(f)
		pid, err := strconv.Atoi(strings.TrimPrefix(strings.SplitN(name, "-", 2)[0], "fc"))
		if err == nil && unix.Kill(pid, 0) != nil {
			_ = ip("netns del " + name)
		}
	}
}

func (l *Lab) networks() error {
	sweep()
	for _, ns := range []string{l.Node, l.Inet, l.Tenant, l.Mgmt} {
		if err := ip("netns add " + ns); err != nil {
			return &MissingError{[]string{"may not make network namespaces: " + err.Error()}} // a container without the right
		}
		l.onStop(func() { _ = ip("netns del " + ns) })
	}
	lines := `
-n NODE link set lo up
-n INET link set lo up
-n TENANT link set lo up
-n MGMT link set lo up
-n NODE link add vmbr0 type bridge forward_delay 0 stp_state 0
-n NODE link set vmbr0 up
-n NODE addr add 198.51.100.2/24 dev vmbr0
-n NODE link add upl0 type veth peer name up0 netns INET
-n NODE link set upl0 master vmbr0 up
-n INET addr add 198.51.100.1/24 dev up0
-n INET addr add 2608::1/64 dev up0 nodad
-n INET link set up0 up
-n INET addr add 93.184.216.34/32 dev lo
-n NODE link add ten0 type veth peer name eth0 netns TENANT
-n NODE link set ten0 master vmbr0 up
-n TENANT addr add 198.51.100.20/24 dev eth0
-n TENANT link set eth0 up
-n TENANT route add default via 198.51.100.1
-n NODE link add mg0 type veth peer name mg1 netns MGMT
-n NODE addr add 10.99.0.1/30 dev mg0
-n NODE link set mg0 up
-n MGMT addr add 10.99.0.2/30 dev mg1
-n MGMT link set mg1 up`
	r := strings.NewReplacer("NODE", l.Node, "INET", l.Inet, "TENANT", l.Tenant, "MGMT", l.Mgmt)
	return ip(strings.Split(strings.TrimSpace(r.Replace(lines)), "\n")...)
}

const qemuConf = `security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
vnc_listen = "127.0.0.1"
`

const daemonConf = `listen_tls = 1
listen_tcp = 1
listen_addr = "LISTEN"
auth_unix_ro = "none"
auth_unix_rw = "none"
auth_tcp = "none"
auth_tls = "none"
unix_sock_dir = "DIR/sock"
key_file = "DIR/pki/server/key.pem"
cert_file = "DIR/pki/server/cert.pem"
ca_file = "DIR/pki/client/cacert.pem"
log_outputs = "3:file:DIR/log/libvirtd.log"
host_uuid = "HOSTUUID"
`

func (l *Lab) files() error {
	for _, d := range []string{"etc", "sock", "log"} {
		if err := os.MkdirAll(filepath.Join(l.Dir, d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/qemu.conf": qemuConf, "node.sh": nodeScript,
		"libvirtd.conf": strings.NewReplacer("LISTEN", l.listen, "HOSTUUID", l.hostUUID, "DIR", l.Dir).Replace(daemonConf),
	} {
		if err := os.WriteFile(filepath.Join(l.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	// The filters that a Debian node has, clean-traffic among them.
	if _, err := os.Stat(stockFilters); err == nil {
		if err := os.CopyFS(filepath.Join(l.Dir, "etc", "nwfilter"), os.DirFS(stockFilters)); err != nil {
			return err
		}
	}
	return makePKI(filepath.Join(l.Dir, "pki"))
}

// startNode runs libvirtd in namespaces of its own. With the unshare process
// the kernel ends everything inside, guests included.
func (l *Lab) startNode() error {
	out, err := os.Create(filepath.Join(l.Dir, "log", "stdout"))
	if err != nil {
		return err
	}
	defer out.Close()
	l.node = Command(l.Node, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", filepath.Join(l.Dir, "node.sh"), l.Dir)
	l.node.Stdout, l.node.Stderr = out, out
	l.node.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for Stop
	if err := start(l.node); err != nil {
		return err
	}
	l.onStop(func() {
		_ = l.node.Process.Kill()
		_ = l.node.Wait()
	})
	return nil
}

func (l *Lab) waitDaemon() error {
	return Until(startTimeout, func() error {
		c, err := l.Connect()
		if err != nil {
			return err
		}
		return c.Disconnect()
	})
}

// Connect opens a connection of its own to the daemon, to play the part of the
// panel or of an admin.
func (l *Lab) Connect() (*golibvirt.Libvirt, error) {
	c := golibvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(l.Socket), dialers.WithLocalTimeout(3*time.Second)))
	if err := c.ConnectToURI(golibvirt.QEMUSystem); err != nil {
		return nil, err
	}
	return c, nil
}

// DaemonPID is libvirtd's process id as seen from outside its pid namespace.
func (l *Lab) DaemonPID() (int, error) {
	inner, err := os.ReadFile(filepath.Join(l.Dir, "libvirtd.pid"))
	if err != nil {
		return 0, err
	}
	kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", l.node.Process.Pid))
	if err != nil {
		return 0, err
	}
	ns, err := os.Readlink("/proc/" + strings.TrimSpace(string(kids)) + "/ns/pid")
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return 0, err
	}
	for _, f := range all {
		if n, err := os.Readlink(filepath.Join(filepath.Dir(f), "ns/pid")); err != nil || n != ns {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if w := strings.Fields(line); len(w) > 1 && w[0] == "NSpid:" && w[len(w)-1] == strings.TrimSpace(string(inner)) {
				return strconv.Atoi(w[1])
			}
		}
	}
	return 0, errors.New("libvirtd does not run")
}

// Freeze stops the daemon without ending it, so that calls to it hang. The
// returned function lets it go on.
func (l *Lab) Freeze() (thaw func(), err error) {
	pid, err := l.DaemonPID()
	if err != nil {
		return nil, err
	}
	return func() { _ = unix.Kill(pid, unix.SIGCONT) }, unix.Kill(pid, unix.SIGSTOP)
}

// RestartDaemon ends libvirtd and waits until its successor answers. Guests run on.
func (l *Lab) RestartDaemon() error {
	pid, err := l.DaemonPID()
	if err != nil {
		return err
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		return err
	}
	if err := Until(startTimeout, func() error {
		if unix.Kill(pid, 0) == nil {
			return errors.New("the old daemon still runs")
		}
		return nil
	}); err != nil {
		return err
	}
	return l.waitDaemon()
}

// Until repeats f until it gives nil, or its last error once limit has passed.
func Until(limit time.Duration, f func() error) error {
	end := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v: %w", limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
