package store_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	stdcmp "cmp"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func (m *model) series(tenant netip.Addr, r flow.Range, step int64) []flow.SeriesPoint {
	sums := map[int64]*flow.SeriesPoint{}
	for _, w := range m.Hosts {
		if w.Tenant != tenant || !in(r, w.Start) {
			continue
		}
		at := w.Start / step * step
		if sums[at] == nil {
			sums[at] = &flow.SeriesPoint{Time: time.Unix(at, 0).UTC()}
		}
		p, rate := sums[at], uint64(w.Rate)
		p.EstOutPackets += w.OutPackets * rate
		p.EstInPackets += w.InPackets * rate
		p.EstOutBytes += w.OutBytes * rate
		p.EstInBytes += w.InBytes * rate
		p.OutRecords += w.OutRecords
		p.InRecords += w.InRecords
		p.SYNOut += w.SYNOut
	}
	for _, w := range m.Services {
		if p := sums[w.Start/step*step]; w.Tenant == tenant && in(r, w.Start) && p != nil {
			p.Attempts += w.Attempts
		}
	}
	var l []flow.SeriesPoint
	for _, p := range sums {
		l = append(l, *p)
	}
	slices.SortFunc(l, func(a, b flow.SeriesPoint) int { return a.Time.Compare(b.Time) })
	return l
}

func TestHostSeries(t *testing.T) {
	s, m := filled(t)
	for _, tenant := range []string{"198.18.0.3", "2001:db8:0:2::", "198.18.99.99"} {
		for _, step := range []time.Duration{10 * time.Second, time.Minute} {
			for _, tt := range ranges {
				a := netip.MustParseAddr(tenant)
				t.Run(tenant+"/"+step.String()+"/"+tt.name, func(t *testing.T) {
					got, err := s.HostSeries(within(t, 2*time.Minute), a, tt.r, step)
					if err != nil {
						t.Fatal(err)
					}
					if d := cmp.Diff(m.series(a, tt.r, int64(step/time.Second)), got, equate); d != "" {
						t.Errorf("-want +got\n%s", d)
					}
				})
			}
		}
	}
	for _, step := range []time.Duration{0, time.Second, 15 * time.Second, -10 * time.Second} {
		if _, err := s.HostSeries(within(t, 2*time.Minute), epochTenant, ranges[0].r, step); err == nil {
			t.Errorf("step %v was accepted", step)
		}
	}
}

var epochTenant = netip.MustParseAddr("198.18.0.1")

