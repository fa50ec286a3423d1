package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/collector"
	"github.com/flowcordon/flowcordon/flow"
)

var (
	t0       = time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	attacker = netip.MustParseAddr("198.18.0.7")
	flooder  = netip.MustParseAddr("2001:db8:0:7::")
	errNone  = errors.New("no evidence") // what the store would say
)

// hostile is put wherever a customer or an attacker chooses the text.
const hostile = `<img src=x onerror=alert(1)>"'&</script>`

// desk is an incident controller that keeps its state in memory: it obeys the
// same interface and lets tests see who did what.
type desk struct {
	mu     sync.Mutex
	list   []flow.Incident // newest first
	events map[string][]flow.Event
	now    func() time.Time
	fail   error
}

func (d *desk) List(_ context.Context, q ListQuery) ([]flow.Incident, int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return nil, 0, d.fail
	}
	var hit []flow.Incident
	for _, i := range d.list {
		if (len(q.States) == 0 || slices.Contains(q.States, i.State)) && (!q.Tenant.IsValid() || q.Tenant == i.Tenant) &&
			(q.Rule == "" || slices.Contains(i.Rules, q.Rule)) && !i.Opened.Before(q.Since) && (q.Until.IsZero() || i.Opened.Before(q.Until)) {
			hit = append(hit, i)
		}
	}
	from := min(q.Offset, len(hit))
	return slices.Clone(hit[from:min(from+q.Limit, len(hit))]), len(hit), nil
}

func (d *desk) Incident(id string) (flow.Incident, []flow.Event, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range d.list {
		if i.ID == id {
			return i, slices.Clone(d.events[id]), true
		}
	}
	return flow.Incident{}, nil, false
}

func (d *desk) move(id, actor, text, kind string, to flow.State, from ...flow.State) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range d.list {
		i := &d.list[n]
		if i.ID != id {
			continue
		}
		if !slices.Contains(from, i.State) {
			return ErrConflict("incident " + id + " is " + string(i.State) + "; it cannot be " + kind)
		}
		i.State, i.Updated = to, d.now()
		if kind == "released" {
			i.Statement = text
		}
		d.events[id] = append(d.events[id], flow.Event{Seq: uint64(len(d.events[id]) + 1), Time: d.now(), Incident: id, Kind: kind, Actor: actor, Reason: text})
		return nil
	}
	return ErrNotFound("no such incident")
}

func (d *desk) Release(_ context.Context, id, actor, text string) error {
	return d.move(id, actor, text, "released", flow.StateReleasing, flow.StateSuspended, flow.StateVerified, flow.StateUnverified)
}
func (d *desk) Approve(_ context.Context, id, actor, text string) error {
	return d.move(id, actor, text, "approved", flow.StateSuspending, flow.StateApproval)
}
func (d *desk) Close(_ context.Context, id, actor, text string) error {
	return d.move(id, actor, text, "closed", flow.StateClosed, flow.StateOpen, flow.StateNotified, flow.StateHeld, flow.StateApproval, flow.StateFailed)
}

// shelf is a store with made-up rows that remembers what it was asked.
type shelf struct {
	mu     sync.Mutex
	fail   error
	block  bool // wait for the context's end
	panic  bool
	query  flow.FlowQuery
	search flow.FlowSearch
	asked  flow.Range
	step   time.Duration
	evid   map[string]flow.Evidence
}

func (s *shelf) trouble(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.panic:
		panic("secret of the inside")
	case s.block:
		<-ctx.Done()
		return ctx.Err()
	}
	return s.fail
}

// Series is HostSeries, of minutes where the step is.
func (s *shelf) Series(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) (flow.Series, error) {
	l, err := s.HostSeries(ctx, tenant, r, step)
	res := flow.ResolutionWindow
	if step%time.Minute == 0 {
		res = flow.ResolutionMinute
	}
	return flow.Series{Range: r, Step: step, Resolution: res, Points: l}, err
}

// TopList is Top of windows.
func (s *shelf) TopList(ctx context.Context, q flow.TopQuery) (flow.TopList, error) {
	l, err := s.Top(ctx, q.Range, q.By, q.Limit)
	return flow.TopList{Range: q.Range, Resolution: flow.ResolutionWindow, Rows: l}, err
}

