package detect

import (
	"cmp"
	"context"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/flowcordon/flowcordon/flow"
)

// memWindows is the store as a model: it keeps the rows that the aggregator
// emits and adds them up over a range as the queries do.
type memWindows struct {
	services   map[int64][]flow.ServiceWindow
	pairs      map[int64][]flow.PairWindow
	hosts      map[int64][]flow.HostWindow
	flows      []memFlow        // of the ports that peers are asked for
	seen       []memSeen        // what the guards look at
	spoofs     []flow.SpoofStat // the answer to SpoofStats, beside what forged says
	forged     []flow.FlowRow   // with forged sources
	peersErr   error            // of Peers
	guardErr   error            // of the queries of the guards but SharedFlows
	sharedErr  error            // of SharedFlows
	known      float64          // the answer to KnownPeerShare
	met        float64          // packets/s exchanged with every remote before anything is stored
	knownErr   error
	usual      flow.Usual // the answer to Usual
	usualAsked int
	asked      int   // calls of KnownPeerShare
	err        error // of every query
	queries    int
}

func newMemWindows() *memWindows {
	return &memWindows{services: map[int64][]flow.ServiceWindow{}, pairs: map[int64][]flow.PairWindow{}, hosts: map[int64][]flow.HostWindow{}}
}

func (m *memWindows) add(b *flow.Batch) {
	keep(m.services, b.Services, func(r *flow.ServiceWindow) int64 { return r.Start })
	keep(m.pairs, b.Pairs, func(r *flow.PairWindow) int64 { return r.Start })
	keep(m.hosts, b.Hosts, func(r *flow.HostWindow) int64 { return r.Start })
	m.addFlows(b.Flows)
	m.addSeen(b.Flows)
}

// keep puts rows to those of their windows, a run of one window's at once.
func keep[T any](windows map[int64][]T, rows []T, start func(*T) int64) {
	for len(rows) > 0 {
		at, n := start(&rows[0]), 1
		for n < len(rows) && start(&rows[n]) == at {
			n++
		}
		windows[at] = append(windows[at], rows[:n]...)
		rows = rows[n:]
	}
}

// inRange calls fn for the rows of each window that starts within r, in order.
func inRange[T any](rows map[int64][]T, r flow.Range, fn func(start int64, row *T)) {
	from := r.From.Unix() / flow.WindowSeconds * flow.WindowSeconds
	if from < r.From.Unix() {
		from += flow.WindowSeconds
	}
	for s := from; s < r.To.Unix(); s += flow.WindowSeconds {
		rs := rows[s]
		for i := range rs {
			fn(s, &rs[i])
		}
	}
}

// scaled returns v with every counter times n; thin takes them back to the
// sampling rate n, rounded.
func scaled[T any](v T, n uint32) T {
	if n != 1 {
		for i, c := range counters(&v) {
			counters(&v)[i] = c * uint64(n)
		}
	}
	return v
}

func thin[T any](v T, n uint32) T {
	if n != 1 {
		for i, c := range counters(&v) {
			counters(&v)[i] = thinned(c, n)
		}
	}
	return v
}

func thinned(x uint64, n uint32) uint64 { return (x + uint64(n)/2) / uint64(n) }

// counters are the fields of v, which has none but counters (TestModelCounters).
func counters[T any](v *T) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(v)), unsafe.Sizeof(*v)/8)
}

func TestModelCounters(t *testing.T) {
	for _, v := range []any{flow.Counts{}, flow.Classes{}} {
		for f := range reflect.TypeOf(v).Fields() {
			if f.Type.Kind() != reflect.Uint64 {
				t.Errorf("%T.%s is no uint64", v, f.Name)
			}
		}
	}
}

func (m *memWindows) ServiceStats(_ context.Context, r flow.Range, proto uint8, minAttempts uint64) ([]flow.ServiceStat, error) {
	return m.serviceSums(r, flow.ServiceQuery{IPProto: proto, Role: flow.RoleClient}, minAttempts)
}

func (m *memWindows) ServiceTotals(_ context.Context, r flow.Range, q flow.ServiceQuery) ([]flow.ServiceStat, error) {
	return m.serviceSums(r, q, 0)
}

func (m *memWindows) serviceSums(r flow.Range, q flow.ServiceQuery, minAttempts uint64) ([]flow.ServiceStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	type sum struct {
		stat  flow.ServiceStat // scaled until the end
		tries uint64           // as exported
		out   uint64           // packets as exported
		rate  uint32
		rows  []*flow.ServiceWindow
	}
	sums := map[serviceKey]*sum{}
	inRange(m.services, r, func(_ int64, w *flow.ServiceWindow) {
		if w.IPProto != q.IPProto || w.Role != q.Role || q.Ports != nil && !slices.Contains(q.Ports, w.SvcPort) {
			return
		}
		k := serviceKey{w.Tenant, w.SvcPort}
		s := sums[k]
		if s == nil {
			s = &sum{stat: flow.ServiceStat{Tenant: w.Tenant, IPProto: q.IPProto, SvcPort: w.SvcPort}}
			sums[k] = s
		}
		s.stat.Counts.Add(scaled(w.Counts, w.Rate))
		s.stat.Classes.Add(scaled(w.Classes, w.Rate))
		s.stat.Attempts += w.Attempts * uint64(w.Rate)
		s.tries += w.Attempts
		s.out += w.OutPackets
		s.rate = max(s.rate, w.Rate)
		if len(w.Remotes) > 0 {
			s.rows = append(s.rows, w)
		}
	})
	var out []flow.ServiceStat
	for _, s := range sums {
		if s.tries < minAttempts || s.out < q.MinOutPackets {
			continue
		}
		s.stat.Counts, s.stat.Classes = thin(s.stat.Counts, s.rate), thin(s.stat.Classes, s.rate)
		s.stat.Attempts, s.stat.Rate = thinned(s.stat.Attempts, s.rate), float64(s.rate)
		s.stat.Distinct = distinct(s.rows) * s.stat.Attempts / max(s.tries, 1)
		out = append(out, s.stat)
	}
	return out, nil
}

