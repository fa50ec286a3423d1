package decode

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// quick is the part of a plan by which records of common elements are filled
// in at once.
type quick struct {
	ok    bool // the template is of that kind
	slots [numSlots]slot

	has       flow.Has // what every record of the template has
	upper     flow.Has // of upperHas, what the template has
	v4, v6    bool
	icmp      icmpFrom
	times     timesFrom
	extra     bool    // has one of the rarer fields, from sIPVersion and sICMP* on
	sampled   bool    // has a field that tells the record's sampling rate
	rateHas   present // of a rateKey: what the template has; fInIf is IE 10 alone
	moves     []uint8 // the slots that stand behind a variable-length field
	startUnit uint32
	endUnit   uint32
}

// icmpFrom has a bit for each place of ICMP type and code that a template has.
type icmpFrom uint8

const (
	icmpTypeCode icmpFrom = 1 << iota
	icmpTwo               // type and code of their own
	icmpPort
)

// timesFrom says how a template tells when a flow began and ended.
type timesFrom uint8

const (
	timesNone timesFrom = iota
	timesUptime
	timesAbsolute
	timesDelta
)

// compile finds out whether the plan's elements are all of the plain kind, and
// fills in the slots if so.
func (q *quick) compile(p *plan) {
	var s [numSlotsCompiled]slot
	var seen [numSlotsCompiled]uint16 // the element in the slot
	var other []uint16                // that matter only where others are absent
	if len(p.gaps) > math.MaxUint8 {
		return
	}
	for _, o := range p.ops {
		i, widest, exact := slotOf(o.id)
		switch {
		case o.kind != opIANA:
			return
		case widest == 0:
			other = append(other, o.id)
			continue
		case o.width == variableLength:
			return
		case exact && o.width != widest, o.width > 8 && !exact:
			continue // no number of ours: set takes no notice of it either
		case o.width > widest: // fits or not, by its value
			return
		}
		// Of an element that is there twice, the last one counts.
		s[i] = slot{end: o.off + o.width, width: uint8(o.width), after: uint8(o.after)}
		seen[i] = o.id
	}
	if !q.counters(&s, other) || !q.timed(&s, &seen, other) || s[sProto].width == 0 {
		return
	}
	for _, id := range other {
		if !q.idle(&s, id) {
			return
		}
	}
	if s[sInIf].width != 0 {
		q.rateHas = fInIf
	}
	stand(&s, sInIf, sInPhys)
	stand(&s, sOutIf, sOutPhys)
	stand(&s, sSrcMAC, sPostSrcMAC)
	stand(&s, sTTL, sMinTTL)
	stand(&s, sTTL, sMaxTTL)
	q.slots = [numSlots]slot(s[:numSlots])
	q.describe()
	q.ok = true
}

// stand lets one slot stand in for another that the template has not.
func stand(s *[numSlotsCompiled]slot, i, by int) {
	if s[i].width == 0 {
		s[i] = s[by]
	}
}

// counters settles which elements the counters come from, as fields.counts
// does. Running totals alone are not of the plain kind.
func (q *quick) counters(s *[numSlotsCompiled]slot, other []uint16) bool {
	if s[sPackets].width == 0 {
		if slices.Contains(other, 86) {
			return false
		}
		stand(s, sPackets, sPacketsPost)
		stand(s, sPackets, sInitiatorPackets)
	}
	if s[sBytes].width == 0 {
		if slices.Contains(other, 85) {
			return false
		}
		stand(s, sBytes, sBytesPost)
		stand(s, sBytes, sInitiatorBytes)
	}
	return true
}

// timed settles where the times come from, as times does.
func (q *quick) timed(s *[numSlotsCompiled]slot, seen *[numSlotsCompiled]uint16, other []uint16) bool {
	abs := s[sStart].width != 0 && s[sEnd].width != 0
	up := s[sStartUptime].width != 0 && s[sEndUptime].width != 0
	switch {
	case abs:
		q.times = timesAbsolute
		q.startUnit, q.endUnit = timeUnit(seen[sStart]), timeUnit(seen[sEnd])
		return true
	case s[sStart].width != 0 || s[sEnd].width != 0:
		return false
	case up:
		q.times = timesUptime
		s[sStart], s[sEnd] = s[sStartUptime], s[sEndUptime]
		// Where the uptimes have no base (IPFIX), the time of observation counts.
		return !slices.ContainsFunc(other, func(id uint16) bool { return id >= 322 && id <= 325 })
	case s[sStartUptime].width != 0 || s[sEndUptime].width != 0:
		return false
	case s[sStartDelta].width != 0 && s[sEndDelta].width != 0:
		q.times = timesDelta
		s[sStart], s[sEnd] = s[sStartDelta], s[sEndDelta]
		return true
	case s[sStartDelta].width != 0 || s[sEndDelta].width != 0:
		return false
	}
	for _, id := range other {
		switch id {
		case 322, 323, 324, 325:
			return false
		}
	}
	return true
}

