package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// stage is one part of the service. Run owns its goroutines and returns nil
// when ctx ends.
type stage struct {
	name  string
	run   func(context.Context) error
	grace time.Duration // how long it may take to end
}

// runStages starts the stages in their order and, when ctx ends or one of them
// fails, ends them in the reverse order, each within its grace. It returns the
// first failure.
func runStages(ctx context.Context, log *zap.Logger, stages []stage) error {
	type running struct {
		cancel context.CancelFunc
		done   chan error
	}
	failed := make(chan error, len(stages))
	rs := make([]running, len(stages))
	for i, s := range stages {
		// Not a child of ctx: a stage ends when its turn has come, not when the signal does.
		sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		rs[i] = running{cancel, make(chan error, 1)}
		go func() {
			err := s.run(sctx)
			rs[i].done <- err
			if err != nil {
				failed <- fmt.Errorf("%s: %w", s.name, err)
			} else if sctx.Err() == nil {
				failed <- fmt.Errorf("%s ended by itself", s.name)
			}
		}()
	}
	var first error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case first = <-failed:
		log.Error("stopping after a failure", zap.Error(first))
	}
	for i := len(stages) - 1; i >= 0; i-- {
		began := time.Now()
		rs[i].cancel()
		select {
		case err := <-rs[i].done:
			if err != nil && first == nil {
				first = fmt.Errorf("%s: %w", stages[i].name, err)
			}
			log.Info("stopped", zap.String("stage", stages[i].name), zap.Duration("took", time.Since(began)))
		case <-time.After(stages[i].grace):
			log.Error("did not stop in time", zap.String("stage", stages[i].name), zap.Duration("grace", stages[i].grace))
			first = errors.Join(first, fmt.Errorf("%s did not stop within %v", stages[i].name, stages[i].grace))
		}
	}
	return first
}
