package api

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector"
	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/exempt"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/ledger"
)

// The gallery is what the browser is shown: the bench's data moved to now, a
// scan among ordinary traffic, a fleet of 100,000 hosts, and hostile in every
// field that somebody else writes.

const galleryHosts = 100_000

// fleet is a shelf with many hosts and a host that scans.
type fleet struct {
	*shelf
	start time.Time // of the scan
	once  sync.Once
	all   []flow.TopRow
}

func (f *fleet) hosts() []flow.TopRow {
	f.once.Do(func() {
		r := rand.New(rand.NewPCG(1, 2))
		f.all = make([]flow.TopRow, galleryHosts)
		for i := range f.all {
			size := 1 / (r.Float64() + 1e-4) // few are large
			f.all[i] = flow.TopRow{Tenant: netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)}), EstOutPackets: uint64(9000 * size), EstInPackets: uint64(7000 * size),
				EstOutBytes: uint64(6e6 * size), EstInBytes: uint64(2e6 * size * (0.5 + r.Float64())), OutRecords: uint64(9 * size), SYNOut: uint64(r.IntN(40))}
		}
		f.all[7].EstOutPackets, f.all[7].SYNOut = 1_100_000, 6021 // the scanner
	})
	return f.all
}

func (f *fleet) Top(_ context.Context, _ flow.Range, by string, limit int) ([]flow.TopRow, error) {
	rows := slices.Clone(f.hosts())
	key := func(r flow.TopRow) uint64 {
		switch by {
		case "out_packets":
			return r.EstOutPackets
		case "in_bytes":
			return r.EstInBytes
		case "in_packets":
			return r.EstInPackets
		case "syn":
			return r.SYNOut
		}
		return r.EstOutBytes
	}
	slices.SortFunc(rows, func(a, b flow.TopRow) int { return int(min(key(b), 1<<62)) - int(min(key(a), 1<<62)) })
	return rows[:min(limit, len(rows))], nil
}

