package scenario

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

// maxWait is how long a record waits for others to fill its datagram.
const maxWait = int64(time.Second)

// Wire is a router's export process: records in, datagrams out. It belongs to
// one goroutine.
type Wire struct {
	enc     export.Encoder
	first   int64 // when the oldest waiting record came, 0: none waits
	now     int64
	emit    func(payload []byte, received int64)
	netflow bool
}

// NewWire returns the export process of a router that samples 1:n and was
// booted at boot. emit gets each datagram, which it must not keep, and when it
// arrives (ns since the epoch).
func NewWire(n uint32, netflow bool, boot time.Time, emit func(payload []byte, received int64)) (*Wire, error) {
	w := &Wire{emit: emit, netflow: netflow}
	cfg := export.Config{Protocol: flow.SFlow5, SamplingRate: n, Boot: boot, Agent: Exporter}
	if netflow {
		cfg.Protocol = flow.NetFlow9
	}
	enc, err := export.New(cfg, func(b []byte, _ int) error {
		w.first = 0
		w.emit(b, w.now)
		return nil
	})
	w.enc = enc
	return w, err
}

// Send exports records in the order of their Received, all of them before end.
func (w *Wire) Send(rs []flow.Record, end int64) error {
	for i := range rs {
		r := &rs[i]
		if w.first != 0 && r.Received-w.first > maxWait {
			w.now = w.first + maxWait
			if err := w.enc.Flush(w.now); err != nil {
				return err
			}
		}
		w.now = r.Received
		f := exported(r)
		if err := w.enc.Add(&f, w.now); err != nil {
			return fmt.Errorf("%s to %s, protocol %d: %w", r.Src, r.Dst, r.IPProto, err)
		}
		if w.first == 0 {
			w.first = w.now
		}
	}
	w.now = end - 1
	return w.enc.Flush(w.now)
}

// exported is the record as a router knows it. Lengths in scenarios are those
// of IPv4 packets; an IPv6 header has 20 bytes more.
func exported(r *flow.Record) export.Flow {
	f := export.Flow{Src: r.Src, Dst: r.Dst, SrcPort: r.SrcPort, DstPort: r.DstPort, IPProto: r.IPProto,
		TCPFlags: r.TCPFlags, ICMPType: r.ICMPType, ICMPCode: r.ICMPCode, TTL: r.TTL,
		Packets: r.Packets, Bytes: r.Bytes, Start: r.Start, End: r.End, InIf: r.InIf, OutIf: r.OutIf, SrcMAC: r.SrcMAC}
	if r.Src.Is6() {
		f.Bytes += 20 * r.Packets
	}
	return f
}

// Internal are the prefixes of the tenants of all scenarios.
func Internal() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}
}
