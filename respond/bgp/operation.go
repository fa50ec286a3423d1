package bgp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

// classify makes err a *flow.ActError that says what was tried. What is not
// known to be lasting is worth a retry: every operation may be repeated.
func classify(what string, err error) *flow.ActError {
	class := flow.ErrTransient
	var ae *flow.ActError
	if errors.As(err, &ae) {
		class, err = ae.Class, ae.Err // or the text would name the class twice
	}
	return &flow.ActError{Class: class, Err: fmt.Errorf("%s: %w", what, err)}
}

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("not done within the deadline")

// do runs one operation in its turn and within the deadline, and gives its
// error a class. One that outlives the deadline, because the disk hangs, goes on
// and keeps the turn: what it does may be repeated.
func do[T any](ctx context.Context, a *Adapter, op string, fn func(context.Context) (T, error)) (T, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.Timeout, errDeadline)
	defer cancel()
	type answer struct {
		v   T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		var ans answer
		select {
		case a.turn <- struct{}{}:
			defer func() { <-a.turn }()
			switch {
			case ctx.Err() != nil:
				ans.err = context.Cause(ctx)
			case a.speaker == nil:
				ans.err = errors.New("the BGP speaker is not running")
			default:
				ans.v, ans.err = fn(ctx)
			}
		case <-ctx.Done():
			ans.err = context.Cause(ctx)
		}
		done <- ans
	}()
	var ans answer
	select {
	case ans = <-done:
	case <-ctx.Done():
		ans.err = context.Cause(ctx)
	}
	result := "ok"
	if ans.err != nil {
		var zero T
		ae := classify(fmt.Sprintf("bgp %s: %s", a.cfg.Name, op), ans.err)
		ans.v, ans.err, result = zero, ae, string(ae.Class)
	}
	a.metrics.observe(op, result, time.Since(start))
	return ans.v, ans.err
}

func (a *Adapter) refuse(op string, err error) error {
	return classify(fmt.Sprintf("bgp %s: %s", a.cfg.Name, op), err)
}
