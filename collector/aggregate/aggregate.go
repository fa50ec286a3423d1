package aggregate

import (
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Aggregator holds the open windows of one shard. It is not safe for
// concurrent use.
type Aggregator struct {
	cfg  Config
	nets *networks

	windows map[int64]*window // by start
	last    *window           // the one used last: most records share a window
	spare   []*window         // emptied, for reuse

	hosts, services, pairs budget

	pending flow.Batch // rows that were full before a flush, and flow rows
	spans   []span     // scratch
	order   []uint32   // scratch

	stats     Stats
	dropped   [numReasons]uint64
	exporters map[netip.Addr]*ExporterStats
}

// maxSpare is how many emptied windows keep their memory. Two are enough for
// the steady state: one window closes as another opens.
const maxSpare = 2

// New returns an Aggregator without windows. It panics if cfg does not
// Validate: a user's configuration is checked before.
func New(cfg Config) *Aggregator {
	if err := cfg.Validate(); err != nil {
		panic("aggregate: " + err.Error())
	}
	cfg = cfg.withDefaults()
	return &Aggregator{
		cfg:       cfg,
		nets:      newNetworks(cfg),
		windows:   make(map[int64]*window),
		hosts:     budget{max: cfg.MaxKeys},
		services:  budget{max: cfg.MaxKeys},
		pairs:     budget{max: cfg.MaxKeys},
		exporters: make(map[netip.Addr]*ExporterStats),
	}
}

// Reconfigure replaces the configuration for records that come from now on.
// Open windows stay. An error leaves everything as it was.
func (a *Aggregator) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a.cfg = cfg.withDefaults()
	a.nets = newNetworks(a.cfg)
	a.hosts.max, a.services.max, a.pairs.max = a.cfg.MaxKeys, a.cfg.MaxKeys, a.cfg.MaxKeys
	return nil
}

// Add takes in one record; r.Received is "now". The record is not kept.
func (a *Aggregator) Add(r *flow.Record) {
	a.stats.Records++
	if !r.Src.IsValid() || !r.Dst.IsValid() {
		a.dropped[dropNoAddress]++
		return
	}
	if r.SamplingRate == 0 {
		a.dropped[dropSamplingUnknown]++
		a.exporter(r.Exporter).SamplingUnknown++
		return
	}
	srcInternal, dstInternal := a.nets.internal.Contains(r.Src), a.nets.internal.Contains(r.Dst)
	if !srcInternal && !dstInternal {
		a.dropped[dropNotInternal]++
		return
	}
	t := checkTimes(r, a.cfg.MaxAge)
	if t.ahead {
		a.stats.ClockAhead++
		a.exporter(r.Exporter).ClockAhead++
	}
	if t.end < t.horizon {
		a.dropped[dropTooLate]++
		a.stats.ClippedPackets += r.Packets
		a.stats.ClippedBytes += r.Bytes
		a.exporter(r.Exporter).TooLate++
		return
	}
	k := classify(r)
	spans, clipped := spread(a.spans[:0], t, r.Packets, r.Bytes, k.synPackets)
	a.spans = spans
	a.stats.ClippedPackets += clipped.packets
	a.stats.ClippedBytes += clipped.bytes

	stored := false
	if srcInternal {
		s := side{
			rec: r, kind: k, dir: flow.Out, host: r.Src, remote: r.Dst, role: k.sender,
			spoofed: r.Has&flow.HasInIf != 0 && a.nets.isExternal(r.Exporter, r.InIf),
			bogon:   a.nets.isBogon(r.Dst, dstInternal),
		}
		stored = a.addSide(&s, t) || stored
	}
	if dstInternal {
		s := side{
			rec: r, kind: k, dir: flow.In, host: r.Dst, remote: r.Src, role: opposite(k.sender),
			bogon: a.nets.isBogon(r.Src, srcInternal),
		}
		stored = a.addSide(&s, t) || stored
	}
	if !stored {
		a.dropped[dropTableFull]++
		return
	}
	a.stats.Aggregated++
}

func opposite(r flow.Role) flow.Role {
	switch r {
	case flow.RoleClient:
		return flow.RoleServer
	case flow.RoleServer:
		return flow.RoleClient
	}
	return r
}

// side is a record turned towards one internal endpoint.
type side struct {
	rec          *flow.Record
	kind         kind
	dir          flow.Direction
	host, remote netip.Addr
	role         flow.Role // the host's
	bogon        bool
	spoofed      bool
	tenant       addr16
}

