package detect

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Deps are what a Detector works with. Windows and, for Run, Emit are needed.
type Deps struct {
	Windows Windows
	// Emit takes the findings of the tick at ts, at least one. An error is
	// logged and counted; what still goes on is found again at the next tick.
	Emit func(ctx context.Context, ts time.Time, f []flow.Finding) error
	// Tags returns a tenant's role tags (tags.go); nil: nobody has any.
	Tags func(tenant netip.Addr) []string
	// Holder returns who holds a tenant's address, for overrides by customer, tag
	// or plan; nil: nobody is known. Tags, where it is set, goes before its tags.
	Holder func(tenant netip.Addr) (flow.Holder, bool)
	// PortOwner returns the tenant whose port an attachment is; nil, or false:
	// not known, and what is spoofed there has nobody to answer for it. It must
	// say false of a router's or switch's MAC and of ports that many share; see
	// PortTable.
	PortOwner func(flow.Attachment) (netip.Addr, bool)
	// SameHolder reports whether two tenants' addresses are of one server; nil:
	// only equal ones.
	SameHolder func(a, b netip.Addr) bool
	// Fresh reports whether windows from a moment on still count for a tenant; nil:
	// all do. What was answered already does not, and a long range that holds it
	// must not hide a short one that does not.
	Fresh func(tenant netip.Addr, from time.Time) bool
	// Prepare is called a moment before each slot and brings what was received
	// until then where Windows finds it; nil: nothing has to be done. The tick
	// waits for it, so it gives up by itself. Only Run calls it.
	Prepare func(ctx context.Context)
	// Memory keeps what the guards remember over a restart; nil: it is forgotten
	// with the process. Only Run reads and saves it.
	Memory     Memory
	Health     Health                // of the exporters; nil: nothing is known of them
	Log        *zap.Logger           // nil: none
	Registerer prometheus.Registerer // nil: a private registry
	Now        func() time.Time      // nil: time.Now; only Run asks
}

// Detector judges windows. What its rules find depends on the windows alone; what
// the guards hold back also on what they saw in the ticks before, in this process
// and by Deps.Memory in those before it. One goroutine uses it.
type Detector struct {
	cfg    Config
	deps   Deps
	log    *zap.Logger
	m      *metrics
	ports  *portTable
	hashes map[flow.Rule]string
	guards *guardMemory
	// loose is what the store is asked by, base what holds without overrides.
	loose    Thresholds
	base     *policy
	policies *policies
	warned   time.Time // slot of the last warning
	recalled bool      // what was saved of the guards' memory is read
	saved    time.Time // slot in which the guards' memory was saved last
	// screen stands in the place of Deps.Windows where that is a Screener, and asks
	// it of suspects only.
	screen *screened
	slow   slowScans
}

// New returns a Detector. cfg has passed Validate; what it leaves zero as a
// whole becomes the default.
func New(cfg Config, deps Deps) *Detector {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	d := &Detector{cfg: cfg.withDefaults(), deps: deps, log: deps.Log.Named("detect"), m: newMetrics(deps.Registerer), hashes: map[flow.Rule]string{}, guards: newGuardMemory()}
	d.ports = d.cfg.Thresholds.PortClasses.table()
	d.loose, d.policies = d.cfg.loosest(), newPolicies(&d.cfg)
	d.base = d.policies.compile(nil)
	d.recalled = deps.Memory == nil
	d.hashes = d.base.hashes
	d.slow.w, _ = d.deps.Windows.(HourlyWindows)
	if s, ok := d.deps.Windows.(Screener); ok {
		d.screen = newScreened(d.deps.Windows, s, &d.loose, &d.cfg.Thresholds.Reflector)
		d.deps.Windows = d.screen
	}
	return d
}

// Tick judges event time up to ts, a multiple of the interval. It returns one
// finding, the strongest over the window lengths that are fresh, for each tenant,
// rule and port or remote, in a fixed order. The longer windows are not due at every
// slot: 300 s every 10 s, 1800 s every minute. Given the same windows it
// returns the same findings.
func (d *Detector) Tick(ctx context.Context, ts time.Time) ([]flow.Finding, error) {
	return d.tick(ctx, ts.Add(-d.cfg.Interval), ts)
}

