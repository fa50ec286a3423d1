package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Log is the append-only log of the ledger (store). Of an event, Incident is the
// case's id, Actor who marked it, and Seq and Reason are empty. AppendLedger
// returns when the events are stored for good; LedgerEvents calls fn with those
// of since and later, in the order of their time.
type Log interface {
	AppendLedger(ctx context.Context, ev []flow.Event) error
	LedgerEvents(ctx context.Context, since time.Time, fn func(flow.Event) error) error
}

// Config says how much is kept. The zero value means the defaults beside the
// fields.
type Config struct {
	KeepDays int // 90; cases of older days are forgotten, the log keeps them
	MaxCases int // 100,000; beyond it new cases are refused and counted
}

const (
	defaultKeepDays = 90
	defaultMaxCases = 100_000
	// storeEvery bounds how often a case without news is stored.
	storeEvery = time.Hour
	maxReason  = 1000
	maxBy      = 100
)

// Ledger holds the cases of the last days. Its methods may be called from any
// goroutine.
type Ledger struct {
	cfg Config
	log Log // nil: nothing is kept over a restart

	mu      sync.Mutex
	cases   map[string]*state
	refused uint64
	version uint64 // rises with each change
	swept   string // the day that old cases were last dropped on
}

type state struct {
	Case
	stored time.Time // event time of the finding last stored
}

// New returns an empty ledger; Load fills it. log may be nil.
func New(cfg Config, log Log) *Ledger {
	cfg.KeepDays, cfg.MaxCases = cmp.Or(cfg.KeepDays, defaultKeepDays), cmp.Or(cfg.MaxCases, defaultMaxCases)
	return &Ledger{cfg: cfg, log: log, cases: map[string]*state{}}
}

// Load folds the log as it is at ts.
func (l *Ledger) Load(ctx context.Context, ts time.Time) error {
	if l.log == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.log.LedgerEvents(ctx, ts.AddDate(0, 0, -l.cfg.KeepDays-1), l.fold)
	if err != nil {
		return fmt.Errorf("load ledger: %w", err)
	}
	l.sweep(ts)
	l.version++
	return nil
}

// Version is another number after each change of the cases and their marks.
func (l *Ledger) Version() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version
}

func (l *Ledger) fold(e flow.Event) error {
	switch e.Kind {
	case KindCase:
		var c Case
		if err := json.Unmarshal(e.Body, &c); err != nil {
			return fmt.Errorf("case %s: %w", e.Incident, err)
		}
		s := l.cases[c.ID]
		if s == nil {
			s = &state{}
			l.cases[c.ID] = s
		}
		// Rows of one case come in any order when two of them have one time.
		if s.Findings <= c.Findings {
			c.Mark = s.Mark
			s.Case, s.stored = c, c.Last
		}
	case KindMark:
		var m Mark
		if err := json.Unmarshal(e.Body, &m); err != nil {
			return fmt.Errorf("mark of %s: %w", e.Incident, err)
		}
		if s := l.cases[e.Incident]; s != nil {
			s.Mark = &m
		}
	}
	return nil // kinds of later releases are left alone
}

// sweep drops cases of days that are no longer kept.
func (l *Ledger) sweep(ts time.Time) {
	if day := dayOf(ts); day != l.swept {
		l.swept = day
		oldest := dayOf(ts.AddDate(0, 0, -l.cfg.KeepDays))
		for id, s := range l.cases {
			if s.Day < oldest {
				delete(l.cases, id)
				l.version++
			}
		}
	}
}

// Record adds the findings of one slot and stores what is news. After an error
// the cases are known here and are stored with their next news.
func (l *Ledger) Record(ctx context.Context, ts time.Time, fs []flow.Finding) error {
	l.mu.Lock()
	l.sweep(ts)
	var ev []flow.Event
	var bad []error
	seen := map[string]*flow.Finding{} // a tenant may have several findings of a rule in one slot
	for i := range fs {
		f := &fs[i]
		if f.Tier < flow.TierLog {
			continue
		}
		id := caseID(f.Rule, f.Tenant, dayOf(f.Time))
		if o := seen[id]; o == nil || stronger(f, o) {
			seen[id] = f
		}
	}
	for _, id := range sortedKeys(seen) {
		if c := l.see(id, seen[id]); c != nil {
			e, err := event(ts, KindCase, id, "", c)
			if err != nil {
				bad = append(bad, err)
				continue
			}
			ev = append(ev, e)
		}
	}
	l.mu.Unlock()
	if len(ev) > 0 && l.log != nil {
		if err := l.log.AppendLedger(ctx, ev); err != nil {
			l.unstore(ev)
			bad = append(bad, fmt.Errorf("record cases: %w", err))
		}
	}
	return errors.Join(bad...)
}