// idle says of an element without a slot that it makes no difference beside
// what counters and timed have found.
func (q *quick) idle(s *[numSlotsCompiled]slot, id uint16) bool {
	switch id {
	case 85, 86, // totals beside deltas
		136, 233, 5, 61, 80, 148, 234, // that tell flows with totals apart
		161, 162, 322, 323, 324, 325, // times beside better ones
		145, 304, 312: // sampling's algorithm alone, a frame's length without the frame
		return true
	case 225, 226, 227, 228: // after translation, where the ends before it are known
		return s[sSrc4].width != 0 && s[sDst4].width != 0
	case 281, 282:
		return s[sSrc6].width != 0 && s[sDst6].width != 0
	}
	return false
}

// describe notes what the slots hold, so that fill need not ask each of them.
func (q *quick) describe() {
	there := func(slots ...int) bool {
		return slices.ContainsFunc(slots, func(i int) bool { return q.slots[i].width != 0 })
	}
	set := func(h flow.Has, slots ...int) {
		if there(slots...) {
			q.has |= h
		}
	}
	q.has = flow.HasIPProto
	set(flow.HasInIf, sInIf)
	set(flow.HasOutIf, sOutIf)
	set(flow.HasSrcMAC, sSrcMAC)
	set(flow.HasVLAN, sVLAN, sDot1qVLAN)
	set(flow.HasTTL, sTTL)
	if there(sSrcPort, sDstPort) {
		q.upper |= flow.HasPorts
	}
	if there(sFlags) {
		q.upper |= flow.HasTCPFlags
	}
	if there(sICMPTypeCode) {
		q.icmp |= icmpTypeCode
	}
	if there(sICMPType, sICMPCode) {
		q.icmp |= icmpTwo
	}
	if there(sDstPort) {
		q.icmp |= icmpPort
	}
	q.v4, q.v6 = there(sSrc4, sDst4), there(sSrc6, sDst6)
	q.extra = there(sFragOffset, sIPLen, sTTL, sSrcMAC, sVLAN, sDot1qVLAN, sPacketsPost, sBytesPost)
	q.sampled = there(sInterval, sSamplerID, sSelectorID)
	if there(sSamplerID) {
		q.rateHas |= fSamplerID
	}
	if there(sSelectorID) {
		q.rateHas |= fSelectorID
	}
	for i, s := range q.slots {
		if s.after > 0 {
			q.moves = append(q.moves, uint8(i))
		}
	}
}

// place moves the slots that stand behind variable-length fields to where they
// are in one record; s has been a copy of q.slots.
func (q *quick) place(s *[numSlots]slot, w *walk) {
	for _, i := range q.moves {
		from := &q.slots[i]
		s[i].end = from.end + w.shift[from.after]
	}
}

// common is what the records of one set share.
type common struct {
	base flow.Record
	// The header's clock (ns) and the uptime (ms) that belongs to it.
	export      int64
	uptime      uint32
	uptimeKnown bool  // from the header
	uptimeOK    bool  // or from options
	latest      int64 // ns: a record that ends after it is not believed
	keyed       bool  // the sampling rate depends on the record
}

// begin notes what the records of a set share.
func (c *common) begin(o *origin, trustClock bool) {
	c.base = flow.Record{
		Exporter: o.exporter.addr,
		Protocol: o.protocol,
		Domain:   o.domain.key.id,
		Received: o.received,
		Start:    o.received,
		End:      o.received,
	}
	c.export = o.export
	c.uptimeKnown = o.uptimeKnown
	c.uptime, c.uptimeOK = o.uptimeAt(o.domain.systemInit)
	c.latest = o.received + int64(maxFuture)
	if trustClock {
		c.latest = math.MaxInt64
	}
	c.keyed = false
}

// fill writes the record whose bytes rec holds behind its lead. Not ok: it has
// a value that is not of the plain kind, and r is not to be used.
func (q *quick) fill(s *[numSlots]slot, rec []byte, c *common, r *flow.Record) bool {
	has := q.has
	start, end := c.base.Start, c.base.End
	if q.times > timesUptime || q.times == timesUptime && (c.uptimeOK || s[sSystemInit].width != 0) {
		var ok bool
		if start, end, ok = q.span(s, rec, c); !ok {
			return false
		}
		has |= flow.HasTimes
	}
	*r = c.base
	r.Start, r.End = start, end
	q.addresses(s, rec, r)
	r.InIf, r.OutIf = uint32(s[sInIf].num(rec)), uint32(s[sOutIf].num(rec))
	r.Packets, r.Bytes = s[sPackets].num(rec), s[sBytes].num(rec)
	proto := uint8(s[sProto].num(rec))
	r.IPProto = proto
	sport, dport := uint16(s[sSrcPort].num(rec)), uint16(s[sDstPort].num(rec))
	upper := upperHas[proto]
	switch {
	case q.extra && q.extras(s, rec, r, &has): // a fragment
	case proto == flow.ProtoICMP || proto == flow.ProtoICMPv6:
		if q.icmp != 0 {
			has |= flow.HasICMP
			typeCode := q.typeCode(s, rec, dport)
			r.ICMPType, r.ICMPCode = uint8(typeCode>>8), uint8(typeCode)
		}
	default:
		if sport|dport != 0 {
			upper |= flow.HasPorts
		}
		upper &= q.upper
		has |= upper
		r.SrcPort, r.DstPort = sport, dport
		if upper&flow.HasTCPFlags != 0 {
			r.TCPFlags = uint8(s[sFlags].num(rec))
		}
	}
	r.Has = has
	return true
}

