package detect

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// memWindows is the store as a model: it keeps the rows that the aggregator
// emits and adds them up over a range as the queries do.
type memWindows struct {
	services map[int64][]flow.ServiceWindow
	pairs    map[int64][]flow.PairWindow
	hosts    map[int64][]flow.HostWindow
	known    float64 // the answer to KnownPeerShare
	knownErr error
	asked    int   // calls of KnownPeerShare
	err      error // of every query
	queries  int
}

func newMemWindows() *memWindows {
	return &memWindows{services: map[int64][]flow.ServiceWindow{}, pairs: map[int64][]flow.PairWindow{}, hosts: map[int64][]flow.HostWindow{}}
}

func (m *memWindows) add(b *flow.Batch) {
	for _, r := range b.Services {
		m.services[r.Start] = append(m.services[r.Start], r)
	}
	for _, r := range b.Pairs {
		m.pairs[r.Start] = append(m.pairs[r.Start], r)
	}
	for _, r := range b.Hosts {
		m.hosts[r.Start] = append(m.hosts[r.Start], r)
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

// rate sums up Σw² / Σw.
type rateSum struct{ w, w2 float64 }

func (r *rateSum) add(n uint64, rate uint32) {
	r.w += float64(n) * float64(rate)
	r.w2 += float64(n) * float64(rate) * float64(rate)
}

func (r rateSum) rate() float64 {
	if r.w == 0 {
		return 0
	}
	return r.w2 / r.w
}

func (m *memWindows) ServiceStats(_ context.Context, r flow.Range, proto uint8, minAttempts uint64) ([]flow.ServiceStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	type sum struct {
		stat flow.ServiceStat
		rate rateSum
		rows []*flow.ServiceWindow
	}
	sums := map[serviceKey]*sum{}
	inRange(m.services, r, func(_ int64, w *flow.ServiceWindow) {
		if w.IPProto != proto || w.Role != flow.RoleClient {
			return
		}
		k := serviceKey{w.Tenant, w.SvcPort}
		s := sums[k]
		if s == nil {
			s = &sum{stat: flow.ServiceStat{Tenant: w.Tenant, IPProto: proto, SvcPort: w.SvcPort}}
			sums[k] = s
		}
		s.stat.Counts.Add(w.Counts)
		s.stat.Classes.Add(w.Classes)
		s.stat.Attempts += w.Attempts
		s.rate.add(w.Attempts, w.Rate)
		if len(w.Remotes) > 0 {
			s.rows = append(s.rows, w)
		}
	})
	var out []flow.ServiceStat
	for _, s := range sums {
		if s.stat.Attempts < minAttempts {
			continue
		}
		seen := make(map[uint64]struct{}, s.stat.Attempts)
		for _, w := range s.rows {
			for _, h := range w.Remotes {
				seen[h] = struct{}{}
			}
		}
		s.stat.Distinct, s.stat.Rate = uint64(len(seen)), s.rate.rate()
		out = append(out, s.stat)
	}
	return out, nil
}

func (m *memWindows) PairStats(_ context.Context, r flow.Range, proto uint8, minOut, minPorts uint64) ([]flow.PairStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	type sum struct {
		stat    flow.PairStat
		rate    rateSum
		ports   map[uint16]struct{}
		windows map[int64]struct{}
	}
	sums := map[pairKey]*sum{}
	inRange(m.pairs, r, func(start int64, w *flow.PairWindow) {
		if w.IPProto != proto {
			return
		}
		k := pairKey{w.Tenant, w.Remote}
		s := sums[k]
		if s == nil {
			s = &sum{stat: flow.PairStat{Tenant: w.Tenant, Remote: w.Remote, IPProto: proto}, ports: map[uint16]struct{}{}, windows: map[int64]struct{}{}}
			sums[k] = s
		}
		s.stat.Counts.Add(w.Counts)
		s.stat.Classes.Add(w.Classes)
		s.stat.SYNPackets += w.SYNPackets
		s.stat.EstOutPackets += w.EstOutPackets
		s.stat.RSTInPackets += w.RSTInPackets
		s.rate.add(w.OutPackets, w.Rate)
		for _, p := range w.Ports {
			s.ports[p] = struct{}{}
		}
		if w.OutPackets > 0 {
			t := time.Unix(start, 0).UTC()
			if len(s.windows) == 0 {
				s.stat.First = t
			}
			s.stat.Last = t
			s.windows[start] = struct{}{}
		}
	})
	var out []flow.PairStat
	for _, s := range sums {
		s.stat.Ports, s.stat.Rate, s.stat.Windows = uint64(len(s.ports)), s.rate.rate(), uint64(len(s.windows))
		if minOut > 0 && s.stat.OutPackets >= minOut || minPorts > 0 && s.stat.Ports >= minPorts {
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
		if !slices.Contains(tenants, w.Tenant) {
			return
		}
		s := sums[w.Tenant]
		if s == nil {
			s = &flow.HostStat{Tenant: w.Tenant}
			sums[w.Tenant] = s
		}
		s.Counts.Add(w.Counts)
		s.Classes.Add(w.Classes)
		s.UDPOutPackets += w.UDPOutPackets
		s.BogonOut += w.BogonOut
		s.SpoofOut += w.SpoofOut
	})
	var out []flow.HostStat
	for _, s := range sums {
		out = append(out, *s)
	}
	return out, nil
}

func (m *memWindows) KnownPeerShare(context.Context, netip.Addr, uint8, uint16, flow.Range, time.Duration) (float64, error) {
	m.asked++
	return m.known, m.knownErr
}
