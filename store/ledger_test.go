package store_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestLedgerLog(t *testing.T) {
	s := storetest.New(t)
	ctx := within(t, 2*time.Minute)
	now := time.Now().UTC().Truncate(time.Nanosecond) // rows older than the TTL may be dropped
	ev := []flow.Event{
		{Time: now.Add(time.Minute), Kind: "mark", Incident: "b", Actor: "anna", Body: json.RawMessage(`{"verdict":"wrong"}`)},
		{Time: now, Kind: "case", Incident: "a", Body: json.RawMessage(`{"id":"a"}`)},
		{Time: now.Add(-time.Hour), Kind: "case", Incident: "old"},
	}
	if err := s.AppendLedger(ctx, ev); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendLedger(ctx, nil); err != nil {
		t.Error(err)
	}
	var got []flow.Event
	read := func(e flow.Event) error { got = append(got, e); return nil }
	if err := s.LedgerEvents(ctx, now.Add(-time.Minute), read); err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff([]flow.Event{ev[1], ev[0]}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	got = nil
	if err := s.LedgerEvents(ctx, time.Time{}, read); err != nil || len(got) != 3 {
		t.Errorf("all: %d, %v", len(got), err)
	}
	stop := errors.New("stop")
	if err := s.LedgerEvents(ctx, time.Time{}, func(flow.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's error: %v", err)
	}
}
