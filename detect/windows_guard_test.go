package detect

import (
	"cmp"
	"context"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// memSeen is what the guards look at in a flow row.
type memSeen struct {
	at            int64
	tenant        netip.Addr
	remote        netip.Addr
	exporter      netip.Addr
	hostPort      uint16
	remotePort    uint16
	svcPort       uint16
	vlan          uint16
	proto         uint8
	dir           flow.Direction
	class         flow.Class
	instant       bool
	packets, rate uint32
	inIf          uint32
	mac           [6]byte
	bytes         uint64
}

func (m *memWindows) addSeen(rows []flow.FlowRow) {
	for i := range rows {
		if r := &rows[i]; !r.Spoofed {
			m.seen = append(m.seen, memSeen{r.Time, r.Tenant, r.Remote, r.Exporter, r.HostPort, r.RemotePort, r.SvcPort, r.VLAN, r.IPProto, r.Dir, r.Class,
				r.Start == r.End, uint32(r.Packets), r.Rate, r.InIf, r.SrcMAC, r.Bytes})
		}
	}
}

func (m *memWindows) eachSeen(q flow.SourceQuery, fn func(*memSeen)) {
	from, to := q.Range.From.UnixNano(), q.Range.To.UnixNano()
	for i := range m.seen {
		f := &m.seen[i]
		if f.tenant == q.Tenant && f.at >= from && f.at < to && (q.IPProto == 0 || f.proto == q.IPProto) &&
			(!q.Remote.IsValid() || f.remote == q.Remote) && (q.SvcPort < 0 || int(f.svcPort) == q.SvcPort) {
			fn(f)
		}
	}
}

func (m *memWindows) Sources(_ context.Context, q flow.SourceQuery) ([]flow.SourceStat, error) {
	m.queries++
	if m.err != nil || m.guardErr != nil {
		return nil, cmp.Or(m.err, m.guardErr)
	}
	type key struct {
		dir flow.Direction
		at  flow.Attachment
	}
	sums := map[key]*flow.SourceStat{}
	m.eachSeen(q, func(f *memSeen) {
		k := key{f.dir, flow.Attachment{Exporter: f.exporter}}
		if f.dir == flow.Out {
			k.at = flow.Attachment{Exporter: f.exporter, InIf: f.inIf, SrcMAC: f.mac, VLAN: f.vlan}
		}
		s := sums[k]
		if s == nil {
			s = &flow.SourceStat{Dir: k.dir, Attachment: k.at, MinRate: math.MaxUint32}
			sums[k] = s
		}
		s.Records, s.Packets, s.Scaled = s.Records+1, s.Packets+uint64(f.packets), s.Scaled+uint64(f.packets)*uint64(f.rate)
		if f.packets >= 10 && f.instant {
			s.Untimed += uint64(f.packets)
		}
		s.MinRate, s.MaxRate = min(s.MinRate, f.rate), max(s.MaxRate, f.rate)
	})
	var out []flow.SourceStat
	for _, s := range sums {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b flow.SourceStat) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), cmp.Compare(a.Dir, b.Dir), a.Exporter.Compare(b.Exporter), cmp.Compare(a.InIf, b.InIf), slices.Compare(a.SrcMAC[:], b.SrcMAC[:]), cmp.Compare(a.VLAN, b.VLAN))
	})
	return out, nil
}

func (m *memWindows) SharedFlows(_ context.Context, q flow.SourceQuery, a, b netip.Addr) (flow.SharedFlows, error) {
	m.queries++
	if m.err != nil || m.sharedErr != nil {
		return flow.SharedFlows{}, cmp.Or(m.err, m.sharedErr)
	}
	type key struct {
		remote     netip.Addr
		rport, own uint16
	}
	sums := map[key][2]uint64{}
	m.eachSeen(q, func(f *memSeen) {
		i := slices.Index([]netip.Addr{a, b}, f.exporter)
		if i < 0 || f.dir != flow.Out {
			return
		}
		k := key{f.remote, f.remotePort, f.hostPort}
		c := sums[k]
		c[i] += uint64(f.packets)
		sums[k] = c
	})
	var s flow.SharedFlows
	for _, c := range sums {
		if max(c[0], c[1]) >= 4 {
			s.Heavy++
			if c[0] > 0 && c[1] > 0 {
				s.Both++
			}
		}
	}
	return s, nil
}

