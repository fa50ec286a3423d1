package store_test

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// filledForRules is filled with pairs of other protocols among the rest.
func filledForRules(t *testing.T) (*store.Store, *model) {
	t.Helper()
	s := storetest.New(t)
	g := newGenerator(43)
	m := &model{}
	for range 10 {
		b := g.batch(100)
		for i := range b.Pairs {
			b.Pairs[i].IPProto = []uint8{1, 6, 17, 47, 50}[g.IntN(5)]
			b.Pairs[i].Ports = nil
		}
		for i := range b.Flows { // few keys, so that peers are met again
			f := &b.Flows[i]
			f.IPProto, f.Tenant, f.Role = []uint8{6, 17}[g.IntN(2)], netip.AddrFrom4([4]byte{198, 18, 0, byte(g.IntN(2))}), flow.Role(1+g.IntN(2))
		}
		m.add(b)
		if err := s.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	return s, m
}

// distinctOf is what flow.ServiceWindow says of rows with thinned destinations.
func distinctOf(rows []flow.ServiceWindow) uint64 {
	var level uint8
	for i := range rows {
		level = max(level, rows[i].RemotesLevel)
	}
	seen := map[uint64]bool{}
	for i := range rows {
		for _, h := range rows[i].Remotes {
			if h&(1<<level-1) == 0 {
				seen[h] = true
			}
		}
	}
	return uint64(len(seen)) << level
}

func TestServiceTotals(t *testing.T) {
	s, m := filledForRules(t)
	some := 0
	for _, tt := range ranges {
		for _, q := range []flow.ServiceQuery{
			{IPProto: flow.ProtoTCP, Role: flow.RoleClient}, {IPProto: flow.ProtoUDP, Role: flow.RoleServer, Ports: []uint16{443, 53}, MinOutPackets: 1},
			{IPProto: flow.ProtoUDP, Role: flow.RoleServer, MinOutPackets: 2000}, {IPProto: flow.ProtoTCP, Role: flow.RoleUnknown, Ports: []uint16{}},
		} {
			got, err := s.ServiceTotals(within(t, 2*time.Minute), tt.r, q)
			if err != nil {
				t.Fatalf("%s %+v: %v", tt.name, q, err)
			}
			slices.SortFunc(got, byService)
			want := m.serviceTotals(tt.r, q)
			some += len(want)
			if d := gocmp.Diff(want, got, equate); d != "" {
				t.Errorf("%s %+v (-want +got):\n%s", tt.name, q, d)
			}
		}
	}
	if some < 50 {
		t.Errorf("only %d rows were compared", some)
	}
}

func (m *model) serviceTotals(r flow.Range, q flow.ServiceQuery) []flow.ServiceStat {
	type key struct {
		a netip.Addr
		p uint16
	}
	groups := map[key][]flow.ServiceWindow{}
	for _, w := range m.Services {
		if in(r, w.Start) && w.IPProto == q.IPProto && w.Role == q.Role && (q.Ports == nil || slices.Contains(q.Ports, w.SvcPort)) {
			k := key{w.Tenant, w.SvcPort}
			groups[k] = append(groups[k], w)
		}
	}
	var l []flow.ServiceStat
	for k, rows := range groups {
		v := flow.ServiceStat{Tenant: k.a, IPProto: q.IPProto, SvcPort: k.p}
		var out, tries uint64
		var rate uint32
		for _, w := range rows {
			v.Counts.Add(scaled(w.Counts, w.Rate))
			v.Classes.Add(scaled(w.Classes, w.Rate))
			v.Attempts += w.Attempts * uint64(w.Rate)
			out, tries, rate = out+w.OutPackets, tries+w.Attempts, max(rate, w.Rate)
		}
		if out < q.MinOutPackets {
			continue
		}
		v.Counts, v.Classes, v.Attempts, v.Rate = thin(v.Counts, rate), thin(v.Classes, rate), thinned(v.Attempts, rate), float64(rate)
		v.Distinct = distinctOf(rows) * v.Attempts / max(tries, 1)
		l = append(l, v)
	}
	slices.SortFunc(l, byService)
	return l
}

func TestAttemptStats(t *testing.T) {
	s, m := filledForRules(t)
	some := 0
	for _, tt := range ranges {
		for _, least := range [][2]uint64{{0, 0}, {10, 0}, {60, 20_000}} {
			got, err := s.AttemptStats(within(t, 2*time.Minute), tt.r, flow.ProtoTCP, least[0], least[1])
			if err != nil {
				t.Fatalf("%s %v: %v", tt.name, least, err)
			}
			byTenant := func(a, b flow.AttemptStat) int { return a.Tenant.Compare(b.Tenant) }
			slices.SortFunc(got, byTenant)
			want := m.attempts(tt.r, flow.ProtoTCP, least[0], least[1])
			slices.SortFunc(want, byTenant)
			some += len(want)
			if d := gocmp.Diff(want, got, equate); d != "" {
				t.Errorf("%s %v (-want +got):\n%s", tt.name, least, d)
			}
		}
	}
	if some < 20 {
		t.Errorf("only %d rows were compared", some)
	}
}

func (m *model) attempts(r flow.Range, proto uint8, minAttempts, minScaled uint64) []flow.AttemptStat {
	groups := map[netip.Addr][]flow.ServiceWindow{}
	for _, w := range m.Services {
		if in(r, w.Start) && w.IPProto == proto && w.Role == flow.RoleClient {
			groups[w.Tenant] = append(groups[w.Tenant], w)
		}
	}
	var l []flow.AttemptStat
	for tenant, rows := range groups {
		v := flow.AttemptStat{Tenant: tenant, IPProto: proto}
		ports := map[uint16][]flow.ServiceWindow{}
		var tries, scaledTries uint64
		var rate uint32
		for _, w := range rows {
			v.Counts.Add(scaled(w.Counts, w.Rate))
			v.Classes.Add(scaled(w.Classes, w.Rate))
			tries, scaledTries, rate = tries+w.Attempts, scaledTries+w.Attempts*uint64(w.Rate), max(rate, w.Rate)
			ports[w.SvcPort] = append(ports[w.SvcPort], w)
		}
		if tries < max(minAttempts, 1) || scaledTries < minScaled {
			continue
		}
		v.Counts, v.Classes, v.Attempts, v.Rate = thin(v.Counts, rate), thin(v.Classes, rate), thinned(scaledTries, rate), float64(rate)
		v.TopPort = 65535
		for p, rows := range ports {
			n := distinctOf(rows)
			v.Pairs += n
			if slices.ContainsFunc(rows, func(w flow.ServiceWindow) bool { return w.Attempts > 0 }) {
				v.Ports++
			}
			if n > v.TopDistinct || n == v.TopDistinct && p < v.TopPort {
				v.TopPort, v.TopDistinct = p, n
			}
		}
		fewer := func(n uint64) uint64 { return n * v.Attempts / tries }
		v.Pairs, v.Remotes, v.TopDistinct = fewer(v.Pairs), fewer(distinctOf(rows)), fewer(v.TopDistinct)
		l = append(l, v)
	}
	return l
}

func TestOtherPairStats(t *testing.T) {
	s, m := filledForRules(t)
	some := 0
	for _, tt := range ranges {
		for _, least := range []uint64{0, 300, 900} {
			got, err := s.OtherPairStats(within(t, 2*time.Minute), tt.r, least)
			if err != nil {
				t.Fatalf("%s %d: %v", tt.name, least, err)
			}
			slices.SortFunc(got, byPair)
			want := m.otherPairs(tt.r, max(least, 1))
			some += len(want)
			if d := gocmp.Diff(want, got, equate); d != "" {
				t.Errorf("%s %d (-want +got):\n%s", tt.name, least, d)
			}
		}
	}
	if some < 50 {
		t.Errorf("only %d rows were compared", some)
	}
}

func (m *model) otherPairs(r flow.Range, least uint64) []flow.PairStat {
	groups := map[[2]netip.Addr][]flow.PairWindow{}
	for _, w := range m.Pairs {
		if in(r, w.Start) && w.IPProto != flow.ProtoTCP && w.IPProto != flow.ProtoUDP {
			k := [2]netip.Addr{w.Tenant, w.Remote}
			groups[k] = append(groups[k], w)
		}
	}
	var l []flow.PairStat
	for k, rows := range groups {
		v := flow.PairStat{Tenant: k[0], Remote: k[1]}
		protos, windows := map[uint8]uint64{}, map[int64]bool{}
		var out uint64
		var rate uint32
		for _, w := range rows {
			v.Counts.Add(scaled(w.Counts, w.Rate))
			v.Classes.Add(scaled(w.Classes, w.Rate))
			out, rate = out+w.OutPackets, max(rate, w.Rate)
			protos[w.IPProto] += w.OutPackets
			if at := time.Unix(w.Start, 0).UTC(); w.OutPackets > 0 {
				windows[w.Start] = true
				if v.First.IsZero() || at.Before(v.First) {
					v.First = at
				}
				if at.After(v.Last) {
					v.Last = at
				}
			}
		}
		if out < least {
			continue
		}
		var most uint64
		for p := 255; p >= 0; p-- {
			if n, ok := protos[uint8(p)]; ok && n >= most {
				v.IPProto, most = uint8(p), n
			}
		}
		v.Counts, v.Classes, v.Rate, v.Windows = thin(v.Counts, rate), thin(v.Classes, rate), float64(rate), uint64(len(windows))
		l = append(l, v)
	}
	slices.SortFunc(l, byPair)
	return l
}

func TestPeers(t *testing.T) {
	s, m := filledForRules(t)
	day := flow.Range{From: epoch.Add(4 * time.Hour), To: epoch.Add(8 * time.Hour)}
	some, all := uint64(0), map[uint16][]flow.PeerQuery{}
	nobody := func(q flow.PeerQuery) flow.PeerQuery { q.Tenant = netip.MustParseAddr("198.18.9.9"); return q }
	for i := range 12 {
		for _, q := range []flow.PeerQuery{
			{IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: 22, Lookback: 4 * time.Hour},
			{IPProto: flow.ProtoUDP, Role: flow.RoleServer, SvcPort: 443, Lookback: 3 * time.Hour, Settled: time.Hour},
		} {
			q.Tenant, q.Range = netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), day
			if i > 8 {
				q.Tenant = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, byte(i - 8)})
			}
			all[q.SvcPort] = append(all[q.SvcPort], q)
		}
	}
	for port, qs := range all {
		together, err := s.Peers(within(t, 2*time.Minute), append(qs, qs[0], nobody(qs[0])))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(qs); len(together) != n+2 || together[n] != together[0] || together[n+1] != (flow.Peers{}) {
			t.Errorf("port %d: a question twice, and of a tenant without rows: %+v", port, together)
		}
		for i, q := range qs {
			alone, err := s.Peers(within(t, 2*time.Minute), []flow.PeerQuery{q})
			if err != nil {
				t.Fatal(err)
			}
			want := m.peers(q)
			some += want.Known
			if len(alone) != 1 || alone[0] != want || together[i] != want {
				t.Errorf("%+v:\nalone %+v\ntogether %+v\nwant %+v", q, alone, together[i], want)
			}
		}
	}
	if some == 0 {
		t.Error("nobody is known: the comparison says little")
	}
}

