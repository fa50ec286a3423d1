package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/exempt"
	"github.com/flowcordon/flowcordon/flow"
)

// ticker is a log of events that tests add to.
type ticker struct {
	mu   sync.Mutex
	news []flow.News
	wake chan struct{}
}

func newTicker() *ticker {
	t := &ticker{wake: make(chan struct{})}
	t.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0.Add(-5 * time.Minute), Actor: "detector", Kind: "opened", Reason: "enforce", Incident: "inc-1", Tenant: attacker}, Now: sampleIncidents()[0]})
	t.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0.Add(-4 * time.Minute), Actor: "controller", Kind: "action_intent", Incident: "inc-1", Tenant: attacker, Text: hostile}, Now: sampleIncidents()[0]})
	return t
}

func (t *ticker) add(n flow.News) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.Seq = uint64(len(t.news) + 1)
	t.news = append(t.news, n)
	close(t.wake)
	t.wake = make(chan struct{})
}

func (t *ticker) LastSeq() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return uint64(len(t.news))
}

func (t *ticker) After(seq uint64, limit int) ([]flow.News, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := min(int(seq), len(t.news))
	return slices.Clone(t.news[from:min(from+limit, len(t.news))]), t.wake
}

// visitors keeps reads in memory.
type visitors struct {
	mu   sync.Mutex
	list []flow.Read
	fail error
}

func (v *visitors) AppendReads(_ context.Context, r []flow.Read) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fail != nil {
		return v.fail
	}
	v.list = append(v.list, r...)
	return nil
}

func (v *visitors) Reads(_ context.Context, f flow.ReadFilter) ([]flow.Read, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []flow.Read
	for _, r := range slices.Backward(v.list) {
		if (f.Actor == "" || f.Actor == r.Actor) && (f.Operation == "" || f.Operation == r.Operation) && (f.Target == "" || f.Target == r.Target) &&
			!r.Time.Before(f.Since) && (f.Until.IsZero() || r.Time.Before(f.Until)) {
			out = append(out, r)
		}
	}
	out = out[min(f.Skip, len(out)):]
	return out[:min(f.Limit, len(out))], nil
}

// exemptBook shows the real book as the interface wants it.
type exemptBook struct{ *exempt.Book }

func exemptionOf(s exempt.Status) Exemption {
	return Exemption{Exemption: s.Exemption, Source: s.Source, Status: s.Status, Version: s.Version, Created: s.Created, CreatedBy: s.CreatedBy, Updated: s.Updated,
		UpdatedBy: s.UpdatedBy, Removed: s.Removed, Why: s.Why, Hits: ExemptionHits(s.Hits), Warning: s.Warning}
}

func exemptionError(err error) error {
	switch {
	case errors.Is(err, exempt.ErrUnknown):
		return ErrNotFound(err.Error())
	case errors.Is(err, exempt.ErrVersion):
		return &Error{http.StatusPreconditionFailed, err.Error()}
	case errors.Is(err, exempt.ErrFixed), errors.Is(err, exempt.ErrRemoved), errors.Is(err, exempt.ErrFull):
		return ErrConflict(err.Error())
	case errors.Is(err, exempt.ErrInvalid):
		return ErrInvalid(err.Error())
	}
	return err
}

func (b exemptBook) List(status string, ts time.Time) []Exemption {
	var out []Exemption
	for _, s := range b.Book.List(status, ts) {
		out = append(out, exemptionOf(s))
	}
	return out
}

func (b exemptBook) Get(id string, ts time.Time) (Exemption, bool) {
	s, ok := b.Book.Get(id, ts)
	return exemptionOf(s), ok
}

func (b exemptBook) Create(ctx context.Context, e flow.Exemption, actor string, ts time.Time) (Exemption, error) {
	s, err := b.Book.Create(ctx, e, actor, ts)
	return exemptionOf(s), exemptionError(err)
}

func (b exemptBook) Change(ctx context.Context, id string, version int, e flow.Exemption, actor string, ts time.Time) (Exemption, error) {
	s, err := b.Book.Change(ctx, id, version, e, actor, ts)
	return exemptionOf(s), exemptionError(err)
}

func (b exemptBook) Remove(ctx context.Context, id string, version int, actor, reason string, ts time.Time) (Exemption, error) {
	s, err := b.Book.Remove(ctx, id, version, actor, reason, ts)
	return exemptionOf(s), exemptionError(err)
}

// fixedID is of the exemption of the configuration.
const fixedID = "cfg-scanners"

// sampleExemptions has one of the configuration and, as ids, those made since.
func sampleExemptions(t testing.TB) (b exemptBook, made []string) {
	t.Helper()
	book, err := exempt.New(exempt.Config{Since: t0.Add(-time.Hour), Fixed: []flow.Exemption{{Name: fixedID, Tenant: netip.MustParsePrefix("198.19.0.0/16"), Owner: "noc", Reason: "our own scanners", Expires: t0.AddDate(0, 6, 0)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []flow.Exemption{
		{Holder: "c-42", Port: 22, IPProto: flow.ProtoTCP, Rule: flow.RuleNetscan, Owner: "anna", Reason: "penetration test, ticket 4711", Expires: t0.Add(72 * time.Hour)},
		{Holder: hostile, Owner: hostile, Reason: hostile, Expires: t0.AddDate(0, 1, 0)},
	} {
		s, err := book.Create(t.Context(), e, "test-operator", t0.Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, s.Name)
	}
	return exemptBook{book}, made
}
