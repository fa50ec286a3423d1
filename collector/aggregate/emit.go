package aggregate

import (
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

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

// emit appends the window's rows: all that counted anything if it closed, else
// the hot ones. Emitted counters start again at zero.
func (a *Aggregator) emit(w *window, closed bool, b *flow.Batch) {
	a.order = w.hosts.order(a.order[:0], !closed)
	b.Hosts = slices.Grow(b.Hosts, len(a.order))
	for _, i := range a.order {
		b.Hosts = append(b.Hosts, hostRow(w, &w.hosts.rows[i]))
	}
	a.order = w.services.order(a.order[:0], !closed)
	b.Services = slices.Grow(b.Services, len(a.order))
	for _, i := range a.order {
		b.Services = append(b.Services, serviceRow(w, &w.services.rows[i]))
	}
	a.order = w.pairs.order(a.order[:0], !closed)
	for _, i := range a.order {
		e := &w.pairs.rows[i]
		if !closed || e.val.emitted || PairFloor(pairDid(e)) {
			b.Pairs = append(b.Pairs, pairRow(w, e))
			continue
		}
		a.stats.PairsBelowFloor++
		e.val.reset()
	}
}

func pairDid(e *entry[pairKey, pair]) PairDid {
	v := &e.val
	return PairDid{Rate: e.key.rate, IPProto: uint8(e.key.proto), OutPackets: v.OutPackets, InPackets: v.InPackets,
		SYNPackets: v.synPackets, RSTIn: v.rstIn, SYNPorts: len(v.ports)}
}

// release takes a window out whose rows were all emitted.
func (a *Aggregator) release(w *window) {
	delete(a.windows, w.start)
	if a.last == w {
		a.last = nil
	}
	w.hosts.release(&a.hosts)
	w.services.release(&a.services)
	for i := range w.pairs.rows {
		w.pairs.rows[i].val.emitted = false
	}
	w.pairs.release(&a.pairs)
	if len(a.spare) < maxSpare {
		a.spare = append(a.spare, w)
	}
}

func hostRow(w *window, e *entry[hostKey, host]) flow.HostWindow {
	v := &e.val
	row := flow.HostWindow{
		Key:            flow.Key{Start: w.start, Tenant: e.key.tenant.addr(), Rate: e.key.rate},
		Counts:         v.Counts,
		Classes:        v.Classes,
		UDPOutPackets:  v.udpOut,
		ICMPOutPackets: v.icmpOut,
		ICMPErrOut:     v.icmpErrOut,
		BogonOut:       v.bogonOut,
		SpoofOut:       v.spoofOut,
	}
	v.reset()
	e.dirty = false
	return row
}

func serviceRow(w *window, e *entry[serviceKey, service]) flow.ServiceWindow {
	v := &e.val
	row := flow.ServiceWindow{
		Key:      flow.Key{Start: w.start, Tenant: e.key.tenant.addr(), Rate: e.key.rate},
		IPProto:  e.key.proto,
		Role:     e.key.role,
		SvcPort:  e.key.svc,
		Counts:   v.Counts,
		Classes:  v.Classes,
		Attempts: v.attempts,
		Remotes:  v.remotes.sorted(),
	}
	v.reset()
	e.dirty = false
	return row
}

func pairRow(w *window, e *entry[pairKey, pair]) flow.PairWindow {
	v := &e.val
	row := flow.PairWindow{
		Key:           flow.Key{Start: w.start, Tenant: e.key.tenant.addr(), Rate: e.key.rate},
		Remote:        e.key.remote.addr(),
		IPProto:       uint8(e.key.proto),
		Counts:        v.Counts,
		Classes:       v.Classes,
		SYNPackets:    v.synPackets,
		EstOutPackets: v.estOut,
		RSTInPackets:  v.rstIn,
	}
	if len(v.ports) > 0 {
		row.Ports = slices.Clone([]uint16(v.ports))
	}
	v.emitted = true
	v.reset()
	e.dirty = false
	return row
}
