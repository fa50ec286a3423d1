// Package journal is the frame of what is kept as an append-only log of numbered
// events with one writer: state is the fold of the log; a change is appended first
// and folded when it is stored; after an append that failed, which may have been
// stored nevertheless, the log is read again before the next change.
//
// Events come in from the owner and go out to its log; what they mean is the
// owner's (State). The package starts no goroutine and imports flow.
package journal

import (
	"context"
	"fmt"
	"sync"

	"github.com/flowcordon/flowcordon/flow"
)

// Log is where events are kept. Append returns when they are stored for good; Read
// calls fn with all of them in the order of Seq and returns fn's first error.
type Log struct {
	Append func(ctx context.Context, ev []flow.Event) error
	Read   func(ctx context.Context, fn func(flow.Event) error) error
}

// State is the owner's side. Kinds of events that it does not know are of later
// releases: it leaves them alone.
type State struct {
	// Anew begins a reading of the whole log beside the state in use: fold takes
	// one event after the other, and replace puts what came of them into its place.
	Anew func() (fold func(flow.Event) error, replace func())
	// Stored adds events to the state in use that the log has taken, in their order.
	Stored func(ev []flow.Event) error
}

// Journal numbers the events of one log. Its methods may be called from any goroutine.
type Journal struct {
	name   string
	failed error
	log    Log
	state  State

	write sync.Mutex // held over a change, from reading to folding it
	seq   uint64     // of the last event
	stale bool       // the log may hold more than we know
}

// New returns the journal of a log that nothing was read of. name is of one thing
// that is kept, for errors: "case" makes "case event 7". failed is what errors of
// changes wrap when the log does not answer. A Log without functions keeps nothing.
func New(name string, failed error, log Log, state State) *Journal {
	return &Journal{name: name, failed: failed, log: log, state: state}
}

// Load reads the log. It may be called again; after an error nothing has changed.
func (j *Journal) Load(ctx context.Context) error {
	j.write.Lock()
	defer j.write.Unlock()
	return j.load(ctx)
}

func (j *Journal) load(ctx context.Context) error {
	if j.log.Read == nil {
		return nil
	}
	var seq uint64
	fold, replace := j.state.Anew()
	err := j.log.Read(ctx, func(ev flow.Event) error {
		if ev.Seq <= seq {
			return fmt.Errorf("%s event %d after %d: the log is not in order", j.name, ev.Seq, seq)
		}
		seq = ev.Seq
		if err := fold(ev); err != nil {
			return fmt.Errorf("%s event %d: %w", j.name, ev.Seq, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("load %ss: %w", j.name, err)
	}
	replace()
	j.seq, j.stale = seq, false
	return nil
}

// Begin begins a change: nobody else changes anything until End, and the state
// holds all that the log does. After an error there is nothing to end.
func (j *Journal) Begin(ctx context.Context) error {
	j.write.Lock()
	if j.stale {
		if err := j.load(ctx); err != nil {
			j.write.Unlock()
			return fmt.Errorf("%w: %w", j.failed, err)
		}
	}
	return nil
}

// End ends what Begin began.
func (j *Journal) End() { j.write.Unlock() }

// Append numbers events, stores and folds them; between Begin and End only. After
// an error none of them counts yet: the next Begin reads which were stored.
func (j *Journal) Append(ctx context.Context, ev ...flow.Event) error {
	for i := range ev {
		ev[i].Seq = j.seq + uint64(i) + 1
	}
	if j.log.Append != nil {
		if err := j.log.Append(ctx, ev); err != nil {
			j.stale = true
			return fmt.Errorf("%w: %w", j.failed, err)
		}
	}
	j.seq += uint64(len(ev))
	if err := j.state.Stored(ev); err != nil {
		return fmt.Errorf("%s event %d and those after it: %w", j.name, ev[0].Seq, err)
	}
	return nil
}
