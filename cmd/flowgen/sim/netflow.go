package sim

import (
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

// Interfaces of both routers.
const (
	ifExternal = 1
	ifInternal = 2
)

// netflowRouter is router A: every packet is counted in a flow cache, and a
// flow is exported when it ended (FIN or RST seen), was silent for the inactive
// timeout, or has lasted for the active timeout.
type netflowRouter struct {
	w     *World
	enc   export.Encoder
	cache *wheel[cached]
}

// cached is one direction of a talk, or a piece of it, until its export.
type cached struct {
	f      export.Flow
	tenant *Tenant
	attack bool
}

func newNetflowRouter(w *World, enc export.Encoder) *netflowRouter {
	return &netflowRouter{w: w, enc: enc, cache: newWheel[cached](w.now)}
}

func (r *netflowRouter) observe(k *talk) {
	r.direction(k, k.out, true)
	r.direction(k, k.in, false)
}

// direction enters one direction of k, cut in pieces by the active timeout.
func (r *netflowRouter) direction(k *talk, v volume, out bool) {
	if v.packets == 0 {
		return
	}
	active, inactive := int64(r.w.cfg.Active/time.Nanosecond), int64(r.w.cfg.Inactive/time.Nanosecond)
	pieces := uint64(1)
	if k.dur > active {
		pieces = min(uint64((k.dur+active-1)/active), v.packets)
	}
	for i := range pieces {
		c := cached{f: k.flow(out), tenant: k.tenant, attack: k.attack && out}
		f := &c.f
		f.Packets = v.packets*(i+1)/pieces - v.packets*i/pieces
		f.Bytes = v.bytes*(i+1)/pieces - v.bytes*i/pieces
		f.Start = k.start + k.dur*int64(i)/int64(pieces)
		f.End = k.start + k.dur*int64(i+1)/int64(pieces)
		if v.packets == 1 { // one packet has one time: the answer's is a round trip later
			if !out && k.client || out && !k.client {
				f.Start = f.End
			}
			f.End = f.Start
		}
		f.TCPFlags = v.flags
		at := f.End
		last := i == pieces-1
		switch {
		case !last:
			f.TCPFlags &^= flow.FIN | flow.RST
		case v.flags&(flow.FIN|flow.RST) != 0:
			at += int64(time.Second) // caches age ended flows about once a second
		default:
			at += inactive
		}
		if i > 0 {
			f.TCPFlags &^= flow.SYN
		}
		r.cache.add(at, c)
	}
}

// flow is a record of k without counts and times.
func (k *talk) flow(out bool) export.Flow {
	f := export.Flow{IPProto: k.proto}
	if out {
		f.Src, f.Dst, f.SrcPort, f.DstPort = k.local, k.remote, k.lport, k.rport
		f.InIf, f.OutIf, f.ICMPType, f.TTL = ifInternal, ifExternal, k.icmpOut, k.ttlOut
		f.SrcMAC, f.DstMAC = k.tenant.hw, gatewayMAC
	} else {
		f.Src, f.Dst, f.SrcPort, f.DstPort = k.remote, k.local, k.rport, k.lport
		f.InIf, f.OutIf, f.ICMPType, f.TTL = ifExternal, ifInternal, k.icmpIn, k.ttlIn
		f.SrcMAC, f.DstMAC = upstreamMAC, gatewayMAC
	}
	if k.proto == flow.ProtoICMP || k.proto == flow.ProtoICMPv6 {
		f.SrcPort, f.DstPort = 0, 0
	}
	return f
}

var (
	gatewayMAC  = [6]byte{0x02, 0xf1, 0, 0, 0, 1}
	upstreamMAC = [6]byte{0x02, 0xf1, 0, 0, 0, 2}
)

// export emits what is due. A talk that was under way when its link was cut
// ended there: what it would have sent afterwards was never on the wire.
func (r *netflowRouter) export(now int64) error {
	err := r.cache.take(now, func(c cached) error {
		if cut := c.tenant.cutAt; cut != 0 && c.f.Start < cut && c.f.End > cut {
			shorten(&c.f, cut)
		}
		c.tenant.exported(c.attack, now)
		return r.enc.Add(&c.f, now)
	})
	if err != nil {
		return err
	}
	return r.enc.Flush(now)
}

// shorten ends f at cut, with the share of packets and bytes until then; at
// least the first packet was seen.
func shorten(f *export.Flow, cut int64) {
	share := float64(cut-f.Start) / float64(f.End-f.Start)
	packets := max(1, uint64(float64(f.Packets)*share))
	f.Bytes = max(f.Bytes/f.Packets, f.Bytes*packets/f.Packets)
	f.Packets, f.End = packets, cut
}

// exported notes when an attack's packets were reported to the collector.
func (t *Tenant) exported(attack bool, now int64) {
	if !attack {
		return
	}
	t.LastExport = time.Unix(0, now)
	if t.FirstExport.IsZero() {
		t.FirstExport = t.LastExport
	}
}