func (m *memWindows) FleetAnswers(_ context.Context, base, now flow.Range, except []netip.Addr) (flow.FleetAnswers, error) {
	m.queries++
	if m.err != nil || m.guardErr != nil {
		return flow.FleetAnswers{}, cmp.Or(m.err, m.guardErr)
	}
	type sum struct {
		was, answeredWas, is, answeredIs float64
		active                           bool
	}
	sums, stored := map[netip.Addr]*sum{}, map[int64]bool{}
	add := func(r flow.Range, later bool) {
		inRange(m.services, r, func(_ int64, w *flow.ServiceWindow) {
			if !later {
				stored[w.Start] = true
			}
			tcp := w.IPProto == flow.ProtoTCP && w.Role == flow.RoleClient && !slices.Contains(except, w.Tenant)
			if !tcp && !later {
				return
			}
			s := sums[w.Tenant]
			if s == nil {
				s = &sum{}
				sums[w.Tenant] = s
			}
			s.active = s.active || later
			switch n, a := float64(w.SYNOut+w.SYNACKIn), float64(w.SYNACKIn); {
			case tcp && later:
				s.is, s.answeredIs = s.is+n, s.answeredIs+a
			case tcp:
				s.was, s.answeredWas = s.was+n, s.answeredWas+a
			}
		})
	}
	add(base, false)
	add(now, true)
	out := flow.FleetAnswers{Windows: uint64(len(stored))}
	most := 50 * base.Seconds() / now.Seconds()
	for _, s := range sums {
		if s.active {
			out.Active++
		}
		if s.was < 3 {
			continue
		}
		out.Tenants++
		p := min(1, most/s.was)
		out.BaseOpened, out.BaseAnswered = out.BaseOpened+p*s.was, out.BaseAnswered+p*s.answeredWas
		if s.is > 0 {
			p = min(1, 50/s.is)
			out.Opened, out.Answered = out.Opened+p*s.is, out.Answered+p*s.answeredIs
		}
	}
	return out, nil
}

func (m *memWindows) RateChecks(_ context.Context, r flow.Range, least uint32) ([]flow.RateCheck, error) {
	m.queries++
	if m.err != nil || m.guardErr != nil {
		return nil, cmp.Or(m.err, m.guardErr)
	}
	type conn struct {
		exporter, tenant, remote netip.Addr
		rate                     uint32
		rport, own               uint16
	}
	type claim struct {
		exporter, tenant netip.Addr
		rate             uint32
	}
	conns := map[conn][2]int{}
	from, to := r.From.UnixNano(), r.To.UnixNano()
	for i := range m.seen {
		f := &m.seen[i]
		syn := f.class == flow.ClassSYN && f.dir == flow.Out
		if f.at < from || f.at >= to || f.proto != flow.ProtoTCP || f.rate < least || !syn && (f.class != flow.ClassSYNACK || f.dir != flow.In) {
			continue
		}
		k := conn{f.exporter, f.tenant, f.remote, f.rate, f.remotePort, f.hostPort}
		c := conns[k]
		if syn {
			c[0]++
		} else {
			c[1]++
		}
		conns[k] = c
	}
	checks := map[claim]*flow.RateCheck{}
	for k, n := range conns {
		if n[1] == 0 {
			continue
		}
		by := claim{k.exporter, k.tenant, k.rate}
		c := checks[by]
		if c == nil {
			c = &flow.RateCheck{Exporter: k.exporter, Tenant: k.tenant, Rate: k.rate}
			checks[by] = c
		}
		c.Answered++
		if n[0] > 0 {
			c.Both++
		}
	}
	var out []flow.RateCheck
	for _, c := range checks {
		out = append(out, *c)
	}
	return out, nil
}

func (m *memWindows) OneWay(_ context.Context, r flow.Range, proto uint8, minScaled uint64, back float64) ([]flow.ServiceStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	type sum struct {
		stat flow.ServiceStat // scaled until the end
		rate uint32
	}
	sums := map[netip.Addr]*sum{}
	inRange(m.services, r, func(_ int64, w *flow.ServiceWindow) {
		if w.IPProto != proto {
			return
		}
		s := sums[w.Tenant]
		if s == nil {
			s = &sum{stat: flow.ServiceStat{Tenant: w.Tenant, IPProto: proto}}
			sums[w.Tenant] = s
		}
		s.stat.Counts.Add(scaled(w.Counts, w.Rate))
		s.rate = max(s.rate, w.Rate)
	})
	var out []flow.ServiceStat
	for _, s := range sums {
		if s.stat.OutPackets >= minScaled && float64(s.stat.InPackets) <= back*float64(s.stat.OutPackets) {
			s.stat.Counts, s.stat.Rate = thin(s.stat.Counts, s.rate), float64(s.rate)
			out = append(out, s.stat)
		}
	}
	return out, nil
}

