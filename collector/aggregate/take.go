package aggregate

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// Take adds all items of the block and keeps nothing of it.
func (a *Aggregator) Take(b *Block) {
	for i := range b.Items {
		a.take(&b.Items[i])
	}
}

func (a *Aggregator) take(it *Item) {
	tenant := it.host.tenant(a.mask)
	no := windowNo(it.end)
	stored := false
	if it.start >= no*windowNS || it.set&itemSpoofed != 0 {
		stored = a.add(it, tenant, &span{no: no, packets: it.packets, bytes: it.bytes, syn: it.synPackets()}, true)
	} else {
		spans, clipped := spread(a.spans[:0], it.start, it.end, windowNo(it.received-int64(a.cfg.MaxAge)), it.packets, it.bytes, it.synPackets())
		a.spans = spans
		if it.set&itemPrimary != 0 {
			a.stats.clippedPackets += clipped.packets
			a.stats.clippedBytes += clipped.bytes
		}
		for i := range spans {
			stored = a.add(it, tenant, &spans[i], i == len(spans)-1)
		}
	}
	if it.set&itemPrimary != 0 {
		if stored {
			a.stats.aggregated++
		} else {
			a.stats.tableFull++
		}
	}
	if a.cfg.FlowPolicy != FlowOff && a.wantsFlow(it) {
		a.addFlow(it, tenant)
	}
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

// add adds one span to the window's tables; last says that the record itself,
// and what it is evidence of, counts here. Without room for the host nothing of
// the span is kept, so that no host is missing under its services.
func (a *Aggregator) add(it *Item, tenant ip, p *span, last bool) bool {
	w := a.windows.at(p.no, it.received)
	row, h := a.host(it, tenant, w)
	if h == nil {
		a.hosts.full++
		a.stats.lostPackets += p.packets
		a.stats.lostBytes += p.bytes
		return false
	}
	if it.set&itemSpoofed != 0 {
		a.addSpoofed(h, row)
		return true
	}
	var large *span
	if p.packets > maxPackets {
		large, p = p, &span{no: p.no}
		a.emitLargeHost(it, h, large)
	}
	a.addHost(it, h, row, p, last)
	if it.set&itemBogon != 0 {
		return true
	}
	hash := it.hash
	a.addService(it, w, row, hash, p, large, last)
	a.addPair(it, w, row, hash, p, large, last)
	return true
}

// host returns the row of the item's tenant and rate in w, made if need be, or
// nil if there is no room.
func (a *Aggregator) host(it *Item, tenant ip, w *window) (uint32, *hostRow) {
	b := &a.hosts.index.buckets[a.hosts.index.at(it.hash, w.no)]
	key := tagOf(it.hash, w.handle)
	for i, k := range b.key {
		if k == key {
			row := b.val[i] >> worthBits
			if h := a.hosts.rows.at(row); h.tenant == tenant && h.rate == it.rate {
				return row, h
			}
		}
	}
	b, at, ok := newKey(a, &a.hosts, kindHosts, it.hash, w.no)
	if !ok {
		return 0, nil
	}
	row := a.hosts.rows.get()
	h := a.hosts.rows.at(row)
	*h = hostRow{tenant: tenant, rate: it.rate, win: w.handle}
	a.hosts.index.put(b, at%ways, key, row)
	w.keys[kindHosts].add(at, a.hosts.index.capacity())
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
	if isHot(h.attempts, h.packets[out], h.rate) && h.flags&rowHot == 0 {
		h.flags |= rowHot
		a.hosts.hot = append(a.hosts.hot, row)
	}
}

func isHot(attempts uint16, outPackets, rate uint32) bool {
	return attempts >= hotAttempts || uint64(outPackets)*uint64(rate) >= hotOutPackets
}

// full reports whether the row has to go out before another contribution.
func (c *counts) full(dir uint8, packets uint64) bool {
	return c.records[dir&1] == maxRecords || uint64(c.packets[dir&1])+packets > math.MaxUint32
}

func (c *counts) count(dir uint8, p *span) {
	c.packets[dir&1] += uint32(p.packets)
	c.bytes[dir&1] += p.bytes
}

// classify counts what the record is evidence of. The flow record of a whole
// conversation, sent by its server, holds a SYN-ACK too and counts as both: at
// 1:1 it is the only sign that attempts are answered, and the scan rules weigh
// attempts against SYN-ACKs.
func (c *counts) classify(it *Item) {
	if it.counter < numCounters {
		c.classes[it.counter]++
	}
	if it.set&(itemAnswered|itemReset|itemRawSYN) == 0 {
		return
	}
	dir := it.dir & 1 * cIn
	if it.set&itemAnswered != 0 {
		c.classes[dir+cSYNACK]++
	}
	if it.set&itemReset != 0 {
		c.classes[dir+cRST]++
	}
	if it.set&itemRawSYN != 0 {
		c.classes[cRawSYN]++
	}
}

func (a *Aggregator) addService(it *Item, w *window, host uint32, hash uint64, p, large *span, last bool) {
	row, s := a.service(it, w, host, hashService(hash, it.svc, it.proto, it.role))
	if s == nil {
		a.services.full++
		return
	}
	if large != nil {
		a.emitLargeService(it, s, large)
	}
	if s.full(it.dir, p.packets) {
		a.emitService(s)
	}
	s.flags |= rowDirty
	s.count(it.dir, p)
	if last {
		s.records[it.dir&1]++
		s.classify(it)
		if it.set&itemAttempt != 0 {
			s.attempts++
			a.remotes.add(&s.remotes, hashRemote(it.remote))
		}
	}
	if isHot(s.attempts, s.packets[out], it.rate) && s.flags&rowHot == 0 {
		s.flags |= rowHot
		a.services.hot = append(a.services.hot, row)
	}
}

func (a *Aggregator) service(it *Item, w *window, host uint32, hash uint64) (uint32, *serviceRow) {
	b := &a.services.index.buckets[a.services.index.at(hash, w.no)]
	key := tagOf(hash, w.handle)
	for i, k := range b.key {
		if k == key {
			row := b.val[i] >> worthBits
			if s := a.services.rows.at(row); s.host == host && s.svc == it.svc && s.proto == it.proto && s.role == it.role {
				return row, s
			}
		}
	}
	b, at, ok := newKey(a, &a.services, kindServices, hash, w.no)
	if !ok {
		return 0, nil
	}
	row := a.services.rows.get()
	s := a.services.rows.at(row)
	*s = serviceRow{host: host, svc: it.svc, proto: it.proto, role: it.role}
	a.services.index.put(b, at%ways, key, row)
	w.keys[kindServices].add(at, a.services.index.capacity())
	return row, s
}