func TestTop(t *testing.T) {
	s, m := filled(t)
	r := ranges[1].r
	sums := map[netip.Addr]flow.TopRow{}
	for _, w := range m.Hosts {
		if !in(r, w.Start) {
			continue
		}
		v, rate := sums[w.Tenant], uint64(w.Rate)
		v.Tenant = w.Tenant
		v.EstOutPackets += w.OutPackets * rate
		v.EstInPackets += w.InPackets * rate
		v.EstOutBytes += w.OutBytes * rate
		v.EstInBytes += w.InBytes * rate
		v.OutRecords += w.OutRecords
		v.SYNOut += w.SYNOut
		sums[w.Tenant] = v
	}
	for by, value := range map[string]func(flow.TopRow) uint64{
		"out_bytes":   func(v flow.TopRow) uint64 { return v.EstOutBytes },
		"out_packets": func(v flow.TopRow) uint64 { return v.EstOutPackets },
		"in_bytes":    func(v flow.TopRow) uint64 { return v.EstInBytes },
		"in_packets":  func(v flow.TopRow) uint64 { return v.EstInPackets },
		"syn":         func(v flow.TopRow) uint64 { return v.SYNOut },
	} {
		t.Run(by, func(t *testing.T) {
			var want []flow.TopRow
			for _, v := range sums {
				want = append(want, v)
			}
			slices.SortFunc(want, func(a, b flow.TopRow) int {
				return stdcmp.Or(stdcmp.Compare(value(b), value(a)), mappedCompare(a.Tenant, b.Tenant))
			})
			got, err := s.Top(within(t, 2*time.Minute), r, by, 5)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want[:5], got, equate); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	if _, err := s.Top(within(t, 2*time.Minute), r, "tenant; DROP TABLE host_window", 5); !errors.Is(err, store.ErrOrder) {
		t.Errorf("got %v, want ErrOrder", err)
	}
}

// mappedCompare orders addresses as ClickHouse does, v4 as ::ffff:a.b.c.d.
func mappedCompare(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	return slices.Compare(x[:], y[:])
}

func TestFlows(t *testing.T) {
	s, m := filled(t)
	all := flow.Range{From: epoch, To: epoch.Add(9 * time.Hour)}
	some := m.Flows[77]
	for _, tt := range []struct {
		name string
		q    flow.FlowQuery
	}{
		{"all of one", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1}},
		{"v6 tenant", flow.FlowQuery{Tenant: netip.MustParseAddr("2001:db8:0:2::"), Range: all, SvcPort: -1}},
		{"unknown tenant", flow.FlowQuery{Tenant: netip.MustParseAddr("203.0.113.1"), Range: all, SvcPort: -1}},
		{"out", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1, Dir: flow.Out}},
		{"remote", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1, Remote: some.Remote}},
		{"protocol and port", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: 22, IPProto: 6}},
		{"port 0", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: 0}},
		{"class other", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1, HasClass: true}},
		{"class syn", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1, HasClass: true, Class: flow.ClassSYN}},
		{"exactly its nanosecond", flow.FlowQuery{Tenant: some.Tenant, SvcPort: -1, Range: flow.Range{From: time.Unix(0, some.Time), To: time.Unix(0, some.Time+1)}}},
		{"just before it", flow.FlowQuery{Tenant: some.Tenant, SvcPort: -1, Range: flow.Range{From: time.Unix(0, some.Time-1), To: time.Unix(0, some.Time)}}},
		{"limit", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1, Limit: 3}},
		{"newest", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1, Limit: 3, Newest: true}},
		{"newest without need", flow.FlowQuery{Tenant: some.Tenant, Range: all, SvcPort: -1, Newest: true}},
		{"everything there is", flow.FlowQuery{Tenant: some.Tenant, SvcPort: -1, Range: flow.Range{To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []flow.FlowRow
			q := tt.q
			for _, r := range m.Flows {
				at := time.Unix(0, r.Time)
				if r.Tenant == q.Tenant && !at.Before(q.Range.From) && at.Before(q.Range.To) &&
					(q.Dir == 0 || q.Dir == r.Dir) && (!q.Remote.IsValid() || q.Remote == r.Remote) &&
					(q.IPProto == 0 || q.IPProto == r.IPProto) && (q.SvcPort < 0 || q.SvcPort == int(r.SvcPort)) &&
					(!q.HasClass || q.Class == r.Class) {
					want = append(want, r)
				}
			}
			slices.SortFunc(want, func(a, b flow.FlowRow) int { return stdcmp.Compare(a.Time, b.Time) })
			if q.Limit > 0 && len(want) > q.Limit {
				if q.Newest {
					want = want[len(want)-q.Limit:]
				} else {
					want = want[:q.Limit]
				}
			}
			got, err := s.Flows(within(t, 2*time.Minute), q)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, equate); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestOutbound(t *testing.T) {
	s := storetest.New(t)
	a, b := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2")
	window := func(tenant netip.Addr, at int, out uint64) (flow.HostWindow, flow.ServiceWindow) {
		k := flow.Key{Start: epoch.Unix() + int64(at), Tenant: tenant, Rate: 1000}
		c := flow.Counts{OutPackets: out, InPackets: 5}
		return flow.HostWindow{Key: k, Counts: c}, flow.ServiceWindow{Key: k, Counts: c, IPProto: 6, Role: flow.RoleClient, SvcPort: 22}
	}
	var batch flow.Batch
	for _, w := range []struct {
		tenant netip.Addr
		at     int
		out    uint64
	}{{a, 0, 7}, {a, 10, 8}, {a, 10, 1}, {a, 20, 0}, {b, 10, 3}, {b, 60, 4}, {b, 70, 0}} {
		h, v := window(w.tenant, w.at, w.out)
		batch.Hosts, batch.Services = append(batch.Hosts, h), append(batch.Services, v)
	}
	if err := s.Write(&batch); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	at := func(sec int) time.Time { return epoch.Add(time.Duration(sec) * time.Second) }
	for _, tt := range []struct {
		name   string
		tenant netip.Addr
		since  time.Time
		want   flow.Outbound
	}{
		{"all", a, at(0), flow.Outbound{Packets: 16, Last: at(20), FleetLast: at(70)}},
		{"the first window is cut", a, at(1), flow.Outbound{Packets: 9, Last: at(20), FleetLast: at(70)}},
		{"silent since, others not", a, at(11), flow.Outbound{FleetLast: at(70)}},
		{"all silent since", b, at(61), flow.Outbound{FleetLast: at(70)}},
		{"long after", a, at(0).Add(2 * time.Hour), flow.Outbound{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.Outbound(within(t, 2*time.Minute), tt.tenant, tt.since)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestKnownPeerShare(t *testing.T) {
	s := storetest.New(t)
	tenant := netip.MustParseAddr("198.18.0.1")
	row := func(at time.Duration, remote string, port uint16, class flow.Class, dir flow.Direction, role flow.Role) flow.FlowRow {
		ns := epoch.Add(at).UnixNano()
		return flow.FlowRow{Time: ns, Start: ns, End: ns, Exporter: tenant, Tenant: tenant, Host: tenant, Rate: 1,
			Remote: netip.MustParseAddr(remote), SvcPort: port, IPProto: 6, Class: class, Dir: dir, Role: role}
	}
	client := flow.RoleClient
	syn := func(at time.Duration, remote string) flow.FlowRow {
		return row(at, remote, 22, flow.ClassSYN, flow.Out, client)
	}
	bogon, spoofed := syn(time.Minute, "10.1.1.1"), syn(time.Minute, "203.0.113.250")
	bogon.Bogon, spoofed.Spoofed = true, true
	ping := func(at time.Duration, remote string, class flow.Class, dir flow.Direction, icmpType uint8) flow.FlowRow {
		r := row(at, remote, 0, class, dir, client)
		r.IPProto, r.ICMPType = flow.ProtoICMP, icmpType
		return r
	}
	b := flow.Batch{Flows: []flow.FlowRow{
		ping(time.Minute, "203.0.113.80", flow.ClassEcho, flow.Out, 8), ping(-time.Minute, "203.0.113.80", flow.ClassOther, flow.In, 0), // known by a reply
		ping(time.Minute, "203.0.113.81", flow.ClassEcho, flow.Out, 8), ping(-time.Minute, "203.0.113.81", flow.ClassICMPErr, flow.In, 3), // an error is none
		syn(time.Minute, "203.0.113.1"), syn(time.Minute, "203.0.113.1"), // known by an answer
		row(-time.Minute, "203.0.113.1", 443, flow.ClassSYNACK, flow.In, client),
		syn(time.Minute, "203.0.113.2"), // known by established traffic
		row(-time.Hour, "203.0.113.2", 22, flow.ClassEst, flow.Out, client),
		syn(time.Minute, "203.0.113.3"), // answered too long ago
		row(-3*time.Hour, "203.0.113.3", 22, flow.ClassEst, flow.Out, client),
		syn(time.Minute, "203.0.113.4"), // answered only now
		row(2*time.Minute, "203.0.113.4", 22, flow.ClassEst, flow.In, client),
		syn(time.Minute, "203.0.113.5"), // tried before, never answered
		syn(-time.Minute, "203.0.113.5"),
		syn(time.Minute, "2a00:1:2:3::1"), syn(time.Minute, "2a00:1:2:3::2"), // one /64, known
		row(-time.Minute, "2a00:1:2:3::9", 22, flow.ClassEst, flow.Out, client),
		bogon, spoofed, // no attempts
		row(time.Minute, "203.0.113.77", 23, flow.ClassSYN, flow.Out, client), // another port
	}}
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := flow.Range{From: epoch, To: epoch.Add(5 * time.Minute)}
	for _, tt := range []struct {
		name  string
		proto uint8
		port  uint16
		want  float64
	}{{"three of six", flow.ProtoTCP, 22, 0.5}, {"none of one", flow.ProtoTCP, 23, 0}, {"one of two pinged", flow.ProtoICMP, 0, 0.5}} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.KnownPeerShare(within(t, 2*time.Minute), tenant, tt.proto, tt.port, r, 2*time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("share %v, want %v", got, tt.want)
			}
		})
	}
	// A finding without flow rows is not one without known peers.
	if _, err := s.KnownPeerShare(within(t, 2*time.Minute), tenant, flow.ProtoTCP, 80, r, 2*time.Hour); !errors.Is(err, store.ErrNoFlows) {
		t.Errorf("no attempts: %v, want ErrNoFlows", err)
	}
}