// addSide adds the record's spans to the host's windows and keeps its flow row.
// It reports whether the host's window of the record's end took it.
func (a *Aggregator) addSide(s *side, t times) bool {
	s.tenant = a.nets.tenant(s.host)
	stored := false
	first := 0
	if s.spoofed {
		first = len(a.spans) - 1 // one record and no packets: the host did not send them
	}
	for i := first; i < len(a.spans); i++ {
		last := i == len(a.spans)-1
		w := a.window(a.spans[i].start, s.rec.Received)
		stored = a.addSpan(w, s, &a.spans[i], last)
	}
	if a.wantsFlow(s) {
		a.pending.Flows = append(a.pending.Flows, flowRow(s, t))
	}
	return stored
}

// addSpan adds one span to the window's tables; last says that the record
// itself, and what it is evidence of, counts here. Without room for the host
// nothing of the span is kept, so that no host is missing under its services.
func (a *Aggregator) addSpan(w *window, s *side, p *span, last bool) bool {
	h, i := w.hosts.at(hostKey{tenant: s.tenant, rate: s.rec.SamplingRate}, &a.hosts)
	if h == nil {
		a.stats.LostPackets += p.packets
		a.stats.LostBytes += p.bytes
		return false
	}
	addHost(&h.val, s, p, last)
	if isHot(h.val.attempts, h.val.OutPackets, s.rec.SamplingRate) {
		w.hosts.heat(h, i)
	}
	if s.spoofed || s.bogon {
		return true
	}
	a.addService(w, s, p, last)
	a.addPair(w, s, p, last)
	return true
}

func isHot(attempts, outPackets uint64, rate uint32) bool {
	return attempts >= hotAttempts || outPackets*uint64(rate) >= hotOutPackets
}

func addHost(h *host, s *side, p *span, last bool) {
	if s.spoofed {
		h.spoofOut++
		return
	}
	addCounts(&h.Counts, s.dir, p, last)
	if s.bogon {
		if last && s.dir == flow.Out {
			h.bogonOut++
		}
		return
	}
	if s.dir == flow.Out {
		switch s.rec.IPProto {
		case flow.ProtoUDP:
			h.udpOut += p.packets
		case flow.ProtoICMP, flow.ProtoICMPv6:
			h.icmpOut += p.packets
		}
	}
	if !last {
		return
	}
	addClasses(&h.Classes, s)
	if s.dir == flow.Out {
		if s.kind.class == flow.ClassICMPErr {
			h.icmpErrOut++
		}
		if s.kind.isAttempt() {
			h.attempts++
		}
	}
}

func (a *Aggregator) addService(w *window, s *side, p *span, last bool) {
	key := serviceKey{tenant: s.tenant, rate: s.rec.SamplingRate, svc: s.kind.svc, proto: s.rec.IPProto, role: s.role}
	e, i := w.services.at(key, &a.services)
	if e == nil {
		return
	}
	v := &e.val
	addCounts(&v.Counts, s.dir, p, last)
	if last {
		addClasses(&v.Classes, s)
		if s.dir == flow.Out && s.kind.isAttempt() {
			v.attempts++
			if v.remotes.add(hashRemote(s.remote)) >= maxSet {
				a.pending.Services = append(a.pending.Services, serviceRow(w, e))
				return
			}
		}
	}
	if isHot(v.attempts, v.OutPackets, key.rate) {
		w.services.heat(e, i)
	}
}

func (a *Aggregator) addPair(w *window, s *side, p *span, last bool) {
	key := pairKey{tenant: s.tenant, remote: s.remote.As16(), rate: s.rec.SamplingRate, proto: uint32(s.rec.IPProto)}
	e, i := w.pairs.at(key, &a.pairs)
	if e == nil {
		return
	}
	v := &e.val
	addCounts(&v.Counts, s.dir, p, last)
	out := s.dir == flow.Out
	switch {
	case out && s.kind.class == flow.ClassSYN:
		v.synPackets += p.syn
	case out && s.kind.class == flow.ClassEst:
		v.estOut += p.packets
	case !out && s.kind.class == flow.ClassRST:
		v.rstIn += p.packets
	}
	ports := len(v.ports)
	if last {
		addClasses(&v.Classes, s)
		if out && s.kind.class == flow.ClassSYN && hasPorts(s.rec) {
			ports = v.ports.add(s.rec.DstPort)
		}
	}
	if ports >= maxSet {
		a.pending.Pairs = append(a.pending.Pairs, pairRow(w, e))
		return
	}
	if ports >= hotPorts || v.OutPackets*uint64(key.rate) >= hotPairOut {
		w.pairs.heat(e, i)
	}
}

