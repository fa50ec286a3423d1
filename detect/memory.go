package detect

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// What the guards remember outlives the process: it is saved each minute, soon
// after it has changed and at the end, and read by the next one before its first
// slot. Whatever can be asked of the stored rows again is not part of it.

// Memory keeps the guards' memory.
type Memory interface {
	// SaveGuards keeps the state of a slot in the place of what was kept before.
	SaveGuards(ctx context.Context, ts time.Time, state []byte) error
	// LoadGuards returns what was saved last and not before since; nil: nothing.
	LoadGuards(ctx context.Context, since time.Time) ([]byte, error)
}

const (
	// memoryEvery is the time between two saves, memorySoon that after a change.
	memoryEvery = time.Minute
	memorySoon  = window
	memoryWait  = 2 * time.Second
	// memoryBlind is how long verdicts are held where what was saved cannot be
	// read: what the fleet's answers are compared with has been stored anew then.
	memoryBlind = answersBase
	// memoryVersion of guardState; another one is not read.
	memoryVersion = 1
)

// guardState is what is saved.
type guardState struct {
	Version   int             `json:"version"`
	At        time.Time       `json:"at"`
	Entries   []entryState    `json:"entries,omitempty"`
	Answers   answersState    `json:"answers"`
	RatesAt   time.Time       `json:"rates_at,omitzero"`
	Wrong     []netip.Addr    `json:"wrong_rates,omitempty"`
	Exporters []exporterState `json:"exporters,omitempty"`
	Snaps     []snapState     `json:"snaps,omitempty"`
}

type entryState struct {
	Rule     flow.Rule  `json:"rule"`
	Tenant   netip.Addr `json:"tenant"`
	First    time.Time  `json:"first"`
	Last     time.Time  `json:"last"`
	Exporter netip.Addr `json:"exporter,omitzero"`
}

type answersState struct {
	At       time.Time         `json:"at,omitzero"`
	Stats    flow.FleetAnswers `json:"stats"`
	Base     float64           `json:"base,omitempty"`
	Dropped  time.Time         `json:"dropped,omitzero"`
	Surged   time.Time         `json:"surged,omitzero"`
	Normal   float64           `json:"normal,omitempty"`
	NormalAt time.Time         `json:"normal_at,omitzero"`
}

// exporterState is what an exporter had shown, see exporterPast.
type exporterState struct {
	Exporter  netip.Addr           `json:"exporter"`
	Protocols []string             `json:"protocols,omitempty"`
	First     time.Time            `json:"first"`
	Last      time.Time            `json:"last"`
	Counts    countsState          `json:"counts"`
	Samplers  []flow.SamplerHealth `json:"samplers,omitempty"`
	Denser    float64              `json:"denser,omitempty"`
}

type snapState struct {
	At time.Time                  `json:"at"`
	By map[netip.Addr]countsState `json:"by"`
}

// countsState is healthCounts: datagrams, records, lost, dropped.
type countsState [4]uint64

func (c healthCounts) state() countsState {
	return countsState{c.datagrams, c.records, c.lost, c.dropped}
}

func (c countsState) counts() healthCounts { return healthCounts{c[0], c[1], c[2], c[3]} }

// state is what is to be saved at ts, in a fixed order.
func (g *guardMemory) state(h Health, ts time.Time) guardState {
	s := guardState{Version: memoryVersion, At: ts, RatesAt: g.rates.at}
	for r, m := range g.entries {
		for a, e := range m {
			s.Entries = append(s.Entries, entryState{r, a, e.first, e.last, e.exporter})
		}
	}
	slices.SortFunc(s.Entries, func(a, b entryState) int { return cmp.Or(cmp.Compare(a.Rule, b.Rule), a.Tenant.Compare(b.Tenant)) })
	for a, wrong := range g.rates.wrong {
		if wrong {
			s.Wrong = append(s.Wrong, a)
		}
	}
	slices.SortFunc(s.Wrong, netip.Addr.Compare)
	l := &g.answers
	s.Answers = answersState{l.at, l.stats, l.base, l.dropped, l.surged, l.normal, l.normalAt}
	if h == nil {
		return s
	}
	for _, e := range g.health.exporters(h, ts) {
		s.Exporters = append(s.Exporters, exporterState{e.Exporter, e.Protocols, e.FirstSeen, e.LastSeen, countsOf(&e).state(), e.Samplers, e.Denser})
	}
	for _, snap := range g.health.snaps {
		by := make(map[netip.Addr]countsState, len(snap.by))
		for a, c := range snap.by {
			by[a] = c.state()
		}
		s.Snaps = append(s.Snaps, snapState{snap.at, by})
	}
	return s
}

