package detect

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func prefix(s string) Match { return Match{Prefix: netip.MustParsePrefix(s)} }

func netscanOf(kv ...string) map[flow.Rule]map[string]string {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return map[flow.Rule]map[string]string{flow.RuleNetscan: m}
}

func TestOverridesAreInherited(t *testing.T) {
	cfg := Defaults()
	cfg.Overrides = []Override{
		{Match: prefix("198.18.0.0/16"), Rules: netscanOf("suspend_score", "50", "port_rate", "51")},
		{Match: prefix("198.18.1.0/24"), Rules: netscanOf("suspend_score", "60")},
		{Match: prefix("198.18.0.0/16"), Rules: netscanOf("port_rate", "52")}, // as long as the first, and later
		{Match: Match{Tenant: "c-1"}, Rules: netscanOf("suspend_score", "40", "notify_distinct", "20")},
		{Match: Match{Plan: "big"}, Rules: netscanOf("notify_distinct", "19", "persist_score", "9")},
		{Match: Match{Tag: "busy"}, Rules: netscanOf("persist_score", "8", "raw_share", "0.9")},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	holders := map[string]flow.Holder{
		"198.18.1.1": {Tenant: "c-1", Tags: []string{"busy", "plan:big"}}, "198.18.2.1": {Tenant: "c-1"}, "198.19.0.1": {Tenant: "c-2", Tags: []string{"busy"}},
	}
	d := New(cfg, Deps{Windows: newMemWindows(), Holder: func(a netip.Addr) (flow.Holder, bool) { h, ok := holders[a.String()]; return h, ok }})
	type numbers struct {
		suspend, portRate, persist, raw float64
		distinct                        uint64
	}
	hashes := map[string]bool{}
	for ip, want := range map[string]numbers{
		"198.18.1.1": {60, 52, 9, 0.9, 20},
		"198.18.2.1": {50, 52, 10, 0.8, 20},
		"198.18.3.1": {50, 52, 10, 0.8, 12},
		"198.19.0.1": {30, 50, 8, 0.9, 12},
		"198.19.0.2": {30, 50, 10, 0.8, 12},
		"2001:db8::": {30, 50, 10, 0.8, 12},
	} {
		th, _ := d.Policy(netip.MustParseAddr(ip))
		n := th.Netscan
		if got := (numbers{n.SuspendScore, n.PortRate, n.PersistScore, n.RawShare, n.NotifyDistinct}); got != want {
			t.Errorf("%s: %+v, want %+v", ip, got, want)
		}
		hashes[th.hash(flow.RuleNetscan)] = true
		if th.hash(flow.RuleSpam) != d.hashes[flow.RuleSpam] {
			t.Errorf("%s: a rule without an override has another hash", ip)
		}
	}
	if len(hashes) != 5 || len(d.policies.bySet) != 5 {
		t.Errorf("%d hashes, %d policies, want 5: two of the six tenants have no override", len(hashes), len(d.policies.bySet))
	}
	if n := d.loose.Netscan; n.SuspendScore != 30 || n.PersistScore != 8 || n.NotifyDistinct != 12 {
		t.Errorf("the screens ask by %+v", n)
	}
}

func TestLoosestTakesTheHigherReturn(t *testing.T) {
	cfg := Defaults()
	cfg.Overrides = []Override{{Match: prefix("198.18.0.0/16"), Rules: map[flow.Rule]map[string]string{flow.RuleUDPFlood: {"notify_return": "0.1", "notify_score": "10"}, flow.RulePacketFlood: {"return": "0.002"}}}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	l := cfg.loosest()
	if l.UDPFlood.NotifyReturn != 0.1 || l.UDPFlood.NotifyScore != 10 || l.PacketFlood.Return != 0.01 {
		t.Errorf("%+v %+v", l.UDPFlood, l.PacketFlood)
	}
}

func TestOverrideErrors(t *testing.T) {
	with := func(o ...Override) Config { c := Defaults(); c.Overrides = o; return c }
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"matches nobody", with(Override{Rules: netscanOf("notify_score", "15")}), "overrides[0].match has 0 of"},
		{"matches by two", with(Override{Match: Match{Tag: "a", Plan: "b"}, Rules: netscanOf("notify_score", "15")}), "overrides[0].match has 2 of"},
		{"host bits", with(Override{Match: prefix("198.18.0.1/24"), Rules: netscanOf("notify_score", "15")}), "overrides[0].match.prefix is 198.18.0.1/24: write 198.18.0.0/24"},
		{"says nothing", with(Override{Match: Match{Tag: "a"}}), "overrides[0].rules is empty"},
		{"no such rule", with(Override{Match: Match{Tag: "a"}, Rules: map[flow.Rule]map[string]string{"netscam": {"rate": "1"}}}), "overrides[0].rules.netscam has no detector"},
		{"no such key", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("suspend", "1")}), "overrides[0].rules.netscan.suspend is no threshold of this rule: there are notify_score, suspend_score,"},
		{"a list", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("windows_s", "60")}), "overrides[0].rules.netscan.windows_s is a list"},
		{"no number", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("suspend_score", "high")}), `overrides[0].rules.netscan.suspend_score is "high": write a number`},
		{"not a number", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("suspend_score", "NaN")}), `is "NaN"`},
		{"negative", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("notify_distinct", "-1")}), `is "-1": write a whole number`},
		{"out of order by itself", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("suspend_score", "13")}), "overrides[0].rules.netscan.suspend_score is 13: write at least notify_score (14)"},
		{"out of order together", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("notify_score", "29")}, Override{Match: prefix("198.18.0.0/24"), Rules: netscanOf("suspend_score", "28")}),
			"overrides[1].rules.netscan.suspend_score is 28: write at least notify_score (29), where overrides[0 1] meet"},
		{"may act", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("mode", "enforce")}), `overrides[0].rules.netscan.mode is "enforce": write off, observe or notify`},
		{"more than all", with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("mode", "notify")}), "mode is notify, more than rules.netscan.mode (observe)"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	c := with(Override{Match: Match{Tag: "a"}, Rules: netscanOf("suspend_score", "60", "mode", "notify")})
	c.Rules[flow.RuleNetscan] = RuleConfig{Mode: flow.ModeEnforce}
	if err := c.Validate(); err != nil {
		t.Errorf("a lower mode: %v", err)
	}
}

