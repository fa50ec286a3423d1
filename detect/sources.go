package detect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Guards G1 and G2 of detection.md §5.2 for one finding: by whom it was seen,
// and from whose port it came.

// sourcesKept is how long an answer about one finding's rows is good: they are
// read by key, but some tenants stay above notify for days.
const sourcesKept = time.Minute

// sourceVerdict is what the rows of one finding say.
type sourceVerdict struct {
	at       time.Time
	gates    []string
	exporter netip.Addr        // with the most records; invalid: there are no rows
	foreign  []flow.SourceStat // rows from ports of others
}

// guard applies to the findings above notify what their rows and their exporters
// say, then what the fleet says. It returns what others' ports are blamed for.
func (t *tickState) guard(fs []flow.Finding) ([]flow.Finding, error) {
	var foreign []flow.SourceStat
	any := false
	for i := range fs {
		f := &fs[i]
		if f.Tier <= flow.TierNotify || f.Rule == flow.RuleSpoofed {
			continue
		}
		if !any {
			any = true
			t.loadExporters()
			if err := t.checkRates(); err != nil {
				return nil, err
			}
		}
		v, err := t.sourcesOf(f)
		if err != nil {
			return nil, err
		}
		foreign = append(foreign, v.foreign...)
		if e := t.d.guards.entries[f.Rule][f.Tenant]; e != nil {
			e.exporter = v.exporter
		}
		for _, g := range v.gates {
			hold(f, g)
		}
	}
	t.fleetGate(fs)
	if t.ts.Before(t.d.guards.blind) {
		for i := range fs {
			if fs[i].Tier > flow.TierNotify && fs[i].Rule != flow.RuleSpoofed {
				hold(&fs[i], GateGuardsUnknown)
			}
		}
	}
	return t.blameForeign(foreign), nil
}

// loadExporters asks the collector, once a tick.
func (t *tickState) loadExporters() {
	if t.d.deps.Health == nil || t.exporters != nil {
		return
	}
	t.exporters = t.d.guards.health.exporters(t.d.deps.Health, t.ts)
	t.badExporters = map[netip.Addr][]string{}
	for i := range t.exporters {
		h := &t.exporters[i]
		if g := exporterGates(&t.d.cfg.Thresholds.Guards, h, t.d.guards.health.since(h), t.ts); len(g) > 0 {
			t.badExporters[h.Exporter] = g
		}
		t.silent = t.silent || silent(h, t.ts)
	}
}

// sourcesOf returns the gates that a finding's rows close, asked once a minute.
func (t *tickState) sourcesOf(f *flow.Finding) (*sourceVerdict, error) {
	k := findingKey{f.Tenant, f.Rule, f.Port, f.Remote}
	if v := t.d.guards.asked[k]; v != nil && t.ts.Sub(v.at) < sourcesKept {
		return v, nil
	}
	if t.d.guards.asked[k] == nil {
		if err := t.askFleet(); err != nil {
			return nil, err
		}
	}
	q := sourceQuery(f)
	v := &sourceVerdict{at: t.ts}
	stats, err := t.d.deps.Windows.Sources(t.ctx, q)
	switch {
	case t.ctx.Err() != nil:
		return nil, t.ctx.Err()
	case err != nil: // one slow answer must not hide the other findings
		t.d.m.errors.WithLabelValues(stepSources).Inc()
		t.d.warn(t.ts, "rows of a finding not available, its verdict is held", err)
		v.gates = []string{GateSourcesUnknown}
		return v, nil
	}
	v.exporter = mainExporter(stats)
	v.gates = append(v.gates, t.exportersOf(stats)...)
	if t.ratesMixed(stats) {
		v.gates = append(v.gates, GateExporterRate)
	}
	if timesMissing(stats) {
		v.gates = append(v.gates, GateNoTimes)
	}
	gate, foreign := t.ownPort(f, stats)
	v.foreign = foreign
	if gate != "" {
		v.gates = append(v.gates, gate)
	}
	dup, err := t.seenTwice(f, q, stats)
	if err != nil {
		return nil, err
	}
	if dup {
		v.gates = append(v.gates, GateDuplicate)
	}
	slices.Sort(v.gates)
	v.gates = slices.Compact(v.gates)
	t.d.guards.asked[k] = v
	return v, nil
}

// sourceQuery selects the rows that a finding rests on.
func sourceQuery(f *flow.Finding) flow.SourceQuery {
	q := flow.SourceQuery{Tenant: f.Tenant, Range: flow.Range{From: f.From, To: f.To}, IPProto: f.IPProto, SvcPort: -1}
	switch f.Rule {
	case flow.RuleNetscan, flow.RuleUDPSweep, flow.RuleReflector:
		q.SvcPort = int(f.Port)
	case flow.RulePortscan, flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RuleICMPFlood, flow.RulePacketFlood:
		q.Remote = f.Remote
	}
	return q
}

