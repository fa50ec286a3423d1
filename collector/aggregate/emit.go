package aggregate

import "github.com/flowcordon/flowcordon/flow"

// ChunkRows is the most rows that write gets at once: about 400 KB, which are still
// in the cache when they are encoded.
const ChunkRows = 2048

// chunkHashes and chunkPorts bound what the rows of a chunk point to: 1 MB.
const (
	chunkHashes = 1 << 17
	chunkPorts  = 1 << 17
)

// chunk is the batch that is being filled. Its memory is used again and again.
type chunk struct {
	batch   flow.Batch
	remotes []uint64
	ports   []uint16
	write   func(*flow.Batch)
	rows    rowCounts
}

type rowCounts struct{ hosts, services, pairs, flows uint64 }

// room hands the chunk over if no row has room in it.
func (c *chunk) room() {
	if c.batch.Rows() >= ChunkRows || len(c.remotes) > chunkHashes-maxSet || len(c.ports) > chunkPorts-maxSet {
		c.hand()
	}
}

// hand gives the chunk to write, if there is anything in it.
func (c *chunk) hand() {
	b := &c.batch
	if b.Rows() == 0 {
		return
	}
	c.rows.hosts += uint64(len(b.Hosts))
	c.rows.services += uint64(len(b.Services))
	c.rows.pairs += uint64(len(b.Pairs))
	c.rows.flows += uint64(len(b.Flows))
	c.write(b)
	b.Hosts, b.Services, b.Pairs, b.Flows = b.Hosts[:0], b.Services[:0], b.Pairs[:0], b.Flows[:0]
	c.remotes, c.ports = c.remotes[:0], c.ports[:0]
}

func (c *counts) counts() flow.Counts {
	return flow.Counts{
		OutRecords: uint64(c.records[out]), InRecords: uint64(c.records[in]),
		OutPackets: uint64(c.packets[out]), InPackets: uint64(c.packets[in]),
		OutBytes: c.bytes[out], InBytes: c.bytes[in],
	}
}

func (p *pairRow) counts() flow.Counts {
	return flow.Counts{
		OutRecords: uint64(p.records[out]), InRecords: uint64(p.records[in]),
		OutPackets: uint64(p.packets[out]), InPackets: uint64(p.packets[in]),
		OutBytes: uint64(p.bytes[out]), InBytes: uint64(p.bytes[in]),
	}
}

// classRow is what a service's or a host's row says of its classes.
func (c *counts) classRow() flow.Classes {
	n := &c.classes
	return flow.Classes{
		SYNOut: uint64(n[cSYN]), EstOut: uint64(n[cEst]), SYNACKOut: uint64(n[cSYNACK]), RSTOut: uint64(n[cRST]),
		SYNIn: uint64(n[cIn+cSYN]), EstIn: uint64(n[cIn+cEst]), SYNACKIn: uint64(n[cIn+cSYNACK]), RSTIn: uint64(n[cIn+cRST]),
		RawSYN: uint64(n[cRawSYN]), NoFlags: uint64(n[cNoFlags]),
	}
}

func (p *pairRow) classRow() flow.Classes {
	return flow.Classes{
		SYNOut: p.class(cSYN), EstOut: p.class(cEst), SYNACKOut: p.class(cSYNACK), RSTOut: p.class(cRST),
		SYNIn: p.class(cIn + cSYN), EstIn: p.class(cIn + cEst), SYNACKIn: p.class(cIn + cSYNACK), RSTIn: p.class(cIn + cRST),
		RawSYN: p.class(cRawSYN), NoFlags: p.class(cNoFlags),
	}
}

func (a *Aggregator) key(h *hostRow) flow.Key {
	return flow.Key{Start: a.windows.byID[h.win].start(), Tenant: h.tenant().addr(), Rate: h.rate}
}

// extend returns the place behind the last row, which holds what an earlier
// chunk left there: it is filled in where it lies, field by field.
func extend[T any](rows *[]T) *T {
	n := len(*rows)
	if n == cap(*rows) {
		*rows = append(*rows, *new(T))
	} else {
		*rows = (*rows)[:n+1]
	}
	return &(*rows)[n]
}