func addCounts(c *flow.Counts, dir flow.Direction, p *span, last bool) {
	var n uint64
	if last {
		n = 1
	}
	if dir == flow.Out {
		c.OutRecords += n
		c.OutPackets += p.packets
		c.OutBytes += p.bytes
		return
	}
	c.InRecords += n
	c.InPackets += p.packets
	c.InBytes += p.bytes
}

// addClasses counts what the record is evidence of. The flow record of a whole
// conversation, sent by its server, holds a SYN-ACK too and counts as both: at
// 1:1 it is the only sign that attempts are answered, and the scan rules weigh
// attempts against SYN-ACKs.
func addClasses(c *flow.Classes, s *side) {
	out := s.dir == flow.Out
	syn, est, synack, rst := &c.SYNIn, &c.EstIn, &c.SYNACKIn, &c.RSTIn
	if out {
		syn, est, synack, rst = &c.SYNOut, &c.EstOut, &c.SYNACKOut, &c.RSTOut
	}
	switch s.kind.class {
	case flow.ClassSYN:
		*syn++
		if out && isRawSYN(s.rec) {
			c.RawSYN++
		}
	case flow.ClassSYNACK:
		*synack++
	case flow.ClassRST:
		*rst++
	case flow.ClassEst:
		*est++
	case flow.ClassNoFlags:
		c.NoFlags++
	}
	if s.kind.answered {
		*synack++
	}
	if s.kind.reset {
		*rst++
	}
}

// window returns the window that starts at start, opened now if need be.
func (a *Aggregator) window(start, now int64) *window {
	if a.last != nil && a.last.start == start {
		return a.last
	}
	w := a.windows[start]
	if w == nil {
		if n := len(a.spare); n > 0 {
			w, a.spare = a.spare[n-1], a.spare[:n-1]
		} else {
			w = newWindow()
		}
		w.start, w.opened = start, now
		a.windows[start] = w
	}
	a.last = w
	return w
}

// due reports whether the window has waited long enough for late records: its
// end, or the record that opened it again after that, is Lateness ago.
func (a *Aggregator) due(w *window, now int64) bool {
	end := (w.start + flow.WindowSeconds) * int64(time.Second)
	return now >= max(end, w.opened)+int64(a.cfg.Lateness)
}

// Flush appends to b every row that is due at now (ns): all rows of windows
// that closed Lateness ago, the hot rows of the others, and the flow rows. With
// all it appends everything there is. The rows share no memory with the
// Aggregator; for the same records and the same flushes they come in the same
// order, sorted by key within a window.
func (a *Aggregator) Flush(now int64, all bool, b *flow.Batch) {
	before := [4]int{len(b.Hosts), len(b.Services), len(b.Pairs), len(b.Flows)}
	b.Services = append(b.Services, a.pending.Services...)
	b.Pairs = append(b.Pairs, a.pending.Pairs...)
	b.Flows = append(b.Flows, a.pending.Flows...)
	clear(a.pending.Services) // their sets belong to b now
	clear(a.pending.Pairs)
	a.pending = flow.Batch{Services: a.pending.Services[:0], Pairs: a.pending.Pairs[:0], Flows: a.pending.Flows[:0]}

	starts := make([]int64, 0, len(a.windows))
	for s := range a.windows {
		starts = append(starts, s)
	}
	slices.Sort(starts)
	for _, s := range starts {
		w := a.windows[s]
		closed := all || a.due(w, now)
		a.emit(w, closed, b)
		if closed {
			a.release(w)
		}
	}
	a.stats.RowsHosts += uint64(len(b.Hosts) - before[0])
	a.stats.RowsServices += uint64(len(b.Services) - before[1])
	a.stats.RowsPairs += uint64(len(b.Pairs) - before[2])
	a.stats.RowsFlows += uint64(len(b.Flows) - before[3])
}

// PendingRows is the number of rows that wait for a Flush although no window
// closed: flow rows, and rows that were full. Who adds many records between two
// flushes bounds its memory by it.
func (a *Aggregator) PendingRows() int { return a.pending.Rows() }