// tick is Tick with the slot of the tick before, so that no length is forgotten
// when slots were missed.
func (d *Detector) tick(ctx context.Context, prev, ts time.Time) ([]flow.Finding, error) {
	t := &tickState{d: d, ctx: ctx, prev: prev, ts: ts.UTC(), best: map[findingKey]flow.Finding{}, fleet: fleet{}}
	d.guards.health.observe(t.ts, d.deps.Health)
	if err := t.judge(); err != nil {
		return nil, err
	}
	return t.finish()
}

// judge asks what the rules ask.
func (t *tickState) judge() error {
	d := t.d
	if d.screen != nil {
		d.screen.begin(t.ts)
		defer d.m.seeScreen(d.screen)
	}
	steps := []struct {
		rule flow.Rule
		run  func() error
	}{
		{flow.RuleNetscan, t.netscan}, {flow.RulePortscan, t.portscan}, {flow.RuleBlockscan, t.blockscan},
		{flow.RuleUDPSweep, t.udpSweep}, {flow.RuleICMPSweep, t.icmpSweep},
		{flow.RuleSYNFlood, t.synFlood}, {flow.RuleUDPFlood, t.udpFlood}, {flow.RuleICMPFlood, t.icmpFlood}, {flow.RulePacketFlood, t.packetFlood},
		{flow.RuleReflector, t.reflector}, {flow.RuleSpam, t.spam}, {flow.RuleBruteforce, t.bruteforce}, {flow.RuleBlockedPort, t.blockedPort},
		{flow.RuleSpoofed, t.spoofed},
	}
	for _, s := range steps {
		if !d.cfg.on(s.rule) {
			continue
		}
		if err := s.run(); err != nil {
			return fmt.Errorf("rule %s: %w", s.rule, err)
		}
	}
	return nil
}

// findingKey is what one finding is kept for.
type findingKey struct {
	tenant netip.Addr
	rule   flow.Rule
	port   uint16
	remote netip.Addr
}

// tickState is what one tick has read and found.
type tickState struct {
	d        *Detector
	ctx      context.Context
	prev, ts time.Time
	best     map[findingKey]flow.Finding
	fleet    fleet
	// What several rules ask for, by range; nil until the first asks.
	tcpPairs   map[flow.Range]tcpPairs
	loginStats map[flow.Range][]flow.ServiceStat
	hosts      map[flow.Range][]flow.HostStat
	policies   map[netip.Addr]*policy
	// What the guards know, loaded when a finding first needs it.
	exporters    []flow.ExporterHealth
	badExporters map[netip.Addr][]string
	wrongRates   map[netip.Addr]bool
	silent       bool
	usualAsked   int // questions for tagged mail servers
}

// dueLengths returns the lengths of windows_s that this tick judges a rule over.
func (t *tickState) dueLengths(r flow.Rule, windowsS []int) []time.Duration {
	var out []time.Duration
	shift := shifts[r]
	for _, w := range windowsS {
		if l := time.Duration(w) * time.Second; due(l, t.prev.Add(-shift), t.ts.Add(-shift)) {
			out = append(out, l)
		}
	}
	return out
}

// keep stamps a finding and keeps it if it is the strongest of its key.
func (t *tickState) keep(f flow.Finding, length time.Duration) {
	f.Time, f.WindowS, f.ConfigHash = t.ts, uint32(length/time.Second), t.policy(f.Tenant).hashes[f.Rule]
	k := findingKey{f.Tenant, f.Rule, f.Port, f.Remote}
	old, ok := t.best[k]
	if !ok || cmp.Or(t.fresher(f, old), cmp.Compare(f.Tier, old.Tier), cmp.Compare(f.Score, old.Score)) > 0 {
		t.best[k] = f
	}
}