// emitHost appends the row to the chunk and starts its counters again at zero.
func (a *Aggregator) emitHost(h *hostRow) {
	a.chunk.room()
	r := extend(&a.chunk.batch.Hosts)
	r.Key, r.Counts, r.Classes = a.key(h), h.counts.counts(), h.classRow()
	r.UDPOutPackets, r.ICMPOutPackets, r.ICMPErrOut = uint64(h.udpOut), uint64(h.icmpOut), uint64(h.icmpErrOut)
	r.BogonOut, r.SpoofOut = uint64(h.bogonOut), uint64(h.spoofOut)
	h.restart()
}

func (a *Aggregator) emitService(s *serviceRow) {
	a.chunk.room()
	c := &a.chunk
	r := extend(&c.batch.Services)
	first := len(c.remotes)
	c.remotes, r.RemotesLevel = a.takeRemotes(c.remotes, s)
	r.Remotes = c.remotes[first:len(c.remotes):len(c.remotes)]
	r.Key = a.key(a.hosts.rows.at(s.host))
	r.IPProto, r.Role, r.SvcPort, r.Attempts = s.proto, s.role, s.svc, uint64(s.attempts)
	r.Counts, r.Classes = s.counts.counts(), s.classRow()
	*s = serviceRow{host: s.host, svc: s.svc, proto: s.proto, role: s.role, flags: s.flags & rowHot}
}

func (a *Aggregator) emitPair(p *pairRow, row uint32) {
	a.chunk.room()
	c := &a.chunk
	r := extend(&c.batch.Pairs)
	first := len(c.ports)
	c.ports = a.ports.appendTo(c.ports, p.ports)
	r.Ports = c.ports[first:len(c.ports):len(c.ports)]
	r.Key, r.Remote, r.IPProto = a.key(a.hosts.rows.at(p.host)), a.remote(p, row).addr(), p.proto
	r.Counts, r.Classes = p.counts(), p.classRow()
	r.SYNPackets, r.EstOutPackets, r.RSTInPackets = uint64(p.syn), uint64(p.est), uint64(p.rst)
	a.ports.release(&p.ports)
	*p = pairRow{host: p.host, remote: p.remote, proto: p.proto, flags: p.flags &^ (rowDirty | rowFull)}
}

// The rows of contributions of more packets than a row's counters hold.

func (p *span) counts(dir uint8) flow.Counts {
	if dir == out {
		return flow.Counts{OutPackets: p.packets, OutBytes: p.bytes}
	}
	return flow.Counts{InPackets: p.packets, InBytes: p.bytes}
}

func (a *Aggregator) emitLargeHost(it *Item, h *hostRow, p *span) {
	a.chunk.room()
	row := flow.HostWindow{Key: a.key(h), Counts: p.counts(it.dir)}
	if it.dir == out && it.set&itemBogon == 0 {
		switch it.proto {
		case flow.ProtoUDP:
			row.UDPOutPackets = p.packets
		case flow.ProtoICMP, flow.ProtoICMPv6:
			row.ICMPOutPackets = p.packets
		}
	}
	a.chunk.batch.Hosts = append(a.chunk.batch.Hosts, row)
}

func (a *Aggregator) emitLargeService(it *Item, s *serviceRow, p *span) {
	a.chunk.room()
	a.chunk.batch.Services = append(a.chunk.batch.Services, flow.ServiceWindow{
		Key: a.key(a.hosts.rows.at(s.host)), IPProto: s.proto, Role: s.role, SvcPort: s.svc, Counts: p.counts(it.dir)})
}

func (a *Aggregator) emitLargePair(it *Item, q *pairRow, number uint32, p *span) {
	a.chunk.room()
	row := flow.PairWindow{Key: a.key(a.hosts.rows.at(q.host)), Remote: a.remote(q, number).addr(), IPProto: q.proto, Counts: p.counts(it.dir)}
	switch {
	case it.counter == cEst:
		row.EstOutPackets = p.packets
	case it.counter == cIn+cRST:
		row.RSTInPackets = p.packets
	case it.dir == out:
		row.SYNPackets = p.syn
	}
	a.chunk.batch.Pairs = append(a.chunk.batch.Pairs, row)
}
