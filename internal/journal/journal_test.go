package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	errLog  = errors.New("the log of things cannot be written")
	errDown = errors.New("connection refused")
	errFold = errors.New("not a thing")
)

// disk is a log. down is what it answers; of an append it stores the first kept
// events all the same.
type disk struct {
	ev   []flow.Event
	down error
	kept int
}

func (d *disk) log() Log { return Log{Append: d.append, Read: d.read} }

func (d *disk) append(_ context.Context, ev []flow.Event) error {
	if d.down != nil {
		ev = ev[:min(d.kept, len(ev))]
	}
	d.ev = append(d.ev, ev...)
	return d.down
}

func (d *disk) read(_ context.Context, fn func(flow.Event) error) error {
	if d.down != nil {
		return d.down
	}
	for _, e := range d.ev {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// things is a state: the reasons of all events.
type things struct {
	mu  sync.Mutex
	all []string
}

func fold(to *[]string, e flow.Event) error {
	if e.Kind == "bad" {
		return errFold
	}
	*to = append(*to, e.Reason)
	return nil
}

func (s *things) state() State { return State{Anew: s.anew, Stored: s.stored} }

func (s *things) anew() (func(flow.Event) error, func()) {
	var next []string
	return func(e flow.Event) error { return fold(&next, e) }, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = next
	}
}

func (s *things) stored(ev []flow.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range ev {
		if err := fold(&s.all, e); err != nil {
			return err
		}
	}
	return nil
}

func reasons(ev []flow.Event) []string {
	var out []string
	for _, e := range ev {
		out = append(out, e.Reason)
	}
	return out
}

// Whatever the log does, its events are numbered 1, 2, 3 without a gap, what it
// acknowledged stays, a change begins with all that it holds, and what a failed
// append asked for counts only if it was stored.
func TestAnyOrderOfFailures(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		d, s := &disk{}, &things{}
		j := New("thing", errLog, d.log(), s.state())
		var acked []string
		for step := range 40 {
			d.down, d.kept = nil, r.IntN(4)
			if r.IntN(4) == 0 {
				d.down = errDown
			}
			was := slices.Clone(s.all)
			switch r.IntN(8) {
			case 0: // a restart
				s, d.down = &things{}, nil
				j = New("thing", errLog, d.log(), s.state())
				fallthrough
			case 1:
				if err := j.Load(t.Context()); !errors.Is(err, d.down) {
					t.Fatalf("seed %d, step %d: load: %v, want %v", seed, step, err, d.down)
				} else if err != nil && !slices.Equal(s.all, was) {
					t.Fatalf("seed %d, step %d: a load that failed changed %q to %q", seed, step, was, s.all)
				}
				continue
			}
			stale := j.stale
			if err := j.Begin(t.Context()); err != nil {
				if !stale || d.down == nil || !errors.Is(err, errLog) || !errors.Is(err, errDown) {
					t.Fatalf("seed %d, step %d: begin: %v", seed, step, err)
				}
				continue
			}
			if !slices.Equal(s.all, reasons(d.ev)) {
				t.Fatalf("seed %d, step %d: a change begins with %q, the log has %q", seed, step, s.all, reasons(d.ev))
			}
			var ev []flow.Event
			for i := range 1 + r.IntN(3) {
				ev = append(ev, flow.Event{Reason: fmt.Sprintf("%d.%d", step, i)})
			}
			was = slices.Clone(s.all)
			err := j.Append(t.Context(), ev...)
			j.End()
			switch {
			case d.down == nil && err == nil:
				acked = append(acked, reasons(ev)...)
			case d.down == nil || !errors.Is(err, errLog) || !errors.Is(err, errDown):
				t.Fatalf("seed %d, step %d: append: %v", seed, step, err)
			case !slices.Equal(s.all, was):
				t.Fatalf("seed %d, step %d: an append that failed counts: %q, before %q", seed, step, s.all, was)
			}
		}
		var got []string
		for i, e := range d.ev {
			if e.Seq != uint64(i)+1 {
				t.Fatalf("seed %d: event %d is numbered %d", seed, i+1, e.Seq)
			}
			if slices.Contains(acked, e.Reason) {
				got = append(got, e.Reason)
			}
		}
		if len(acked) == 0 || !slices.Equal(got, acked) {
			t.Fatalf("seed %d: acknowledged %q, the log has %q of them", seed, acked, got)
		}
	}
}