// fresher is above 0 if only a is fresh, and below if only b is.
func (t *tickState) fresher(a, b flow.Finding) int {
	fresh := t.d.deps.Fresh
	if fresh == nil || a.From.Equal(b.From) {
		return 0
	}
	x, y := fresh(a.Tenant, a.From), fresh(b.Tenant, b.From)
	switch {
	case x && !y:
		return 1
	case y && !x:
		return -1
	}
	return 0
}

// evidence holds a suspension that too few samples back.
func (t *tickState) evidence(f *flow.Finding) {
	if f.Samples < t.d.cfg.Thresholds.Gates.MinSamples {
		hold(f, GateEvidence)
	}
}

// hostGates applies the gates that need the tenants' totals over r to those of
// fs that are above notify. own says which part is the finding's; nil: none.
func (t *tickState) hostGates(r flow.Range, fs []flow.Finding, own func(*flow.Finding) ownShare) error {
	var tenants []netip.Addr
	for i := range fs {
		if fs[i].Tier > flow.TierNotify {
			tenants = append(tenants, fs[i].Tenant)
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	slices.SortFunc(tenants, netip.Addr.Compare)
	stats, err := t.d.deps.Windows.HostStats(t.ctx, r, slices.Compact(tenants))
	if err != nil {
		return fmt.Errorf("host totals: %w", err)
	}
	hosts := make(map[netip.Addr]*flow.HostStat, len(stats))
	for i := range stats {
		hosts[stats[i].Tenant] = &stats[i]
	}
	for i := range fs {
		if fs[i].Tier > flow.TierNotify {
			var o ownShare
			if own != nil {
				o = own(&fs[i])
			}
			t.th(fs[i].Tenant).hostGates(&fs[i], hosts[fs[i].Tenant], o)
		}
	}
	return nil
}

// finish asks for known peers, for those only that would be suspended, and
// returns the findings in order.
func (t *tickState) finish() ([]flow.Finding, error) {
	out := make([]flow.Finding, 0, len(t.best))
	for _, f := range t.best {
		out = append(out, f)
	}
	inOrder(out)
	out = t.capModes(out)
	t.d.guards.note(&t.d.cfg.Thresholds.Guards, out, t.ts)
	if err := t.seeFleet(out); err != nil {
		return nil, err
	}
	deaf := t.fleet.deaf()
	for i := range out {
		f := &out[i]
		// What is spoofed is never answered, and a flood of ACKs is itself what
		// goes out without an answer: the latter asks for itself.
		if f.Rule != flow.RuleSpoofed && (deaf || f.Rule != flow.RulePacketFlood && t.fleet.deafTenant(f.Tenant)) {
			hold(f, GateNoIncoming)
		}
		if f.Tier > flow.TierNotify && tagHolds(t.tags(f.Tenant), f.Rule) {
			hold(f, GateRoleTag)
		}
		if f.Tier != flow.TierSuspend || f.Rule != flow.RuleNetscan && f.Rule != flow.RuleUDPSweep && f.Rule != flow.RuleICMPSweep {
			continue
		}
		if err := t.askKnownPeers(f, f.Port); err != nil {
			return nil, err
		}
	}
	if err := t.lookAtFleet(); err != nil {
		return nil, err
	}
	blamed, err := t.guard(out)
	if err != nil || len(blamed) == 0 {
		return out, err
	}
	return t.merge(out, blamed), nil
}

func inOrder(fs []flow.Finding) {
	slices.SortFunc(fs, func(a, b flow.Finding) int {
		return cmp.Or(a.Tenant.Compare(b.Tenant), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Port, b.Port), a.Remote.Compare(b.Remote))
	})
}

// merge adds findings about ports to those that the rule itself has made.
func (t *tickState) merge(fs, blamed []flow.Finding) []flow.Finding {
	for _, f := range blamed {
		i := slices.IndexFunc(fs, func(o flow.Finding) bool { return o.Tenant == f.Tenant && o.Rule == f.Rule })
		switch {
		case i < 0:
			fs = append(fs, f)
		case cmp.Or(cmp.Compare(f.Tier, fs[i].Tier), cmp.Compare(f.Score, fs[i].Score)) > 0:
			fs[i] = f
		}
	}
	inOrder(fs)
	return fs
}
