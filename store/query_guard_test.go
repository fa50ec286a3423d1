package store_test

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

var (
	routerA, routerB = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::b")
	guardRange       = flow.Range{From: epoch, To: epoch.Add(10 * time.Minute)}
)

// guarded writes b and returns the store.
func guarded(t *testing.T, b *flow.Batch) *store.Store {
	t.Helper()
	s := storetest.New(t)
	if err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	return s
}

// guardFlows are rows of few tenants, remotes, ports and attachments.
func guardFlows(n int) *flow.Batch {
	g := newGenerator(44)
	b := &flow.Batch{}
	for range n {
		f := g.flow()
		f.Time = epoch.UnixNano() + g.Int64N(int64(20*time.Minute))
		f.Start, f.End = f.Time-int64(g.IntN(2))*1e9, f.Time
		f.Exporter = []netip.Addr{routerA, routerB}[g.IntN(2)]
		f.Tenant, f.Remote = netip.AddrFrom4([4]byte{198, 18, 0, byte(g.IntN(2))}), g.remote()
		f.SvcPort, f.IPProto = []uint16{22, 443}[g.IntN(2)], []uint8{6, 17}[g.IntN(2)]
		f.HostPort, f.RemotePort = uint16(g.IntN(3)), uint16(g.IntN(2))
		f.InIf, f.VLAN, f.SrcMAC = uint32(g.IntN(2)), uint16(g.IntN(2)), [6]byte{2, 0, 0, 0, 0, byte(g.IntN(2))}
		f.Packets, f.Rate = 1+g.n(20), []uint32{1, 1000}[g.IntN(2)]
		b.Flows = append(b.Flows, f)
	}
	return b
}

func ofQuery(f *flow.FlowRow, q flow.SourceQuery) bool {
	at := time.Unix(0, f.Time)
	return f.Tenant == q.Tenant && !at.Before(q.Range.From) && at.Before(q.Range.To) && !f.Spoofed &&
		(q.IPProto == 0 || f.IPProto == q.IPProto) && (!q.Remote.IsValid() || f.Remote == q.Remote) && (q.SvcPort < 0 || int(f.SvcPort) == q.SvcPort)
}

func TestSources(t *testing.T) {
	b := guardFlows(4000)
	s := guarded(t, b)
	tenant := netip.AddrFrom4([4]byte{198, 18, 0, 1})
	for _, q := range []flow.SourceQuery{
		{Tenant: tenant, Range: guardRange, SvcPort: -1},
		{Tenant: tenant, Range: guardRange, SvcPort: 22, IPProto: flow.ProtoTCP},
		{Tenant: tenant, Range: guardRange, SvcPort: -1, IPProto: flow.ProtoUDP, Remote: b.Flows[0].Remote},
		{Tenant: netip.MustParseAddr("198.18.9.9"), Range: guardRange, SvcPort: -1},
	} {
		sums := map[flow.SourceStat]*flow.SourceStat{}
		heavy := map[[3]any][2]uint64{}
		for i := range b.Flows {
			f := &b.Flows[i]
			if !ofQuery(f, q) {
				continue
			}
			k := flow.SourceStat{Dir: f.Dir, Attachment: flow.Attachment{Exporter: f.Exporter}}
			if f.Dir == flow.Out {
				k.Attachment = flow.Attachment{Exporter: f.Exporter, InIf: f.InIf, SrcMAC: f.SrcMAC, VLAN: f.VLAN}
				c := heavy[[3]any{f.Remote, f.RemotePort, f.HostPort}]
				c[map[netip.Addr]int{routerA: 0, routerB: 1}[f.Exporter]] += f.Packets
				heavy[[3]any{f.Remote, f.RemotePort, f.HostPort}] = c
			}
			v := sums[k]
			if v == nil {
				v = &flow.SourceStat{Dir: k.Dir, Attachment: k.Attachment, MinRate: math.MaxUint32}
				sums[k] = v
			}
			v.Records, v.Packets, v.Scaled = v.Records+1, v.Packets+f.Packets, v.Scaled+f.Packets*uint64(f.Rate)
			if f.Packets >= 10 && f.Start == f.End {
				v.Untimed += f.Packets
			}
			v.MinRate, v.MaxRate = min(v.MinRate, f.Rate), max(v.MaxRate, f.Rate)
		}
		var want []flow.SourceStat
		for _, v := range sums {
			want = append(want, *v)
		}
		got, err := s.Sources(within(t, 2*time.Minute), q)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(got, func(a, b flow.SourceStat) int { return cmp.Compare(b.Records, a.Records) }) {
			t.Error("the order is not by records")
		}
		byKey := func(a, b flow.SourceStat) int {
			return cmp.Or(cmp.Compare(a.Dir, b.Dir), a.Exporter.Compare(b.Exporter), cmp.Compare(a.InIf, b.InIf), slices.Compare(a.SrcMAC[:], b.SrcMAC[:]), cmp.Compare(a.VLAN, b.VLAN))
		}
		slices.SortFunc(want, byKey)
		slices.SortFunc(got, byKey)
		if d := gocmp.Diff(want, got, equate); d != "" {
			t.Errorf("%+v (-want +got):\n%s", q, d)
		}
		var shared flow.SharedFlows
		for _, c := range heavy {
			if max(c[0], c[1]) >= 4 {
				shared.Heavy++
				if c[0] > 0 && c[1] > 0 {
					shared.Both++
				}
			}
		}
		if got, err := s.SharedFlows(within(t, 2*time.Minute), q, routerA, routerB); err != nil || got != shared {
			t.Errorf("shared flows %+v, %v; want %+v", got, err, shared)
		}
	}
}

