package store_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func readEvents(t *testing.T, s *store.Store) []flow.Event {
	t.Helper()
	var l []flow.Event
	if err := s.Events(within(t, 2*time.Minute), func(e flow.Event) error {
		l = append(l, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEvents(t *testing.T) {
	s := storetest.New(t)
	if l := readEvents(t, s); len(l) != 0 {
		t.Fatalf("a new store has %d events", len(l))
	}
	event := func(seq uint64) flow.Event {
		return flow.Event{Seq: seq, Time: epoch.Add(time.Duration(seq) * time.Nanosecond), Incident: "i1", Kind: "opened", Actor: "detector",
			Reason: "a 'quoted'\nreason\x00 \\ Ω", Body: json.RawMessage(`{"a":[1,2.5,"x\u0000"]}`)}
	}
	var want []flow.Event
	for seq := uint64(1); seq <= 5; seq++ {
		want = append(want, event(seq))
	}
	want = append(want, flow.Event{Seq: 6, Kind: "bare"})                                // zero time, no body
	for _, part := range [][]flow.Event{want[3:5], want[5:], want[:3], want[2:4], nil} { // out of order, some twice
		if err := s.AppendEvents(within(t, 2*time.Minute), part); err != nil {
			t.Fatal(err)
		}
	}
	// Whoever appends a Seq again with other contents changes nothing.
	late := event(2)
	late.Reason = "rewritten"
	if err := s.AppendEvents(within(t, 2*time.Minute), []flow.Event{late}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, readEvents(t, s)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	stop := errors.New("enough")
	seen := 0
	err := s.Events(within(t, 2*time.Minute), func(flow.Event) error {
		seen++
		return stop
	})
	if !errors.Is(err, stop) || seen != 1 {
		t.Errorf("got %v after %d events, want fn's error after one", err, seen)
	}
}

func TestEvidence(t *testing.T) {
	s := storetest.New(t)
	ctx := within(t, 2*time.Minute)
	if _, err := s.Evidence(ctx, "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	want := flow.Evidence{
		Incident: "i'1", Tenant: netip.MustParseAddr("198.18.0.1"), Frozen: epoch.Add(1), From: epoch, To: epoch.Add(time.Minute),
		Rows: 5, Truncated: true,
		Logs: []flow.EvidenceLog{
			{Form: "netscan", Name: "a.txt", Text: strings.Repeat("TCP 198.18.0.1 => 203.0.113.1\n", 1000), SHA256: "aa"},
			{Form: "summary", Name: "b.txt", Text: "", SHA256: "bb"},
		},
	}
	other := flow.Evidence{Incident: "i2", Tenant: netip.MustParseAddr("2001:db8::")}
	for _, e := range []flow.Evidence{want, other, want} {
		if err := s.SaveEvidence(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	changed := want
	changed.Rows, changed.Logs = 99, nil
	if err := s.SaveEvidence(ctx, changed); err != nil {
		t.Fatal(err)
	}
	for _, w := range []flow.Evidence{want, other} {
		got, err := s.Evidence(ctx, w.Incident)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(w, got, equate); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
}

func TestSaveFindings(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	ctx := within(t, 2*time.Minute)
	if err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	f := flow.Finding{Time: epoch, Tenant: netip.MustParseAddr("198.18.0.1"), Rule: flow.RuleNetscan, Tier: flow.TierSuspend,
		IPProto: 6, Port: 22, WindowS: 300, Samples: 61, Distinct: 60, SamplingRate: 1000, Score: 31.5, Threshold: 30, EstRate: 200,
		Reason: "it's a scan", Gates: []string{"known_peers"}, From: epoch, To: epoch.Add(time.Minute), RuleVersion: 1, ConfigHash: "h"}
	g := f
	g.Remote, g.Gates, g.From = netip.MustParseAddr("203.0.113.1"), nil, time.Time{}
	for range 2 {
		if err := s.SaveFindings(ctx, []flow.Finding{f, g}); err != nil {
			t.Fatal(err)
		}
	}
	var n, suspends, gated uint64
	if err := raw(t, cfg).QueryRow(ctx, "SELECT count(), countIf(tier = 'suspend'), countIf(gates = ['known_peers']) FROM finding").Scan(&n, &suspends, &gated); err != nil {
		t.Fatal(err)
	}
	if n != 2 || suspends != 2 || gated != 1 {
		t.Errorf("%d findings, %d suspend, %d gated; want 2, 2, 1", n, suspends, gated)
	}
}
