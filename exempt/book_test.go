package exempt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
)

var t0 = time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)

// memory is a log. fail is what appending answers; lost says that it is stored all the same.
type memory struct {
	evs  []flow.Event
	fail error
	lost bool
}

func (m *memory) AppendExemptions(_ context.Context, ev []flow.Event) error {
	if m.fail == nil || m.lost {
		m.evs = append(m.evs, ev...)
	}
	return m.fail
}

func (m *memory) ExemptionEvents(_ context.Context, fn func(flow.Event) error) error {
	for _, e := range m.evs {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func good() flow.Exemption {
	return flow.Exemption{Holder: "c-42", Port: 22, Rule: flow.RuleNetscan, Owner: "anna", Reason: "pentest", Expires: t0.Add(time.Hour)}
}

func finding() flow.Finding {
	return flow.Finding{Tenant: netip.MustParseAddr("198.18.0.7"), Rule: flow.RuleNetscan, Port: 22, IPProto: flow.ProtoTCP, Remote: netip.MustParseAddr("203.0.113.9")}
}

func mustNew(t *testing.T, cfg Config, log Log) *Book {
	t.Helper()
	b, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCovers(t *testing.T) {
	asOf := func(a netip.Addr) (uint32, bool) { return 64500, a == finding().Remote }
	who := flow.Holder{Tenant: "c-42"}
	pre := netip.MustParsePrefix
	for name, tc := range map[string]struct {
		e    flow.Exemption
		want bool
	}{
		"customer":               {flow.Exemption{Holder: "c-42"}, true},
		"other customer":         {flow.Exemption{Holder: "c-4"}, false},
		"tenant":                 {flow.Exemption{Tenant: pre("198.18.0.0/24")}, true},
		"other tenant":           {flow.Exemption{Tenant: pre("198.18.1.0/24")}, false},
		"both, one wrong":        {flow.Exemption{Tenant: pre("198.18.0.0/24"), Holder: "c-1"}, false},
		"nobody":                 {flow.Exemption{Rule: flow.RuleNetscan}, false},
		"port":                   {flow.Exemption{Holder: "c-42", Port: 22}, true},
		"other port":             {flow.Exemption{Holder: "c-42", Port: 23}, false},
		"protocol":               {flow.Exemption{Holder: "c-42", IPProto: flow.ProtoTCP}, true},
		"other protocol":         {flow.Exemption{Holder: "c-42", IPProto: flow.ProtoUDP}, false},
		"rule":                   {flow.Exemption{Holder: "c-42", Rule: flow.RuleNetscan}, true},
		"other rule":             {flow.Exemption{Holder: "c-42", Rule: flow.RuleSpam}, false},
		"remote":                 {flow.Exemption{Holder: "c-42", Remote: pre("203.0.113.0/24")}, true},
		"other remote":           {flow.Exemption{Holder: "c-42", Remote: pre("203.0.112.0/24")}, false},
		"AS":                     {flow.Exemption{Holder: "c-42", RemoteAS: 64500}, true},
		"other AS":               {flow.Exemption{Holder: "c-42", RemoteAS: 64501}, false},
		"just before its expiry": {flow.Exemption{Holder: "c-42", Expires: t0.Add(1)}, true},
		"exactly at its expiry":  {flow.Exemption{Holder: "c-42", Expires: t0}, false},
	} {
		if got := tc.e.Covers(finding(), who, t0, asOf); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	many := finding()
	many.Remote = netip.Addr{}
	for _, e := range []flow.Exemption{{Holder: "c-42", RemoteAS: 64500}, {Holder: "c-42", Remote: pre("0.0.0.0/0")}} {
		if e.Covers(many, who, t0, asOf) {
			t.Errorf("a finding of no remote is covered by %+v", e)
		}
	}
	if (flow.Exemption{Holder: "c-42", RemoteAS: 64500}).Covers(finding(), who, t0, nil) {
		t.Error("an AS matched without a table")
	}
}

func TestLife(t *testing.T) {
	log := &memory{}
	b := mustNew(t, Config{Since: t0}, log)
	s, err := b.Create(t.Context(), good(), "op", t0)
	if err != nil || s.Version != 1 || s.Status != StatusActive || s.CreatedBy != "op" || !strings.HasPrefix(s.Name, "ex-") {
		t.Fatalf("%+v, %v", s, err)
	}
	who := flow.Holder{Tenant: "c-42"}
	covered := func(ts time.Time) bool { id, ok := b.Cover(finding(), who, ts); return ok && id == s.Name }
	if !covered(t0) || covered(t0.Add(time.Hour)) {
		t.Error("it counts from the start until it expires, exactly")
	}
	wider := good()
	wider.Port = 0
	if _, err := b.Change(t.Context(), s.Name, 7, wider, "op", t0); !errors.Is(err, ErrVersion) {
		t.Errorf("change of another version: %v", err)
	}
	if s, err = b.Change(t.Context(), s.Name, 1, wider, "eva", t0.Add(time.Minute)); err != nil || s.Version != 2 || s.Port != 0 || s.UpdatedBy != "eva" || s.CreatedBy != "op" {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := b.Remove(t.Context(), s.Name, 1, "op", "over", t0); !errors.Is(err, ErrVersion) {
		t.Errorf("removing another version: %v", err)
	}
	if s, err = b.Remove(t.Context(), s.Name, 2, "op", "over", t0.Add(2*time.Minute)); err != nil || s.Status != StatusRemoved || s.Why != "over" {
		t.Fatalf("%+v, %v", s, err)
	}
	if covered(t0) {
		t.Error("it covers after it was removed")
	}
	if _, err := b.Remove(t.Context(), s.Name, 3, "op", "again", t0); !errors.Is(err, ErrRemoved) {
		t.Errorf("removed twice: %v", err)
	}
	again := mustNew(t, Config{Since: t0}, log)
	if err := again.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.List("", t0), again.List("", t0), cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Errorf("after a restart (-want +got):\n%s", d)
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*flow.Exemption)
		want   string
	}{
		"everybody":       {func(e *flow.Exemption) { e.Holder = "" }, "would exempt everybody"},
		"the whole world": {func(e *flow.Exemption) { e.Tenant = netip.MustParsePrefix("0.0.0.0/0") }, "would exempt everybody"},
		"no owner":        {func(e *flow.Exemption) { e.Owner = " " }, "owner has 1 characters"},
		"long reason":     {func(e *flow.Exemption) { e.Reason = strings.Repeat("я", maxReason+1) }, "reason has 1001 characters"},
		"unmasked":        {func(e *flow.Exemption) { e.Tenant = netip.MustParsePrefix("198.18.0.7/24") }, "write 198.18.0.0/24"},
		"mapped":          {func(e *flow.Exemption) { e.Remote = netip.MustParsePrefix("::ffff:1.2.3.0/120") }, "write it as IPv4"},
		"no end":          {func(e *flow.Exemption) { e.Expires = time.Time{} }, "expires is missing"},
		"exactly now":     {func(e *flow.Exemption) { e.Expires = t0 }, "which is past"},
		"too long":        {func(e *flow.Exemption) { e.Expires = t0.Add(maxSpan + 1) }, "at most a year"},
		"AS, no table":    {func(e *flow.Exemption) { e.RemoteAS = 1 }, "respond.as_table"},
	} {
		e := good()
		tc.change(&e)
		log := &memory{}
		b := mustNew(t, Config{}, log)
		if _, err := b.Create(t.Context(), e, "op", t0); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if len(log.evs) != 0 || len(b.List("", t0)) != 0 {
			t.Errorf("%s: something was stored", name)
		}
	}
	longest := good()
	longest.Expires, longest.Reason = t0.Add(maxSpan), strings.Repeat("я", maxReason)
	if _, err := mustNew(t, Config{}, nil).Create(t.Context(), longest, "op", t0); err != nil {
		t.Errorf("the longest that is allowed: %v", err)
	}
	if _, err := New(Config{Fixed: []flow.Exemption{{Rule: flow.RuleSpam}}}, nil); err == nil || !strings.Contains(err.Error(), "exemption 0") {
		t.Errorf("a line of the configuration that exempts everybody: %v", err)
	}
}

func TestFixed(t *testing.T) {
	e := good()
	b := mustNew(t, Config{Fixed: []flow.Exemption{e, {Tenant: netip.MustParsePrefix("198.18.9.0/24"), Owner: "o", Reason: "r"}}, Since: t0}, nil)
	l := b.List("", t0)
	if len(l) != 2 || l[0].Warning != "never expires: give it an end" {
		t.Fatalf("%+v", l)
	}
	other := e
	other.Owner, other.Expires = "eva", t0.AddDate(1, 0, 0)
	if fixedName(e) != fixedName(other) || fixedName(e) == fixedName(flow.Exemption{Holder: "c-42"}) {
		t.Error("the name goes by what is covered, and by that alone")
	}
	if _, err := b.Change(t.Context(), l[1].Name, 1, e, "op", t0); !errors.Is(err, ErrFixed) {
		t.Errorf("%v", err)
	}
	if _, err := b.Remove(t.Context(), "ex-none", 1, "op", "x", t0); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}

// After an append that nobody knows the end of, the log is asked before anything
// else is written under the same number.
func TestLogFails(t *testing.T) {
	for _, lost := range []bool{false, true} {
		log := &memory{fail: errors.New("timeout"), lost: lost}
		b := mustNew(t, Config{}, log)
		if _, err := b.Create(t.Context(), good(), "op", t0); !errors.Is(err, ErrLog) {
			t.Fatalf("%v", err)
		}
		if len(b.List("", t0)) != 0 {
			t.Error("what was not acknowledged counts")
		}
		log.fail = nil
		if _, err := b.Create(t.Context(), good(), "op", t0); err != nil {
			t.Fatal(err)
		}
		want := 1
		if lost {
			want = 2
		}
		if n := len(b.List("", t0)); n != want || len(log.evs) != want || log.evs[want-1].Seq != uint64(want) {
			t.Errorf("stored nevertheless %v: %d exemptions, %d events", lost, n, len(log.evs))
		}
	}
}

func TestHits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		b := mustNew(t, Config{Since: t0}, log)
		start := time.Now()
		e := good()
		e.Expires = start.Add(time.Hour)
		s, err := b.Create(t.Context(), e, "op", start)
		if err != nil {
			t.Fatal(err)
		}
		holder := func(f flow.Finding) flow.Holder { return flow.Holder{Tenant: "c-42"} }
		fs := []flow.Finding{finding(), finding(), finding()}
		fs[1].Tenant, fs[2].Port = netip.MustParseAddr("198.18.0.8"), 80
		b.Mark(fs, holder, start)
		if fs[0].Exempt != s.Name || fs[1].Exempt != s.Name || fs[2].Exempt != "" {
			t.Errorf("marked %q %q %q", fs[0].Exempt, fs[1].Exempt, fs[2].Exempt)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		time.Sleep(storeEvery + time.Second)
		synctest.Wait()
		if n := len(log.evs); n != 2 || log.evs[1].Kind != KindHits {
			t.Errorf("%d events after a minute", n)
		}
		time.Sleep(5 * storeEvery)
		synctest.Wait()
		if len(log.evs) != 2 {
			t.Error("hits are stored again without news")
		}
		b.Mark(fs[:1], holder, start.Add(24*time.Hour)) // it has expired
		b.Mark(fs[:1], holder, start.Add(time.Minute))
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		again := mustNew(t, Config{}, log)
		if err := again.Load(context.Background()); err != nil {
			t.Fatal(err)
		}
		got, _ := again.Get(s.Name, start)
		if want := (Hits{3, 2, start.Add(time.Minute).UTC()}); got.Hits != want {
			t.Errorf("hits %+v, want %+v", got.Hits, want)
		}
	})
}

func TestWarnings(t *testing.T) {
	day := 24 * time.Hour
	for name, tc := range map[string]struct {
		expires, last time.Duration
		at            time.Duration
		want          string
	}{
		"fresh":                 {90 * day, -1, day, ""},
		"expired":               {day, -1, day, "expired on 2026-11-23 and exempts nothing"},
		"ends soon and needed":  {3 * day, 0, time.Hour, "will be acted on then; ask anna"},
		"ends soon, not needed": {3 * day, -1, time.Hour, ""},
		"ends in four days":     {4 * day, 0, 0, ""},
		"unused for 29 days":    {90 * day, -1, 29 * day, ""},
		"unused for 30 days":    {90 * day, -1, 30 * day, "nothing needed it for 30 days: ask anna"},
		"used 29 days ago":      {90 * day, day, 30 * day, ""},
	} {
		e := Entry{Exemption: good(), Created: t0}
		e.Expires = t0.Add(tc.expires)
		var h Hits
		if tc.last >= 0 {
			h = Hits{Findings: 1, Last: t0.Add(tc.last)}
		}
		if got := warning(&e, h, t0.Add(tc.at)); got != tc.want && (tc.want == "" || !strings.Contains(got, tc.want)) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestFull(t *testing.T) {
	b := mustNew(t, Config{}, nil)
	for i := range maxEntries {
		e := good()
		e.Holder = fmt.Sprint("c-", i)
		if _, err := b.Create(t.Context(), e, "op", t0); err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := b.Create(t.Context(), good(), "op", t0); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if ids := b.List(StatusActive, t0); len(ids) != maxEntries || slices.ContainsFunc(ids, func(s Status) bool { return s.Name == "" }) {
		t.Errorf("%d listed", len(ids))
	}
	if _, err := b.Create(t.Context(), flow.Exemption{Holder: "x", Owner: "o", Reason: "r", Expires: t0.Add(2 * time.Hour)}, "op", t0.Add(time.Hour)); err != nil {
		t.Errorf("those that expired need no room: %v", err)
	}
}

// TestVersion: it is another after each change, hits and the clock's included, and
// the same while nothing changes.
func TestVersion(t *testing.T) {
	b := mustNew(t, Config{Since: t0}, &memory{})
	seen := map[uint64]string{}
	step := func(name string, ts time.Time) {
		t.Helper()
		v := b.Version(ts)
		if v != b.Version(ts) {
			t.Errorf("%s: not the same twice", name)
		}
		if old, ok := seen[v]; ok {
			t.Errorf("%s has the version of %s", name, old)
		}
		seen[v] = name
	}
	step("empty", t0)
	e := good()
	e.Expires = t0.Add(10 * 24 * time.Hour)
	s, err := b.Create(t.Context(), e, "anna", t0)
	if err != nil {
		t.Fatal(err)
	}
	step("created", t0)
	e.Owner = "boris"
	if s, err = b.Change(t.Context(), s.Name, s.Version, e, "boris", t0); err != nil {
		t.Fatal(err)
	}
	step("changed", t0)
	b.Mark([]flow.Finding{finding()}, func(flow.Finding) flow.Holder { return flow.Holder{Tenant: "c-42"} }, t0)
	step("needed", t0)
	step("soon over", t0.Add(9*24*time.Hour))
	step("over", t0.Add(11*24*time.Hour))
	if _, err = b.Remove(t.Context(), s.Name, s.Version, "anna", "done", t0); err != nil {
		t.Fatal(err)
	}
	step("removed", t0)
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	step("read again", t0)
}
