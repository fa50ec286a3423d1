package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/libvirt"
)

// The ground that TestNothingMocked stands on, without flowcordon's service:
// the guest's scan is in what the exporter sends, the adapter's port block stops
// exactly that over both families, and its cut all of it.
func TestScanIsExportedBlockedAndCut(t *testing.T) {
	w := newWorld(t)
	var sock net.PacketConn
	if err := lab.InNS(w.Mgmt, func() (err error) {
		sock, err = net.ListenPacket("udp4", lab.MgmtIP+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sock.Close() }()
	stop, err := w.Exporter(10, sock.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	w.boot(lab.TalkArgs())

	from := map[netip.Addr]bool{}
	dec := decode.New(decode.Config{}, decode.Deps{})
	_ = sock.SetReadDeadline(time.Now().Add(hang))
	buf := make([]byte, 65536)
	for len(from) < 500 {
		n, addr, err := sock.ReadFrom(buf)
		if err != nil {
			t.Fatalf("%d destinations of the scan exported: %v", len(from), err)
		}
		dec.Decode(decode.Datagram{
			Exporter: addr.(*net.UDPAddr).AddrPort(), Received: time.Now().UnixNano(), Payload: buf[:n], Kind: decode.KindNetFlow,
		}, func(rs []flow.Record) {
			for i := range rs {
				if r := &rs[i]; r.Src.String() == scannerIP && r.DstPort == 22 && r.TCPFlags == flow.SYN {
					from[r.Dst] = true
				}
			}
		})
	}
	w.step("the export holds SYNs to %d addresses", len(from))

	a := libvirt.New(libvirt.Config{Name: "node1", Socket: w.Socket}, libvirt.Deps{})
	defer a.Close()
	w.wantConsole("before")
	block(w, a)
	m := flow.Mark{Incident: "inc-1", Key: "inc-1-cut", By: "flowcordon", Reason: "netscan", At: time.Now()}
	start := time.Now()
	r, err := a.Cut(t.Context(), w.nic(), m)
	if err != nil {
		t.Fatal(err)
	}
	w.step("cut on %s in %v", r.Node, time.Since(start).Round(time.Millisecond))
	time.Sleep(200 * time.Millisecond) // what is on its way
	w.wantSilence("cut")
	w.wantConsole("cut")
	if err := a.Restore(t.Context(), w.nic(), m, r); err != nil {
		t.Fatal(err)
	}
	w.step("restored")
	if err := lab.Until(hang, func() error {
		if _, n := w.sniff.Count(500 * time.Millisecond); n == 0 {
			return errors.New("no SYN yet")
		}
		return nil
	}); err != nil {
		t.Error(fmt.Errorf("after the restore: %w", err))
	}
	w.wantScan("restored")
}

// block answers the scan by a port block and lifts it again.
func block(w *world, a *libvirt.Adapter) {
	w.t.Helper()
	w.waitTalk("before the block", 22)
	m := flow.Mark{Incident: "inc-1", Key: "inc-1-block", By: "flowcordon", Reason: "netscan", At: time.Now()}
	me := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}}
	start := time.Now()
	r, err := a.Restrict(w.t.Context(), w.nic(), me, m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.step("port 22 blocked on %s in %v", r.Node, time.Since(start).Round(time.Millisecond))
	time.Sleep(200 * time.Millisecond) // what is on its way
	w.wantBlocked("blocked")
	if err := a.Lift(w.t.Context(), w.nic(), me.Kind, m, r); err != nil {
		w.t.Fatal(err)
	}
	w.waitTalk("lifted", 22)
}
