package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestStagesEndInReverseOrder(t *testing.T) {
	var mu sync.Mutex
	var ended []string
	mk := func(name string) stage {
		return stage{name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return nil
		}, time.Second}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := runStages(ctx, zap.NewNop(), []stage{mk("engine"), mk("store"), mk("collector")}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"collector", "store", "engine"}; !slices.Equal(ended, want) {
		t.Errorf("ended %v, want %v", ended, want)
	}
}

func TestStageFailureEndsTheRest(t *testing.T) {
	wait := stage{"wait", func(ctx context.Context) error { <-ctx.Done(); return nil }, time.Second}
	bad := stage{"bad", func(context.Context) error { return errors.New("no socket") }, time.Second}
	if err := runStages(t.Context(), zap.NewNop(), []stage{wait, bad}); err == nil || err.Error() != "bad: no socket" {
		t.Errorf("got %v", err)
	}
	self := stage{"self", func(context.Context) error { return nil }, time.Second}
	if err := runStages(t.Context(), zap.NewNop(), []stage{wait, self}); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %v", err)
	}
}

func TestStageThatHangsIsNamed(t *testing.T) {
	hang := stage{"hang", func(context.Context) error { select {} }, 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runStages(ctx, zap.NewNop(), []stage{hang}); err == nil || !strings.Contains(err.Error(), "hang did not stop within") {
		t.Errorf("got %v", err)
	}
}
