package aggregate

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// Take adds all items of the block and keeps nothing of it.
func (a *Aggregator) Take(b *Block) {
	for i := range b.Items {
		a.split(b, i)
	}
	a.drain(b)
}

// split makes contributions of an item and keeps its flow row.
func (a *Aggregator) split(b *Block, i int) {
	it := &b.Items[i]
	no := windowNo(it.end)
	if it.start >= no*windowNS || it.set&itemSpoofed != 0 || it.small() {
		a.contribute(b, i, &span{no: no, packets: it.packets, bytes: it.bytes, syn: it.synPackets()}, true)
	} else {
		spans, clipped := spread(a.spans[:0], it.start, it.end, windowNo(it.received-int64(a.cfg.MaxAge)), it.packets, it.bytes, it.synPackets())
		a.spans = spans
		if it.set&itemPrimary != 0 {
			a.stats.clippedPackets += clipped.packets
			a.stats.clippedBytes += clipped.bytes
		}
		for j := range spans {
			a.contribute(b, i, &spans[j], j == len(spans)-1)
		}
	}
	if a.cfg.FlowPolicy != FlowOff && a.wantsFlow(it) {
		a.addFlow(it)
	}
}

// spreadFrom is the number of packets, estimated, from which on a record is
// spread over its duration: 2 % of what the slowest flood that a rule judges
// sends in a window (icmp_flood, 300/s). Below it a record would touch the rows
// of several windows to move a packet or two.
const spreadFrom = 64

// small says that the record stands for too few packets to be spread.
func (it *Item) small() bool {
	return it.packets < spreadFrom && it.packets*uint64(it.rate) < spreadFrom
}

// synPackets is how many of the packets are SYNs.
func (it *Item) synPackets() uint64 {
	switch {
	case it.set&itemSYN != 0:
		return it.packets
	case it.set&itemHalfSYN != 0:
		return it.packets - it.packets/2
	}
	return 0
}

// maxPackets is what one contribution may add to a row's 32-bit counters; more
// goes out as a row of its own.
const maxPackets = math.MaxInt32

// add adds one contribution to the tables. Without room for the host nothing of
// it is kept, so that no host is missing under its services.
func (a *Aggregator) add(it *Item, c *contribution) bool {
	row, h := a.host(it, c)
	if h == nil {
		a.hosts.full++
		a.stats.lostPackets += c.packets
		a.stats.lostBytes += c.bytes
		return false
	}
	if it.set&itemSpoofed != 0 {
		a.addSpoofed(h, row)
		return true
	}
	var large *span
	if c.packets > maxPackets {
		whole := c.span
		large, c.span = &whole, span{no: c.no}
		a.emitLargeHost(it, h, large)
	}
	a.addHost(it, h, row, &c.span, c.last)
	if it.set&itemBogon != 0 {
		return true
	}
	a.addService(it, c, row, h, large)
	a.addPair(it, c, row, large)
	return true
}

// host returns the row of the item's tenant and rate, made if need be, or nil if
// there is no room.
func (a *Aggregator) host(it *Item, c *contribution) (uint32, *hostRow) {
	tenant := it.tenant(a.mask)
	if c.host != noRow {
		if h := a.hosts.rows.at(c.host); h.isOf(tenant, it.rate) && h.win == c.window.handle {
			return c.host, h
		}
	}
	x := &a.hosts.index
	first, tag := x.at(it.hash, c.window.handle), tagOf(it.hash, c.window.handle)
	for n := range uint32(2) {
		for _, k := range &x.buckets[first^n] {
			if uint32(k>>32) == tag {
				if h := a.hosts.rows.at(rowOf(k)); h.isOf(tenant, it.rate) {
					return rowOf(k), h
				}
			}
		}
	}
	at, ok := newKey(a, &a.hosts, kindHosts, it.hash, c.window.handle)
	if !ok {
		return 0, nil
	}
	row := a.hosts.rows.get()
	h := a.hosts.rows.at(row)
	h.init(tenant, it.rate, c.window.handle)
	a.hosts.index.put(at, tag, row)
	c.window.keys[kindHosts].add(at, a.hosts.index.capacity())
	return row, h
}

func (a *Aggregator) addSpoofed(h *hostRow, row uint32) {
	if h.spoofOut == math.MaxUint16 {
		a.emitHost(h)
	}
	h.spoofOut++ // one record and no packets: the host did not send them
	h.flags |= rowDirty
	a.heatHost(h, row)
}

func (a *Aggregator) addHost(it *Item, h *hostRow, row uint32, p *span, last bool) {
	if h.full(it.dir, p.packets) {
		a.emitHost(h)
	}
	h.flags |= rowDirty
	h.count(it.dir, p)
	if last {
		h.records[it.dir&1]++
	}
	if it.dir == out {
		a.addHostOut(it, h, p, last)
		a.heatHost(h, row)
	}
	if last && it.set&itemBogon == 0 {
		h.classify(it)
	}
}

func (a *Aggregator) addHostOut(it *Item, h *hostRow, p *span, last bool) {
	if it.set&itemBogon != 0 {
		if last {
			h.bogonOut++
		}
		return
	}
	switch it.proto {
	case flow.ProtoUDP:
		h.udpOut += uint32(p.packets)
	case flow.ProtoICMP, flow.ProtoICMPv6:
		h.icmpOut += uint32(p.packets)
	}
	if last {
		if it.set&itemAttempt != 0 {
			h.attempts++
		}
		if it.class == flow.ClassICMPErr {
			h.icmpErrOut++
		}
	}
}

func (a *Aggregator) heatHost(h *hostRow, row uint32) {
	if h.flags&rowHot == 0 && isHot(h.attempts, h.packets[out], h.rate, a.hosts.heat) {
		h.flags |= rowHot
		a.hosts.hot = append(a.hosts.hot, row)
	}
}

func isHot(attempts uint16, outPackets, rate uint32, heat uint) bool {
	return uint64(attempts) >= hotAttempts<<heat || uint64(outPackets)*uint64(rate) >= hotOutPackets<<heat
}

func (a *Aggregator) addService(it *Item, c *contribution, host uint32, h *hostRow, large *span) {
	row, s := a.service(it, c, host, h)
	if s == nil {
		a.services.full++
		return
	}
	if large != nil {
		a.emitLargeService(it, s, large)
	}
	if s.full(it.dir, c.packets) {
		a.emitService(s)
	}
	s.flags |= rowDirty
	s.count(it.dir, &c.span)
	if c.last {
		s.records[it.dir&1]++
		s.classify(it)
		if it.set&itemAttempt != 0 {
			s.attempts++
			a.addRemote(s, it.remote)
		}
	}
	busy := s.packets[out]
	if s.proto == flow.ProtoUDP { // what acquits may have another port than what went out, as in VXLAN
		busy = max(busy, s.packets[in])
	}
	if s.flags&rowHot == 0 && isHot(s.attempts, busy, it.rate, a.services.heat) {
		s.flags |= rowHot
		a.services.hot = append(a.services.hot, row)
	}
}