// see adds a finding to its case, and returns the case if it is to be stored.
func (l *Ledger) see(id string, f *flow.Finding) *Case {
	s := l.cases[id]
	if s == nil {
		if len(l.cases) >= l.cfg.MaxCases {
			l.refused++
			return nil
		}
		s = &state{Case: Case{ID: id, Day: dayOf(f.Time), Tenant: f.Tenant, Rule: f.Rule}}
		l.cases[id] = s
	}
	l.version++
	news := s.Case.see(f)
	if !news && f.Time.Sub(s.stored) < storeEvery {
		return nil
	}
	s.stored = f.Time
	c := s.Case
	c.Mark = nil
	return &c
}

// unstore lets cases whose event was lost be stored at their next finding.
func (l *Ledger) unstore(ev []flow.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range ev {
		if s := l.cases[ev[i].Incident]; s != nil {
			s.stored = time.Time{}
		}
	}
}

func event(ts time.Time, kind, id, by string, body any) (flow.Event, error) {
	b, err := json.Marshal(body)
	if err != nil { // a score that is no number
		return flow.Event{}, fmt.Errorf("encode %s %s: %w", kind, id, err)
	}
	return flow.Event{Time: ts.UTC(), Kind: kind, Incident: id, Actor: by, Body: b}, nil
}

// Errors of SetMark, for the API to tell apart.
var (
	ErrUnknown = errors.New("no such case")
	ErrInvalid = errors.New("invalid mark")
)

// SetMark stores what a human says of a case: right, wrong, or unsure, which
// takes an earlier mark back. By and reason are required.
func (l *Ledger) SetMark(ctx context.Context, id string, v Verdict, by, reason string, ts time.Time) (Case, error) {
	by, reason = strings.TrimSpace(by), strings.TrimSpace(reason)
	switch {
	case v != Right && v != Wrong && v != Unsure:
		return Case{}, fmt.Errorf("%w: verdict is %q: write right, wrong or unsure", ErrInvalid, v)
	case by == "" || len(by) > maxBy:
		return Case{}, fmt.Errorf("%w: by has %d bytes: write who marks, 1 to %d", ErrInvalid, len(by), maxBy)
	case reason == "" || len(reason) > maxReason:
		return Case{}, fmt.Errorf("%w: reason has %d bytes: write why, 1 to %d", ErrInvalid, len(reason), maxReason)
	}
	m := Mark{Verdict: v, By: by, Reason: reason, Time: ts.UTC()}
	l.mu.Lock()
	s := l.cases[id]
	l.mu.Unlock()
	if s == nil {
		return Case{}, fmt.Errorf("%w: %q", ErrUnknown, id)
	}
	e, err := event(ts, KindMark, id, by, m)
	if err == nil && l.log != nil {
		err = l.log.AppendLedger(ctx, []flow.Event{e})
	}
	if err != nil {
		return Case{}, fmt.Errorf("store mark: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Mark = &m
	l.version++
	return s.Case, nil
}

// Query selects cases; zero values select all.
type Query struct {
	Rule     flow.Rule
	Tenant   netip.Addr
	From, To string    // days, both inclusive
	MinTier  flow.Tier // at least
	Verdict  *Verdict  // exactly; "" is without a mark
	Limit    int       // 0: all
}

func (q *Query) covers(c *Case) bool {
	return (q.Rule == "" || q.Rule == c.Rule) && (!q.Tenant.IsValid() || q.Tenant == c.Tenant) &&
		(q.From == "" || c.Day >= q.From) && (q.To == "" || c.Day <= q.To) && c.Tier >= q.MinTier &&
		(q.Verdict == nil || *q.Verdict == c.verdict())
}

// verdict is the mark that counts: an unsure one is none.
func (c *Case) verdict() Verdict {
	if c.Mark == nil || c.Mark.Verdict == Unsure {
		return ""
	}
	return c.Mark.Verdict
}

// Cases returns those selected, the latest day first, then the highest tier and
// the strongest.
func (l *Ledger) Cases(q Query) []Case {
	l.mu.Lock()
	var out []Case
	for _, s := range l.cases {
		if q.covers(&s.Case) {
			out = append(out, s.Case)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(out, func(a, b Case) int {
		return cmp.Or(cmp.Compare(b.Day, a.Day), cmp.Compare(b.Tier, a.Tier), cmp.Compare(b.Best.Score, a.Best.Score), cmp.Compare(a.ID, b.ID))
	})
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out
}

// Refused is how many findings found no room (Config.MaxCases) since the start.
func (l *Ledger) Refused() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
