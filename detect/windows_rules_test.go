package detect

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// memFlow is what Peers looks at in a flow row.
type memFlow struct {
	at      int64
	tenant  netip.Addr
	remote  netip.Addr
	proto   uint8
	role    flow.Role
	port    uint16
	packets uint64
	out     bool
	answer  bool
}

// addFlows keeps the rows of the ports that rules ask peers for; all of them
// would not fit.
func (m *memWindows) addFlows(rows []flow.FlowRow) {
	d := Defaults().Thresholds
	asked := append(d.Reflector.ports(), d.Bruteforce.Ports...)
	for i := range rows {
		r := &rows[i]
		if r.Spoofed && r.Dir == flow.Out {
			m.forged = append(m.forged, *r)
		}
		if r.Bogon || r.Spoofed || r.SvcPort != portSMTP && !slices.Contains(asked, r.SvcPort) {
			continue
		}
		m.flows = append(m.flows, memFlow{at: r.Time, tenant: r.Tenant, remote: destinationOf(r.Remote), proto: r.IPProto, role: r.Role, port: r.SvcPort,
			packets: r.Packets, out: r.Dir == flow.Out,
			answer: r.Class == flow.ClassEst || r.Dir == flow.In && (r.Class == flow.ClassSYNACK || r.Class == flow.ClassUDP)})
	}
}

func destinationOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Addr()
}

func (m *memWindows) Peers(_ context.Context, of []flow.PeerQuery) ([]flow.Peers, error) {
	m.queries++
	if m.err != nil || m.peersErr != nil {
		return nil, cmp.Or(m.err, m.peersErr)
	}
	out := make([]flow.Peers, len(of))
	for i := range of {
		out[i] = m.peersOf(of[i])
	}
	return out, nil
}

func (m *memWindows) peersOf(q flow.PeerQuery) flow.Peers {
	from, to, back := q.Range.From.UnixNano(), q.Range.To.UnixNano(), q.Range.From.Add(-q.Lookback).UnixNano()
	sent, known := map[netip.Addr]uint64{}, map[netip.Addr]bool{}
	for i := range m.flows {
		f := &m.flows[i]
		switch {
		case f.tenant != q.Tenant || f.proto != q.IPProto || f.at < from && f.at >= from-int64(q.Settled):
		case f.at >= back && f.at < from-int64(q.Settled):
			known[f.remote] = known[f.remote] || f.answer
		case f.at >= from && f.at < to && f.out && f.role == q.Role && f.port == q.SvcPort:
			sent[f.remote] += f.packets
		}
	}
	var p flow.Peers
	for a, n := range sent {
		p.Remotes, p.Packets, p.Squares, p.Top = p.Remotes+1, p.Packets+n, p.Squares+n*n, max(p.Top, n)
		if known[a] {
			p.Known++
		}
	}
	p.Known = max(p.Known, uint64(m.known*float64(p.Remotes)))
	return p
}

func (m *memWindows) SpoofStats(_ context.Context, r flow.Range, minRecords uint64) ([]flow.SpoofStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	out := m.forgedStats(r, minRecords)
	for _, s := range m.spoofs {
		if s.Records >= minRecords {
			out = append(out, s)
		}
	}
	return out, nil
}

// forgedStats sums the rows with forged sources by attachment.
func (m *memWindows) forgedStats(r flow.Range, minRecords uint64) []flow.SpoofStat {
	type sum struct {
		stat             flow.SpoofStat
		sources, remotes map[netip.Addr]struct{}
	}
	sums := map[flow.Attachment]*sum{}
	for i := range m.forged {
		f := &m.forged[i]
		if f.Time < r.From.UnixNano() || f.Time >= r.To.UnixNano() {
			continue
		}
		at := flow.Attachment{Exporter: f.Exporter, InIf: f.InIf, SrcMAC: f.SrcMAC, VLAN: f.VLAN}
		s := sums[at]
		if s == nil {
			s = &sum{flow.SpoofStat{Attachment: at}, map[netip.Addr]struct{}{}, map[netip.Addr]struct{}{}}
			sums[at] = s
		}
		s.stat.Records, s.stat.Packets, s.stat.Rate = s.stat.Records+1, s.stat.Packets+f.Packets, max(s.stat.Rate, float64(f.Rate))
		s.sources[f.Host], s.remotes[destinationOf(f.Remote)] = struct{}{}, struct{}{}
	}
	var out []flow.SpoofStat
	for _, s := range sums {
		if s.stat.Records >= minRecords {
			s.stat.Sources, s.stat.Remotes = uint64(len(s.sources)), uint64(len(s.remotes))
			out = append(out, s.stat)
		}
	}
	slices.SortFunc(out, func(a, b flow.SpoofStat) int { return cmp.Compare(b.Records, a.Records) })
	return out
}

func (m *memWindows) AttemptStats(_ context.Context, r flow.Range, proto uint8, minAttempts, minScaled uint64) ([]flow.AttemptStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	type sum struct {
		stat          flow.AttemptStat // scaled until the end
		tries, scaled uint64
		rate          uint32
		rows          map[uint16][]*flow.ServiceWindow
	}
	sums := map[netip.Addr]*sum{}
	inRange(m.services, r, func(_ int64, w *flow.ServiceWindow) {
		if w.IPProto != proto || w.Role != flow.RoleClient {
			return
		}
		s := sums[w.Tenant]
		if s == nil {
			s = &sum{stat: flow.AttemptStat{Tenant: w.Tenant, IPProto: proto}, rows: map[uint16][]*flow.ServiceWindow{}}
			sums[w.Tenant] = s
		}
		s.stat.Counts.Add(scaled(w.Counts, w.Rate))
		s.stat.Classes.Add(scaled(w.Classes, w.Rate))
		s.tries, s.scaled, s.rate = s.tries+w.Attempts, s.scaled+w.Attempts*uint64(w.Rate), max(s.rate, w.Rate)
		if w.Attempts > 0 {
			s.rows[w.SvcPort] = append(s.rows[w.SvcPort], w)
		}
	})
	var out []flow.AttemptStat
	for _, s := range sums {
		if s.tries < minAttempts || s.scaled < minScaled {
			continue
		}
		var all []*flow.ServiceWindow
		for port, rows := range s.rows {
			n := distinct(rows)
			s.stat.Pairs += n
			if n > s.stat.TopDistinct || n == s.stat.TopDistinct && port < s.stat.TopPort {
				s.stat.TopPort, s.stat.TopDistinct = port, n
			}
			all = append(all, rows...)
		}
		s.stat.Counts, s.stat.Classes = thin(s.stat.Counts, s.rate), thin(s.stat.Classes, s.rate)
		s.stat.Attempts, s.stat.Rate, s.stat.Ports = thinned(s.scaled, s.rate), float64(s.rate), uint64(len(s.rows))
		fewer := func(n uint64) uint64 { return n * s.stat.Attempts / max(s.tries, 1) }
		s.stat.Pairs, s.stat.Remotes, s.stat.TopDistinct = fewer(s.stat.Pairs), fewer(distinct(all)), fewer(s.stat.TopDistinct)
		out = append(out, s.stat)
	}
	return out, nil
}