func (m *memWindows) TopPrefixes(_ context.Context, r flow.Range, tenants []netip.Addr, proto uint8) ([]flow.PrefixStat, error) {
	m.queries++
	if m.err != nil {
		return nil, m.err
	}
	type key struct {
		tenant netip.Addr
		net    netip.Prefix
	}
	type sum struct {
		flow.PrefixStat
		rate    uint32
		remotes map[netip.Addr]bool
	}
	sums := map[key]*sum{}
	for _, a := range tenants {
		m.eachSeen(flow.SourceQuery{Tenant: a, Range: r, IPProto: proto, SvcPort: -1}, func(f *memSeen) {
			bits := 48
			if f.remote.Is4() {
				bits = 24
			}
			net, _ := f.remote.Prefix(bits)
			s := sums[key{a, net}]
			if s == nil {
				s = &sum{PrefixStat: flow.PrefixStat{Tenant: a, Prefix: net}, remotes: map[netip.Addr]bool{}}
				sums[key{a, net}] = s
			}
			s.rate = max(s.rate, f.rate)
			if n := uint64(f.packets) * uint64(f.rate); f.dir == flow.Out {
				s.OutPackets, s.OutBytes, s.remotes[f.remote] = s.OutPackets+n, s.OutBytes+f.bytes*uint64(f.rate), true
			} else {
				s.InPackets += n
			}
		})
	}
	var out []flow.PrefixStat
	for _, s := range sums {
		s.OutPackets, s.OutBytes, s.InPackets = thinned(s.OutPackets, s.rate), thinned(s.OutBytes, s.rate), thinned(s.InPackets, s.rate)
		s.Remotes, s.Rate = uint64(len(s.remotes)), float64(s.rate)
		out = append(out, s.PrefixStat)
	}
	slices.SortFunc(out, func(a, b flow.PrefixStat) int {
		return cmp.Or(a.Tenant.Compare(b.Tenant), cmp.Compare(b.OutPackets, a.OutPackets), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return out, nil
}

func (m *memWindows) Exchanged(_ context.Context, tenant, remote netip.Addr, r flow.Range, step time.Duration) ([]flow.Exchange, error) {
	m.queries++
	if m.err != nil || m.peersErr != nil {
		return nil, cmp.Or(m.err, m.peersErr)
	}
	sums := map[int64]flow.Exchange{}
	m.eachSeen(flow.SourceQuery{Tenant: tenant, Remote: remote, Range: r, IPProto: flow.ProtoTCP, SvcPort: -1}, func(f *memSeen) {
		if f.class != flow.ClassEst {
			return
		}
		k := f.at / int64(step)
		e := sums[k]
		if n := uint64(f.packets) * uint64(f.rate); f.dir == flow.Out {
			e.Out += n
		} else {
			e.In += n
		}
		sums[k] = e
	})
	var out []flow.Exchange
	for _, e := range sums {
		out = append(out, e)
	}
	if m.met > 0 {
		n := uint64(m.met * step.Seconds())
		out = append(out, slices.Repeat([]flow.Exchange{{Out: n, In: n}}, 12)...)
	}
	return out, nil
}

func (m *memWindows) Answered(_ context.Context, tenant netip.Addr, proto uint8, r flow.Range, lookback time.Duration) (flow.Peers, error) {
	m.queries++
	if m.err != nil || m.peersErr != nil {
		return flow.Peers{}, cmp.Or(m.err, m.peersErr)
	}
	to, spoke := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	m.eachSeen(flow.SourceQuery{Tenant: tenant, Range: r, IPProto: proto, SvcPort: -1}, func(f *memSeen) {
		if f.dir == flow.Out {
			to[f.remote] = true
		}
	})
	m.eachSeen(flow.SourceQuery{Tenant: tenant, Range: flow.Range{From: r.From.Add(-lookback), To: r.From}, IPProto: proto, SvcPort: -1}, func(f *memSeen) {
		if f.dir == flow.In && to[f.remote] {
			spoke[f.remote] = true
		}
	})
	return flow.Peers{Remotes: uint64(len(to)), Known: max(uint64(len(spoke)), uint64(m.known*float64(len(to))))}, nil
}

func (m *memWindows) Usual(context.Context, flow.PeerQuery, time.Duration) (flow.Usual, error) {
	m.queries++
	m.usualAsked++
	return m.usual, cmp.Or(m.err, m.peersErr)
}
