// Package e2e runs the whole line with nothing simulated: a QEMU guest scans
// over its tap, softflowd exports what passes the bridge, flowcordon detects,
// libvirt blocks the port or pulls the cable, and a release gives it back. The
// parts are built by e2e/lab; the programs under test run as users run them.
package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
)

const (
	scannerIP  = "198.51.100.10"
	scannerMAC = "52:54:00:aa:10:01"
	vds        = "vds-1001"

	// scanRate is what the guest manages under TCG beside everything else;
	// masscan's default is 100 per second.
	scanRate = 100

	// hang bounds each wait: many times what a quiet machine needs.
	hang = 5 * time.Minute
)

var (
	theLab   *lab.Lab
	startLab = sync.OnceValue(func() (err error) {
		if theLab, err = lab.Start(); err != nil {
			return err
		}
		if err := theLab.Image(); err != nil {
			return err
		}
		return theLab.Honest()
	})
)

func TestMain(m *testing.M) {
	code := m.Run()
	if theLab != nil {
		theLab.Stop()
	}
	os.Exit(code)
}

// world is the lab with one guest in it.
type world struct {
	*lab.Lab
	t     *testing.T
	begin time.Time
	admin *golibvirt.Libvirt
	dom   golibvirt.Domain
	sniff *lab.Sniffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	begin := time.Now()
	lab.Require(t, startLab())
	w := &world{Lab: theLab, t: t, begin: begin}
	w.step("namespaces, libvirtd and guest image are there")
	var err error
	if w.admin, err = w.Connect(); err != nil {
		t.Fatal(err)
	}
	if w.sniff, err = w.Sniff(netip.MustParseAddr(scannerIP), netip.MustParseAddr(lab.Guest6)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.Logs())
		}
		w.sniff.Close()
		_ = w.admin.Disconnect()
	})
	return w
}

// step logs how far the test is and when.
func (w *world) step(format string, args ...any) {
	w.t.Helper()
	w.t.Logf("%6.1f s  %s", time.Since(w.begin).Seconds(), fmt.Sprintf(format, args...))
}

// boot starts the scanning guest and waits until its packets are on the wire.
func (w *world) boot(more ...string) {
	w.t.Helper()
	var err error
	if w.dom, err = w.Define(w.admin, lab.Guest{
		Name: "kvm1001", UUID: "11111111-2222-3333-4444-000000001001", PanelID: vds,
		NICs: []lab.NIC{{MAC: scannerMAC}}, Cmdline: lab.ScanArgs(scannerIP, scanRate) + strings.Join(more, ""),
	}); err != nil {
		w.t.Fatal(err)
	}
	if w.dom, err = w.admin.DomainCreateWithFlags(w.dom, 0); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = w.admin.DomainDestroy(w.dom)
		_ = w.admin.DomainUndefine(w.dom)
	})
	w.step("guest started")
	if err := lab.Until(hang, func() error {
		if _, n := w.sniff.Count(500 * time.Millisecond); n < 10 {
			return fmt.Errorf("the guest does not scan:\n%s", w.Console("kvm1001"))
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	w.step("guest scans")
}

// wantScan fails unless SYNs of the guest reach the Internet.
func (w *world) wantScan(when string) {
	w.t.Helper()
	all, syn := w.sniff.Count(2 * time.Second)
	w.step("%s: %d packets and among them %d SYNs to port 22 in 2 s", when, all, syn)
	if syn < scanRate/20 {
		w.t.Errorf("%s: %d SYNs in 2 s, want the scan of about %d/s", when, syn, scanRate)
	}
}

// wantBlocked fails if a connection attempt of the guest to port 22 reaches the
// Internet, or if none to the other ports does.
func (w *world) wantBlocked(when string) {
	w.t.Helper()
	tr := w.sniff.Watch(5 * time.Second)
	w.step("%s: in 5 s %d packets, SYNs by port: IPv4 %v, IPv6 %v", when, tr.All, tr.SYN, tr.SYN6)
	if tr.SYN[22] != 0 || tr.SYN6[22] != 0 {
		w.t.Errorf("%s: SYNs to port 22 go on: %d over IPv4, %d over IPv6", when, tr.SYN[22], tr.SYN6[22])
	}
	if tr.SYN[443] == 0 || tr.SYN6[80] == 0 {
		w.t.Errorf("%s: the other ports are blocked too: IPv4 %v, IPv6 %v", when, tr.SYN, tr.SYN6)
	}
	w.wantAlive(when)
}

// waitTalk waits until the guest's connections on all ports reach the Internet,
// over IPv4 those to the ports that it scans, too.
func (w *world) waitTalk(when string, scanned ...int) {
	w.t.Helper()
	if err := lab.Until(hang, func() error {
		tr := w.sniff.Watch(time.Second)
		silent := func(port int) bool { return tr.SYN[port] == 0 }
		if slices.ContainsFunc(scanned, silent) || tr.SYN6[22] == 0 || tr.SYN[443] == 0 || tr.SYN6[80] == 0 {
			return fmt.Errorf("the guest does not talk on all ports: IPv4 %v, IPv6 %v", tr.SYN, tr.SYN6)
		}
		w.step("%s: in 1 s SYNs by port: IPv4 %v, IPv6 %v", when, tr.SYN, tr.SYN6)
		return nil
	}); err != nil {
		w.t.Error(fmt.Errorf("%s: %w", when, err))
	}
}

// wantSilence fails if any packet of the guest reaches the Internet, if the
// guest stands still, or if its neighbour on the same bridge is cut off too.
func (w *world) wantSilence(when string) {
	w.t.Helper()
	fetched := w.Fetched()
	all, _ := w.sniff.Count(4 * time.Second)
	w.step("%s: %d packets in 4 s", when, all)
	if all != 0 {
		w.t.Errorf("%s: %d packets of the guest in 4 s, want none", when, all)
	}
	w.wantAlive(when)
	if err := lab.Until(hang, func() error {
		if w.Fetched() == fetched {
			return errors.New("the honest tenant fetches nothing")
		}
		return nil
	}); err != nil {
		w.t.Errorf("%s: %v", when, err)
	}
}

// wantAlive waits for a sign of life on the guest's console.
func (w *world) wantAlive(when string) {
	w.t.Helper()
	before, _ := w.Heartbeat("kvm1001")
	if err := lab.Until(hang, func() error {
		after, line := w.Heartbeat("kvm1001")
		if after <= before {
			return fmt.Errorf("heartbeat stands at %d, want the guest to run on", after)
		}
		w.step("%s: guest says %q", when, line)
		return nil
	}); err != nil {
		w.t.Errorf("%s: %v", when, err)
	}
}

func (w *world) wantConsole(when string) {
	w.t.Helper()
	b, err := w.VNC(w.admin, w.dom)
	w.step("%s: VNC answers %q", when, b)
	if err != nil || len(b) < 7 || b[:4] != "RFB " {
		w.t.Errorf("%s: VNC answers %q, %v; want a protocol version", when, b, err)
	}
	if st, _, err := w.admin.DomainGetState(w.dom, 0); err != nil || golibvirt.DomainState(st) != golibvirt.DomainRunning {
		w.t.Errorf("%s: domain state %d, %v; want it running", when, st, err)
	}
}

func (w *world) nic() flow.NIC {
	return flow.NIC{VDS: vds, Hypervisor: "node1", MAC: scannerMAC, IP: netip.MustParseAddr(scannerIP)}
}
