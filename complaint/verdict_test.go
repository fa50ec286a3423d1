package complaint

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/flow"
)

var (
	at     = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	host   = netip.MustParseAddr("198.18.0.7")
	remote = netip.MustParseAddr("203.0.113.9")
)

func aClaim() *claim {
	return &claim{tenant: host, host: host, remote: remote, remotePort: 22, proto: 6, from: at, to: at, k: 1}
}

func TestChance(t *testing.T) {
	for _, tt := range []struct {
		n    uint32
		k    uint64
		want float64
	}{
		{0, 5, 0}, {1, 0, 0}, {1, 1, 1}, {1000, 1, 0.001}, {1000, 1000, 0.6323}, {1000, 4605, 0.99001}, {1000, 1 << 40, 1}, {1 << 31, 1, 4.656e-10}, {2, 7, 1 - 1.0/128},
	} {
		if got := chance(tt.n, tt.k); math.Abs(got-tt.want) > 1e-4*max(tt.want, 1e-9) && math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("1:%d, %d packets: %v, want %v", tt.n, tt.k, got, tt.want)
		}
	}
}

// The rows of the table differ from a contradiction by one thing each.
func TestJudge(t *testing.T) {
	sure := known{packets: 100, host: true, rate: 1, covered: true, asked: true, kept: true, whole: true}
	with := func(f func(*claim, *known, *groupSum, *shown)) (Traffic, *claim) {
		c, k, g, s := aClaim(), sure, groupSum{lines: 1, k: 1}, shown{}
		f(c, &k, &g, &s)
		return judge(c, s, k, DefaultCertain, g), c
	}
	for _, tt := range []struct {
		name    string
		change  func(*claim, *known, *groupSum, *shown)
		verdict Verdict
		why     Why
	}{
		{"sure", func(*claim, *known, *groupSum, *shown) {}, Contradicted, WhyAbsent},
		{"flows", func(_ *claim, _ *known, _ *groupSum, s *shown) { s.rows, s.remotes = 1, map[netip.Addr]bool{} }, Confirmed, WhyPort},
		{"flows with both ports", func(_ *claim, _ *known, _ *groupSum, s *shown) {
			s.rows, s.exact, s.remotes = 1, true, map[netip.Addr]bool{}
		}, Confirmed, WhyExact},
		{"sums", func(_ *claim, _ *known, _ *groupSum, s *shown) { s.rows = 1 }, Confirmed, WhyPair},
		{"sampled", func(_ *claim, k *known, _ *groupSum, _ *shown) { k.rate = 1000 }, NotVisible, WhySampling},
		{"sampled, just too few packets", func(c *claim, k *known, _ *groupSum, _ *shown) { k.rate, c.k = 1000, 4602 }, NotVisible, WhySampling},
		{"sampled, just enough", func(c *claim, k *known, _ *groupSum, _ *shown) { k.rate, c.k = 1000, 4603 }, Contradicted, WhyAbsent},
		{"enough in all lines alike", func(_ *claim, k *known, g *groupSum, _ *shown) { k.rate, g.lines, g.k = 1000, 5000, 5000 }, Contradicted, WhyAbsent},
		{"of which one was seen", func(_ *claim, k *known, g *groupSum, _ *shown) { k.rate, g.lines, g.k, g.seen = 1000, 5000, 5000, 1 }, NotVisible, WhySampling},
		{"host not seen", func(_ *claim, k *known, _ *groupSum, _ *shown) { k.host, k.packets = false, 0 }, NotVisible, WhySilent},
		{"host only received", func(_ *claim, k *known, _ *groupSum, _ *shown) { k.packets = 0 }, NotVisible, WhySilent},
		{"nothing collected then", func(_ *claim, k *known, _ *groupSum, _ *shown) { k.covered = false }, NoData, WhyNone},
		{"not asked whether", func(_ *claim, k *known, _ *groupSum, _ *shown) { k.covered, k.asked = false, false }, NotVisible, WhyTooMany},
		{"more rows than were read", func(_ *claim, k *known, _ *groupSum, _ *shown) { k.whole = false }, NotVisible, WhyTooMany},
		{"rows not kept", func(_ *claim, k *known, _ *groupSum, _ *shown) { k.kept = false }, NotVisible, WhyNotKept},
		{"no target and no port", func(c *claim, _ *known, _ *groupSum, _ *shown) { c.remote, c.remotePort = netip.Addr{}, 0 }, NotVisible, WhyUnspecific},
		{"a service without a target", func(c *claim, _ *known, _ *groupSum, _ *shown) { c.remote = netip.Addr{} }, Contradicted, WhyAbsent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := with(tt.change)
			if got.Verdict != tt.verdict || got.Why != tt.why {
				t.Errorf("%s/%s, want %s/%s", got.Verdict, got.Why, tt.verdict, tt.why)
			}
			if got.Chance < 0 || got.Chance > 1 || got.GroupChance < 0 || got.GroupChance > 1 {
				t.Errorf("chances %v, %v", got.Chance, got.GroupChance)
			}
			if en, ru := got.words(); en == "" || ru == "" || en == ru {
				t.Errorf("words %q, %q", en, ru)
			}
		})
	}
}

