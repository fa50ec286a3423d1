package decode

import (
	"hash/maphash"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// Running totals. The total counters (IE 85, 86) count since the metering began
// for a flow, not since its last report (RFC 5102 §5.10.2: "since the Metering
// Process (re-)initialization"). Beside deltas they are not used. An exporter
// that sends nothing else reports a long flow again and again with a growing
// total, and adding these up would count its first packet with every report. So
// a record's counters are what its total is over the one before it, of the same
// flow: same exporter, domain, ends, protocol and interface, and the same start,
// by which an exporter that counts anew after each report (YAF after its active
// timeout) is told apart. The record then begins where the one before it ended.
//
// A total below the last one is a new count. A flow that ends (IE 136) is
// forgotten; one that is not heard of for long is too, and would be counted
// whole if it came again.
type totals struct {
	seed     maphash.Seed
	now, old map[uint64]total // no pointers: nothing for the garbage collector
	since    int64            // when now was begun, ns
}

// total is what a flow has been reported with.
type total struct {
	packets, bytes, revPackets, revBytes uint64
	end                                  int64
}

// totalKey is what makes a flow one and the same.
type totalKey struct {
	exporter, src, dst netip.Addr
	protocol           flow.Protocol
	domain             uint32
	sport, dport       uint16
	proto              uint8
	icmp, vlan         uint16
	inIf               uint32
	start              int64  // as exported, absolute
	startUptime        uint32 // or as uptime
	also               uint64
}

// totalsOnly says that a record counts by running totals alone.
func (f *fields) totalsOnly() bool {
	return f.has&(fPackets|fBytes) == 0 && f.has&(fPacketsTotal|fBytesTotal) != 0
}

// reverseTotals uses totals of the reverse direction where it has no deltas.
func (f *fields) reverseTotals() {
	if f.has&fRevPackets == 0 {
		f.revPackets = f.revPacketsTotal
	}
	if f.has&fRevBytes == 0 {
		f.revBytes = f.revBytesTotal
	}
}

// Values of flowEndReason (IE 136).
const (
	endUnknown = 0
	endActive  = 2 // active timeout: the flow goes on
	endOfFlow  = 3
)

// running turns the totals of a record into what came since the one before.
func (d *Decoder) running(o *origin, f *fields, r *flow.Record) {
	t := &d.totals
	t.turn(o)
	h := t.hash(f, r)
	last, known := t.now[h]
	if !known {
		last, known = t.old[h]
	}
	now := total{r.Packets, r.Bytes, f.revPackets, f.revBytes, r.End}
	f.onlyTotals(&now)
	switch {
	case f.endReason != endUnknown && f.endReason != endActive:
		delete(t.now, h)
		delete(t.old, h)
	default:
		if _, there := t.now[h]; !there && len(t.now) >= maxTotals {
			if len(t.old) > 0 {
				o.exporter.count(d, nTotalsForgotten)
			}
			t.age(o.received)
		}
		t.now[h] = now
	}
	if !known || now.packets < last.packets || now.bytes < last.bytes || now.revPackets < last.revPackets || now.revBytes < last.revBytes {
		return
	}
	o.exporter.count(d, nTotalReduced)
	r.Packets -= last.packets
	r.Bytes -= last.bytes
	f.revPackets -= last.revPackets
	f.revBytes -= last.revBytes
	if r.Has&flow.HasTimes != 0 && last.end > r.Start {
		r.Start = min(last.end, r.End)
	}
}

// onlyTotals leaves out of t what the record counts otherwise: by deltas, by
// what left after a middlebox, by a sampled header.
func (f *fields) onlyTotals(t *total) {
	if f.has&fPacketsTotal == 0 {
		t.packets = 0
	}
	if f.has&fBytesTotal == 0 {
		t.bytes = 0
	}
	if f.has&(fRevPackets|fRevPacketsTotal) != fRevPacketsTotal {
		t.revPackets = 0
	}
	if f.has&(fRevBytes|fRevBytesTotal) != fRevBytesTotal {
		t.revBytes = 0
	}
}

// turn starts a new generation when the one at hand is old.
func (t *totals) turn(o *origin) {
	if t.now == nil {
		t.seed = maphash.MakeSeed()
		t.now, t.old = map[uint64]total{}, map[uint64]total{}
		t.since = o.received
	}
	switch since := o.received - t.since; {
	case since > 2*int64(totalsAge):
		clear(t.now)
		clear(t.old)
		t.since = o.received
	case since > int64(totalsAge):
		t.age(o.received)
	}
}

// age forgets the older half of what is known.
func (t *totals) age(now int64) {
	t.now, t.old = t.old, t.now
	clear(t.now)
	t.since = now
}

func (t *totals) hash(f *fields, r *flow.Record) uint64 {
	return maphash.Comparable(t.seed, totalKey{
		exporter: r.Exporter, src: r.Src, dst: r.Dst,
		protocol: r.Protocol, domain: r.Domain,
		sport: r.SrcPort, dport: r.DstPort, proto: r.IPProto,
		icmp: uint16(r.ICMPType)<<8 | uint16(r.ICMPCode), vlan: r.VLAN, inIf: r.InIf,
		start: f.start, startUptime: f.startUptime, also: f.also,
	})
}