// restore adds what was saved to what is remembered by now, at ts.
func (g *guardMemory) restore(b []byte, ts time.Time) error {
	var s guardState
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("guards' memory: %w", err)
	}
	if s.Version != memoryVersion {
		return fmt.Errorf("guards' memory is of version %d, this release reads %d", s.Version, memoryVersion)
	}
	for _, o := range s.Entries {
		m := g.entries[o.Rule]
		if m == nil {
			m = map[netip.Addr]*entry{}
			g.entries[o.Rule] = m
		}
		if e := m[o.Tenant]; e == nil {
			m[o.Tenant] = &entry{first: o.First, last: o.Last, exporter: o.Exporter}
		} else if o.First.Before(e.first) {
			e.first = o.First
		}
	}
	if l := &g.answers; l.at.Before(s.Answers.At) {
		a := &s.Answers
		*l = answerLog{at: a.At, stats: a.Stats, base: a.Base, dropped: a.Dropped, surged: a.Surged, normal: a.Normal, normalAt: a.NormalAt}
	}
	g.answers.restored = ts
	if l := &g.rates; l.at.Before(s.RatesAt) {
		*l = rateLog{at: s.RatesAt, wrong: map[netip.Addr]bool{}}
		for _, a := range s.Wrong {
			l.wrong[a] = true
		}
	}
	g.health.restore(&s, ts)
	return nil
}

// recall reads what was saved, unless that was done. Until it is, verdicts are
// held: nothing of the past may speak for a tenant.
func (d *Detector) recall(ctx context.Context, ts time.Time) {
	if d.recalled {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, memoryWait)
	defer cancel()
	b, err := d.deps.Memory.LoadGuards(ctx, ts.Add(-answersForget))
	if err != nil {
		d.m.errors.WithLabelValues(stepMemory).Inc()
		d.warn(ts, "the guards' memory is not available, verdicts are held", err)
		d.guards.blind = ts.Add(memoryBlind)
		return
	}
	d.recalled, d.guards.blind = true, time.Time{}
	if b == nil {
		return
	}
	if err := d.guards.restore(b, ts); err != nil {
		d.m.errors.WithLabelValues(stepMemory).Inc()
		d.guards.blind = ts.Add(memoryBlind)
		d.log.Warn("the guards' memory cannot be read, verdicts are held for ten minutes", zap.Time("slot", ts), zap.Error(err))
	}
}

// remember saves the guards' memory if it is time; always: at the end. What was
// saved before is not overwritten by one who has not read it.
func (d *Detector) remember(ctx context.Context, ts time.Time, always bool) {
	since := ts.Sub(d.saved)
	if d.deps.Memory == nil || !d.recalled || !always && since < memoryEvery && !(d.guards.changed && since >= memorySoon) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, memoryWait)
	defer cancel()
	b, err := json.Marshal(d.guards.state(d.deps.Health, ts)) // a number of the store's that is none cannot be told
	if err == nil {
		err = d.deps.Memory.SaveGuards(ctx, ts, b)
	}
	if err != nil {
		if ctx.Err() == nil || !always {
			d.m.errors.WithLabelValues(stepMemory).Inc()
			d.warn(ts, "the guards' memory could not be saved", err)
		}
		return
	}
	d.saved, d.guards.changed = ts, false
}
