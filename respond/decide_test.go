package respond

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

var t0 = time.Date(2026, 11, 22, 6, 53, 0, 0, time.UTC)

// ready is an input that nothing holds back.
func ready(fs ...flow.Finding) Input {
	w := newWorld()
	h := w.holders[tenantA]
	return Input{Findings: fs, Holder: h, Known: true, Before: h, KnownBefore: true, Adapter: true}
}

func tiered(tier flow.Tier) flow.Finding {
	f := scan(tenantA, t0)
	f.Tier = tier
	return f
}

func TestDecide(t *testing.T) {
	modes := func(m flow.Mode) Config {
		return Config{Modes: map[flow.Rule]flow.Mode{flow.RuleNetscan: m}}.withDefaults()
	}
	with := func(c Config, change func(*Config)) Config {
		change(&c)
		return c
	}
	in := func(change func(*Input)) Input {
		i := ready(tiered(flow.TierSuspend))
		change(&i)
		return i
	}
	cut := ready(tiered(flow.TierSuspend))
	young := ready(tiered(flow.TierNotify))
	waited := func(d time.Duration) Input {
		i := young
		i.Waiting = t0.Add(-d)
		return i
	}
	told := func(m flow.Mode) Config { // beside a rule that only ever tells
		return with(modes(m), func(c *Config) { c.Modes[flow.RuleSYNFlood] = flow.ModeNotify })
	}
	both := func(i Input) Input {
		f := tiered(flow.TierNotify)
		f.Rule = flow.RuleSYNFlood
		i.Findings = append(slices.Clone(i.Findings), f)
		return i
	}
	for _, tc := range []struct {
		name   string
		cfg    Config
		state  flow.State
		in     Input
		want   flow.State
		reason Reason
	}{
		// mode by tier
		{"off", modes(flow.ModeOff), "", cut, "", ReasonNothingNew},
		{"default mode is observe", Config{}.withDefaults(), "", cut, flow.StateOpen, ReasonObserved},
		{"observe", modes(flow.ModeObserve), "", cut, flow.StateOpen, ReasonObserved},
		{"unknown mode never acts", modes("enforced"), "", cut, flow.StateOpen, ReasonObserved},
		{"notify", modes(flow.ModeNotify), "", cut, flow.StateNotified, ReasonNotify},
		{"approve", modes(flow.ModeApprove), "", cut, flow.StateApproval, ReasonApprove},
		{"enforce", modes(flow.ModeEnforce), "", cut, flow.StateSuspending, ReasonEnforce},
		{"enforce, tier none", modes(flow.ModeEnforce), "", ready(tiered(flow.TierNone)), "", ReasonNothingNew},
		{"enforce, tier log", modes(flow.ModeEnforce), "", ready(tiered(flow.TierLog)), flow.StateOpen, ReasonObserved},
		{"enforce, tier notify", modes(flow.ModeEnforce), "", young, flow.StateOpen, ReasonNotifyWait},
		{"enforce, tier block_port", modes(flow.ModeEnforce), "", ready(tiered(flow.TierBlockPort)), flow.StateOpen, ReasonNotifyWait},
		{"approve, tier notify", modes(flow.ModeApprove), "", young, flow.StateOpen, ReasonNotifyWait},
		{"notify, tier notify", modes(flow.ModeNotify), "", young, flow.StateNotified, ReasonNotify},
		{"observe, tier notify", modes(flow.ModeObserve), "", ready(tiered(flow.TierNotify)), flow.StateOpen, ReasonObserved},
		{"the strongest finding decides", modes(flow.ModeEnforce), "", ready(tiered(flow.TierLog), tiered(flow.TierSuspend), tiered(flow.TierNotify)), flow.StateSuspending, ReasonEnforce},
		// safeties
		{"protected prefix", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Protected.Prefixes = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/29")}
		}), "", cut, flow.StateHeld, ReasonProtected},
		{"beside a protected prefix", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Protected.Prefixes = []netip.Prefix{netip.MustParsePrefix("198.18.0.8/29")}
		}), "", cut, flow.StateSuspending, ReasonEnforce},
		{"protected address inside the holder's prefix", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Protected.Prefixes = []netip.Prefix{netip.MustParsePrefix("198.18.0.5/32")}
		}), "", in(func(i *Input) { i.Holder.Prefix = netip.MustParsePrefix("198.18.0.0/28") }), flow.StateHeld, ReasonProtected},
		{"protected tenant", with(modes(flow.ModeEnforce), func(c *Config) { c.Protected.Tenants = []string{"cust-a"} }), "", cut, flow.StateHeld, ReasonProtected},
		{"protected tag", with(modes(flow.ModeApprove), func(c *Config) { c.Protected.Tags = []string{"infra"} }), "",
			in(func(i *Input) { i.Holder.Tags = []string{"infra"} }), flow.StateHeld, ReasonProtected},
		{"empty protected names match no unnamed tenant", with(modes(flow.ModeEnforce), func(c *Config) { c.Protected.Tenants = []string{""} }), "",
			in(func(i *Input) { i.Holder.Tenant, i.Before.Tenant = "", "" }), flow.StateSuspending, ReasonEnforce},
		{"protected goes before unknown", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Protected.Prefixes = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}
		}), "", Input{Findings: []flow.Finding{tiered(flow.TierSuspend)}}, flow.StateHeld, ReasonProtected},
		{"holder unknown", modes(flow.ModeEnforce), "", Input{Findings: []flow.Finding{tiered(flow.TierSuspend)}}, flow.StateHeld, ReasonHolderUnknown},
		{"holder disputed", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Holder.Doubt = flow.DoubtDisputed }), flow.StateHeld, ReasonHolderUnsure},
		{"holder known by its own word", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Holder.Doubt = flow.DoubtForgeable }), flow.StateHeld, ReasonHolderUnsure},
		{"holder known by its own word, approve", modes(flow.ModeApprove), "", in(func(i *Input) { i.Holder.Doubt = flow.DoubtForgeable }), flow.StateHeld, ReasonHolderUnsure},
		{"known by its own word when it began", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Before.Doubt = flow.DoubtForgeable }), flow.StateHeld, ReasonHolderUnsure},
		{"source of the holder stale", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Holder.Doubt = flow.DoubtStale }), flow.StateHeld, ReasonInventoryOld},
		{"source stale for what was before", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Before.Doubt = flow.DoubtStale }), flow.StateSuspending, ReasonEnforce},
		{"holder unknown, approve", modes(flow.ModeApprove), "", Input{Findings: []flow.Finding{tiered(flow.TierSuspend)}}, flow.StateHeld, ReasonHolderUnknown},
		{"holder unknown, notify tier", modes(flow.ModeEnforce), "", Input{Findings: []flow.Finding{tiered(flow.TierNotify)}}, flow.StateOpen, ReasonNotifyWait},
		{"holder was another", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Before.VDS = "vds-z" }), flow.StateHeld, ReasonHolderChanged},
		{"nobody held it before", modes(flow.ModeEnforce), "", in(func(i *Input) { i.KnownBefore = false }), flow.StateHeld, ReasonHolderChanged},
		{"no adapter", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Adapter = false }), flow.StateHeld, ReasonNoAdapter},
		{"shared", modes(flow.ModeEnforce), "", in(func(i *Input) { i.Holder.Tags = []string{"x", "shared"} }), flow.StateHeld, ReasonShared},
		{"nat", modes(flow.ModeApprove), "", in(func(i *Input) { i.Holder.Tags = []string{"nat"} }), flow.StateHeld, ReasonShared},
		{"cut by another incident", modes(flow.ModeEnforce), "", in(func(i *Input) { i.OtherCut = "FC-OTHER" }), flow.StateHeld, ReasonAlreadyCut},
		{"just below the cap", modes(flow.ModeEnforce), "", in(func(i *Input) { i.LastHour = 9 }), flow.StateSuspending, ReasonEnforce},
		{"exactly the cap", modes(flow.ModeEnforce), "", in(func(i *Input) { i.LastHour = 10 }), flow.StateHeld, ReasonCap},
		{"the cap bounds automatic acts only", modes(flow.ModeApprove), "", in(func(i *Input) { i.LastHour = 10 }), flow.StateApproval, ReasonApprove},
		{"a negative cap allows none", with(modes(flow.ModeEnforce), func(c *Config) { c.MaxPerHour = -1 }), "", cut, flow.StateHeld, ReasonCap},
		{"cooldown, just before its end", with(modes(flow.ModeEnforce), func(c *Config) { c.Cooldown = time.Hour }), "",
			in(func(i *Input) { i.Released = t0.Add(-time.Hour + time.Second) }), flow.StateHeld, ReasonCooldown},
		{"cooldown, exactly its end", with(modes(flow.ModeEnforce), func(c *Config) { c.Cooldown = time.Hour }), "",
			in(func(i *Input) { i.Released = t0.Add(-time.Hour) }), flow.StateSuspending, ReasonEnforce},
		// exemptions
		{"exempt", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Tenant: netip.MustParsePrefix("198.18.0.7/32")}}
		}), "", cut, flow.StateOpen, ReasonExempt},
		{"exempt for another port", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Tenant: netip.MustParsePrefix("198.18.0.7/32"), Port: 23}}
		}), "", cut, flow.StateSuspending, ReasonEnforce},
		{"exempt by customer and rule", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Holder: "cust-a", Rule: flow.RuleNetscan}}
		}), "", cut, flow.StateOpen, ReasonExempt},
		{"an exemption of nobody exempts nobody", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Rule: flow.RuleNetscan}}
		}), "", cut, flow.StateSuspending, ReasonEnforce},
		{"exemption just before its expiry", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Holder: "cust-a", Expires: t0.Add(time.Nanosecond)}}
		}), "", cut, flow.StateOpen, ReasonExempt},
		{"exemption expired", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Holder: "cust-a", Expires: t0}}
		}), "", cut, flow.StateSuspending, ReasonEnforce},
		{"remote of an exemption must match", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Holder: "cust-a", Remote: netip.MustParsePrefix("203.0.113.0/24")}}
		}), "", cut, flow.StateSuspending, ReasonEnforce},
		{"one finding exempt, another not", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Holder: "cust-a", Port: 22}}
		}), "", in(func(i *Input) {
			f := tiered(flow.TierSuspend)
			f.Port = 23
			i.Findings = append(i.Findings, f)
		}), flow.StateSuspending, ReasonEnforce},
		// a notice waits whether the abuse rises
		{"waits, the first verdict again", modes(flow.ModeEnforce), flow.StateOpen, young, "", ReasonNotifyWait},
		{"waits, just below the time", modes(flow.ModeEnforce), flow.StateOpen, waited(2*time.Minute - time.Nanosecond), "", ReasonNotifyWait},
		{"waited, exactly the time", modes(flow.ModeEnforce), flow.StateOpen, waited(2 * time.Minute), flow.StateNotified, ReasonNotify},
		{"waits for approval, just below the time", modes(flow.ModeApprove), flow.StateOpen, waited(2*time.Minute - time.Nanosecond), "", ReasonNotifyWait},
		{"waited for approval, exactly the time", modes(flow.ModeApprove), flow.StateOpen, waited(2 * time.Minute), flow.StateNotified, ReasonNotify},
		{"waits and rises", modes(flow.ModeEnforce), flow.StateOpen, in(func(i *Input) { i.Waiting = t0.Add(-time.Second) }), flow.StateSuspending, ReasonEnforce},
		{"rises when the time is over", modes(flow.ModeEnforce), flow.StateOpen, in(func(i *Input) { i.Waiting = t0.Add(-2 * time.Minute) }), flow.StateSuspending, ReasonEnforce},
		{"waits and rises to a question", modes(flow.ModeApprove), flow.StateOpen, in(func(i *Input) { i.Waiting = t0.Add(-time.Second) }), flow.StateApproval, ReasonApprove},
		{"waits and is held", modes(flow.ModeEnforce), flow.StateOpen, in(func(i *Input) { i.Waiting, i.LastHour = t0.Add(-time.Second), 10 }), flow.StateHeld, ReasonCap},
		{"no wait configured", with(modes(flow.ModeEnforce), func(c *Config) { c.NotifyAfter = -1 }), "", young, flow.StateNotified, ReasonNotify},
		{"mode notify does not wait", modes(flow.ModeNotify), flow.StateOpen, waited(time.Second), flow.StateNotified, ReasonNotify},
		{"a rule in notify beside one that waits", told(flow.ModeEnforce), "", both(young), flow.StateNotified, ReasonNotify},
		{"and beside one that acts", told(flow.ModeEnforce), "", both(cut), flow.StateSuspending, ReasonEnforce},
		{"exempt while it waits", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Holder: "cust-a"}}
		}), flow.StateOpen, waited(2 * time.Minute), "", ReasonNothingNew},
		{"exempt from the start", with(modes(flow.ModeEnforce), func(c *Config) {
			c.Exemptions = []Exemption{{Name: "x", Holder: "cust-a"}}
		}), "", young, flow.StateOpen, ReasonExempt},
		{"observe while it waits", modes(flow.ModeObserve), flow.StateOpen, waited(2 * time.Minute), "", ReasonNothingNew},
		{"protected holds acts, not notices", with(modes(flow.ModeEnforce), func(c *Config) { c.Protected.Tenants = []string{"cust-a"} }),
			flow.StateOpen, waited(2 * time.Minute), flow.StateNotified, ReasonNotify},
		{"protected and risen", with(modes(flow.ModeEnforce), func(c *Config) { c.Protected.Tenants = []string{"cust-a"} }),
			flow.StateOpen, in(func(i *Input) { i.Waiting = t0 }), flow.StateHeld, ReasonProtected},
		{"held is not told", modes(flow.ModeEnforce), flow.StateHeld, waited(2 * time.Minute), "", ReasonNothingNew},
		{"notified is not told again", modes(flow.ModeEnforce), flow.StateNotified, waited(2 * time.Minute), "", ReasonNothingNew},
		// from each state
		{"open rises", modes(flow.ModeEnforce), flow.StateOpen, cut, flow.StateSuspending, ReasonEnforce},
		{"open stays", modes(flow.ModeObserve), flow.StateOpen, cut, "", ReasonNothingNew},
		{"notified once", modes(flow.ModeNotify), flow.StateNotified, cut, "", ReasonNothingNew},
		{"notified rises", modes(flow.ModeEnforce), flow.StateNotified, cut, flow.StateSuspending, ReasonEnforce},
		{"held by the cap acts when it is free", modes(flow.ModeEnforce), flow.StateHeld, in(func(i *Input) { i.Held = ReasonCap }), flow.StateSuspending, ReasonEnforce},
		{"held by the cap stays held", modes(flow.ModeEnforce), flow.StateHeld, in(func(i *Input) { i.Held, i.LastHour = ReasonCap, 10 }), "", ReasonNothingNew},
		{"held for another reason", modes(flow.ModeEnforce), flow.StateHeld, in(func(i *Input) { i.Held, i.LastHour = ReasonShared, 10 }), flow.StateHeld, ReasonCap},
		{"held does not fall back", modes(flow.ModeNotify), flow.StateHeld, in(func(i *Input) { i.Held = ReasonCap }), "", ReasonNothingNew},
		{"not asked again after the timeout", modes(flow.ModeApprove), flow.StateHeld, in(func(i *Input) { i.Held = ReasonApprovalLate }), "", ReasonNothingNew},
		{"enforced after the timeout of another rule", modes(flow.ModeEnforce), flow.StateHeld, in(func(i *Input) { i.Held = ReasonApprovalLate }), flow.StateSuspending, ReasonEnforce},
		{"approval waits", modes(flow.ModeApprove), flow.StateApproval, cut, "", ReasonNothingNew},
		{"approval is overtaken by enforce", modes(flow.ModeEnforce), flow.StateApproval, cut, flow.StateSuspending, ReasonEnforce},
		{"approval is not dropped for the cap", modes(flow.ModeEnforce), flow.StateApproval, in(func(i *Input) { i.LastHour = 10 }), "", ReasonNothingNew},
		{"approval is dropped for protection", with(modes(flow.ModeApprove), func(c *Config) { c.Protected.Tenants = []string{"cust-a"} }),
			flow.StateApproval, cut, flow.StateHeld, ReasonProtected},
		{"suspending", modes(flow.ModeEnforce), flow.StateSuspending, cut, "", ReasonNothingNew},
		{"suspended", modes(flow.ModeEnforce), flow.StateSuspended, cut, "", ReasonNothingNew},
		{"verified", modes(flow.ModeEnforce), flow.StateVerified, cut, "", ReasonNothingNew},
		{"unverified", modes(flow.ModeEnforce), flow.StateUnverified, cut, "", ReasonNothingNew},
		{"failed waits for a human", modes(flow.ModeEnforce), flow.StateFailed, cut, "", ReasonNothingNew},
		{"releasing", modes(flow.ModeEnforce), flow.StateReleasing, cut, "", ReasonNothingNew},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, reason := decide(tc.cfg, tc.state, tc.in, t0)
			if d.State != tc.want || reason != tc.reason {
				t.Errorf("%q, %s; want %q, %s", d.State, reason, tc.want, tc.reason)
			}
			if !slices.Contains(Reasons, reason) {
				t.Errorf("reason %q is not in the closed list", reason)
			}
		})
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	quiet := []Reason{ReasonNothingNew, ReasonStale} // never stored with a state
	for _, r := range Reasons {
		if _, ok := sentences[r]; !ok && !slices.Contains(quiet, r) {
			t.Errorf("reason %q has no sentence", r)
		}
	}
	if len(slices.Compact(slices.Sorted(slices.Values(Reasons)))) != len(Reasons) {
		t.Error("a reason stands twice in the list")
	}
}

