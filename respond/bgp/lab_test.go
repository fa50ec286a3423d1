package bgp

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// The routers are real: BIRD 2 as an iBGP peer and FRR as an eBGP one, on
// loopback addresses of their own.
var (
	ours    = netip.MustParseAddr("127.71.0.1")
	birdIP  = netip.MustParseAddr("127.71.0.2")
	frrIP   = netip.MustParseAddr("127.71.0.3")
	testOwn = []netip.Prefix{netip.MustParsePrefix("11.20.0.0/16"), netip.MustParsePrefix("2608:20::/32")}
	nic4    = flow.NIC{VDS: "vds-1001", Hypervisor: "edge", MAC: "52:54:00:aa:10:01", IP: netip.MustParseAddr("11.20.0.10")}
	nic6    = flow.NIC{VDS: "vds-1002", Hypervisor: "edge", MAC: "52:54:00:aa:10:02", IP: netip.MustParseAddr("2608:20:0:7::25")}
)

// patience is a hang guard: everything here takes some seconds at most.
const patience = 2 * time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// need skips, or fails in CI, where what is not tested must show.
func need(t *testing.T, path, pkg string) string {
	t.Helper()
	bin, err := exec.LookPath(path)
	if err == nil {
		return bin
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed: apt-get install --no-install-recommends %s", path, pkg)
	}
	t.Skipf("%s is not installed: apt-get install --no-install-recommends %s", path, pkg)
	return ""
}

// daemon is a router process in a folder of its own.
type daemon struct {
	t       *testing.T
	dir     string
	port    uint16
	cmdline []string
	cmd     *exec.Cmd
	out     *bytes.Buffer
}

func newDaemon(t *testing.T, ip netip.Addr) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "fc-bgp") // unix sockets want short paths
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &daemon{t: t, dir: dir, port: uint16(l.Addr().(*net.TCPAddr).Port), out: &bytes.Buffer{}}
	t.Cleanup(func() { d.stop(); _ = os.RemoveAll(dir) })
	return d
}

func (d *daemon) write(name, text string) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	return path
}

func (d *daemon) start() {
	d.t.Helper()
	d.cmd = exec.Command(d.cmdline[0], d.cmdline[1:]...)
	d.cmd.Dir, d.cmd.Stdout, d.cmd.Stderr = d.dir, d.out, d.out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) stop() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	d.cmd = nil
}

// bird is a BIRD 2 that peers with us by iBGP.
type bird struct{ *daemon }

func startBird(t *testing.T, extra, channel string) *bird {
	t.Helper()
	bin := need(t, "bird", "bird2")
	b := &bird{newDaemon(t, birdIP)}
	conf := b.write("bird.conf", fmt.Sprintf(`log "%s/bird.log" all;
router id 127.71.0.2;
flow4 table fs4; flow6 table fs6;
protocol device { }
protocol static leak { ipv4 { }; route 77.0.0.0/8 blackhole; }
protocol static flowleak { flow4 { table fs4; }; route flow4 { dst 77.0.0.0/8; }; }
protocol bgp abuse {
  local 127.71.0.2 port %d as 64512;
  neighbor 127.71.0.1 as 64512;
  strict bind yes; passive yes; hold time 9; error wait time 1, 1; connect delay time 1;
  %s
  ipv4 { import filter { if (65535,666) ~ bgp_community then { dest = RTD_BLACKHOLE; accept; } reject; }; export all; };
  ipv6 { import filter { if (65535,666) ~ bgp_community then { dest = RTD_BLACKHOLE; accept; } reject; }; export all; };
  flow4 { table fs4; import all; export all; %s };
  flow6 { table fs6; import all; export none; };
}
`, b.dir, b.port, extra, channel))
	b.cmdline = []string{bin, "-f", "-c", conf, "-s", filepath.Join(b.dir, "ctl"), "-P", filepath.Join(b.dir, "pid")}
	b.start()
	return b
}

