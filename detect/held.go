package detect

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// heldRows keeps the suspects' service windows, so that a range that slides costs
// the store what is new in it, and adds them up as the store does
// (TestStoreAgreesWithTheModel). A window holds as long as the number of its
// stored rows is the same.
type heldRows struct {
	s       Screener
	slots   *slotCache
	tenants map[netip.Addr]*heldTenant
	size    int       // of all, in bytes, about
	tooMany time.Time // when they were too many: the store adds up for a minute
}

type heldTenant struct {
	used    time.Time
	windows map[int64]*heldWindow
}

type heldWindow struct {
	stored uint64 // rows of all tenants in the window
	rows   []flow.ServiceWindow
}

const (
	heldFor  = 5 * time.Minute // after the last question about a tenant
	heldMax  = 192 << 20       // bytes of all rows
	heldRow  = 320             // bytes of one without its destinations
	heldRead = 200_000         // rows of one answer
)

func newHeldRows(s Screener, slots *slotCache) *heldRows {
	return &heldRows{s: s, slots: slots, tenants: map[netip.Addr]*heldTenant{}}
}

// begin forgets whom nobody asked for lately, and what no range reaches.
func (h *heldRows) begin(ts time.Time) {
	old := ts.Add(-h.slots.keep - 2*time.Minute).Unix()
	h.size = 0
	for a, t := range h.tenants {
		if ts.Sub(t.used) > heldFor {
			delete(h.tenants, a)
			continue
		}
		maps.DeleteFunc(t.windows, func(start int64, _ *heldWindow) bool { return start < old })
		for _, w := range t.windows {
			h.size += w.size()
		}
	}
}

func (w *heldWindow) size() int {
	n := 0
	for i := range w.rows {
		n += heldRow + 8*len(w.rows[i].Remotes)
	}
	return n
}

// load makes the rows of r and of the tenants those that are stored. False: they
// are too many to be held, or the slots do not know how many are stored.
func (h *heldRows) load(ctx context.Context, r flow.Range, tenants []netip.Addr) (bool, error) {
	ts := h.slots.ts
	if !h.tooMany.IsZero() && ts.Sub(h.tooMany) < time.Minute || h.slots.checked.IsZero() || r.From.Before(h.slots.checked) {
		return false, nil
	}
	gaps := map[flow.Range][]netip.Addr{}
	for _, a := range tenants {
		t := h.tenants[a]
		if t == nil {
			t = &heldTenant{windows: map[int64]*heldWindow{}}
			h.tenants[a] = t
		}
		t.used = ts
		for _, g := range h.missing(t, r) {
			gaps[g] = append(gaps[g], a)
		}
	}
	for _, g := range slices.SortedFunc(maps.Keys(gaps), func(x, y flow.Range) int { return cmp.Or(x.From.Compare(y.From), x.To.Compare(y.To)) }) {
		rows, err := h.s.ServiceRows(flow.Among(ctx, gaps[g]), g, heldRead)
		if err != nil {
			return false, err
		}
		h.put(g, gaps[g], rows)
		if len(rows) >= heldRead || h.size > heldMax {
			h.tenants, h.size, h.tooMany = map[netip.Addr]*heldTenant{}, 0, ts
			return false, nil
		}
	}
	return true, nil
}

// missing returns the stretches of r whose windows of a tenant are not those
// stored now.
func (h *heldRows) missing(t *heldTenant, r flow.Range) []flow.Range {
	var out []flow.Range
	for at := r.From; at.Before(r.To); at = at.Add(window) {
		stored := h.slots.rows[at.Unix()].Services
		if w := t.windows[at.Unix()]; stored == 0 || w != nil && w.stored == stored {
			continue
		}
		if n := len(out) - 1; n >= 0 && out[n].To.Equal(at) {
			out[n].To = at.Add(window)
		} else {
			out = append(out, flow.Range{From: at, To: at.Add(window)})
		}
	}
	return out
}

// put replaces the windows of r. Those without a row of a tenant are held too.
func (h *heldRows) put(r flow.Range, tenants []netip.Addr, rows []flow.ServiceWindow) {
	for _, a := range tenants {
		t := h.tenants[a]
		for at := r.From.Unix(); at < r.To.Unix(); at += flow.WindowSeconds {
			if w := t.windows[at]; w != nil {
				h.size -= w.size()
			}
			t.windows[at] = &heldWindow{stored: h.slots.rows[at].Services}
		}
	}
	for i := range rows {
		if t := h.tenants[rows[i].Tenant]; t != nil {
			if w := t.windows[rows[i].Start]; w != nil {
				w.rows = append(w.rows, rows[i])
				h.size += heldRow + 8*len(rows[i].Remotes)
			}
		}
	}
}

// each calls fn for the rows of one tenant and protocol in r. A window without
// stored rows has none, whatever is held of it.
func (h *heldRows) each(a netip.Addr, r flow.Range, ipProto uint8, fn func(*flow.ServiceWindow)) {
	t := h.tenants[a]
	for at := r.From.Unix(); at < r.To.Unix(); at += flow.WindowSeconds {
		w := t.windows[at]
		if w == nil || h.slots.rows[at].Services == 0 {
			continue
		}
		for i := range w.rows {
			if w.rows[i].IPProto == ipProto {
				fn(&w.rows[i])
			}
		}
	}
}

// serviceSum adds up the rows of one tenant and port, times their rates.
type serviceSum struct {
	counts          flow.Counts
	classes         flow.Classes
	attempts, tries uint64 // times rate; as exported
	out             uint64 // packets, as exported
	rate            uint64
	level           uint8
	rows            []*flow.ServiceWindow // with destinations
}