// Flows are a client that talks to five servers, and for five minutes a scan.
func (f *fleet) Flows(_ context.Context, q flow.FlowQuery) ([]flow.FlowRow, error) {
	r := rand.New(rand.NewPCG(3, 4))
	var out []flow.FlowRow
	add := func(at time.Time, remote netip.Addr, port uint16, dir flow.Direction, class flow.Class, packets uint64) {
		if at.Before(q.Range.From) || !at.Before(q.Range.To) || q.Dir != 0 && q.Dir != dir || q.SvcPort >= 0 && q.SvcPort != int(port) || q.Remote.IsValid() && q.Remote != remote || q.IPProto != 0 && q.IPProto != flow.ProtoTCP {
			return
		}
		row := flow.FlowRow{Time: at.UnixNano(), Start: at.UnixNano() - 5, End: at.UnixNano(), Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: q.Tenant, Host: q.Tenant, Remote: remote, HostPort: uint16(32768 + r.IntN(28000)),
			RemotePort: port, SvcPort: port, Dir: dir, IPProto: flow.ProtoTCP, Role: flow.RoleClient, Class: class, Packets: packets, Bytes: packets * 60, Rate: 1000}
		if class == flow.ClassEst {
			row.Bytes = packets * 900
		}
		out = append(out, row)
	}
	now := f.start.Add(9 * time.Minute)
	for at := now.Add(-time.Hour); at.Before(now); at = at.Add(20 * time.Second) {
		remote := netip.AddrFrom4([4]byte{byte(20 + 35*r.IntN(5)), 7, 9, 80})
		add(at, remote, 443, flow.Out, flow.ClassEst, 3)
		add(at.Add(time.Second), remote, 443, flow.In, flow.ClassEst, 4)
	}
	for range 1500 {
		port := uint16(22)
		if r.IntN(8) == 0 {
			port = 2222
		}
		remote := netip.AddrFrom4([4]byte{byte(1 + r.IntN(220)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
		add(f.start.Add(time.Duration(r.Int64N(int64(5*time.Minute)))), remote, port, flow.Out, flow.ClassSYN, 1)
	}
	slices.SortStableFunc(out, func(a, b flow.FlowRow) int { return int(a.Time - b.Time) })
	return out[max(0, len(out)-q.Limit):], nil
}

// HostPeers are those of its flows.
func (f *fleet) HostPeers(ctx context.Context, tenant netip.Addr, r flow.Range, limit int) (flow.PeerSums, error) {
	rows, err := f.Flows(ctx, flow.FlowQuery{Tenant: tenant, Range: r, SvcPort: -1, Limit: 10_000})
	return peersOf(rows, limit), err
}

// judge is a small ledger.
type judge struct {
	verdicts
	mu    sync.Mutex
	cases []ledger.Case
}

func newJudge(now time.Time) *judge {
	j := &judge{}
	day := now.UTC().Format(time.DateOnly)
	add := func(rule flow.Rule, ip string, tier flow.Tier, score float64, reason string) {
		f := flow.Finding{Time: now, Tenant: netip.MustParseAddr(ip), Rule: rule, Tier: tier, IPProto: flow.ProtoTCP, Port: 22, WindowS: 60, Samples: 1204, Distinct: 1198, SamplingRate: 1000,
			Score: score, Threshold: 18, EstRate: 19_800, Reason: reason, From: now.Add(-9 * time.Minute), To: now.Add(-4 * time.Minute)}
		j.cases = append(j.cases, ledger.Case{ID: fmt.Sprintf("%s/%s/%s", rule, ip, day), Day: day, Tenant: f.Tenant, Rule: rule, Tier: tier, Findings: 31, First: f.From, Last: f.To, Best: f})
	}
	add(flow.RuleNetscan, "198.18.0.7", flow.TierSuspend, 41.3, "contacted 1,198 different addresses on TCP port 22 in 60 s (seen in a sample of 1 in 1,000 packets); none of the sampled packets were answers")
	add(flow.RuleNetscan, "198.18.9.1", flow.TierNotify, 19.2, hostile)
	add(flow.RuleUDPFlood, "2001:db8:0:7::", flow.TierSuspend, 260, "sent about 300,000 UDP packets per second (2,880 Mbit/s) to 203.0.113.50 for 60 s and got almost nothing back (seen in a sample of 1 in 1,000 packets)")
	return j
}

func (*judge) Explain(ip netip.Addr, _ time.Time) any {
	return detect.Explanation{Address: ip, Holder: "c-42", Tags: []string{"resolver", hostile}, Overrides: []string{"detect.overrides[1] (prefix 198.18.0.0/15)"}, Rules: []detect.RuleExplanation{
		{Rule: flow.RuleNetscan, Mode: flow.ModeEnforce, ModeFrom: "detect.rules", Version: 3, Values: []detect.ValueExplanation{
			{Key: "suspend_score", Value: "24", From: "detect.overrides[1] (prefix 198.18.0.0/15)"}, {Key: "min_samples", Value: "20", From: "default"}, {Key: "notify_score", Value: "9", From: "detect.thresholds"}}},
		{Rule: flow.RuleUDPFlood, Mode: flow.ModeApprove, ModeFrom: "detect.rules", Held: []string{"notify at most: gate role_tag"}, Needs: []string{"store.flow_policy: all, for floods that are spread over a network"}, Values: []detect.ValueExplanation{{Key: "suspend_score", Value: "50", From: "default"}}},
		{Rule: flow.RuleSpam, Mode: flow.ModeObserve, ModeFrom: "default", Values: []detect.ValueExplanation{{Key: "notify_score", Value: "40", From: "default"}}},
	}}
}

func (j *judge) Precisions(string, string) any {
	j.mu.Lock()
	defer j.mu.Unlock()
	marked := 0
	for _, c := range j.cases {
		if c.Mark != nil {
			marked++
		}
	}
	return map[string]any{"precision": []ledger.Precision{
		{Rule: flow.RuleNetscan, Tier: flow.TierSuspend, Cases: 212, Right: 97 + marked, Wrong: 1, Unmarked: 114 - marked, Precision: 0.99, Low: 0.945, High: 0.998},
		{Rule: flow.RuleNetscan, Tier: flow.TierNotify, Cases: 388, Right: 61, Wrong: 9, Unmarked: 318, Precision: 0.871, Low: 0.774, High: 0.931},
		{Rule: flow.RuleUDPFlood, Tier: flow.TierSuspend, Cases: 14, Right: 3, Unmarked: 11, Precision: 1, Low: 0.438, High: 1},
		{Rule: flow.RuleSpam, Tier: flow.TierNotify, Cases: 5, Unmarked: 5, High: 1},
	}}
}

func (*judge) Proposals(time.Time) any {
	p := ledger.Proposal{Rule: flow.RuleNetscan, Tier: flow.TierNotify, Key: "detect.thresholds.netscan.notify_score", Now: 9, Proposed: 12.4, Cases: 388, Right: 61, Wrong: 9,
		MissedRight: 2, MissedUnmarked: 40, WrongTenants: []netip.Addr{netip.MustParseAddr("198.18.44.9")}}
	p.Advice, p.Why = ledger.Sentences().Say("override", p.WrongTenants[0])
	return map[string]any{"proposals": []ledger.Proposal{p}}
}

func (j *judge) Cases(q CaseQuery) any {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := []ledger.Case{}
	for _, c := range j.cases {
		verdict := ""
		if c.Mark != nil && c.Mark.Verdict != ledger.Unsure {
			verdict = string(c.Mark.Verdict)
		}
		if (q.Rule == "" || q.Rule == c.Rule) && c.Tier >= q.MinTier && (q.Verdict == nil || *q.Verdict == verdict) {
			out = append(out, c)
		}
	}
	return map[string]any{"cases": out}
}

func (j *judge) SetMark(_ context.Context, id, verdict, by, reason string, ts time.Time) (any, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.cases {
		if j.cases[i].ID == id {
			j.cases[i].Mark = &ledger.Mark{Verdict: ledger.Verdict(verdict), By: by, Reason: reason, Time: ts}
			return j.cases[i], nil
		}
	}
	return nil, ErrNotFound("no such case")
}

// scribe is a log with words of others in it.
type scribe struct {
	*board
	now time.Time
}

func (s scribe) Audit(f flow.AuditFilter, p flow.AuditPage) ([]flow.AuditEntry, uint64) {
	entries := []flow.AuditEntry{
		{Seq: 9, Time: s.now.Add(-3 * time.Minute), Actor: "controller", Kind: "action_done", Incident: "inc-1", Tenant: attacker, Customer: "c-42", VDS: "vds-1001", Adapter: "node1", Measure: flow.MeasureCut, Outcome: "done", Text: "cut, and no outgoing packets are seen", Why: &flow.Told{Code: "outbound_silent"}},
		{Seq: 8, Time: s.now.Add(-4 * time.Minute), Actor: "detector", Kind: "opened", Incident: "inc-1", Tenant: attacker, Customer: "c-42"},
		{Seq: 7, Time: s.now.Add(-3 * time.Hour), Actor: hostile, Kind: "statement", Incident: "inc-3", Tenant: netip.MustParseAddr("198.18.9.1"), Customer: hostile, VDS: hostile, Text: hostile, Error: hostile},
	}
	return slices.DeleteFunc(entries, func(e flow.AuditEntry) bool {
		return f.Incident != "" && f.Incident != e.Incident || f.Actor != "" && f.Actor != e.Actor || len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind)
	}), 0
}

// reader answers a complaint line by line, with the reporter's words.
type reader struct{ now time.Time }

func (reader) Shape() any { return complaint.Result{} }

func (m reader) Match(_ context.Context, req ComplaintRequest) (any, error) {
	out := &complaint.Result{Subject: hostile, From: hostile, Received: m.now, Counts: map[complaint.Verdict]int{}, Lines: []complaint.Line{}, Unread: []parse.Unread{}, Notes: []string{hostile},
		Draft: complaint.Draft{Subject: "Re: " + hostile, EN: "Thank you for your report. Our flows confirm it.\n> " + hostile, RU: "Спасибо за сообщение. Наши данные его подтверждают.\n> " + hostile}}
	note := complaint.Note{Code: "n", EN: hostile, RU: hostile}
	holder := &flow.Holder{Tenant: "c-42", VDS: hostile}
	for i, raw := range strings.Split(strings.TrimSpace(string(req.Data)), "\n") {
		if !strings.Contains(raw, "198.18.0.7") {
			out.Unread = append(out.Unread, parse.Unread{Line: i + 1, Raw: raw, Detail: "no address and no time: " + raw})
			continue
		}
		at := m.now.Add(-8 * time.Minute).Add(time.Duration(i) * time.Second)
		l := complaint.Line{Observation: parse.Observation{Line: i + 1, Time: at, Raw: raw}, Verdict: "confirmed", Host: attacker, Remote: netip.MustParseAddr("203.0.113.9"), Notes: []complaint.Note{note},
			Text: "We saw 198.18.0.7 try tcp/22 of 203.0.113.9 two seconds later.", TextRU: "Мы видели, как 198.18.0.7 двумя секундами позже пробовал tcp/22 на 203.0.113.9."}
		out.Lines = append(out.Lines, l)
		out.Counts["confirmed"]++
	}
	out.UnreadCount = len(out.Unread)
	if n := len(out.Lines); n > 0 {
		out.Cases = append(out.Cases, complaint.Case{Ports: []uint16{22}, Targets: 1, Host: attacker, Tenant: attacker, Holder: holder, Shared: true, First: out.Lines[0].Time, Last: out.Lines[n-1].Time, Lines: n, Counts: out.Counts,
			Incident: &complaint.IncidentRef{ID: "inc-1", State: flow.StateVerified}, Notes: []complaint.Note{note}})
	}
	return out, nil
}

func galleryExporters(now time.Time) func() []flow.ExporterHealth {
	off, spread := 0.4, &flow.Spread{P50: 2, P99: 14, Max: 31}
	return func() []flow.ExporterHealth {
		out := []flow.ExporterHealth{
			{Exporter: netip.MustParseAddr("192.0.2.1"), Protocols: []string{"netflow9"}, LastSeen: time.Now(), Records: 2_108_331, TemplatesKnown: 3, ClockOffsetS: &off, ExportDelayS: spread, FlowDurationS: &flow.Spread{P99: 61},
				Samplers: []flow.SamplerHealth{{Rate: 1000, Source: "options"}}},
			{Exporter: netip.MustParseAddr("2001:db8:ffff::2"), Protocols: []string{"sflow5"}, LastSeen: now.Add(-80 * time.Second), Records: 311_002, Lost: 1204, Dropped: map[string]uint64{"truncated": 7},
				Samplers: []flow.SamplerHealth{{Source: hostile}, {Rate: 1000, Source: hostile}}},
		}
		told := collector.Sentences()
		out[1].Tell(told, "rate_unknown", 7, 311_002, out[1].Exporter)
		out[1].Tell(told, "lost", 1204)
		out[1].Problems = append(out[1].Problems, hostile)
		return out
	}
}

// newGallery is a bench for people: its clock runs, and POST /test/open opens an
// incident as the detector does.
// galleryFleet is the traffic of a day with its evening.
type galleryFleet struct{ *shelf }

func (galleryFleet) FleetSeries(_ context.Context, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error) {
	var out []flow.SeriesPoint
	for at := r.From.Truncate(step); at.Before(r.To); at = at.Add(step) {
		h := float64(at.Hour()) + float64(at.Minute())/60
		day := 1 + 0.5*math.Cos((h-20)*math.Pi/12) + 0.03*math.Sin(float64(at.Unix()%7919))
		n := step.Seconds()
		out = append(out, flow.SeriesPoint{Time: at, EstOutPackets: uint64(8e6 * day * n), EstInPackets: uint64(5e6 * day * n), EstOutBytes: uint64(6e9 * day * n), EstInBytes: uint64(2.2e9 * day * n)})
	}
	return out, nil
}

func newGallery(t *testing.T) *bench {
	issuer, ready := realProvider(t)
	now := time.Now().UTC()
	shift := now.Sub(t0)
	var b *bench
	var opened int
	b = newBench(t, func(c *Config, deps *Deps) {
		c.Timeout, c.OIDC = time.Minute, realOIDC(issuer)
		deps.Fleet, deps.Sources = galleryFleet{deps.Store.(*shelf)}, func() []InventorySource {
			l := sampleSources()
			for i := range l[:2] {
				l[i].Seen = l[i].Seen.Add(shift)
			}
			return l
		}
		d := deps.Incidents.(*desk) // before anybody asks it
		d.now = time.Now
		for i := range d.list {
			galleryShift(&d.list[i], shift)
		}
		for _, ev := range d.events {
			for i := range ev {
				ev[i].Time = ev[i].Time.Add(shift)
			}
		}
		s := deps.Store.(*shelf)
		ev := s.evid["inc-1"]
		ev.Frozen, ev.From, ev.To = ev.Frozen.Add(shift), ev.From.Add(shift), ev.To.Add(shift)
		s.evid["inc-1"] = ev
		deps.Store = &fleet{shelf: s, start: now.Add(-9 * time.Minute)}
		deps.Now, deps.Rules, deps.Exporters, deps.Complaints = time.Now, newJudge(now), galleryExporters(now), reader{now}
		deps.Control = scribe{&board{frozen: []flow.Frozen{{Rule: flow.RuleNetscan, Since: now.Add(-time.Minute), Tenants: 12, Incident: "inc-3"}}}, now}
		deps.Exemptions = galleryExemptions(t, now)
		deps.Inventory = galleryBook{book: deps.Inventory.(book)}
		deps.Standing = func(netip.Addr, flow.Holder) Standing { return Standing{Offences: 1, Probation: true} }
		mux := http.NewServeMux()
		mux.HandleFunc("POST /test/open", func(w http.ResponseWriter, r *http.Request) {
			opened++ // one browser asks, one thing at a time
			inc := d.open(fmt.Sprintf("inc-live-%d", opened), netip.AddrFrom4([4]byte{198, 18, 77, byte(opened)}))
			deps.Feed.(*ticker).add(flow.News{AuditEntry: flow.AuditEntry{Time: inc.Opened, Actor: "detector", Kind: "opened", Incident: inc.ID, Tenant: inc.Tenant}, Now: inc})
		})
		deps.Pages = map[string]http.Handler{"/test/": mux}
	})
	ready(b.URL + callbackPath)
	return b
}

func galleryShift(i *flow.Incident, by time.Duration) {
	i.Opened, i.Updated = i.Opened.Add(by), i.Updated.Add(by)
	for n := range i.Findings {
		f := &i.Findings[n]
		f.Time, f.From, f.To = f.Time.Add(by), f.From.Add(by-3*time.Minute), f.To.Add(by)
	}
	if i.Action != nil {
		a := *i.Action
		a.Intent = a.Intent.Add(by)
		a.Done = a.Intent.Add(2 * time.Second)
		i.Action = &a
	}
}

// galleryBook knows a customer for every fourth address.
type galleryBook struct{ book }

func (g galleryBook) Holder(ip netip.Addr, at time.Time) (flow.Holder, bool) {
	if h, ok := g.book.Holder(ip, at); ok || !ip.Is4() || ip.As4()[3]%4 != 0 {
		return h, ok
	}
	a := ip.As4()
	return flow.Holder{Tenant: fmt.Sprintf("c-%d", int(a[2])*64+int(a[3])), VDS: fmt.Sprintf("vds-%d", 3000+int(a[3])), Contact: hostile, Hypervisor: hostile, Tags: []string{hostile}}, true
}

func galleryExemptions(t *testing.T, now time.Time) exemptBook {
	t.Helper()
	book, err := exempt.New(exempt.Config{Since: now.Add(-40 * 24 * time.Hour), Fixed: []flow.Exemption{{Name: fixedID, Tenant: netip.MustParsePrefix("198.19.0.0/16"), Owner: "noc", Reason: "our own scanners", Expires: now.AddDate(0, 6, 0)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []flow.Exemption{
		{Holder: "c-42", Port: 22, IPProto: flow.ProtoTCP, Rule: flow.RuleNetscan, Owner: "anna", Reason: "penetration test, ticket 4711", Expires: now.Add(72 * time.Hour)},
		{Holder: hostile, Owner: hostile, Reason: hostile, Expires: now.AddDate(0, 1, 0)},
	} {
		if _, err := book.Create(t.Context(), e, "test-operator", now.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	return exemptBook{book}
}

// open adds an incident as the detector would.
func (d *desk) open(id string, tenant netip.Addr) flow.Incident {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	inc := flow.Incident{ID: id, Tenant: tenant, Holder: flow.Holder{Tenant: "c-9", VDS: hostile}, Rules: []flow.Rule{flow.RuleSYNFlood}, Tier: flow.TierSuspend, State: flow.StateHeld, Opened: now, Updated: now,
		Findings: []flow.Finding{{Time: now, Tenant: tenant, Rule: flow.RuleSYNFlood, Tier: flow.TierSuspend, IPProto: flow.ProtoTCP, Port: 80, Samples: 900, SamplingRate: 1000, Score: 70, Threshold: 20, Reason: "900,000 SYN per second to one address.", From: now.Add(-time.Minute), To: now}}}
	d.list = slices.Insert(d.list, 0, inc)
	return inc
}