func mainExporter(stats []flow.SourceStat) netip.Addr {
	var best netip.Addr
	sums := map[netip.Addr]uint64{}
	for i := range stats {
		if stats[i].Dir == flow.Out {
			sums[stats[i].Exporter] += stats[i].Records
		}
	}
	for a, n := range sums {
		if !best.IsValid() || n > sums[best] || n == sums[best] && a.Less(best) {
			best = a
		}
	}
	return best
}

// exportersOf returns what speaks against the exporters that saw a finding's
// traffic. Where no rows are stored, any of them may have.
func (t *tickState) exportersOf(stats []flow.SourceStat) []string {
	var out []string
	if t.silent {
		out = append(out, GateExporterSilent)
	}
	if len(stats) == 0 {
		for _, g := range t.badExporters {
			out = append(out, g...)
		}
		if len(t.wrongRates) > 0 {
			out = append(out, GateRateWrong)
		}
		return out
	}
	for i := range stats {
		out = append(out, t.badExporters[stats[i].Exporter]...)
		if t.wrongRates[stats[i].Exporter] {
			out = append(out, GateRateWrong)
		}
	}
	return out
}

// ratesMixed reports whether one interface's rows carry several sampling rates
// that guards.rates does not name: its rate changed within the range.
func (t *tickState) ratesMixed(stats []flow.SourceStat) bool {
	cfg := &t.d.cfg.Thresholds.Guards
	for i := range stats {
		s := &stats[i]
		if s.Dir == flow.Out && s.MinRate != s.MaxRate && !(cfg.names(s.Exporter, s.MinRate) && cfg.names(s.Exporter, s.MaxRate)) {
			return true
		}
	}
	return false
}

// timesMissing reports whether half of what went out was exported in records
// that count many packets and do not say how long they took: it may have been
// half an hour.
func timesMissing(stats []flow.SourceStat) bool {
	var all, untimed uint64
	for i := range stats {
		if stats[i].Dir == flow.Out {
			all, untimed = all+stats[i].Packets, untimed+stats[i].Untimed
		}
	}
	return untimed > 0 && 2*untimed >= all
}

// ownPort is guard G1: the rows must come from the tenant's own ports. It
// returns the gate that is closed, and those rows that came from others'.
func (t *tickState) ownPort(f *flow.Finding, stats []flow.SourceStat) (gate string, foreign []flow.SourceStat) {
	cfg := &t.d.cfg.Thresholds.Guards
	var known, others uint64
	for i := range stats {
		s := &stats[i]
		if s.Dir != flow.Out || t.d.deps.PortOwner == nil {
			continue
		}
		owner, ok := t.d.deps.PortOwner(s.Attachment)
		if !ok {
			continue
		}
		known += s.Records
		if !t.sameHolder(owner, f.Tenant) {
			others += s.Records
			foreign = append(foreign, *s)
		}
	}
	switch {
	case known > 0 && float64(others) > cfg.ForeignShare*float64(known):
		return GateSource, foreign
	case known == 0 && cfg.RequireSource:
		return GateSourceUnknown, nil
	}
	return "", foreign
}

func (t *tickState) sameHolder(a, b netip.Addr) bool {
	return a == b || t.d.deps.SameHolder != nil && t.d.deps.SameHolder(a, b)
}

// blameForeign turns packets with others' sources into findings about the ports
// that they came from.
func (t *tickState) blameForeign(rows []flow.SourceStat) []flow.Finding {
	if len(rows) == 0 || !t.d.cfg.on(flow.RuleSpoofed) {
		return nil
	}
	sums := map[flow.Attachment]*flow.SpoofStat{}
	var order []flow.Attachment
	for i := range rows {
		s := sums[rows[i].Attachment]
		if s == nil {
			s = &flow.SpoofStat{Attachment: rows[i].Attachment}
			sums[rows[i].Attachment] = s
			order = append(order, rows[i].Attachment)
		}
		// Findings of one tenant may share rows: the most that one of them has. A
		// flow record is as many samples as it has packets: a flood of one flow is
		// a record a minute.
		s.Records, s.Packets = max(s.Records, rows[i].Packets), max(s.Packets, rows[i].Packets)
		s.Sources, s.Rate = 1, max(s.Rate, float64(rows[i].MaxRate))
	}
	var out []flow.Finding
	length := time.Duration(slices.Max(t.d.cfg.Thresholds.Spoofed.WindowsS)) * time.Second
	r := span(t.ts, length)
	for _, a := range order {
		owner, _ := t.d.deps.PortOwner(a)
		if f, ok := spoofed(&t.th(owner).Spoofed, sums[a], owner, r); ok {
			t.evidence(&f)
			f.Time, f.WindowS, f.ConfigHash = t.ts, uint32(length/time.Second), t.policy(f.Tenant).hashes[f.Rule]
			out = append(out, f)
		}
	}
	return out
}