func TestFleetAnswers(t *testing.T) {
	b := &flow.Batch{}
	add := func(host byte, at time.Duration, proto uint8, role flow.Role, syn, ack uint64) {
		b.Services = append(b.Services, flow.ServiceWindow{Key: flow.Key{Start: epoch.Add(at).Unix(), Tenant: netip.AddrFrom4([4]byte{198, 18, 0, host}), Rate: 1000},
			IPProto: proto, Role: role, SvcPort: 443, Classes: flow.Classes{SYNOut: syn, SYNACKIn: ack}})
	}
	const later = 9 * time.Minute
	add(1, 0, 6, flow.RoleClient, 10, 10) // as before
	add(1, later, 6, flow.RoleClient, 5, 5)
	add(2, 0, 6, flow.RoleClient, 900, 300) // capped to 200, and nothing answers any more
	add(2, later, 6, flow.RoleClient, 200, 0)
	add(3, 0, 6, flow.RoleClient, 1, 1) // too few before
	add(3, later, 6, flow.RoleClient, 100, 0)
	add(4, later, 17, flow.RoleClient, 0, 0) // active, no TCP
	add(5, 0, 6, flow.RoleServer, 50, 50)    // not its own connections; not active now
	add(6, 0, 6, flow.RoleClient, 6, 6)      // silent now
	s := guarded(t, b)
	base, now := flow.Range{From: epoch, To: epoch.Add(8 * time.Minute)}, flow.Range{From: epoch.Add(8 * time.Minute), To: epoch.Add(10 * time.Minute)}
	got, err := s.FleetAnswers(within(t, 2*time.Minute), base, now, nil)
	want := flow.FleetAnswers{Active: 4, Windows: 1, Tenants: 3, BaseOpened: 20 + 200 + 12, BaseAnswered: 10 + 50 + 6, Opened: 10 + 50, Answered: 5}
	if d := gocmp.Diff(want, got, equate); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	got, err = s.FleetAnswers(within(t, 2*time.Minute), base, now, []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, 2})})
	want = flow.FleetAnswers{Active: 4, Windows: 1, Tenants: 2, BaseOpened: 20 + 12, BaseAnswered: 10 + 6, Opened: 10, Answered: 5}
	if d := gocmp.Diff(want, got, equate); err != nil || d != "" {
		t.Errorf("without one tenant: %v (-want +got):\n%s", err, d)
	}
	if got, err := s.FleetAnswers(within(t, 2*time.Minute), flow.Range{From: epoch.Add(-time.Hour), To: epoch.Add(-time.Minute)}, flow.Range{From: epoch.Add(-time.Minute), To: epoch}, nil); err != nil || got != (flow.FleetAnswers{}) {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
}

