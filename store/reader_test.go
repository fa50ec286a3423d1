package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
)

func testReader() *Store {
	r := &reader{memo: newMemo(), near: newLane(1), wide: newLane(1), flights: map[string]*flight{}, waiting: map[string][]*flight{}}
	r.metrics = newReaderMetrics(r)
	return &Store{reader: r}
}

func host(i int) netip.Addr { return netip.AddrFrom4([4]byte{11, 0, 0, byte(i)}) }

// TestReaderTogether: equal questions are one, those of one shape that wait are one
// query, other shapes are not mixed with them, and all get their own answers.
func TestReaderTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testReader()
		var queries, asked atomic.Int32
		q := func(shape string, tenant int) question[string] {
			return question[string]{shape: shape, tenant: host(tenant), to: time.Now(), bytes: func(v string) int { return len(v) },
				ask: func(_ context.Context, tenants []netip.Addr) (map[netip.Addr]string, error) {
					queries.Add(1)
					asked.Add(int32(len(tenants)))
					time.Sleep(100 * time.Millisecond)
					out := map[netip.Addr]string{}
					for _, t := range tenants {
						out[t] = shape + " " + t.String()
					}
					return out, nil
				}}
		}
		if err := s.reader.near.enter(t.Context(), "another"); err != nil {
			t.Fatal(err)
		}
		for i := range 60 {
			go func() {
				shape, tenant := fmt.Sprint("shape", i%2), i%10
				got, err := answer(flow.WithAsker(t.Context(), fmt.Sprint("asker", i%3)), s, q(shape, tenant))
				if want := shape + " " + host(tenant).String(); err != nil || got != want {
					t.Errorf("%q, %v; want %q", got, err, want)
				}
			}()
		}
		synctest.Wait() // until all wait for the lane
		s.reader.near.leave()
		time.Sleep(time.Second)
		synctest.Wait()
		if asked.Load() != 10 || queries.Load() != 2 {
			t.Errorf("%d questions in %d queries, want 10 in 2", asked.Load(), queries.Load())
		}
		count := func(how string) float64 {
			reg := prometheus.NewRegistry()
			reg.MustRegister(s.reader.metrics.answers)
			all, err := reg.Gather()
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			for _, m := range all[0].GetMetric() {
				if m.GetLabel()[0].GetValue() == how {
					return m.GetCounter().GetValue()
				}
			}
			return 0
		}
		if a, j := count(answerAsked), count(answerJoined); a != 10 || j != 50 {
			t.Errorf("asked %v, joined %v", a, j)
		}
		ask := func() { // one that was asked already
			t.Helper()
			if got, err := answer(flow.WithAsker(t.Context(), "late"), s, q("shape0", 2)); err != nil || got != "shape0 11.0.0.2" {
				t.Errorf("%q, %v", got, err)
			}
		}
		ask()
		if queries.Load() != 2 {
			t.Error("an answer of a second ago is not kept")
		}
		time.Sleep(openMemo)
		ask()
		if queries.Load() != 3 {
			t.Error("an old answer of an open range is given")
		}
		if _, err := answer(t.Context(), s, q("shape0", 2)); err != nil || queries.Load() != 4 {
			t.Errorf("without an asker: %v, %d queries; want one more", err, queries.Load())
		}
		synctest.Wait()
		if len(s.reader.flights)+len(s.reader.waiting) != 0 || s.reader.near.free != 1 {
			t.Errorf("left: %v, %v, %d free", s.reader.flights, s.reader.waiting, s.reader.near.free)
		}
	})
}

// TestReaderGivenUp: a query ends when nobody waits for it any more, and not before;
// the next question is asked anew. An error is kept for nobody.
func TestReaderGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testReader()
		var queries, ended atomic.Int32
		broken := errors.New("broken")
		q := question[string]{shape: "s", tenant: host(1), bytes: func(string) int { return 1 },
			ask: func(ctx context.Context, _ []netip.Addr) (map[netip.Addr]string, error) {
				queries.Add(1)
				select {
				case <-ctx.Done():
					ended.Add(1)
					return nil, ctx.Err()
				case <-time.After(10 * time.Second):
					return nil, broken
				}
			}}
		ask := func(d time.Duration) chan error {
			ctx, cancel := context.WithTimeout(flow.WithAsker(t.Context(), "a"), d)
			done := make(chan error, 1)
			go func() {
				defer cancel()
				_, err := answer(ctx, s, q)
				done <- err
			}()
			synctest.Wait()
			return done
		}
		first, second := ask(time.Second), ask(3*time.Second)
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) || ended.Load() != 0 {
			t.Errorf("first: %v, %d ended; the second still waits", err, ended.Load())
		}
		if err := <-second; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second: %v", err)
		}
		synctest.Wait()
		if queries.Load() != 1 || ended.Load() != 1 {
			t.Errorf("%d queries, %d ended", queries.Load(), ended.Load())
		}
		for n := int32(2); n <= 3; n++ {
			if err := <-ask(time.Minute); !errors.Is(err, broken) || queries.Load() != n {
				t.Errorf("%v after %d queries, want the error of query %d", err, queries.Load(), n)
			}
		}
		synctest.Wait()
		if len(s.reader.flights)+len(s.reader.waiting) != 0 || s.reader.near.free != 1 {
			t.Errorf("left: %v, %v, %d free", s.reader.flights, s.reader.waiting, s.reader.near.free)
		}
	})
}