func TestManyWriters(t *testing.T) {
	d, s := &disk{}, &things{}
	j := New("thing", errLog, d.log(), s.state())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := j.Begin(context.Background()); err != nil {
					t.Error(err)
					return
				}
				if err := j.Append(context.Background(), flow.Event{Reason: fmt.Sprint(w, i)}); err != nil {
					t.Error(err)
				}
				j.End()
				if err := j.Load(context.Background()); i%10 == 0 && err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(s.all) != 400 || !slices.Equal(s.all, reasons(d.ev)) || d.ev[399].Seq != 400 {
		t.Errorf("%d things, %d events", len(s.all), len(d.ev))
	}
}

func TestBrokenLog(t *testing.T) {
	for name, tc := range map[string]struct {
		ev   []flow.Event
		want string
	}{
		"the same number twice": {[]flow.Event{{Seq: 1}, {Seq: 1}}, "load things: thing event 1 after 1: the log is not in order"},
		"out of order":          {[]flow.Event{{Seq: 3}, {Seq: 2}}, "load things: thing event 2 after 3: the log is not in order"},
		"numbered from 0":       {[]flow.Event{{}}, "load things: thing event 0 after 0: the log is not in order"},
		"not a thing":           {[]flow.Event{{Seq: 1}, {Seq: 2, Kind: "bad"}}, "load things: thing event 2: not a thing"},
		"a gap, as rows expire": {[]flow.Event{{Seq: 7, Reason: "a"}, {Seq: 9, Reason: "b"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, s := &disk{ev: tc.ev}, &things{all: []string{"before"}}
			j := New("thing", errLog, d.log(), s.state())
			err := j.Load(t.Context())
			if tc.want != "" {
				if err == nil || err.Error() != tc.want || !slices.Equal(s.all, []string{"before"}) {
					t.Errorf("%v, %q", err, s.all)
				}
				return
			}
			if err != nil || !slices.Equal(s.all, []string{"a", "b"}) {
				t.Fatalf("%v, %q", err, s.all)
			}
			if err := j.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer j.End()
			if err := j.Append(t.Context(), flow.Event{}); err != nil || d.ev[2].Seq != 10 {
				t.Errorf("%v, after 9 comes %d", err, d.ev[2].Seq)
			}
		})
	}
}

// What cannot be folded is told of with its number. It is stored, so it keeps it.
func TestOwnerRefuses(t *testing.T) {
	d, s := &disk{}, &things{}
	j := New("thing", errLog, d.log(), s.state())
	if err := j.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer j.End()
	if err := j.Append(t.Context(), flow.Event{Kind: "bad"}); !errors.Is(err, errFold) || errors.Is(err, errLog) || !strings.HasPrefix(err.Error(), "thing event 1 ") {
		t.Error(err)
	}
	if err := j.Append(t.Context(), flow.Event{Reason: "a"}); err != nil || d.ev[1].Seq != 2 || len(s.all) != 1 {
		t.Errorf("%v, %+v", err, d.ev)
	}
}

func TestNothingIsKept(t *testing.T) {
	s := &things{}
	j := New("thing", errLog, Log{}, s.state())
	for range 2 {
		if err := errors.Join(j.Begin(t.Context()), j.Append(t.Context(), flow.Event{Reason: "a"})); err != nil {
			t.Fatal(err)
		}
		j.End()
		if err := j.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Join(s.all, "") != "aa" {
		t.Errorf("%q", s.all)
	}
}