func TestNewsworthy(t *testing.T) {
	f := tiered(flow.TierNotify)
	base := addFindings(record{lastFinding: t0}, []flow.Finding{f})
	change := func(fn func(*flow.Finding)) flow.Finding {
		g := f
		fn(&g)
		return g
	}
	higher := change(func(f *flow.Finding) { f.Score++ })
	for _, tc := range []struct {
		name  string
		f     flow.Finding
		after time.Duration
		want  bool
	}{
		{"the same", f, 24 * time.Hour, false},
		{"new rule", change(func(f *flow.Finding) { f.Rule = flow.RuleSYNFlood }), 0, true},
		{"raised tier", change(func(f *flow.Finding) { f.Tier++ }), 0, true},
		{"lower tier", change(func(f *flow.Finding) { f.Tier-- }), time.Minute, false},
		{"higher score, just below a minute", higher, time.Minute - time.Nanosecond, false},
		{"higher score, exactly a minute", higher, time.Minute, true},
		{"new port within the minute", change(func(f *flow.Finding) { f.Port = 23 }), 59 * time.Second, false},
		{"new port after it", change(func(f *flow.Finding) { f.Port = 23 }), time.Minute, true},
		{"lower score after a minute", change(func(f *flow.Finding) { f.Score-- }), time.Minute, false},
		{"lower score after ten", change(func(f *flow.Finding) { f.Score-- }), 10 * time.Minute, true},
	} {
		if got := newsworthy(base, []flow.Finding{tc.f}, t0.Add(tc.after)); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestJudge(t *testing.T) {
	cfg := Config{}.withDefaults()
	done := t0.Add(3 * time.Second)
	since := t0.Add(20 * time.Second) // the next whole window, and 10 s to settle
	inc := flow.Incident{Action: &flow.Action{Done: done}}
	thin := inc
	thin.Findings = []flow.Finding{{Samples: 12, WindowS: 300}} // one sample in 25 s
	if got := cfg.since(done); !got.Equal(since) {
		t.Fatalf("since %s, want %s", got, since)
	}
	if got := cfg.since(t0); !got.Equal(t0.Add(10 * time.Second)) {
		t.Errorf("since a whole window: %s", got)
	}
	if d := silenceNeeded(cfg, thin); d < 124*time.Second || d > 126*time.Second {
		t.Errorf("thinly sampled tenant must be silent for %s, want 125 s", d)
	}
	at := func(s int) time.Time { return since.Add(time.Duration(s) * time.Second) }
	for _, tc := range []struct {
		name string
		inc  flow.Incident
		o    flow.Outbound
		ts   time.Time
		want verdict
	}{
		{"fleet just before the end", inc, flow.Outbound{FleetLast: at(20).Add(-1)}, at(27), waiting},
		{"fleet exactly at the end", inc, flow.Outbound{FleetLast: at(20)}, at(27), silent},
		{"windows may still be on their way", inc, flow.Outbound{FleetLast: at(20)}, at(27).Add(-1), waiting},
		{"thin sampling needs more", thin, flow.Outbound{FleetLast: at(20)}, at(25), waiting},
		{"nobody heard", inc, flow.Outbound{FleetLast: at(-30)}, at(60), fleetSilent},
		{"nobody ever heard", inc, flow.Outbound{}, at(600), fleetSilent},
		{"a straggler, then silence", inc, flow.Outbound{Packets: 2, Last: at(10), FleetLast: at(30)}, at(37), silent},
		{"a straggler, too early", inc, flow.Outbound{Packets: 2, Last: at(10), FleetLast: at(29)}, at(35), waiting},
		{"it goes on", inc, flow.Outbound{Packets: 9, Last: at(100), FleetLast: at(100)}, at(101), waiting},
		{"it goes on, just before the deadline", inc, flow.Outbound{Packets: 9, Last: at(170), FleetLast: at(170)}, at(180).Add(-1), waiting},
		{"it goes on, exactly the deadline", inc, flow.Outbound{Packets: 9, Last: at(170), FleetLast: at(170)}, at(180), sending},
		{"pauses do not fool it", inc, flow.Outbound{Packets: 9, Last: at(100), FleetLast: at(150)}, at(150), waiting},
		{"it stopped long after", inc, flow.Outbound{Packets: 9, Last: at(100), FleetLast: at(280)}, at(287), silent},
	} {
		if got := judge(cfg, tc.inc, tc.o, tc.ts); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}
