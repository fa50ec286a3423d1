package notice

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// box is a sender that keeps what it was given.
type box struct {
	mu      sync.Mutex
	single  []string
	digests []Batch
	err     error
}

func (b *box) Name() string { return "box" }

func (b *box) Wants(kind string, _ flow.Incident) bool { return kind != "unwanted" }

func (b *box) Notify(_ context.Context, n flow.Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.single = append(b.single, n.Key)
	}
	return b.err
}

func (b *box) NotifyDigest(_ context.Context, d Batch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.digests = append(b.digests, d)
	}
	return b.err
}

// owed is whoever owes notices: it asks again until each has gone.
type owed struct {
	*testing.T
	d    *Digest
	now  time.Time
	open []flow.Notice
	made int
}

func (o *owed) due(kind string, n int) {
	for range n {
		x := Example(kind)
		o.made++
		x.Key, x.At = fmt.Sprintf("FC-%d/%s/1", o.made, kind), o.now
		o.open = append(o.open, x)
	}
}

// ask tries all that is owed once.
func (o *owed) ask() {
	var left []flow.Notice
	for _, n := range o.open {
		if err := o.d.Notify(o.Context(), n); err != nil {
			left = append(left, n)
		}
	}
	o.open = left
}

func TestDigest(t *testing.T) {
	b := &box{}
	o := &owed{T: t, now: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)}
	o.d = NewDigest(b, DigestConfig{Max: 3, Window: 10 * time.Minute, Now: func() time.Time { return o.now }})
	o.due("held", 3)
	o.ask()
	if len(b.single) != 3 || len(o.open) != 0 {
		t.Fatalf("exactly the bound: %d went, %d are left", len(b.single), len(o.open))
	}
	o.due("held", 200)
	o.ask()
	o.now = o.now.Add(10*time.Minute - time.Second)
	o.due("suspended", 5)
	o.due("frozen", 1)
	o.ask()
	if len(b.single) != 4 || len(b.digests) != 0 || len(o.open) != 205 {
		t.Fatalf("within the time: %d singles, %d digests, %d left; only what asks for a person now goes", len(b.single), len(b.digests), len(o.open))
	}
	want := make([]string, 0, 205)
	for _, n := range o.open {
		want = append(want, n.Key)
	}
	o.now = o.now.Add(time.Second)
	b.err = errors.New("away")
	if o.ask(); len(o.open) != 205 {
		t.Fatalf("a digest that did not go was taken: %d left", len(o.open))
	}
	b.err = nil
	o.ask()
	if len(o.open) != 0 || len(b.digests) != 1 || len(b.single) != 4 {
		t.Fatalf("%d left, %d digests, %d singles", len(o.open), len(b.digests), len(b.single))
	}
	var got []string
	for _, n := range b.digests[0].Notices {
		got = append(got, n.Key)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the digest has %d notices, want %d", len(got), len(want))
	}
	// A notice that went with the digest and whose success could not be stored.
	if err := o.d.Notify(t.Context(), b.digests[0].Notices[7]); err != nil || len(b.single) != 4 || len(b.digests) != 1 {
		t.Errorf("told twice: %v", err)
	}
	// It is quiet again: the next one goes at once.
	o.now = o.now.Add(time.Hour)
	o.due("held", 1)
	if o.ask(); len(b.single) != 5 {
		t.Error("held after the storm")
	}
	// One alone is no digest.
	o.due("held", 3)
	o.ask()
	o.now = o.now.Add(10 * time.Minute)
	if o.ask(); len(b.single) != 8 || len(b.digests) != 1 {
		t.Errorf("%d singles, %d digests", len(b.single), len(b.digests))
	}
}

// After a restart the digest knows nothing and whoever owes asks again: what
// had not gone goes, none is lost.
func TestDigestOverRestart(t *testing.T) {
	b := &box{}
	o := &owed{T: t, now: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)}
	fresh := func() {
		o.d = NewDigest(b, DigestConfig{Max: 2, Window: time.Minute, Now: func() time.Time { return o.now }})
	}
	fresh()
	o.due("held", 10)
	o.ask()
	fresh()
	for range 5 {
		o.ask()
		o.now = o.now.Add(time.Minute)
	}
	n := len(b.single)
	for _, d := range b.digests {
		n += len(d.Notices)
	}
	if len(o.open) != 0 || n != 10 {
		t.Errorf("%d left, %d told of 10", len(o.open), n)
	}
}

