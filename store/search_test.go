package store_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// hostileText tries to leave the literal that it is bound as.
const hostileText = "a'; DROP TABLE read_log; --\\' \" \t\n\r{x:String} \\N \x00 ü"

func TestReads(t *testing.T) {
	s := storetest.New(t)
	ctx := within(t, 2*time.Minute)
	now := time.Now().UTC().Truncate(time.Millisecond)
	var in []flow.Read
	for i := range 7 {
		in = append(in, flow.Read{Time: now.Add(-time.Duration(i) * time.Second), Last: now, Actor: "noc", Role: "viewer", Operation: "host", Target: fmt.Sprint("198.18.0.", i), Count: uint32(i + 1), Request: "r"})
	}
	in = append(in, flow.Read{Time: now.Add(-time.Minute), Last: now, Actor: hostileText, Role: "abuse", Operation: "bundle", Target: hostileText, Count: 1, Request: "x"})
	if err := s.AppendReads(ctx, in); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendReads(ctx, nil); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		f    flow.ReadFilter
		want []flow.Read
	}{
		"all":          {flow.ReadFilter{}, in},
		"page":         {flow.ReadFilter{Limit: 2, Skip: 1}, in[1:3]},
		"hostile":      {flow.ReadFilter{Actor: hostileText, Target: hostileText}, in[7:]},
		"operation":    {flow.ReadFilter{Operation: "bundle"}, in[7:]},
		"just before":  {flow.ReadFilter{Until: in[5].Time}, in[6:]},
		"exactly from": {flow.ReadFilter{Since: in[1].Time}, in[:2]},
		"nobody":       {flow.ReadFilter{Actor: "' OR 1=1 --"}, nil},
	} {
		got, err := s.Reads(ctx, tc.f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := gocmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestNumberedLogs(t *testing.T) {
	s := storetest.New(t)
	ctx := within(t, 2*time.Minute)
	now := time.Now().UTC()
	ev := []flow.Event{
		{Seq: 1, Time: now, Kind: "exemption_created", Incident: "ex-1", Actor: hostileText, Reason: hostileText, Body: json.RawMessage(`{"a":"\u0000'"}`)},
		{Seq: 2, Time: now, Kind: "exemption_removed", Incident: "ex-1"},
	}
	if err := s.AppendExemptions(ctx, ev); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendExemptions(ctx, []flow.Event{{Seq: 2, Time: now, Kind: "late", Incident: "ex-2"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendCases(ctx, ev[:1]); err != nil {
		t.Fatal(err)
	}
	var got, cases []flow.Event
	if err := s.ExemptionEvents(ctx, func(e flow.Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(ev, got); d != "" {
		t.Errorf("exemptions: the first row of a number counts (-want +got):\n%s", d)
	}
	if err := s.CaseEvents(ctx, func(e flow.Event) error { cases = append(cases, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(ev[:1], cases); d != "" {
		t.Errorf("cases (-want +got):\n%s", d)
	}
}

// TestSearchFlows holds every filter against the same rows in Go, and pages that
// follow each other against the whole.
func TestSearchFlows(t *testing.T) {
	s, m := filled(t)
	ctx := within(t, 3*time.Minute)
	all := flow.Range{From: epoch.Add(-time.Hour), To: epoch.Add(24 * time.Hour)}
	pick := m.Flows[len(m.Flows)/2]
	single := netip.PrefixFrom(pick.Tenant, pick.Tenant.BitLen())
	remote := netip.PrefixFrom(pick.Remote, pick.Remote.BitLen()-8).Masked()
	half := time.Unix(0, pick.Time)
	for name, tc := range map[string]struct {
		q    flow.FlowSearch
		fits func(r *flow.FlowRow) bool
	}{
		"all":           {flow.FlowSearch{}, func(*flow.FlowRow) bool { return true }},
		"tenant":        {flow.FlowSearch{Of: []flow.Held{{Prefix: single}}}, func(r *flow.FlowRow) bool { return r.Tenant == pick.Tenant }},
		"tenant until":  {flow.FlowSearch{Of: []flow.Held{{Prefix: single, To: half}}}, func(r *flow.FlowRow) bool { return r.Tenant == pick.Tenant && r.Time < pick.Time }},
		"tenant from":   {flow.FlowSearch{Of: []flow.Held{{Prefix: single, From: half}}}, func(r *flow.FlowRow) bool { return r.Tenant == pick.Tenant && r.Time >= pick.Time }},
		"nobody":        {flow.FlowSearch{Of: []flow.Held{}}, func(*flow.FlowRow) bool { return false }},
		"remote prefix": {flow.FlowSearch{Remote: remote}, func(r *flow.FlowRow) bool { return remote.Contains(r.Remote) }},
		"ports":         {flow.FlowSearch{Ports: []uint16{22, pick.SvcPort}}, func(r *flow.FlowRow) bool { return r.SvcPort == 22 || r.SvcPort == pick.SvcPort }},
		"proto and dir": {flow.FlowSearch{IPProto: flow.ProtoTCP, Dir: flow.Out}, func(r *flow.FlowRow) bool { return r.IPProto == flow.ProtoTCP && r.Dir == flow.Out }},
		"class":         {flow.FlowSearch{HasClass: true, Class: pick.Class}, func(r *flow.FlowRow) bool { return r.Class == pick.Class }},
		"flags":         {flow.FlowSearch{Flags: flow.SYN}, func(r *flow.FlowRow) bool { return r.TCPFlags&flow.SYN != 0 }},
		"tenant and port": {flow.FlowSearch{Of: []flow.Held{{Prefix: single}, {Prefix: remote}}, Ports: []uint16{pick.SvcPort}}, func(r *flow.FlowRow) bool {
			return (r.Tenant == pick.Tenant || remote.Contains(r.Tenant)) && r.SvcPort == pick.SvcPort
		}},
	} {
		want := 0
		for i := range m.Flows {
			if tc.fits(&m.Flows[i]) {
				want++
			}
		}
		tc.q.Range, tc.q.Limit = all, 1_000_000
		whole, err := s.SearchFlows(ctx, tc.q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(whole) != want || slices.ContainsFunc(whole, func(r flow.FlowRow) bool { return !tc.fits(&r) }) {
			t.Errorf("%s: %d rows, want %d that fit", name, len(whole), want)
		}
		if !slices.IsSortedFunc(whole, func(a, b flow.FlowRow) int { return int(a.Time - b.Time) }) {
			t.Errorf("%s: not oldest first", name)
		}
		for _, newest := range []bool{false, true} {
			tc.q.Newest, tc.q.Limit = newest, max(want/3, 1)
			var pages []flow.FlowRow
			for tc.q.Skip = 0; ; tc.q.Skip += tc.q.Limit {
				page, err := s.SearchFlows(ctx, tc.q)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if pages = append(pages, page...); len(page) < tc.q.Limit {
					break
				}
			}
			if newest {
				slices.Reverse(pages)
			}
			if d := gocmp.Diff(whole, pages, equate); d != "" {
				t.Errorf("%s, newest %v: pages differ from the whole:\n%.500s", name, newest, d)
			}
		}
	}
	peers, err := s.RemotePeers(ctx, pick.Remote, all, 100)
	if err != nil || len(peers) == 0 || !slices.ContainsFunc(peers, func(p flow.RemotePeer) bool { return p.Tenant == pick.Tenant && p.Records > 0 }) {
		t.Errorf("peers of %s: %v, %v", pick.Remote, peers, err)
	}
}