func (m *model) peers(q flow.PeerQuery) flow.Peers {
	sent, known := map[netip.Addr]uint64{}, map[netip.Addr]bool{}
	back := q.Range.From.Add(-q.Lookback).UnixNano()
	for _, r := range m.Flows {
		d := r.Remote
		if d.Is6() {
			p, _ := d.Prefix(64)
			d = p.Addr()
		}
		switch {
		case r.Tenant != q.Tenant || r.IPProto != q.IPProto:
		case r.Time >= back && r.Time < q.Range.From.Add(-q.Settled).UnixNano():
			if r.Class == flow.ClassEst || r.Dir == flow.In && (r.Class == flow.ClassSYNACK || r.Class == flow.ClassUDP) {
				known[d] = true
			}
		case r.Time >= q.Range.From.UnixNano() && r.Time < q.Range.To.UnixNano() && r.Dir == flow.Out && !r.Bogon && !r.Spoofed &&
			r.Role == q.Role && r.SvcPort == q.SvcPort:
			sent[d] += r.Packets
		}
	}
	var p flow.Peers
	for d, n := range sent {
		p.Remotes, p.Packets, p.Squares, p.Top = p.Remotes+1, p.Packets+n, p.Squares+n*n, max(p.Top, n)
		if known[d] {
			p.Known++
		}
	}
	return p
}

