package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// TestLaneTurns: an asker with many questions delays another by one of them, not by all.
func TestLaneTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1)
		if err := l.enter(t.Context(), "script"); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		ask := func(asker string, n int) {
			for i := range n {
				go func() {
					if err := l.enter(t.Context(), asker); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					order = append(order, fmt.Sprint(asker, i))
					mu.Unlock()
					time.Sleep(time.Second)
					l.leave()
				}()
				synctest.Wait() // in order
			}
		}
		ask("script", 4)
		ask("noc", 2)
		ask("desk", 1)
		l.leave()
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{"script0", "noc0", "desk0", "script1", "noc1", "script2", "script3"}
		if !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if l.free != 1 || l.waiting != 0 || len(l.turns) != 0 {
			t.Errorf("left: %d free, %d wait, %d lines", l.free, l.waiting, len(l.turns))
		}
	})
}

// TestLaneBounds: beyond the bound of one asker only his questions are refused, and who
// gives up leaves his place.
func TestLaneBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1)
		if err := l.enter(t.Context(), "script"); err != nil {
			t.Fatal(err)
		}
		ctx, giveUp := context.WithCancel(t.Context())
		for range maxWaitingOf {
			go func() {
				if err := l.enter(ctx, "script"); !errors.Is(err, context.Canceled) {
					t.Errorf("entered: %v", err)
				}
			}()
		}
		synctest.Wait()
		var busy *flow.Busy
		if err := l.enter(ctx, "script"); !errors.As(err, &busy) || !busy.Own || busy.Retry <= 0 {
			t.Errorf("one too many: %v", err)
		}
		in := false
		go func() {
			if err := l.enter(t.Context(), "noc"); err != nil {
				t.Error(err)
				return
			}
			in = true
		}()
		synctest.Wait()
		giveUp()
		synctest.Wait()
		if in || l.queued() != 1 {
			t.Errorf("noc in: %v, %d wait; want it to wait alone", in, l.queued())
		}
		l.leave()
		synctest.Wait()
		if !in {
			t.Error("noc does not get the slot")
		}
		for i := range maxWaiting { // of many askers
			go func() { _ = l.enter(t.Context(), fmt.Sprint(i)) }()
		}
		synctest.Wait()
		if err := l.enter(ctx, "noc"); !errors.As(err, &busy) || busy.Own {
			t.Errorf("too many of all: %v", err)
		}
		for range maxWaiting + 1 {
			l.leave()
			synctest.Wait()
		}
	})
}

// TestLaneGrantedAndGone: a slot that is handed to somebody who gives up at the same
// time goes on to the next.
func TestLaneGrantedAndGone(t *testing.T) {
	for range 200 {
		l := newLane(1)
		if err := l.enter(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		ctx, giveUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if l.enter(ctx, "b") == nil {
				l.leave()
			}
		})
		wg.Go(giveUp)
		wg.Go(l.leave)
		wg.Wait()
		if l.free != 1 || l.waiting != 0 {
			t.Fatalf("%d free, %d wait", l.free, l.waiting)
		}
	}
}

// TestMemoBounds: what is kept stays below the bound, the least used goes first, and
// nothing is given after its time.
func TestMemoBounds(t *testing.T) {
	m := newMemo()
	now := time.Unix(1_700_000_000, 0)
	m.put("first", 1, maxMemo/16, now.Add(time.Second))
	for i := range 100 {
		m.put(fmt.Sprint(i), i, maxMemo/16, now.Add(time.Second))
		if _, ok := m.get("first", now); !ok {
			t.Fatalf("first is gone after %d although it is used", i)
		}
		if m.size() > maxMemo {
			t.Fatalf("%d bytes", m.size())
		}
	}
	if _, ok := m.get("5", now); ok {
		t.Error("5 is kept beyond the bound")
	}
	if _, ok := m.get("first", now.Add(time.Second)); ok {
		t.Error("first is given after its time")
	}
	m.put("large", 1, maxMemo/4, now.Add(time.Second))
	if _, ok := m.get("large", now); ok {
		t.Error("a quarter of all is kept")
	}
	for k := range m.byKey {
		m.get(k, now.Add(time.Hour))
	}
	if m.bytes != 0 || m.used.Len() != 0 {
		t.Errorf("%d bytes, %d entries are left", m.bytes, m.used.Len())
	}
}
