package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Bounds of a lane: beyond them a question is refused at once, since whoever asks
// would not wait for the answer.
const (
	maxWaiting      = 512 // of all askers
	maxWaitingOf    = 128 // of one
	busyRetry       = 2 * time.Second
	laneSlots       = 2 // of the embedded engine: it shares the machine with us
	laneSlotsServer = 8
)

// lane lets so many questions through to the database at a time. Those that wait
// are taken in turns by asker, each asker's in order.
type lane struct {
	mu      sync.Mutex
	free    int
	waiting int
	turns   []*line // of askers with questions that wait; the first is next
}

// line are the questions of one asker.
type line struct {
	asker   string
	tickets []*ticket
}

type ticket struct{ turn chan struct{} }

func newLane(slots int) *lane { return &lane{free: slots} }

// enter waits for a slot, which leave gives back. The error is ctx's or *flow.Busy.
func (l *lane) enter(ctx context.Context, asker string) error {
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		l.mu.Unlock()
		return nil
	}
	if l.waiting >= maxWaiting {
		l.mu.Unlock()
		return &flow.Busy{Retry: busyRetry}
	}
	i := slices.IndexFunc(l.turns, func(q *line) bool { return q.asker == asker })
	if i < 0 {
		i = len(l.turns)
		l.turns = append(l.turns, &line{asker: asker})
	}
	own := l.turns[i]
	if len(own.tickets) >= maxWaitingOf {
		l.mu.Unlock()
		return &flow.Busy{Retry: busyRetry, Own: true}
	}
	t := &ticket{make(chan struct{})}
	own.tickets = append(own.tickets, t)
	l.waiting++
	l.mu.Unlock()
	select {
	case <-t.turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-t.turn: // meanwhile
		l.next()
	default:
		l.drop(own, t)
	}
	return ctx.Err()
}

// drop takes back a ticket that waits.
func (l *lane) drop(own *line, t *ticket) {
	own.tickets = slices.DeleteFunc(own.tickets, func(o *ticket) bool { return o == t })
	l.waiting--
	if len(own.tickets) == 0 {
		l.turns = slices.DeleteFunc(l.turns, func(q *line) bool { return q == own })
	}
}

// leave gives a slot back.
func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next()
}

// next hands a slot on to whose turn it is.
func (l *lane) next() {
	if len(l.turns) == 0 {
		l.free++
		return
	}
	own := l.turns[0]
	t := own.tickets[0]
	l.turns = append(l.turns[1:], own) // others first
	l.drop(own, t)
	close(t.turn)
}

// queued is how many questions wait.
func (l *lane) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}
