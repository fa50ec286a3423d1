package respond

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// hangGrace is how long a call may take to notice that its deadline is over.
const hangGrace = 250 * time.Millisecond

// call runs fn with the call deadline and returns at the latest shortly after
// it, whether fn does or not. A call that does not return is left behind and
// counted against its server until it does.
func call[T any](ctx context.Context, c *Controller, server, kind string, fn func(context.Context) (T, error)) (T, error) {
	return callFor(ctx, c, c.cfg.CallTimeout, server, kind, fn)
}

// callFor is call with another deadline.
func callFor[T any](ctx context.Context, c *Controller, limit time.Duration, server, kind string, fn func(context.Context) (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	cctx, cancel := context.WithTimeout(ctx, limit)
	done := make(chan answer, 1)
	c.sched.callStarted(server, kind)
	go func() {
		defer cancel()
		v, err := guarded(cctx, fn)
		c.sched.callEnded(server, kind)
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-cctx.Done():
	}
	select {
	case a := <-done: // it did notice; what it says is better than a guess
		return a.v, a.err
	case <-time.After(hangGrace):
	}
	c.m.hung.Inc()
	go func() { // ends with fn, which is what this is about
		<-done
		c.m.hung.Dec()
		c.kick()
	}()
	var zero T
	return zero, &flow.ActError{Class: flow.ErrTransient, Err: fmt.Errorf("no answer to %s within %s, and the call does not end", kind, limit)}
}

// guarded turns a panic of an adapter, or of the library that it stands on, into
// an error: what one hypervisor answers must not end what is done at others.
func guarded[T any](ctx context.Context, fn func(context.Context) (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			var zero T
			v, err = zero, &flow.ActError{Class: flow.ErrTransient, Err: fmt.Errorf("the adapter failed on what it was answered: %v, at %s", p, panicAt())}
		}
	}()
	return fn(ctx)
}

// panicAt names the functions around a panic, innermost first.
func panicAt() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var at []string
	for len(at) < 4 {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") {
			at = append(at, fmt.Sprintf("%s:%d", f.Function, f.Line))
		}
		if !more {
			break
		}
	}
	return strings.Join(at, " < ")
}

func (s *scheduler) callStarted(server, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[server] == nil {
		s.calls[server] = map[string]int{}
	}
	s.calls[server][kind]++
}

func (s *scheduler) callEnded(server, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[server][kind]--; s.calls[server][kind] <= 0 {
		delete(s.calls[server], kind)
	}
	if len(s.calls[server]) == 0 {
		delete(s.calls, server)
	}
}

// barred refuses a call while an earlier one of the other kind hangs: a cut
// that is carried out late must not land on a server that was given back.
func (s *scheduler) barred(server, kind string) error {
	other := kindSuspend
	if kind == kindSuspend {
		other = kindRestore
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.calls[server][other]; n > 0 {
		return &flow.ActError{Class: flow.ErrLocked, Err: fmt.Errorf("%d earlier %s call(s) to %s still hang; a restart of flowcordon ends them", n, other, server)}
	}
	return nil
}