func TestDigestConcurrent(t *testing.T) {
	b := &box{}
	now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	d := NewDigest(b, DigestConfig{Max: 5, Window: time.Minute, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	var wg sync.WaitGroup
	for i := range 100 {
		n := Example("held")
		n.Key = fmt.Sprint("FC-", i)
		wg.Go(func() {
			for k := range 1_000_000 {
				runtime.Gosched()
				if d.Notify(t.Context(), n) == nil {
					return
				}
				if k%20 == 19 {
					mu.Lock()
					now = now.Add(time.Second)
					mu.Unlock()
				}
			}
			t.Error("never told")
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for _, k := range b.single {
		seen[k]++
	}
	for _, b := range b.digests {
		for _, n := range b.Notices {
			seen[n.Key]++
		}
	}
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%s was told %d times", k, n)
		}
	}
	if len(seen) != 100 {
		t.Errorf("%d told", len(seen))
	}
}

func TestDigestErrors(t *testing.T) {
	b := &box{err: errors.New("away")}
	now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	d := NewDigest(b, DigestConfig{Max: 1, Now: func() time.Time { return now }})
	n := Example("held")
	for range 3 {
		if err := d.Notify(t.Context(), n); err == nil || err.Error() != "away" {
			t.Fatalf("%v: a failure must not use up the bound", err)
		}
	}
	b.err = nil
	if err := d.Notify(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	n.Key = "other"
	err := d.Notify(t.Context(), n)
	var r interface{ RetryAfter() time.Duration }
	var p interface{ Permanent() bool }
	if !errors.As(err, &r) || r.RetryAfter() != 10*time.Minute || errors.As(err, &p) {
		t.Errorf("%v: want one that is asked again in 10 minutes", err)
	}
	if !d.Wants("held", flow.Incident{}) || d.Wants("unwanted", flow.Incident{}) || d.Name() != "box" {
		t.Error("the sender's choice is not asked for")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, " 7 ": 7 * time.Second, "86400": time.Hour, "-5": 0, "soon": 0,
		"Sun, 22 Nov 2026 07:01:00 GMT": time.Minute, "Sun, 22 Nov 2026 06:00:00 GMT": 0, "99999999999999999999": 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {in}}, now); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	var g Gate
	g.Shut(now, time.Minute)
	g.Shut(now, time.Second) // the longer one counts
	if g.Wait(now) != time.Minute || g.Wait(now.Add(time.Minute)) != 0 || (&Gate{}).Wait(now) != 0 {
		t.Errorf("the gate waits %s", g.Wait(now))
	}
}

// What the controller calls a suspension is told as what was done.
func TestMeasureIsTold(t *testing.T) {
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	n := Example("suspended")
	n.Incident.Action.Measure = flow.Measure{Kind: flow.MeasureLimit, KbitS: 2500}
	for _, to := range []Audience{Customer, Staff} {
		m, err := w.Write(n, to, "en")
		if err != nil || strings.Contains(m.Text, "have suspended") || strings.Contains(m.Text, "network cut") || !strings.Contains(m.Text, "2.5 Mbit/s") {
			t.Errorf("%s: %v\n%s", to, err, m.Text)
		}
	}
	n = Example("suspended")
	n.Incident.Refuse = true
	if m, err := w.Write(n, Customer, "en"); err != nil || !strings.Contains(m.Text, "an answer alone does") {
		t.Errorf("too many offences: %v\n%s", err, m.Text)
	}
	if m, err := w.Write(flow.Notice{Key: "k", Kind: "digest"}, Staff, "en"); err != nil || !strings.Contains(m.Subject, "digest") {
		t.Errorf("a kind without a text: %q, %v", m.Subject, err)
	}
	if _, err := w.Write(flow.Notice{Key: "k", Kind: "novel"}, Customer, "en"); err == nil {
		t.Error("customers got a kind that has no text for them")
	}
}

func TestTry(t *testing.T) {
	b := &box{}
	at := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	got := Try(t.Context(), []Notifier{b}, Trial{To: "me@example.org", Language: "ru", At: at})
	if len(got) != len(Kinds)+1 || len(b.single) != len(Kinds) || len(b.digests) != 1 {
		t.Fatalf("%d of %d kinds", len(got), len(Kinds))
	}
	for _, k := range b.single {
		if !strings.HasPrefix(k, TrialID+"/") {
			t.Errorf("key %s may be taken for a real one", k)
		}
	}
	b.err = errors.New("no")
	for _, r := range Try(t.Context(), []Notifier{b}, Trial{Kinds: []string{"held", "unwanted", "failed"}, At: at}) {
		if r.Err == nil || r.Kind == "unwanted" {
			t.Errorf("%+v", r)
		}
	}
}
