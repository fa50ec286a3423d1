package decode_test

import (
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// What the fields of one record mean. Of elements that a record has more than
// once the last counts (of headers in headers: the innermost); one whose length
// does not suit its type, or whose value its meaning, is as good as absent.

// String is for messages: enterprise/element=value.
func (fs refFields) String() string {
	var s strings.Builder
	for _, f := range fs {
		fmt.Fprintf(&s, " %d/%d=%x", f.pen, f.id, f.b)
	}
	return s.String()
}

// last returns the last field with one of the ids that ok likes.
func (fs refFields) last(pen uint32, ok func([]byte) bool, ids ...uint16) ([]byte, bool) {
	for _, f := range slices.Backward(fs) {
		if !f.scope && f.pen == pen && slices.Contains(ids, f.id) && ok(f.b) {
			return f.b, true
		}
	}
	return nil, false
}

// num is an unsigned number of 1 to 8 bytes (RFC 7011 §6.2), at most limit.
func (fs refFields) num(limit uint64, ids ...uint16) (uint64, bool) {
	return fs.penNum(0, limit, ids...)
}

func (fs refFields) penNum(pen uint32, limit uint64, ids ...uint16) (uint64, bool) {
	b, ok := fs.last(pen, func(b []byte) bool {
		return len(b) >= 1 && len(b) <= 8 && new(big.Int).SetBytes(b).Cmp(new(big.Int).SetUint64(limit)) <= 0
	}, ids...)
	return new(big.Int).SetBytes(b).Uint64(), ok
}

func (fs refFields) u64(ids ...uint16) (uint64, bool) { return fs.num(math.MaxUint64, ids...) }

func (fs refFields) sized(n int, id uint16) ([]byte, bool) {
	return fs.last(0, func(b []byte) bool { return len(b) == n }, id)
}

// any reports whether there is a number with one of the ids.
func (fs refFields) any(limit uint64, ids ...uint16) bool {
	_, ok := fs.num(limit, ids...)
	return ok
}

// record gives the flow.Record of one list of fields, or two for a biflow.
func (r *refDecoder) record(c refContext, fs refFields) {
	x := flow.Record{Exporter: c.exporter, Protocol: c.protocol, Domain: c.domainID, Received: c.received}
	if r.times(c, fs, &x) {
		r.n[decode.NoteTimesClamped]++
	}
	fs = fs.translated()
	refAddresses(fs, &x)
	refTransport(fs, &x)
	refLink(fs, &x)
	counts := refCounts{
		refCounter(fs, 2, 86, 24, 298), refCounter(fs, 1, 85, 23, 231),
		fs.reverse(299, 2, 86), fs.reverse(232, 1, 85),
	}
	x.Packets, x.Bytes = counts[0].n, counts[1].n
	sampled := r.section(fs, &x)
	if !fs.counted(1, 2) && fs.counted(85, 86) && x.Src.IsValid() && x.Dst.IsValid() {
		r.running(fs, &x, &counts)
	}
	r.rate(c, fs, &x)
	r.out, r.from = append(r.out, x), append(r.from, fs)
	if counts[2].n > 0 && !sampled {
		r.out, r.from = append(r.out, refReverse(fs, x, counts)), append(r.from, fs)
	}
}

// translated puts an end from behind a NAT (RFC 8158) where the record has none
// from before it.
func (fs refFields) translated() refFields {
	out := slices.Clone(fs)
	for _, end := range []struct{ v4, v6, port, ports4, ports6, post4, post6, postPort uint16 }{
		{8, 27, 7, 180, 182, 225, 281, 227}, {12, 28, 11, 181, 183, 226, 282, 228},
	} {
		_, has4 := fs.sized(4, end.v4)
		_, has6 := fs.sized(16, end.v6)
		post4, hasPost4 := fs.sized(4, end.post4)
		post6, hasPost6 := fs.sized(16, end.post6)
		if has4 || has6 || !hasPost4 && !hasPost6 {
			continue
		}
		if hasPost4 {
			out = append(out, refField{id: end.v4, b: post4})
		}
		if hasPost6 {
			out = append(out, refField{id: end.v6, b: post6})
		}
		if p, ok := fs.num(65535, end.postPort); ok && !fs.any(65535, end.port, end.ports4, end.ports6) {
			out = append(out, refField{id: end.port, b: be(p, 2)})
		}
	}
	return out
}

// refAddresses: a record has one family. Where a template has both, the one
// that is not filled in (all zero) is not it; both filled in: ipVersion says,
// else IPv4.
func refAddresses(fs refFields, x *flow.Record) {
	s4, hasS4 := fs.sized(4, 8)
	d4, hasD4 := fs.sized(4, 12)
	s6, hasS6 := fs.sized(16, 27)
	d6, hasD6 := fs.sized(16, 28)
	has4, has6 := hasS4 || hasD4, hasS6 || hasD6
	zero4, zero6 := allZero(s4) && allZero(d4), allZero(s6) && allZero(d6)
	version, _ := fs.num(255, 60)
	six := has6 && (!has4 || !zero6 && (zero4 || version == 6))
	set := func(dst *netip.Addr, b []byte, ok bool) {
		if ok {
			a, _ := netip.AddrFromSlice(b)
			*dst = a.Unmap()
		}
	}
	if six {
		set(&x.Src, s6, hasS6)
		set(&x.Dst, d6, hasD6)
		return
	}
	set(&x.Src, s4, hasS4)
	set(&x.Dst, d4, hasD4)
}

// refHasPorts: protocols whose header begins with two ports (TCP, UDP, DCCP,
// SCTP, UDP-Lite).
func refHasPorts(proto uint8) bool {
	return slices.Contains([]uint8{6, 17, 33, 132, 136}, proto)
}

func refTransport(fs refFields, x *flow.Record) {
	proto, hasProto := fs.num(255, 4)
	src, hasSrc := fs.num(65535, 7, 180, 182)
	dst, hasDst := fs.num(65535, 11, 181, 183)
	if hasProto {
		x.IPProto = uint8(proto)
		x.Has |= flow.HasIPProto
	} else if !hasSrc && !hasDst && (fs.any(65535, 32, 139) || fs.any(255, 176, 178)) {
		// softflowd's templates for ICMP leave the protocol out.
		x.IPProto = 1
		if x.Src.Is6() {
			x.IPProto = 58
		}
		x.Has |= flow.HasIPProto
		refICMP(fs, x)
		return
	}
	if off, _ := fs.num(65535, 88); off%8192 != 0 { // 13 bits
		x.Has |= flow.HasFragment
		return
	}
	if hasProto && (proto == 1 || proto == 58) {
		refICMP(fs, x)
		return
	}
	// Ports of a protocol that has none say nothing while they are zero.
	if (hasSrc || hasDst) && (!hasProto || refHasPorts(uint8(proto)) || src != 0 || dst != 0) {
		x.SrcPort, x.DstPort = uint16(src), uint16(dst)
		x.Has |= flow.HasPorts
	}
	// tcpControlBits: the low byte, whatever the width (RFC 7125).
	if flags, ok := fs.num(65535, 6); ok && (!hasProto || proto == 6) {
		x.TCPFlags = uint8(flags & 0xff)
		x.Has |= flow.HasTCPFlags
	}
}

// refICMP: type and code stand in one field, in two, or where the destination
// port stands else. A field of both that is zero gives way to the others.
func refICMP(fs refFields, x *flow.Record) {
	both, hasBoth := fs.num(65535, 32, 139)
	typ, hasTyp := fs.num(255, 176, 178)
	code, hasCode := fs.num(255, 177, 179)
	port, hasPort := fs.num(65535, 11, 181, 183)
	switch {
	case hasBoth && both != 0:
	case hasTyp || hasCode:
		both = typ*256 + code
	case hasPort:
		both = port
	case hasBoth:
	default:
		return
	}
	x.ICMPType, x.ICMPCode = uint8(both/256), uint8(both%256)
	x.Has |= flow.HasICMP
}

// refCounter: what this record alone counts (delta), as it came in; where that
// is zero and what left is counted too, that; else a running total; else what
// left; else what the initiator of a connection sent (Cisco NSEL).
func refCounter(fs refFields, delta, total, post, initiator uint16) refCount {
	d, hasD := fs.u64(delta)
	t, hasT := fs.u64(total)
	p, hasP := fs.u64(post)
	i, _ := fs.u64(initiator)
	switch {
	case hasD && d == 0 && hasP:
		return refCount{n: p}
	case hasD:
		return refCount{n: d}
	case hasT:
		return refCount{n: t, total: true}
	case hasP:
		return refCount{n: p}
	}
	return refCount{n: i}
}

func refLink(fs refFields, x *flow.Record) {
	first := func(limit uint64, ids ...uint16) (uint64, bool) {
		for _, id := range ids {
			if v, ok := fs.num(limit, id); ok {
				return v, true
			}
		}
		return 0, false
	}
	if v, ok := first(math.MaxUint32, 10, 252); ok {
		x.InIf, x.Has = uint32(v), x.Has|flow.HasInIf
	}
	if v, ok := first(math.MaxUint32, 14, 253); ok {
		x.OutIf, x.Has = uint32(v), x.Has|flow.HasOutIf
	}
	for _, id := range []uint16{56, 81} {
		if b, ok := fs.sized(6, id); ok {
			x.SrcMAC, x.Has = [6]byte(b), x.Has|flow.HasSrcMAC
			break
		}
	}
	vlan, ok := fs.num(65535, 58)
	if tag, okTag := fs.num(65535, 243); okTag && vlan == 0 {
		vlan, ok = tag, true
	}
	if ok {
		x.VLAN, x.Has = uint16(vlan), x.Has|flow.HasVLAN
	}
	if v, ok := first(255, 192, 52, 53); ok {
		x.TTL, x.Has = uint8(v), x.Has|flow.HasTTL
	}
	if v, ok := fs.num(65535, 190, 224); ok && v > 0 {
		x.IPLen, x.Has = uint16(v), x.Has|flow.HasIPLen
	}
}

// refReverse is the other direction of a biflow (RFC 5103, or NSEL's responder).
func refReverse(fs refFields, x flow.Record, counts refCounts) flow.Record {
	y := x
	y.Src, y.Dst, y.SrcPort, y.DstPort, y.InIf, y.OutIf = x.Dst, x.Src, x.DstPort, x.SrcPort, x.OutIf, x.InIf
	y.Packets, y.Bytes = counts[2].n, counts[3].n
	y.SrcMAC, y.TTL, y.TCPFlags, y.ICMPType, y.ICMPCode = [6]byte{}, 0, 0, 0, 0
	y.Has = x.Has & (flow.HasPorts | flow.HasIPLen | flow.HasVLAN | flow.HasTimes | flow.HasFragment | flow.HasIPProto)
	if x.Has&flow.HasInIf != 0 {
		y.Has |= flow.HasOutIf
	}
	if x.Has&flow.HasOutIf != 0 {
		y.Has |= flow.HasInIf
	}
	if v, ok := fs.penNum(refReversePEN, 65535, 6); ok && x.IPProto == 6 {
		y.TCPFlags, y.Has = uint8(v), y.Has|flow.HasTCPFlags
	}
	if x.Has&flow.HasICMP != 0 { // an echo's answer is known, others are not
		switch [2]uint8{x.IPProto, x.ICMPType} {
		case [2]uint8{1, 8}:
			y.ICMPType, y.ICMPCode, y.Has = 0, x.ICMPCode, y.Has|flow.HasICMP
		case [2]uint8{58, 128}:
			y.ICMPType, y.ICMPCode, y.Has = 129, x.ICMPCode, y.Has|flow.HasICMP
		}
	}
	return y
}

// reverse is a counter of the way back: NSEL's element or RFC 5103's delta, the
// last in the record, else RFC 5103's total.
func (fs refFields) reverse(nsel, delta, total uint16) refCount {
	for _, f := range slices.Backward(fs) {
		if (f.pen == 0 && f.id == nsel || f.pen == refReversePEN && f.id == delta) && len(f.b) >= 1 && len(f.b) <= 8 {
			return refCount{n: new(big.Int).SetBytes(f.b).Uint64()}
		}
	}
	n, ok := fs.penNum(refReversePEN, math.MaxUint64, total)
	return refCount{n: n, total: ok}
}