func row(change func(*flow.FlowRow)) flow.FlowRow {
	r := flow.FlowRow{Time: at.UnixNano(), Start: at.UnixNano(), End: at.UnixNano(), Tenant: host, Host: host, Remote: remote, HostPort: 40000, RemotePort: 22, SvcPort: 22,
		Dir: flow.Out, IPProto: 6, Role: flow.RoleClient, Class: flow.ClassSYN, Packets: 1, Rate: 1000}
	if change != nil {
		change(&r)
	}
	return r
}

func TestLook(t *testing.T) {
	const tol = 2 * time.Minute
	move := func(d time.Duration) func(*flow.FlowRow) {
		return func(r *flow.FlowRow) {
			r.Start += int64(d)
			r.End, r.Time = r.Start, r.Start
		}
	}
	for _, tt := range []struct {
		name  string
		row   flow.FlowRow
		claim func(*claim)
		found bool
	}{
		{"the same", row(nil), nil, true},
		{"just within the tolerance", row(move(tol)), nil, true},
		{"just beyond it", row(move(tol + 1)), nil, false},
		{"just before", row(move(-tol - 1)), nil, false},
		{"a long flow around it", row(func(r *flow.FlowRow) { r.Start -= int64(time.Hour); r.End += int64(time.Hour) }), nil, true},
		{"another target", row(func(r *flow.FlowRow) { r.Remote = remote.Next() }), nil, false},
		{"another port", row(func(r *flow.FlowRow) { r.RemotePort = 23 }), nil, false},
		{"another protocol", row(func(r *flow.FlowRow) { r.IPProto = 17 }), nil, false},
		{"protocol not stated", row(func(r *flow.FlowRow) { r.IPProto = 17 }), func(c *claim) { c.proto = 0 }, true},
		{"another host of the same /64", row(func(r *flow.FlowRow) { r.Host = host.Next() }), nil, false},
		{"another source port", row(nil), func(c *claim) { c.hostPort = 1 }, true},
		{"a forged source", row(func(r *flow.FlowRow) { r.Spoofed = true }), nil, false},
		{"a masked target", row(nil), func(c *claim) { c.remote, c.net = netip.Addr{}, netip.MustParsePrefix("203.0.113.0/24") }, true},
		{"another masked target", row(nil), func(c *claim) { c.remote, c.net = netip.Addr{}, netip.MustParsePrefix("203.0.112.0/24") }, false},
		{"a usual port", row(nil), func(c *claim) { c.remotePort, c.usual = 0, []uint16{21, 22} }, true},
		{"no usual port", row(nil), func(c *claim) { c.remotePort, c.usual = 0, []uint16{80} }, false},
		{"no target, as a client", row(nil), func(c *claim) { c.remote = netip.Addr{} }, true},
		{"no target, as a server", row(func(r *flow.FlowRow) { r.Role = flow.RoleServer }), func(c *claim) { c.remote = netip.Addr{} }, false},
		{"no target and no port", row(nil), func(c *claim) { c.remote, c.remotePort = netip.Addr{}, 0 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := aClaim()
			if tt.claim != nil {
				tt.claim(c)
			}
			ev := &evidence{rows: []flow.FlowRow{tt.row}, open: []flow.FlowRow{tt.row}}
			if s := ev.look(c, 0, tol); (s.rows == 1) != tt.found {
				t.Errorf("found %+v", s)
			}
		})
	}
}

// How many packets a line stands for at least.
func TestClaimed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		what   parse.What
		count  uint64
		port   uint16
		policy string
		k      uint64
		stated bool
	}{
		{"a dropped packet", parse.WhatTraffic, 1, 40000, "", 1, true},
		{"traffic without a number", parse.WhatTraffic, 0, 40000, "", 1, false},
		{"a login on a connection of its own", parse.WhatLogin, 0, 40000, "", 4, false},
		{"the same, where only SYNs are kept", parse.WhatLogin, 0, 40000, "attempts", 1, false},
		{"a login without a port", parse.WhatLogin, 0, 0, "", 1, false},
		{"a number", parse.WhatLogin, 5000, 0, "", 5000, true},
	} {
		m := &Matcher{cfg: Config{FlowPolicy: tt.policy}}
		l := &Line{Observation: parse.Observation{What: tt.what, Count: tt.count}}
		c := claim{hostPort: tt.port}
		if m.claimed(l, &c); c.k != tt.k || c.stated != tt.stated {
			t.Errorf("%s: %d, %v", tt.name, c.k, c.stated)
		}
	}
}

func TestMerge(t *testing.T) {
	r := func(from, to int) flow.Range {
		return flow.Range{From: at.Add(time.Duration(from) * time.Minute), To: at.Add(time.Duration(to) * time.Minute)}
	}
	got := merge([]flow.Range{r(10, 20), r(0, 5), r(4, 6), r(100, 101), r(12, 13)}, 0, 10)
	if len(got) != 3 || got[0] != r(0, 6) || got[1] != r(10, 20) || got[2] != r(100, 101) {
		t.Errorf("%v", got)
	}
	var many []flow.Range
	for i := range 1000 {
		many = append(many, r(i*100, i*100+1))
	}
	if got := merge(many, 0, 40); len(got) > 40 || got[0].From != many[0].From || got[len(got)-1].To != many[len(many)-1].To {
		t.Errorf("%d ranges", len(got))
	}
	if merge(nil, 0, 5) != nil {
		t.Error("nothing became something")
	}
}
