package decode

import (
	"encoding/binary"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// NetFlow v5, Cisco "NetFlow Export Datagram Format".
const (
	v5HeaderLen = 24
	v5RecordLen = 48
)

// netflow5 decodes a NetFlow v5 datagram. A header that counts more records
// than there are bytes for is refused whole: nothing else in it can be trusted.
func (d *Decoder) netflow5(dg Datagram) reason {
	b := dg.Payload
	if len(b) < v5HeaderLen {
		return d.reject(dg, rShort)
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n == 0 || v5HeaderLen+n*v5RecordLen > len(b) {
		return d.reject(dg, rV5Count)
	}
	e := d.exporterOf(dg, flow.NetFlow5)
	if len(b) > v5HeaderLen+n*v5RecordLen {
		e.count(d, nTrailing)
	}
	sec, nsec := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	if nsec >= 1e9 {
		nsec = 0
	}
	o := &d.origin
	*o = origin{
		exporter: e,
		// Engine type and id tell the streams of one router apart, as the
		// source id does in v9.
		domain:      d.domainOf(e, domainKey{version: 5, id: uint32(binary.BigEndian.Uint16(b[20:]))}),
		protocol:    flow.NetFlow5,
		received:    dg.Received,
		uptime:      binary.BigEndian.Uint32(b[4:]),
		export:      int64(sec)*1e9 + int64(nsec),
		uptimeKnown: true,
	}
	e.timing.header(o.export, o.received)
	o.headerRate = v5HeaderRate(binary.BigEndian.Uint16(b[22:]))
	d.v5records(o, b[v5HeaderLen:v5HeaderLen+n*v5RecordLen])
	d.flush(o)
	d.track(o, binary.BigEndian.Uint32(b[16:]), uint32(n), true)
	return accepted
}

// v5Record is one record; the offsets are those of Cisco's table B-4.
type v5Record [v5RecordLen]byte

func (b *v5Record) u16(off int) uint16 { return binary.BigEndian.Uint16(b[off:]) }
func (b *v5Record) u32(off int) uint32 { return binary.BigEndian.Uint32(b[off:]) }

// v5records reads records in place; b is exactly those.
func (d *Decoder) v5records(o *origin, b []byte) {
	c := &d.common
	c.begin(o, d.cfg.TrustClock)
	c.base.SamplingRate, c.base.SamplingSource = o.exporter.resolve(0, 0, o.headerRate)
	for ; len(b) >= v5RecordLen; b = b[v5RecordLen:] {
		rec := (*v5Record)(b)
		if c.v5(rec, d.room(o)) {
			d.out = d.out[:len(d.out)+1]
			continue
		}
		rec.fields(&d.f)
		d.build(o, &d.f)
	}
}

// v5 writes one record; not ok: its times are not of the plain kind.
func (c *common) v5(b *v5Record, r *flow.Record) bool {
	start := c.export + int64(int32(b.u32(24)-c.uptime))*1e6
	end := c.export + int64(int32(b.u32(28)-c.uptime))*1e6
	if start <= 0 || start > end || end > c.latest {
		return false
	}
	*r = c.base
	r.Start, r.End = start, end
	r.Src, r.Dst = netip.AddrFrom4([4]byte(b[0:4])), netip.AddrFrom4([4]byte(b[4:8]))
	r.InIf, r.OutIf = uint32(b.u16(12)), uint32(b.u16(14))
	r.Packets, r.Bytes = uint64(b.u32(16)), uint64(b.u32(20))
	sport, dport, flags, proto := b.u16(32), b.u16(34), b[37], b[38]
	r.IPProto = proto
	has := flow.HasTimes | flow.HasIPProto | flow.HasInIf | flow.HasOutIf
	if proto == flow.ProtoICMP || proto == flow.ProtoICMPv6 {
		r.ICMPType, r.ICMPCode = uint8(dport>>8), uint8(dport)
		r.Has = has | flow.HasICMP
		return true
	}
	upper := upperHas[proto]
	if sport|dport != 0 {
		upper |= flow.HasPorts
	}
	r.SrcPort, r.DstPort = sport, dport
	if upper&flow.HasTCPFlags != 0 {
		r.TCPFlags = flags
	}
	r.Has = has | upper
	return true
}

// fields is the same for build.
func (b *v5Record) fields(f *fields) {
	*f = fields{
		has: fSrc4 | fDst4 | fSrcPort | fDstPort | fProto | fFlags | fInIf | fOutIf |
			fPackets | fBytes | fStartUptime | fEndUptime,
		src4:        [4]byte(b[0:4]),
		dst4:        [4]byte(b[4:8]),
		inIf:        uint32(b.u16(12)),
		outIf:       uint32(b.u16(14)),
		packets:     uint64(b.u32(16)),
		bytes:       uint64(b.u32(20)),
		startUptime: b.u32(24),
		endUptime:   b.u32(28),
		srcPort:     b.u16(32),
		dstPort:     b.u16(34),
		flags:       b[37],
		proto:       b[38],
	}
}