// distinct is the number of different destinations of the rows, exact at level
// 0, else estimated as flow.ServiceWindow says.
func distinct(rows []*flow.ServiceWindow) uint64 {
	var level uint8
	for _, w := range rows {
		level = max(level, w.RemotesLevel)
	}
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

func (m *memWindows) PairStats(_ context.Context, r flow.Range, proto uint8, minOut, minPorts uint64) ([]flow.PairStat, error) {
	return m.pairStats(r, func(p uint8) bool { return p == proto }, minOut, minPorts)
}

func (m *memWindows) OtherPairStats(_ context.Context, r flow.Range, minOut uint64) ([]flow.PairStat, error) {
	return m.pairStats(r, func(p uint8) bool { return p != flow.ProtoTCP && p != flow.ProtoUDP }, max(minOut, 1), 0)
}

func (m *memWindows) pairStats(r flow.Range, wants func(uint8) bool, minOut, minPorts uint64) ([]flow.PairStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	type sent struct {
		proto uint8
		out   uint64 // packets as exported
	}
	type sum struct {
		stat   flow.PairStat // scaled until the end
		out    uint64        // packets as exported
		syn    uint64        // records as exported
		rate   uint32
		ports  []uint16 // in no order, some of them twice
		last   int64    // window with outgoing packets
		protos []sent
	}
	sums := map[pairKey]*sum{}
	inRange(m.pairs, r, func(start int64, w *flow.PairWindow) {
		if !wants(w.IPProto) {
			return
		}
		k := pairKey{w.Tenant, w.Remote}
		s := sums[k]
		if s == nil {
			s = &sum{stat: flow.PairStat{Tenant: w.Tenant, Remote: w.Remote}}
			sums[k] = s
		}
		i := slices.IndexFunc(s.protos, func(p sent) bool { return p.proto == w.IPProto })
		if i < 0 {
			i, s.protos = len(s.protos), append(s.protos, sent{proto: w.IPProto})
		}
		s.protos[i].out += w.OutPackets
		s.stat.Counts.Add(scaled(w.Counts, w.Rate))
		s.stat.Classes.Add(scaled(w.Classes, w.Rate))
		s.stat.SYNPackets += w.SYNPackets * uint64(w.Rate)
		s.stat.EstOutPackets += w.EstOutPackets * uint64(w.Rate)
		s.stat.RSTInPackets += w.RSTInPackets * uint64(w.Rate)
		s.out, s.syn, s.rate = s.out+w.OutPackets, s.syn+w.SYNOut, max(s.rate, w.Rate)
		s.ports = append(s.ports, w.Ports...)
		if w.OutPackets > 0 && start != s.last { // windows come in order
			t := time.Unix(start, 0).UTC()
			if s.stat.Windows == 0 {
				s.stat.First = t
			}
			s.stat.Last, s.last = t, start
			s.stat.Windows++
		}
	})
	var out []flow.PairStat
	for _, s := range sums {
		enough := minOut > 0 && s.out >= minOut
		if !enough && minPorts == 0 {
			continue
		}
		slices.Sort(s.ports)
		s.ports = slices.Compact(s.ports)
		if enough || uint64(len(s.ports)) >= minPorts {
			s.stat.Counts, s.stat.Classes = thin(s.stat.Counts, s.rate), thin(s.stat.Classes, s.rate)
			s.stat.SYNPackets, s.stat.EstOutPackets = thinned(s.stat.SYNPackets, s.rate), thinned(s.stat.EstOutPackets, s.rate)
			s.stat.RSTInPackets, s.stat.Rate = thinned(s.stat.RSTInPackets, s.rate), float64(s.rate)
			var most uint64
			slices.SortFunc(s.protos, func(a, b sent) int { return cmp.Compare(b.proto, a.proto) })
			for _, p := range s.protos {
				if p.out >= most {
					s.stat.IPProto, most = p.proto, p.out
				}
			}
			s.stat.Ports = uint64(len(s.ports)) * s.stat.SYNOut / max(s.syn, 1)
			out = append(out, s.stat)
		}
	}
	return out, nil
}

func (m *memWindows) HostStats(_ context.Context, r flow.Range, tenants []netip.Addr) ([]flow.HostStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	sums := map[netip.Addr]*flow.HostStat{}
	inRange(m.hosts, r, func(_ int64, w *flow.HostWindow) {
		if tenants != nil && !slices.Contains(tenants, w.Tenant) {
			return
		}
		s := sums[w.Tenant]
		if s == nil {
			s = &flow.HostStat{Tenant: w.Tenant}
			sums[w.Tenant] = s
		}
		s.Counts.Add(scaled(w.Counts, w.Rate))
		s.Classes.Add(scaled(w.Classes, w.Rate))
		s.ICMPOutPackets += w.ICMPOutPackets * uint64(w.Rate)
		s.Rate = max(s.Rate, float64(w.Rate))
	})
	var out []flow.HostStat
	for _, s := range sums {
		s.Counts, s.Classes = thin(s.Counts, uint32(s.Rate)), thin(s.Classes, uint32(s.Rate))
		s.ICMPOutPackets = thinned(s.ICMPOutPackets, uint32(s.Rate))
		out = append(out, *s)
	}
	return out, nil
}

func (m *memWindows) KnownPeerShare(context.Context, netip.Addr, uint8, uint16, flow.Range, time.Duration) (float64, error) {
	m.asked++
	return m.known, m.knownErr
}