func (s *shelf) HostSeries(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error) {
	if err := s.trouble(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.asked, s.step = r, step
	s.mu.Unlock()
	var out []flow.SeriesPoint
	if tenant != attacker && tenant != flooder {
		return out, nil
	}
	for t := r.From.Truncate(step); t.Before(r.To); t = t.Add(step) {
		f := float64(t.Unix()%3600) / 3600
		pkt := 400 + 150*math.Sin(f*20)
		if age := r.To.Sub(t); age < r.To.Sub(r.From)/4 && age > r.To.Sub(r.From)/10 {
			pkt += 21_000 + 1500*math.Sin(f*90) // the scan, until the cut
		}
		n := step.Seconds()
		out = append(out, flow.SeriesPoint{Time: t, EstOutPackets: uint64(pkt * n), EstInPackets: uint64((350 + 90*math.Cos(f*30)) * n),
			EstOutBytes: uint64(pkt * n * 62), EstInBytes: uint64(350 * n * 700), OutRecords: uint64(pkt * n / 1000), SYNOut: uint64(pkt * n / 1000), Attempts: uint64(pkt * n / 1000)})
	}
	return out, nil
}

func (s *shelf) Top(ctx context.Context, r flow.Range, by string, limit int) ([]flow.TopRow, error) {
	if err := s.trouble(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.asked = r
	s.mu.Unlock()
	rows := []flow.TopRow{{Tenant: flooder, EstOutPackets: 90_000_000, EstOutBytes: 48_000_000_000, EstInBytes: 31_000_000, OutRecords: 90_000}}
	for i := range 14 {
		n := uint64(14 - i)
		rows = append(rows, flow.TopRow{Tenant: netip.AddrFrom4([4]byte{198, 18, byte(i), 7}), EstOutPackets: n * 1_100_000, EstInPackets: n * 800_000,
			EstOutBytes: n * n * 90_000_000, EstInBytes: n * 70_000_000, OutRecords: n * 1100, SYNOut: n * 3})
	}
	rows[14].SYNOut = 6021
	return rows[:min(limit, len(rows))], nil
}

func (s *shelf) Flows(ctx context.Context, q flow.FlowQuery) ([]flow.FlowRow, error) {
	if err := s.trouble(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.query = q
	s.mu.Unlock()
	var out []flow.FlowRow
	for i := range min(q.Limit, 60) {
		at := q.Range.To.Add(-time.Duration(60-i) * time.Second).UnixNano()
		out = append(out, flow.FlowRow{Time: at, Start: at - 5, End: at, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: q.Tenant, Host: q.Tenant,
			Remote: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), HostPort: uint16(40000 + i), RemotePort: 22, SvcPort: 22, Dir: flow.Out, IPProto: flow.ProtoTCP,
			Role: flow.RoleClient, Class: flow.ClassSYN, TCPFlags: flow.SYN, Packets: 1, Bytes: 60, IPLen: 60, TTL: 63, Rate: 1000, InIf: 3, OutIf: 1,
			SrcMAC: [6]byte{0x52, 0x54, 0, 0xaa, 0x10, 1}, VLAN: 12})
	}
	return out, nil
}

// HostPeers are those of Flows.
func (s *shelf) HostPeers(ctx context.Context, tenant netip.Addr, r flow.Range, limit int) (flow.PeerSums, error) {
	rows, err := s.Flows(ctx, flow.FlowQuery{Tenant: tenant, Range: r, SvcPort: -1, Limit: 60})
	return peersOf(rows, limit), err
}

// peersOf sums rows as the store does.
func peersOf(rows []flow.FlowRow, limit int) (p flow.PeerSums) {
	sum := func(key func(*flow.FlowRow) flow.PeerSum) []flow.PeerSum {
		all, remotes := map[flow.PeerSum]*flow.PeerSum{}, map[flow.PeerSum]map[netip.Addr]bool{}
		for i := range rows {
			f := &rows[i]
			k := key(f)
			v := all[k]
			if v == nil {
				c := k
				v, remotes[k] = &c, map[netip.Addr]bool{}
				all[k] = v
			}
			remotes[k][f.Remote] = true
			if !k.Remote.IsValid() {
				v.Remotes = uint64(len(remotes[k]))
			}
			v.Records++
			if f.Dir == flow.Out {
				v.EstOutPackets, v.EstOutBytes = v.EstOutPackets+f.Packets*uint64(f.Rate), v.EstOutBytes+f.Bytes*uint64(f.Rate)
				if f.Role == flow.RoleClient && f.Class != flow.ClassEst {
					v.NotEstablished++
				}
			} else {
				v.EstInPackets, v.EstInBytes = v.EstInPackets+f.Packets*uint64(f.Rate), v.EstInBytes+f.Bytes*uint64(f.Rate)
			}
		}
		var out []flow.PeerSum
		for _, v := range all {
			out = append(out, *v)
		}
		slices.SortFunc(out, func(a, b flow.PeerSum) int {
			return cmp.Or(cmp.Compare(b.EstOutPackets+b.EstInPackets, a.EstOutPackets+a.EstInPackets), a.Remote.Compare(b.Remote), cmp.Compare(a.SvcPort, b.SvcPort))
		})
		return out
	}
	p.Ports = sum(func(f *flow.FlowRow) flow.PeerSum { return flow.PeerSum{IPProto: f.IPProto, SvcPort: f.SvcPort} })
	p.Remotes = sum(func(f *flow.FlowRow) flow.PeerSum { return flow.PeerSum{Remote: f.Remote} })
	p.TotalPorts, p.TotalRemotes = uint64(len(p.Ports)), uint64(len(p.Remotes))
	p.Ports, p.Remotes = p.Ports[:min(limit, len(p.Ports))], p.Remotes[:min(limit, len(p.Remotes))]
	return p
}

func (s *shelf) Evidence(ctx context.Context, id string) (flow.Evidence, error) {
	if err := s.trouble(ctx); err != nil {
		return flow.Evidence{}, err
	}
	if e, ok := s.evid[id]; ok {
		return e, nil
	}
	return flow.Evidence{}, fmt.Errorf("incident %s: %w", id, errNone)
}

func (s *shelf) Ping(ctx context.Context) error { return s.trouble(ctx) }

type book map[netip.Addr]flow.Holder

func (b book) Holder(ip netip.Addr, _ time.Time) (flow.Holder, bool) {
	h, ok := b[slash64(ip)]
	return h, ok
}

func sampleEvidence() flow.Evidence {
	list := "# Netscan detected from host 198.18.0.7 #\n# time (UTC)           protocol src_ip       src_port    dest_ip       dest_port\n"
	for i := range 12 {
		list += fmt.Sprintf("2026-11-22 06:56:%02d  TCP      198.18.0.7   %5d  =>    203.0.113.%-3d 22\n", i, 40000+i*7, i*3)
	}
	return flow.Evidence{Incident: "inc-1", Tenant: attacker, Frozen: t0.Add(-4 * time.Minute), From: t0.Add(-9 * time.Minute), To: t0.Add(-4 * time.Minute), Rows: 1204, Logs: []flow.EvidenceLog{
		{Form: "netscan", Name: "netscan-198.18.0.7.txt", Text: list + hostile + "\n"},
		{Form: "summary", Name: "summary-198.18.0.7.txt", Text: "203.0.113.3   1.0 packets/s   0.0 Mbit/s\n"},
		{Form: "packets", Name: "packets-198.18.0.7.txt", Text: "06:56:00.000000 IP 198.18.0.7.40000 > 203.0.113.0.22: Flags [S], length 60\n"},
	}}
}

func sampleIncidents() []flow.Incident {
	find := func(rule flow.Rule, reason string) []flow.Finding {
		if rule == flow.RuleUDPFlood {
			return []flow.Finding{{Time: t0.Add(-5 * time.Minute), Tenant: flooder, Rule: rule, Tier: flow.TierSuspend, IPProto: flow.ProtoUDP, Remote: netip.MustParseAddr("203.0.113.50"), WindowS: 60, Samples: 18_000, Distinct: 1,
				SamplingRate: 1000, Score: 260, Threshold: 18, EstRate: 300_000, Reason: reason, From: t0.Add(-6 * time.Minute), To: t0.Add(-5 * time.Minute), RuleVersion: 1, ConfigHash: "abc"}}
		}
		return []flow.Finding{{Time: t0.Add(-5 * time.Minute), Tenant: attacker, Rule: rule, Tier: flow.TierSuspend, IPProto: flow.ProtoTCP, Port: 22, WindowS: 60, Samples: 1204, Distinct: 1198,
			SamplingRate: 1000, Score: 41.3, Threshold: 18, EstRate: 19_800, Reason: reason, From: t0.Add(-6 * time.Minute), To: t0.Add(-5 * time.Minute), RuleVersion: 1, ConfigHash: "abc"}}
	}
	hold := flow.Holder{Prefix: netip.MustParsePrefix("198.18.0.7/32"), Tenant: "c-42", VDS: "vds-1001", Hypervisor: "node1", NICs: []string{"52:54:00:aa:10:01"}, Contact: "customer@example.net", Language: "en"}
	inc := func(id string, tenant netip.Addr, state flow.State, rule flow.Rule, age time.Duration, reason string, h flow.Holder, f []flow.Finding) flow.Incident {
		return flow.Incident{ID: id, Tenant: tenant, Holder: h, Rules: []flow.Rule{rule}, Tier: flow.TierSuspend, State: state, Reason: reason, Opened: t0.Add(-age), Updated: t0.Add(-age / 2), Findings: f}
	}
	odd := hold
	odd.Tenant, odd.VDS = hostile, hostile
	out := []flow.Incident{
		inc("inc-1", attacker, flow.StateVerified, flow.RuleNetscan, 5*time.Minute, "cut, and no outgoing packets are seen", hold, find(flow.RuleNetscan, "contacted 1,198 different addresses on TCP port 22 in 60 s (seen in a sample of 1 in 1,000 packets); none of the sampled packets were answers")),
		inc("inc-2", flooder, flow.StateApproval, flow.RuleUDPFlood, 12*time.Minute, "the rule is in mode approve: a human decides", flow.Holder{Tenant: "c-77", VDS: "vds-2044"}, find(flow.RuleUDPFlood, "sent about 300,000 UDP packets per second (2,880 Mbit/s) to 203.0.113.50 for 60 s and got almost nothing back (seen in a sample of 1 in 1,000 packets)")),
		inc("inc-3", netip.MustParseAddr("198.18.9.1"), flow.StateHeld, flow.RuleNetscan, 3*time.Hour, hostile, odd, find(flow.RuleNetscan, hostile)),
		inc("inc-4", netip.MustParseAddr("198.18.9.2"), flow.StateUnverified, flow.RuleSYNFlood, 26*time.Hour, "the hypervisor reads back as cut but outgoing packets are still seen", flow.Holder{}, nil),
		inc("inc-5", netip.MustParseAddr("198.18.9.3"), flow.StateReleased, flow.RuleNetscan, 50*time.Hour, "", hold, nil),
	}
	for i, code := range map[int]string{0: "outbound_silent", 1: "approve", 3: "still_sending"} {
		out[i].Why = &flow.Told{Code: code}
	}
	out[0].Action = &flow.Action{Key: "k1", Kind: "suspend", Adapter: "node1", Intent: t0.Add(-4 * time.Minute), Attempts: 1}
	return out
}

func sampleExporters() []flow.ExporterHealth {
	out := []flow.ExporterHealth{
		{Exporter: netip.MustParseAddr("192.0.2.1"), Protocols: []string{"netflow9"}, FirstSeen: t0.Add(-time.Hour), LastSeen: t0.Add(-time.Second), Datagrams: 90_412, Records: 2_108_331, Templates: 3,
			Samplers: []flow.SamplerHealth{{Rate: 1000, Source: "options", Records: 2_108_331}}},
		{Exporter: netip.MustParseAddr("2001:db8:ffff::2"), Protocols: []string{"sflow5"}, LastSeen: t0.Add(-80 * time.Second), Datagrams: 51_200, Records: 311_002, Lost: 1204, Dropped: map[string]uint64{"truncated": 7},
			Samplers: []flow.SamplerHealth{{Source: "unknown"}}},
	}
	out[1].Tell(collector.Sentences(), "rate_unknown", 7, 311_002, out[1].Exporter)
	out[1].Tell(collector.Sentences(), "dropped.set_length", 7)
	return out
}

// bench is a running server with one token for each role.
type bench struct {
	*httptest.Server
	h     *Handler
	desk  *desk
	shelf *shelf
	reg   *prometheus.Registry
	logs  *observer.ObservedLogs
	clock func() time.Time
	ready []error

	feed       *ticker
	visitors   *visitors
	exemptions exemptBook
	exempt     []string // ids
	cases      sampleBook
	caseID     string
}

func secret(role Role) string { return "token-of-" + role.String() + "-0123456789abcdef" }

func roleTokens() []Token {
	var out []Token
	for r := RoleViewer; r <= RoleAdmin; r++ {
		out = append(out, Token{Name: "test-" + r.String(), Role: r, Hash: sha256.Sum256([]byte(secret(r)))})
	}
	return out
}

func sampleBundle(_ context.Context, inc flow.Incident, outside bool) ([]byte, error) {
	if inc.ID == "inc-5" {
		return nil, errors.New("secret of the inside")
	}
	return fmt.Appendf(nil, "zip of %s, outside %v", inc.ID, outside), nil
}

func newBench(t testing.TB, change func(*Config, *Deps)) *bench {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	b := &bench{reg: prometheus.NewRegistry(), logs: logs, clock: func() time.Time { return t0 }}
	b.desk = &desk{list: sampleIncidents(), now: func() time.Time { return b.clock() }, events: map[string][]flow.Event{"inc-1": {
		{Seq: 1, Time: t0.Add(-5 * time.Minute), Incident: "inc-1", Kind: "opened", Actor: "detector", Reason: "netscan"},
		{Seq: 2, Time: t0.Add(-4 * time.Minute), Incident: "inc-1", Kind: "intent", Actor: "controller", Body: json.RawMessage(`{"adapter":"node1"}`)},
	}}}
	b.feed, b.visitors = newTicker(), &visitors{}
	b.exemptions, b.exempt = sampleExemptions(t)
	b.cases, b.caseID = sampleCases(t)
	b.shelf = &shelf{evid: map[string]flow.Evidence{"inc-1": sampleEvidence()}}
	cfg := Config{Tokens: roleTokens(), Version: "test", Timeout: time.Minute}
	deps := Deps{Incidents: b.desk, Store: b.shelf, Control: &board{}, Bundle: sampleBundle, Rules: &verdicts{}, Feed: b.feed, Reads: b.visitors, Exemptions: b.exemptions, Searcher: b.shelf, Fleet: b.shelf, Sources: sampleSources, Cases: b.cases, Holders: holdings, Complaints: sampleMatcher{},
		Standing: func(netip.Addr, flow.Holder) Standing { return Standing{Offences: 1, Probation: true} }, StoreNotFound: errNone, Exporters: sampleExporters, Registerer: b.reg, Gatherer: b.reg, Log: zap.New(core),
		Inventory: book{attacker: {Tenant: "c-42", VDS: "vds-1001", Hypervisor: "node1", Contact: "customer@example.net"}, flooder: {Tenant: "c-77", VDS: hostile}},
		TenantKey: func(a netip.Addr) netip.Addr {
			if netip.MustParsePrefix("198.18.0.0/15").Contains(a) || netip.MustParsePrefix("2001:db8::/32").Contains(a) {
				return slash64(a)
			}
			return netip.Addr{}
		},
		Ready: func() []error { return b.ready }, Now: func() time.Time { return b.clock() }}
	if change != nil {
		change(&cfg, &deps)
	}
	b.Server = httptest.NewUnstartedServer(nil)
	if cfg.OIDC != nil && cfg.OIDC.PublicURL == "" {
		cfg.OIDC.PublicURL = "http://" + b.Listener.Addr().String()
	}
	h, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	b.h = h
	b.Config = NewServer(h)
	b.Start()
	t.Cleanup(b.Close)
	return b
}