func (s *serviceSum) add(w *flow.ServiceWindow) {
	n := uint64(w.Rate)
	c, k := w.Counts, w.Classes
	for _, p := range cells(&c, &k) {
		*p *= n
	}
	s.counts.Add(c)
	s.classes.Add(k)
	s.attempts, s.tries, s.rate = s.attempts+n*w.Attempts, s.tries+w.Attempts, max(s.rate, n)
	s.out, s.level = s.out+w.OutPackets, max(s.level, w.RemotesLevel)
	if len(w.Remotes) > 0 {
		s.rows = append(s.rows, w)
	}
}

// cells are all counters, to be scaled.
func cells(c *flow.Counts, k *flow.Classes) [16]*uint64 {
	return [16]*uint64{&c.OutRecords, &c.InRecords, &c.OutPackets, &c.InPackets, &c.OutBytes, &c.InBytes,
		&k.SYNOut, &k.EstOut, &k.SYNACKOut, &k.RSTOut, &k.SYNIn, &k.EstIn, &k.SYNACKIn, &k.RSTIn, &k.RawSYN, &k.NoFlags}
}

// thinTo brings a sum of scaled counts to a sampling rate, rounded.
func thinTo(x, n uint64) uint64 { return (x + n/2) / n }

func thinAll(c *flow.Counts, k *flow.Classes, n uint64) {
	for _, p := range cells(c, k) {
		*p = thinTo(*p, n)
	}
}

// union counts the distinct destinations of rows, as flow.ServiceWindow says.
func union(rows []*flow.ServiceWindow, level uint8) uint64 {
	seen := map[uint64]struct{}{}
	for _, w := range rows {
		for _, h := range w.Remotes {
			if h&(1<<level-1) == 0 {
				seen[h] = struct{}{}
			}
		}
	}
	return uint64(len(seen)) << level
}

// byPort adds up a tenant's rows by service port.
func (h *heldRows) byPort(a netip.Addr, r flow.Range, ipProto uint8) map[uint16]*serviceSum {
	sums := map[uint16]*serviceSum{}
	h.each(a, r, ipProto, func(w *flow.ServiceWindow) {
		s := sums[w.SvcPort]
		if s == nil {
			s = &serviceSum{}
			sums[w.SvcPort] = s
		}
		s.add(w)
	})
	return sums
}

// serviceStats is Windows.ServiceStats of the tenants, whose rows are loaded.
func (h *heldRows) serviceStats(r flow.Range, tenants []netip.Addr, ipProto uint8, least uint64) []flow.ServiceStat {
	return h.clients(r, tenants, ipProto, func(_ uint16, s *serviceSum) bool { return s.tries >= least })
}

// serviceTotals is Windows.ServiceTotals of clients.
func (h *heldRows) serviceTotals(r flow.Range, tenants []netip.Addr, q *flow.ServiceQuery) []flow.ServiceStat {
	return h.clients(r, tenants, q.IPProto, func(port uint16, s *serviceSum) bool {
		return s.out >= q.MinOutPackets && (q.Ports == nil || slices.Contains(q.Ports, port))
	})
}

func (h *heldRows) clients(r flow.Range, tenants []netip.Addr, ipProto uint8, wanted func(uint16, *serviceSum) bool) []flow.ServiceStat {
	var out []flow.ServiceStat
	for _, a := range tenants {
		ports := h.byPort(a, r, ipProto)
		for _, port := range slices.Sorted(maps.Keys(ports)) { // in the same order each time
			s := ports[port]
			if !wanted(port, s) {
				continue
			}
			n := max(s.rate, 1)
			thinAll(&s.counts, &s.classes, n)
			st := flow.ServiceStat{Tenant: a, IPProto: ipProto, SvcPort: port, Counts: s.counts, Classes: s.classes, Attempts: thinTo(s.attempts, n), Rate: float64(n)}
			st.Distinct = union(s.rows, s.level) * st.Attempts / max(s.tries, 1)
			out = append(out, st)
		}
	}
	return out
}

// attemptStats is Windows.AttemptStats of the tenants, whose rows are loaded.
func (h *heldRows) attemptStats(r flow.Range, tenants []netip.Addr, ipProto uint8, least, scaled uint64) []flow.AttemptStat {
	var out []flow.AttemptStat
	for _, a := range tenants {
		ports := h.byPort(a, r, ipProto)
		var all serviceSum
		st, first := flow.AttemptStat{Tenant: a, IPProto: ipProto}, true
		for port, s := range ports {
			all.counts.Add(s.counts)
			all.classes.Add(s.classes)
			all.attempts, all.tries, all.rate, all.level = all.attempts+s.attempts, all.tries+s.tries, max(all.rate, s.rate), max(all.level, s.level)
			all.rows = append(all.rows, s.rows...)
			if s.tries > 0 {
				st.Ports++
			}
			n := union(s.rows, s.level)
			st.Pairs += n
			if n > st.TopDistinct || n == st.TopDistinct && (first || port < st.TopPort) {
				st.TopPort, st.TopDistinct = port, n
			}
			first = false
		}
		if len(ports) == 0 || all.tries < max(least, 1) || all.attempts < scaled {
			continue
		}
		n := max(all.rate, 1)
		thinAll(&all.counts, &all.classes, n)
		st.Counts, st.Classes, st.Attempts, st.Rate = all.counts, all.classes, thinTo(all.attempts, n), float64(n)
		fewer := func(x uint64) uint64 { return x * st.Attempts / max(all.tries, 1) }
		st.Pairs, st.Remotes, st.TopDistinct = fewer(st.Pairs), fewer(union(all.rows, all.level)), fewer(st.TopDistinct)
		out = append(out, st)
	}
	return out
}