// span reads the times; not ok: they need the rules of times.
func (q *quick) span(s *[numSlots]slot, rec []byte, c *common) (start, end int64, ok bool) {
	first, last := s[sStart].num(rec), s[sEnd].num(rec)
	switch q.times {
	case timesUptime:
		uptime := c.uptime
		if s[sSystemInit].width != 0 && !c.uptimeKnown {
			init := s[sSystemInit].num(rec)
			if init == 0 || init > math.MaxInt64/1_000_000 {
				return 0, 0, false
			}
			uptime = uint32(c.export/1e6 - int64(init))
		}
		start = c.export + int64(int32(uint32(first)-uptime))*1e6
		end = c.export + int64(int32(uint32(last)-uptime))*1e6
	case timesDelta:
		if first|last >= maxDelta {
			return 0, 0, false
		}
		start, end = c.export-int64(first)*1e3, c.export-int64(last)*1e3
	default:
		var ok1, ok2 bool
		start, ok1 = absolute(first, uint64(q.startUnit))
		end, ok2 = absolute(last, uint64(q.endUnit))
		if !ok1 || !ok2 {
			return 0, 0, false
		}
	}
	return start, end, start > 0 && start <= end && end <= c.latest
}

// addresses is fields.addresses.
func (q *quick) addresses(s *[numSlots]slot, rec []byte, r *flow.Record) {
	v6 := q.v6
	if q.v4 && q.v6 {
		v6 = q.uses6(s, rec)
	}
	if !v6 {
		if s[sSrc4].width != 0 {
			r.Src = netip.AddrFrom4(s[sSrc4].v4(rec))
		}
		if s[sDst4].width != 0 {
			r.Dst = netip.AddrFrom4(s[sDst4].v4(rec))
		}
		return
	}
	if s[sSrc6].width != 0 {
		r.Src = netip.AddrFrom16(s[sSrc6].v6(rec)).Unmap()
	}
	if s[sDst6].width != 0 {
		r.Dst = netip.AddrFrom16(s[sDst6].v6(rec)).Unmap()
	}
}

// uses6 says which family of a template with both the record is of.
func (q *quick) uses6(s *[numSlots]slot, rec []byte) bool {
	there := func(i int) bool {
		return s[i].width != 0 && s[i].v6(rec) != [16]byte{}
	}
	if !there(sSrc6) && !there(sDst6) {
		return false
	}
	return s[sSrc4].num(rec)|s[sDst4].num(rec) == 0 || s[sIPVersion].num(rec) == 6
}

// extras reads the rarer fields and reports whether the record is of a
// fragment, which has no ports.
func (q *quick) extras(s *[numSlots]slot, rec []byte, r *flow.Record, has *flow.Has) bool {
	if r.Packets == 0 {
		r.Packets = s[sPacketsPost].num(rec)
	}
	if r.Bytes == 0 {
		r.Bytes = s[sBytesPost].num(rec)
	}
	mac := s[sSrcMAC].num(rec)
	binary.BigEndian.PutUint16(r.SrcMAC[:], uint16(mac>>32))
	binary.BigEndian.PutUint32(r.SrcMAC[2:], uint32(mac))
	r.VLAN = uint16(s[sVLAN].num(rec))
	if r.VLAN == 0 {
		r.VLAN = uint16(s[sDot1qVLAN].num(rec))
	}
	r.TTL = uint8(s[sTTL].num(rec))
	if n := uint16(s[sIPLen].num(rec)); n > 0 {
		r.IPLen = n
		*has |= flow.HasIPLen
	}
	if s[sFragOffset].num(rec)&0x1fff != 0 {
		*has |= flow.HasFragment
		return true
	}
	return false
}

// typeCode is type × 256 + code, from the same places as in fields.icmp.
func (q *quick) typeCode(s *[numSlots]slot, rec []byte, dport uint16) uint16 {
	if q.icmp&icmpTypeCode != 0 {
		if n := uint16(s[sICMPTypeCode].num(rec)); n != 0 {
			return n
		}
	}
	if q.icmp&icmpTwo != 0 {
		return uint16(s[sICMPType].num(rec))<<8 | uint16(s[sICMPCode].num(rec))
	}
	return dport // 0 where the template has none
}
