package store

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// maxTogether questions of one shape are answered by one query: what a query costs
// by itself, and parts that no merge has seen yet, is most of what it costs.
const maxTogether = 64

// reader answers the questions of askers (flow.WithAsker) on connections of its
// own, so that what the service itself asks and writes never waits behind them:
// equal ones once, those of one shape that wait together by one query, in turns by
// asker. What it keeps are rows of the database; who may see them is not its matter.
type reader struct {
	conn       driver.Conn
	memo       *memo
	near, wide *lane // questions about one tenant or the last minutes; all others
	metrics    *readerMetrics

	mu      sync.Mutex
	flights map[string]*flight
	waiting map[string][]*flight // by shape, those that nobody has begun to answer
}

// flight is a question on its way, with all who wait for its answer.
type flight struct {
	key, shape string
	tenant     netip.Addr
	waiters    int
	taken      bool
	giveUp     context.CancelFunc // of its place in the lane
	trip       *trip              // since it is taken

	done  chan struct{}
	value any
	err   error
}

// trip is one query that answers several flights.
type trip struct {
	wanted int // flights that somebody still waits for
	cancel context.CancelFunc
}

func (s *Store) newReader() (*reader, error) {
	slots := laneSlotsServer
	if s.cfg.DialContext != nil {
		slots = laneSlots
	}
	o := s.cfg.options(s.cfg.Database)
	o.MaxOpenConns, o.MaxIdleConns = 2*slots+1, 2*slots
	conn, err := clickhouse.Open(o)
	if err != nil {
		return nil, err
	}
	r := &reader{conn: conn, memo: newMemo(), near: newLane(slots), wide: newLane(slots),
		flights: map[string]*flight{}, waiting: map[string][]*flight{}}
	r.metrics = newReaderMetrics(r)
	return r, nil
}

type inLaneKey struct{}

// begin puts a query onto the connections that are its asker's, when his turn has
// come; end gives the turn back.
func (s *Store) begin(ctx context.Context) (qctx context.Context, conn driver.Conn, end func(), err error) {
	asker, ok := flow.Asker(ctx)
	if !ok {
		return s.gently(ctx), s.conn, func() {}, nil
	}
	end = func() {}
	if ctx.Value(inLaneKey{}) == nil {
		if err := s.reader.wide.enter(ctx, asker); err != nil {
			s.reader.metrics.refuse(err)
			return ctx, nil, nil, err
		}
		end = s.reader.wide.leave
	}
	return s.gently(ctx), s.reader.conn, end, nil
}

// The engine's priorities: while a query of the first reads, one of the second waits
// for a moment after each block of its own. The detector's in a slot and inserts
// have none: they wait for nobody, and nobody waits for them.
const (
	priorityAsked     = 1
	priorityUnhurried = 2
	// unhurriedWait is that moment at most, in ms: a minute's windows of 50,000
	// hosts are 40 blocks.
	unhurriedWait = 20
)

// gently bounds what a query takes of the embedded engine's machine.
func (s *Store) gently(ctx context.Context) context.Context {
	if set := s.manner(ctx); set != nil {
		return clickhouse.Context(ctx, clickhouse.WithSettings(set))
	}
	return ctx
}

// manner are the settings of a question; nil: the server's own. More threads than
// one cost a fifth more CPU for the answers of a desk.
func (s *Store) manner(ctx context.Context) clickhouse.Settings {
	threads, priority := max(1, runtime.NumCPU()/4), priorityAsked
	if _, asked := flow.Asker(ctx); !asked {
		threads, priority = 1, priorityUnhurried
		if !flow.IsUnhurried(ctx) {
			return nil
		}
	}
	if s.cfg.DialContext == nil {
		return nil
	}
	return clickhouse.Settings{"max_threads": threads, "priority": priority, "low_priority_query_wait_time_ms": unhurriedWait}
}

// question is what several may ask at once, with an answer of type T. Answers are
// shared: nobody may change them.
type question[T any] struct {
	shape  string // everything but the tenant
	tenant netip.Addr
	to     time.Time // the end of its range
	wide   bool
	ask    func(ctx context.Context, tenants []netip.Addr) (map[netip.Addr]T, error)
	bytes  func(T) int
}

