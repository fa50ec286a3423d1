package login

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errEnded = errors.New("the session has ended")

type token struct{ n int32 }

// server takes the latest token, from min on.
type server struct {
	opens atomic.Int32
	frees atomic.Int32
	min   atomic.Int32
	takes time.Duration
	down  error
}

func (s *server) keeper() *Keeper[token] {
	return New(func(ctx context.Context) (*token, error) {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if s.down != nil {
			return nil, s.down
		}
		return &token{s.opens.Add(1)}, nil
	}, func(err error) bool { return errors.Is(err, errEnded) }, func(*token) { s.frees.Add(1) })
}

func (s *server) call(_ context.Context, l *token) error {
	if l.n < s.min.Load() {
		return errEnded
	}
	return nil
}

func TestOneLoginForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: time.Second}
		k := s.keeper()
		all := func() {
			t.Helper()
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if err := k.With(t.Context(), s.call); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		all()
		if n := s.opens.Load(); n != 1 || s.frees.Load() != 0 {
			t.Errorf("%d logins for 50 calls, %d dropped", n, s.frees.Load())
		}
		s.min.Store(2) // it ends, and all find out at once
		all()
		if n := s.opens.Load(); n != 2 {
			t.Errorf("%d logins after the first had ended", n)
		}
	})
}

func TestEndsAndErrors(t *testing.T) {
	s := &server{}
	k := s.keeper()
	s.min.Store(99) // no token is taken: one that is fresh is not tried again
	if err := k.With(t.Context(), s.call); !errors.Is(err, errEnded) || s.opens.Load() != 1 || k.Current() != nil {
		t.Errorf("%v after %d logins", err, s.opens.Load())
	}
	s.min.Store(0)
	other := errors.New("no such port")
	calls := 0
	if err := k.With(t.Context(), func(context.Context, *token) error { calls++; return other }); !errors.Is(err, other) || calls != 1 || k.Current() == nil {
		t.Errorf("%v after %d calls", err, calls)
	}
	old := k.Current()
	k.Drop(old)
	fresh, _, err := k.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if k.Drop(old); k.Current() != fresh {
		t.Error("dropping an old login took the new one")
	}
	k.Drop(fresh)
	s.down = errors.New("connection refused")
	if err := k.With(t.Context(), s.call); !errors.Is(err, s.down) || k.Current() != nil {
		t.Error(err)
	}
}

// Who waits for another's login gives up with his own context.
func TestWaitForLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: time.Hour}
		k := s.keeper()
		first := make(chan error, 1)
		go func() { first <- k.With(t.Context(), s.call) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := k.With(ctx, s.call); err == nil || err.Error() != "wait for the login under way" || time.Since(began) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}
