package ledger

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	noon   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	equate = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()}
)

// memoryLog is the store as a slice.
type memoryLog struct {
	ev  []flow.Event
	err error
}

func (m *memoryLog) AppendLedger(_ context.Context, ev []flow.Event) error {
	if m.err != nil {
		return m.err
	}
	m.ev = append(m.ev, ev...)
	return nil
}

func (m *memoryLog) LedgerEvents(_ context.Context, since time.Time, fn func(flow.Event) error) error {
	sorted := slices.Clone(m.ev)
	slices.SortStableFunc(sorted, func(a, b flow.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range sorted {
		if e.Time.Before(since) {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return m.err
}

func tenant(i byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, i}) }

func finding(r flow.Rule, i byte, at time.Time, tier flow.Tier, score float64) flow.Finding {
	th := 30.0
	if tier == flow.TierNotify {
		th = 14
	}
	return flow.Finding{Time: at, Tenant: tenant(i), Rule: r, Tier: tier, Score: score, Threshold: th, Port: 22}
}

func record(t *testing.T, l *Ledger, fs ...flow.Finding) {
	t.Helper()
	for _, f := range fs {
		if err := l.Record(t.Context(), f.Time, []flow.Finding{f}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneCaseADay(t *testing.T) {
	log := &memoryLog{}
	l := New(Config{}, log)
	for i := range 720 { // an hour of ticks
		f := finding(flow.RuleNetscan, 1, noon.Add(time.Duration(i)*5*time.Second), flow.TierNotify, 15)
		if i == 100 {
			f.Tier, f.Score, f.Threshold = flow.TierSuspend, 40, 30
		}
		record(t, l, f)
	}
	record(t, l, finding(flow.RuleNetscan, 1, noon.Add(13*time.Hour), flow.TierNotify, 99))
	record(t, l, finding(flow.RulePortscan, 1, noon, flow.TierLog, 1), finding(flow.RuleSpam, 1, noon, flow.TierNone, 1))
	got := l.Cases(Query{})
	if len(got) != 3 || got[0].Day != "2026-11-23" || got[0].Tier != flow.TierNotify || got[2].Rule != flow.RulePortscan {
		t.Fatalf("%+v", got)
	}
	c := got[1]
	if c.ID != "netscan/198.18.0.1/2026-11-22" || c.Findings != 720 || c.Tier != flow.TierSuspend || c.Best.Score != 40 || !c.First.Equal(noon) || !c.Last.Equal(noon.Add(3595*time.Second)) {
		t.Errorf("%+v", c)
	}
	// New, suspended, and the other two: not one event for each tick.
	if len(log.ev) != 4 {
		t.Errorf("%d events are stored, want 4", len(log.ev))
	}
	several := []flow.Finding{finding(flow.RuleNetscan, 9, noon, flow.TierNotify, 15), finding(flow.RuleNetscan, 9, noon, flow.TierNotify, 16)}
	if err := l.Record(t.Context(), noon, several); err != nil {
		t.Fatal(err)
	}
	if c := l.Cases(Query{Tenant: tenant(9)}); len(c) != 1 || c[0].Findings != 1 || c[0].Best.Score != 16 {
		t.Errorf("several ports of one slot: %+v", c)
	}
}

func TestLoadGivesTheSame(t *testing.T) {
	log := &memoryLog{}
	l := New(Config{}, log)
	for i := range byte(20) {
		record(t, l, finding(flow.RuleNetscan, i, noon.Add(time.Duration(i)*time.Minute), flow.TierNotify, 14+float64(i)))
		record(t, l, finding(flow.RuleNetscan, i, noon.Add(time.Duration(i)*time.Minute+time.Second), flow.TierSuspend, 31))
	}
	ids := l.Cases(Query{})
	for i, v := range []Verdict{Right, Wrong, Unsure, Right} {
		if _, err := l.SetMark(t.Context(), ids[i].ID, v, "anna", "looked at the flows", noon.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.SetMark(t.Context(), ids[0].ID, Wrong, "boris", "asked the customer", noon.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	log.ev = append(log.ev, log.ev...) // repeated, as after an error
	log.ev = append(log.ev, flow.Event{Time: noon, Kind: "of a later release", Incident: "x"}, flow.Event{Time: noon, Kind: KindMark, Incident: "forgotten", Body: []byte(`{}`)})
	again := New(Config{}, log)
	if err := again.Load(t.Context(), noon.Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l.Cases(Query{}), again.Cases(Query{}), equate); d != "" {
		t.Errorf("-before +after a restart:\n%s", d)
	}
	if c := again.Cases(Query{Tenant: ids[0].Tenant})[0]; c.Mark.By != "boris" || c.Mark.Verdict != Wrong {
		t.Errorf("the later mark counts: %+v", c.Mark)
	}
	log.ev = []flow.Event{{Time: noon, Kind: KindCase, Incident: "bad", Body: []byte(`{`)}}
	if err := New(Config{}, log).Load(t.Context(), noon); err == nil || !strings.Contains(err.Error(), "case bad") {
		t.Errorf("a broken event: %v", err)
	}
}

func TestOldCasesAreForgotten(t *testing.T) {
	log := &memoryLog{}
	l := New(Config{KeepDays: 3, MaxCases: 2}, log)
	record(t, l, finding(flow.RuleNetscan, 1, noon, flow.TierNotify, 15), finding(flow.RuleNetscan, 2, noon, flow.TierNotify, 15), finding(flow.RuleNetscan, 3, noon, flow.TierNotify, 15))
	if len(l.Cases(Query{})) != 2 || l.Refused() != 1 {
		t.Errorf("%d cases, %d refused", len(l.Cases(Query{})), l.Refused())
	}
	record(t, l, finding(flow.RuleNetscan, 4, noon.AddDate(0, 0, 4), flow.TierNotify, 15))
	if c := l.Cases(Query{}); len(c) != 1 || c[0].Tenant != tenant(4) {
		t.Errorf("%+v", c)
	}
}

func TestStoreFailures(t *testing.T) {
	log := &memoryLog{err: errors.New("connection refused")}
	l := New(Config{}, log)
	f := finding(flow.RuleNetscan, 1, noon, flow.TierNotify, 15)
	if err := l.Record(t.Context(), noon, []flow.Finding{f}); err == nil {
		t.Error("no error")
	}
	id := l.Cases(Query{})[0].ID
	if _, err := l.SetMark(t.Context(), id, Right, "anna", "x", noon); err == nil || l.Cases(Query{})[0].Mark != nil {
		t.Error("a mark that was not stored counts")
	}
	log.err = nil
	f.Time = noon.Add(5 * time.Second)
	if record(t, l, f); len(log.ev) != 1 {
		t.Errorf("%d events after the store is back, want the case", len(log.ev))
	}
	f.Score, f.Tenant = math.NaN(), tenant(2)
	if err := l.Record(t.Context(), noon, []flow.Finding{f}); err == nil {
		t.Error("a score that is no number is stored")
	}
}

func TestMarkErrors(t *testing.T) {
	l := New(Config{}, nil)
	record(t, l, finding(flow.RuleNetscan, 1, noon, flow.TierNotify, 15))
	id := l.Cases(Query{})[0].ID
	for _, c := range []struct {
		id         string
		v          Verdict
		by, reason string
		want       error
	}{
		{id, Right, "anna", "seen", nil}, {"netscan/1.2.3.4/2026-11-22", Right, "anna", "seen", ErrUnknown},
		{id, "maybe", "anna", "seen", ErrInvalid}, {id, Wrong, " ", "seen", ErrInvalid}, {id, Wrong, "anna", "", ErrInvalid}, {id, Wrong, "anna", strings.Repeat("x", 1001), ErrInvalid},
	} {
		if _, err := l.SetMark(t.Context(), c.id, c.v, c.by, c.reason, noon); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestWilson(t *testing.T) {
	// Newcombe 1998, Statistics in Medicine 17, table I: 81/263, 15/148, 0/20, 1/29.
	for _, c := range []struct {
		k, n      int
		low, high float64
	}{{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}, {20, 20, 1 - 0.1611, 1}, {0, 0, 0, 1}} {
		low, high := Wilson(c.k, c.n)
		if math.Abs(low-c.low) > 5e-5 || math.Abs(high-c.high) > 5e-5 {
			t.Errorf("%d of %d: %.4f to %.4f, want %.4f to %.4f", c.k, c.n, low, high, c.low, c.high)
		}
	}
}

func TestPrecisionsAndProposals(t *testing.T) {
	l := New(Config{}, nil)
	mark := func(f flow.Finding, v Verdict) {
		record(t, l, f)
		if v != "" {
			if _, err := l.SetMark(t.Context(), caseID(f.Rule, f.Tenant, dayOf(f.Time)), v, "anna", "seen", noon); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, s := range []float64{35, 48.3, 90, 200, 300, 400} { // two wrong ones below the right
		v := Right
		if i < 2 {
			v = Wrong
		}
		mark(finding(flow.RuleNetscan, byte(i), noon, flow.TierSuspend, s), v)
	}
	mark(finding(flow.RuleNetscan, 50, noon, flow.TierSuspend, 40), "")
	mark(finding(flow.RuleNetscan, 51, noon, flow.TierNotify, 20), Wrong)    // of another threshold
	mark(finding(flow.RuleUDPFlood, 60, noon, flow.TierSuspend, 900), Wrong) // stronger than all that is right
	mark(finding(flow.RuleUDPFlood, 61, noon, flow.TierSuspend, 50), Right)
	mark(finding(flow.RuleSpam, 1, noon.AddDate(0, 0, -14), flow.TierNotify, 20), Wrong) // too old
	mark(finding(flow.RuleReflector, 1, noon, flow.TierBlockPort, 33), Wrong)
	mark(finding(flow.RuleReflector, 2, noon, flow.TierBlockPort, 99), Unsure)

	ps := l.Precisions("2026-11-22", "2026-11-22")
	if len(ps) != 4 {
		t.Fatalf("%+v", ps)
	}
	low, high := Wilson(4, 6)
	want := Precision{Rule: flow.RuleNetscan, Tier: flow.TierSuspend, Cases: 7, Right: 4, Wrong: 2, Unmarked: 1, Precision: 4. / 6, Low: low, High: high}
	if ps[0] != want {
		t.Errorf("%+v, want %+v", ps[0], want)
	}
	got := map[string]Proposal{}
	for _, p := range l.Proposals(noon.Add(time.Hour)) {
		got[p.Key] = p
	}
	if len(got) != 4 {
		t.Errorf("%d proposals: %+v", len(got), got)
	}
	p := got["detect.thresholds.netscan.suspend_score"]
	if p.Now != 30 || p.Proposed != 48.4 || p.Cases != 7 || p.Right != 4 || p.Wrong != 2 || p.MissedRight != 0 || p.MissedUnmarked != 1 ||
		!slices.Equal(p.WrongTenants, []netip.Addr{tenant(0), tenant(1)}) || !strings.HasPrefix(p.Advice, "raise it") {
		t.Errorf("%+v", p)
	}
	if p := got["detect.thresholds.udp_flood.suspend_score"]; p.Proposed <= 900 || p.MissedRight != 1 || !strings.Contains(p.Advice, "no threshold tells right from wrong here: exempt 198.18.0.60") {
		t.Errorf("%+v", p)
	}
	if p := got["detect.thresholds.reflector.block_score"]; p.Right != 0 || p.MissedUnmarked != 0 || p.Proposed != 33.1 || !strings.Contains(p.Advice, "nothing was marked right") {
		t.Errorf("%+v", p)
	}
	if p := got["detect.thresholds.netscan.notify_score"]; p.Now != 14 || p.Proposed != 20.1 {
		t.Errorf("%+v", p)
	}
	var b bytes.Buffer
	if err := l.WriteReport(&b, noon); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2026-11-09 to 2026-11-22", "netscan", "0.67", "detect.thresholds.netscan.suspend_score: 48.4", "would have missed 0 right, 1 unmarked"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := New(Config{}, nil).WriteReport(&b, noon); err != nil || !strings.Contains(b.String(), "no threshold is proposed") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// At the proposed threshold the wrong cases do not reach the tier, whatever the
// score: that is what it promises.
func TestAbove(t *testing.T) {
	for _, x := range []float64{0, 1e-9, 0.5, 14, 29.99, 30, 48.3, 99.9, 100, 999.4, 12345, 1e15} {
		if got := above(x); !(got > x) || x > 0 && got > 1.02*x {
			t.Errorf("above(%g) = %g", x, got)
		}
	}
}

func TestQueries(t *testing.T) {
	l := New(Config{}, nil)
	record(t, l, finding(flow.RuleNetscan, 1, noon, flow.TierNotify, 15), finding(flow.RuleNetscan, 2, noon.AddDate(0, 0, 1), flow.TierSuspend, 35), finding(flow.RuleSpam, 1, noon, flow.TierNotify, 15))
	if _, err := l.SetMark(t.Context(), "spam/198.18.0.1/2026-11-22", Wrong, "anna", "a newsletter", noon); err != nil {
		t.Fatal(err)
	}
	none, wrong := Verdict(""), Wrong
	for _, c := range []struct {
		q    Query
		want int
	}{{Query{}, 3}, {Query{Rule: flow.RuleNetscan}, 2}, {Query{Tenant: tenant(1)}, 2}, {Query{From: "2026-11-23"}, 1}, {Query{To: "2026-11-22"}, 2},
		{Query{MinTier: flow.TierSuspend}, 1}, {Query{Verdict: &none}, 2}, {Query{Verdict: &wrong}, 1}, {Query{Limit: 1}, 1}, {Query{Rule: flow.RuleUDPFlood}, 0}} {
		if got := len(l.Cases(c.q)); got != c.want {
			t.Errorf("%+v: %d, want %d", c.q, got, c.want)
		}
	}
}

// TestVersion: it is another after each change of a case or its mark.
func TestVersion(t *testing.T) {
	l := New(Config{KeepDays: 2}, nil)
	at := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	last := l.Version()
	step := func(name string, changed bool) {
		t.Helper()
		if v := l.Version(); (v != last) != changed {
			t.Errorf("%s: %d after %d", name, v, last)
		}
		last = l.Version()
	}
	f := finding(flow.RuleNetscan, 1, at, flow.TierSuspend, 40)
	record(t, l, f)
	step("a case", true)
	record(t, l, f)
	step("found again", true)
	if err := l.Record(t.Context(), at, nil); err != nil {
		t.Fatal(err)
	}
	l.Cases(Query{})
	step("a tick without findings", false)
	if _, err := l.SetMark(t.Context(), caseID(f.Rule, f.Tenant, dayOf(at)), Right, "anna", "it scans", at); err != nil {
		t.Fatal(err)
	}
	step("marked", true)
	if err := l.Record(t.Context(), at.AddDate(0, 0, 4), nil); err != nil {
		t.Fatal(err)
	}
	step("forgotten", true)
}