func (b *bird) ask(words ...string) string {
	out, err := exec.Command("birdc", append([]string{"-s", filepath.Join(b.dir, "ctl")}, words...)...).CombinedOutput()
	if err != nil {
		return "birdc: " + err.Error()
	}
	return string(out)
}

// routes are those that BIRD learned from us, with their attributes.
func (b *bird) routes() string { return b.ask("show", "route", "protocol", "abuse", "all") }

func (b *bird) peer() Peer { return Peer{Address: birdIP, Port: b.port, AS: 64512, Local: ours} }

// frr is an FRR bgpd that peers with us by eBGP.
type frr struct{ *daemon }

func startFRR(t *testing.T) *frr {
	t.Helper()
	bin := need(t, "/usr/lib/frr/bgpd", "frr")
	need(t, "vtysh", "frr")
	f := &frr{newDaemon(t, frrIP)}
	conf := f.write("bgpd.conf", `hostname frr
router bgp 64513
 bgp router-id 127.71.0.3
 no bgp ebgp-requires-policy
 neighbor 127.71.0.1 remote-as 64512
 neighbor 127.71.0.1 passive
 neighbor 127.71.0.1 ebgp-multihop 5
 neighbor 127.71.0.1 disable-connected-check
 neighbor 127.71.0.1 update-source 127.71.0.3
 neighbor 127.71.0.1 timers 3 9
 bgp graceful-restart
 address-family ipv4 unicast
  neighbor 127.71.0.1 activate
 exit-address-family
 address-family ipv4 flowspec
  neighbor 127.71.0.1 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 127.71.0.1 activate
 exit-address-family
 address-family ipv6 flowspec
  neighbor 127.71.0.1 activate
 exit-address-family
`)
	f.cmdline = []string{
		bin, "-f", conf, "-p", fmt.Sprint(f.port), "-l", frrIP.String(), "-Z", "-S", "-P", "0",
		"--vty_socket", f.dir, "-i", filepath.Join(f.dir, "pid"), "--log", "file:" + filepath.Join(f.dir, "log"),
	}
	f.start()
	return f
}

func (f *frr) ask(commands ...string) string {
	args := []string{"--vty_socket", f.dir, "-d", "bgpd"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("vtysh", args...).CombinedOutput()
	if err != nil {
		return "vtysh: " + err.Error()
	}
	return string(out)
}

func (f *frr) rules() string {
	return f.ask("show bgp ipv4 flowspec detail", "show bgp ipv6 flowspec detail")
}

func (f *frr) peer() Peer {
	return Peer{Address: frrIP, Port: f.port, AS: 64513, Local: ours, Multihop: 5}
}

// node is our side: an Adapter that runs.
type node struct {
	*Adapter
	stop func()
}

func config(t *testing.T, peers ...Peer) Config {
	return Config{
		Name: "edge", Dir: t.TempDir(), AS: 64512, RouterID: ours, Peers: peers, OwnPrefixes: testOwn,
		HoldTime: 9 * time.Second, ConnectRetry: time.Second, Timeout: patience,
	}
}

// run starts an Adapter that ends with the test, and waits for its sessions.
func run(t *testing.T, cfg Config) *node {
	t.Helper()
	n := runAlone(t, cfg, nil)
	n.waitUp(t, len(cfg.Peers))
	return n
}

func runAlone(t *testing.T, cfg Config, deps *Deps) *node {
	t.Helper()
	if deps == nil {
		deps = &Deps{Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Adapter: New(cfg, *deps)}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	n.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(n.stop)
	eventually(t, "the speaker runs", func() bool { return n.sessions(t) != nil })
	return n
}

// sessions are the states of the peers; nil before Run is ready.
func (n *node) sessions(t *testing.T) []peerState {
	t.Helper()
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.speaker == nil {
		return nil
	}
	peers, err := n.speaker.peers(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return peers
}

func (n *node) waitUp(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d sessions up", want), func() bool {
		up := 0
		for _, p := range n.sessions(t) {
			if p.up {
				up++
			}
		}
		return up == want
	})
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