func TestRateChecks(t *testing.T) {
	b := &flow.Batch{}
	for host := range byte(40) {
		tenant := netip.AddrFrom4([4]byte{198, 18, 0, host})
		b.Services = append(b.Services, flow.ServiceWindow{Key: flow.Key{Start: epoch.Unix(), Tenant: tenant, Rate: 1000}, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: 443, Classes: flow.Classes{SYNACKIn: 5}})
		for i := range uint16(5) {
			f := flow.FlowRow{Time: epoch.UnixNano() + 1e9, Start: epoch.UnixNano() + 1e9, End: epoch.UnixNano() + 1e9, Exporter: routerA, Tenant: tenant, Host: tenant,
				Remote: netip.MustParseAddr("11.0.0.1"), HostPort: 40000 + i, RemotePort: 443, SvcPort: 443, IPProto: 6, Packets: 1, Rate: 1000, Dir: flow.In, Class: flow.ClassSYNACK, Role: flow.RoleClient}
			b.Flows = append(b.Flows, f)
			if f.Dir, f.Class = flow.Out, flow.ClassSYN; host < 10 && i < 2 { // of ten tenants the SYN was sampled too, twice
				b.Flows = append(b.Flows, f)
			}
			f.HostPort += 100 // a SYN without an answer
			b.Flows = append(b.Flows, f)
			f.Exporter, f.Dir, f.Class, f.Rate = routerB, flow.In, flow.ClassSYNACK, 5 // below the least rate
			b.Flows = append(b.Flows, f)
		}
	}
	s := guarded(t, b)
	got, err := s.RateChecks(within(t, 2*time.Minute), guardRange, 10)
	var want []flow.RateCheck
	for host := range byte(40) {
		c := flow.RateCheck{Exporter: routerA, Tenant: netip.AddrFrom4([4]byte{198, 18, 0, host}), Rate: 1000, Answered: 5}
		if host < 10 {
			c.Both = 2
		}
		want = append(want, c)
	}
	if d := gocmp.Diff(want, got, equate); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func TestOneWayAndTopPrefixes(t *testing.T) {
	b := &flow.Batch{}
	add := func(host byte, rate uint32, proto uint8, out, in uint64) {
		b.Services = append(b.Services, flow.ServiceWindow{Key: flow.Key{Start: epoch.Unix(), Tenant: netip.AddrFrom4([4]byte{198, 18, 0, host}), Rate: rate},
			IPProto: proto, Role: flow.Role(host % 3), SvcPort: 53, Counts: flow.Counts{OutPackets: out, InPackets: in, OutBytes: 100 * out}})
	}
	add(1, 1000, 17, 50, 0)
	add(1, 100, 17, 100, 10) // scaled: 60,000 out, 1,000 in; at 1:1000 60 and 1
	add(2, 1000, 17, 60, 6)  // too much comes back
	add(3, 1000, 17, 10, 0)  // too little goes out
	add(4, 1000, 6, 90, 0)
	tenant := netip.AddrFrom4([4]byte{198, 18, 0, 1})
	for i := range byte(20) {
		f := flow.FlowRow{Time: epoch.UnixNano(), Start: epoch.UnixNano(), End: epoch.UnixNano(), Exporter: routerA, Tenant: tenant, Host: tenant, IPProto: 17,
			Remote: netip.AddrFrom4([4]byte{11, 0, i / 15, i}), Packets: 2, Bytes: 200, Rate: 1000, Dir: flow.Out}
		b.Flows = append(b.Flows, f)
		if f.Remote, f.Rate = netip.AddrFrom16([16]byte{0x26, 8, 0, 1, 0, 1, 0, i, 15: 1}), 100; i < 5 {
			b.Flows = append(b.Flows, f)
		}
	}
	back := b.Flows[0]
	back.Dir, back.Packets = flow.In, 3
	b.Flows = append(b.Flows, back)
	s := guarded(t, b)
	got, err := s.OneWay(within(t, 2*time.Minute), guardRange, 17, 50_000, 0.05)
	want := []flow.ServiceStat{{Tenant: tenant, IPProto: 17, Counts: flow.Counts{OutPackets: 60, InPackets: 1, OutBytes: 6000}, Rate: 1000}}
	if d := gocmp.Diff(want, got, equate); err != nil || d != "" {
		t.Errorf("one way: %v (-want +got):\n%s", err, d)
	}
	nets, err := s.TopPrefixes(within(t, 2*time.Minute), guardRange, []netip.Addr{tenant}, 17)
	wantNets := []flow.PrefixStat{
		{Tenant: tenant, Prefix: netip.MustParsePrefix("11.0.0.0/24"), OutPackets: 30, OutBytes: 3000, InPackets: 3, Remotes: 15, Rate: 1000},
		{Tenant: tenant, Prefix: netip.MustParsePrefix("2608:1:1::/48"), OutPackets: 10, OutBytes: 1000, Remotes: 5, Rate: 100},
		{Tenant: tenant, Prefix: netip.MustParsePrefix("11.0.1.0/24"), OutPackets: 10, OutBytes: 1000, Remotes: 5, Rate: 1000},
	}
	byNet := func(a, b flow.PrefixStat) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) }
	slices.SortFunc(nets, byNet)
	slices.SortFunc(wantNets, byNet)
	if d := gocmp.Diff(wantNets, nets, equate, gocmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || d != "" {
		t.Errorf("networks: %v (-want +got):\n%s", err, d)
	}
}