// answer asks at once without an asker, and else by the reader.
func answer[T any](ctx context.Context, s *Store, q question[T]) (T, error) {
	asker, ok := flow.Asker(ctx)
	if !ok || ctx.Value(inLaneKey{}) != nil {
		m, err := q.ask(ctx, []netip.Addr{q.tenant})
		return m[q.tenant], err
	}
	r, key := s.reader, q.shape+"\x00"+q.tenant.String()
	if v, ok := r.memo.get(key, time.Now()); ok {
		r.metrics.answers.WithLabelValues(answerKept).Inc()
		return v.(T), nil
	}
	f, first := r.board(key, q.shape, q.tenant)
	how := answerJoined
	if first != nil {
		how = answerAsked
		base := context.WithoutCancel(ctx)
		go fly(base, first, r, f, asker, q)
	}
	select {
	case <-f.done:
		if f.err != nil {
			var none T
			r.metrics.refuse(f.err)
			return none, f.err
		}
		r.metrics.answers.WithLabelValues(how).Inc()
		return f.value.(T), nil
	case <-ctx.Done():
		r.alight(f)
		var none T
		return none, ctx.Err()
	}
}

// board gives the flight of a question; with a context of its place in the lane if
// it is new.
func (r *reader) board(key, shape string, tenant netip.Addr) (f *flight, place context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[key]; f != nil {
		f.waiters++
		return f, nil
	}
	f = &flight{key: key, shape: shape, tenant: tenant, waiters: 1, done: make(chan struct{})}
	place, f.giveUp = context.WithCancel(context.Background())
	r.flights[key] = f
	r.waiting[shape] = append(r.waiting[shape], f)
	return f, place
}

// alight is for who waits no longer. The last one ends the question.
func (r *reader) alight(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiters--; f.waiters > 0 {
		return
	}
	r.forget(f)
	f.giveUp()
	if f.trip != nil {
		if f.trip.wanted--; f.trip.wanted == 0 {
			f.trip.cancel()
		}
	}
}

// forget lets nobody join f any more.
func (r *reader) forget(f *flight) {
	if r.flights[f.key] == f {
		delete(r.flights, f.key)
	}
	r.unqueue(f.shape, []*flight{f})
}

func (r *reader) unqueue(shape string, gone []*flight) {
	left := slices.DeleteFunc(r.waiting[shape], func(f *flight) bool { return slices.Contains(gone, f) })
	if len(left) == 0 {
		delete(r.waiting, shape)
		return
	}
	r.waiting[shape] = left
}

// fly waits for f's turn and answers it with all of its shape that wait then.
func fly[T any](ctx, place context.Context, r *reader, f *flight, asker string, q question[T]) {
	l := r.near
	if q.wide {
		l = r.wide
	}
	if err := l.enter(place, asker); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !f.taken && f.waiters > 0 { // refused
			r.land(f, nil, err)
		}
		return
	}
	defer l.leave()
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, inLaneKey{}, true), queryWait)
	defer cancel()
	taken := r.take(f, &trip{cancel: cancel})
	if len(taken) == 0 {
		return
	}
	tenants := make([]netip.Addr, len(taken))
	for i, t := range taken {
		tenants[i] = t.tenant
	}
	began := time.Now()
	answers, err := q.ask(ctx, tenants)
	r.metrics.together.Observe(float64(len(taken)))
	now := time.Now()
	until := now.Add(closedMemo)
	if now.Sub(q.to) < closedAfter {
		// A slow answer may be old as soon as it is there, and is worth most then: it
		// is kept for ten times what it took, up to half a window.
		until = began.Add(max(openMemo, min(10*now.Sub(began), maxOpenMemo)))
		if until.Before(now.Add(openMemo / 2)) {
			until = now.Add(openMemo / 2)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range taken {
		v := answers[t.tenant]
		if err == nil {
			r.memo.put(t.key, v, q.bytes(v), until)
		}
		r.land(t, v, err)
	}
}

// take marks f and what waits of its shape as on the trip; none if f is already.
func (r *reader) take(f *flight, on *trip) []*flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.taken || f.waiters == 0 {
		return nil
	}
	taken := []*flight{f}
	for _, o := range r.waiting[f.shape] {
		if o != f && len(taken) < maxTogether {
			taken = append(taken, o)
		}
	}
	for _, t := range taken {
		t.taken, t.trip = true, on
		t.giveUp()
	}
	on.wanted = len(taken)
	r.unqueue(f.shape, taken)
	return taken
}

// land gives everybody who waits for f its answer.
func (r *reader) land(f *flight, v any, err error) {
	r.forget(f)
	f.giveUp()
	f.value, f.err = v, err
	close(f.done)
}

// rowsBytes is the memory of a slice of values that point to nothing.
func rowsBytes[E any](l []E) int { return len(l) * int(unsafe.Sizeof(*new(E))) }

// alone is for a question that no other has the shape of.
func alone[T any](ask func(ctx context.Context) (T, error)) func(context.Context, []netip.Addr) (map[netip.Addr]T, error) {
	return func(ctx context.Context, tenants []netip.Addr) (map[netip.Addr]T, error) {
		v, err := ask(ctx)
		return map[netip.Addr]T{tenants[0]: v}, err
	}
}