func TestSpoofStats(t *testing.T) {
	s := storetest.New(t)
	claimed := []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2")}
	at := flow.Attachment{Exporter: netip.MustParseAddr("192.0.2.1"), InIf: 7, SrcMAC: [6]byte{2, 0, 0xff, 1, 0, 9}, VLAN: 40}
	other := at
	other.InIf = 8
	b := &flow.Batch{}
	add := func(a flow.Attachment, n int, spoofed bool, dir flow.Direction) {
		for i := range n {
			end := epoch.Add(time.Duration(i) * time.Second).UnixNano()
			tenant := claimed[i%2]
			b.Hosts = append(b.Hosts, flow.HostWindow{Key: flow.Key{Start: epoch.Unix(), Tenant: tenant, Rate: 1000}, SpoofOut: 1})
			b.Flows = append(b.Flows, flow.FlowRow{Time: end, Start: end, End: end, Exporter: a.Exporter, Tenant: tenant, Host: tenant,
				Remote: netip.AddrFrom4([4]byte{203, 0, 113, byte(i % 5)}), Dir: dir, IPProto: 6, Packets: 3, Rate: 1000,
				InIf: a.InIf, SrcMAC: a.SrcMAC, VLAN: a.VLAN, Spoofed: spoofed})
		}
	}
	add(at, 20, true, flow.Out)
	add(at, 20, false, flow.Out)
	add(other, 9, true, flow.Out)
	if err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := flow.Range{From: epoch, To: epoch.Add(time.Minute)}
	both := flow.SpoofStat{Attachment: at, Records: 20, Packets: 60, Sources: 2, Remotes: 5, Rate: 1000}
	few := flow.SpoofStat{Attachment: other, Records: 9, Packets: 27, Sources: 2, Remotes: 5, Rate: 1000}
	for least, want := range map[uint64][]flow.SpoofStat{0: {both, few}, 10: {both}, 20: {both}, 21: nil} {
		got, err := s.SpoofStats(within(t, 2*time.Minute), r, least)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b flow.SpoofStat) int { return cmp.Compare(a.InIf, b.InIf) })
		if d := gocmp.Diff(want, got, equate); d != "" {
			t.Errorf("at least %d (-want +got):\n%s", least, d)
		}
	}
}