func TestExchanged(t *testing.T) {
	b := &flow.Batch{}
	tenant, remote := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("11.0.0.1")
	add := func(at time.Duration, dir flow.Direction, class flow.Class, packets uint64, rate uint32, to netip.Addr, spoofed bool) {
		ns := epoch.Add(at).UnixNano()
		b.Flows = append(b.Flows, flow.FlowRow{Time: ns, Start: ns, End: ns, Exporter: routerA, Tenant: tenant, Host: tenant, Remote: to,
			SvcPort: 443, IPProto: 6, Dir: dir, Class: class, Packets: packets, Rate: rate, Spoofed: spoofed})
	}
	add(0, flow.Out, flow.ClassEst, 3, 1000, remote, false)
	add(time.Minute, flow.Out, flow.ClassEst, 2, 100, remote, false)
	add(2*time.Minute, flow.In, flow.ClassEst, 1, 1000, remote, false)
	add(11*time.Minute, flow.In, flow.ClassEst, 4, 1000, remote, false)
	add(12*time.Minute, flow.Out, flow.ClassSYN, 9, 1000, remote, false)
	add(12*time.Minute, flow.Out, flow.ClassEst, 9, 1000, remote, true)
	add(12*time.Minute, flow.Out, flow.ClassEst, 9, 1000, remote.Next(), false)
	add(20*time.Minute, flow.Out, flow.ClassEst, 9, 1000, remote, false)
	s := guarded(t, b)
	got, err := s.Exchanged(within(t, 2*time.Minute), tenant, remote, flow.Range{From: epoch, To: epoch.Add(20 * time.Minute)}, 10*time.Minute)
	slices.SortFunc(got, func(a, b flow.Exchange) int { return int(b.Out) - int(a.Out) })
	if d := gocmp.Diff([]flow.Exchange{{Out: 3200, In: 1000}, {In: 4000}}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	// After the 12th minute it sends to the remote, which spoke before, and in it
	// also to another, which never did.
	for from, want := range map[time.Duration]flow.Peers{12 * time.Minute: {Remotes: 2, Known: 1}, 13 * time.Minute: {Remotes: 1, Known: 1}, 0: {Remotes: 2}} {
		got, err := s.Answered(within(t, 2*time.Minute), tenant, 6, flow.Range{From: epoch.Add(from), To: epoch.Add(time.Hour)}, 24*time.Hour)
		if d := gocmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("answered from %s: %v (-want +got):\n%s", from, err, d)
		}
	}
}

func TestUsual(t *testing.T) {
	b := &flow.Batch{}
	tenant := netip.MustParseAddr("198.18.0.1")
	for step := range 100 { // one remote in the first step, two in the second, …
		for i := range step + 1 {
			at := epoch.Add(time.Duration(step)*300*time.Second + time.Duration(i)*time.Second).UnixNano()
			f := flow.FlowRow{Time: at, Start: at, End: at, Exporter: routerA, Tenant: tenant, Host: tenant, Remote: netip.AddrFrom4([4]byte{11, 0, 0, byte(i)}),
				SvcPort: 25, IPProto: 6, Dir: flow.Out, Role: flow.RoleClient, Packets: 1, Rate: 1}
			b.Flows = append(b.Flows, f, f)
			f.SvcPort, f.Remote = 587, netip.AddrFrom4([4]byte{12, 0, 0, byte(i)})
			b.Flows = append(b.Flows, f)
		}
	}
	s := guarded(t, b)
	q := flow.PeerQuery{Tenant: tenant, IPProto: 6, Role: flow.RoleClient, SvcPort: 25, Range: flow.Range{From: epoch, To: epoch.Add(100 * 300 * time.Second)}}
	got, err := s.Usual(within(t, 2*time.Minute), q, 300*time.Second)
	if err != nil || got.Steps != 100 || got.P99 < 99 || got.P99 > 100 {
		t.Errorf("%+v, %v", got, err)
	}
	q.Range.To = epoch.Add(10 * 300 * time.Second)
	if got, err := s.Usual(within(t, 2*time.Minute), q, 300*time.Second); err != nil || got != (flow.Usual{P99: 10, Steps: 10}) {
		t.Errorf("ten steps: %+v, %v", got, err)
	}
	q.SvcPort = 26
	if got, err := s.Usual(within(t, 2*time.Minute), q, 300*time.Second); err != nil || got != (flow.Usual{}) {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
}