// The numbers of each tenant are those that it is judged by, also where they are
// stricter than everybody's, which the screen in the store must let pass.
func TestOverridesAreJudgedBy(t *testing.T) {
	strict, lax, off, told := address(0), address(1), address(2), address(3)
	cfg := onlyNetscan()
	cfg.Rules[flow.RuleNetscan] = RuleConfig{Mode: flow.ModeEnforce}
	single := func(a netip.Addr) Match { return Match{Prefix: netip.PrefixFrom(a, 32)} }
	cfg.Overrides = []Override{
		{Match: single(strict), Rules: netscanOf("notify_distinct", "6", "notify_score", "4", "notify_pool", "8")},
		{Match: single(lax), Rules: netscanOf("suspend_score", "1e6")},
		{Match: single(off), Rules: netscanOf("mode", "off")},
		{Match: single(told), Rules: netscanOf("mode", "notify")},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	m := newMemWindows()
	for _, a := range []netip.Addr{lax, off, told, address(4)} {
		rowsOf(m, a, 22, 1, 500, 0, 10, 20)
	}
	rowsOf(m, strict, 22, 1000, 3, 0, 10, 20)     // nine at 1:1000: twelve are asked of everybody
	rowsOf(m, address(5), 22, 1000, 3, 0, 10, 20) // the same, without an override
	d := New(cfg, Deps{Windows: m})
	got := map[netip.Addr]flow.Finding{}
	for _, f := range tickAt(t, d, 30) {
		got[f.Tenant] = f
	}
	for a, want := range map[netip.Addr]flow.Tier{strict: flow.TierNotify, lax: flow.TierNotify, told: flow.TierNotify, address(4): flow.TierSuspend} {
		if got[a].Tier != want {
			t.Errorf("%s: %+v, want %s", a, got[a], want)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d tenants, want 4: one is off, one too weak: %v", len(got), got)
	}
	if !slices.Equal(got[told].Gates, []string{GatePolicy}) || got[told].ConfigHash != d.hashes[flow.RuleNetscan] || got[lax].ConfigHash == d.hashes[flow.RuleNetscan] {
		t.Errorf("told %+v\nlax %+v", got[told], got[lax])
	}
}

func BenchmarkPolicyOf(b *testing.B) {
	cfg := Defaults()
	for i := range 50 {
		cfg.Overrides = append(cfg.Overrides, Override{Match: Match{Prefix: netip.PrefixFrom(address(i*250), 24).Masked()}, Rules: netscanOf("suspend_score", "40")})
	}
	d := New(cfg, Deps{Windows: newMemWindows()})
	t := &tickState{d: d, ts: epoch.Add(time.Second)}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		_ = t.th(address(i % 12000))
		i++
	}
}
