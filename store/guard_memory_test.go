package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestGuardMemory(t *testing.T) {
	s := storetest.New(t)
	ctx := within(t, time.Minute)
	now := time.Now().UTC().Truncate(time.Second)
	load := func(since time.Time, want string) {
		t.Helper()
		got, err := s.LoadGuards(ctx, since)
		if err != nil || string(got) != want || want == "" && got != nil {
			t.Errorf("since %v: %q %v, want %q", since, got, err, want)
		}
	}
	load(now.Add(-time.Hour), "")
	long := `{"text":"a'b\\ ` + strings.Repeat("x", 1<<20) + `"}`
	for _, w := range []struct {
		at    time.Time
		state string
	}{{now.Add(-time.Minute), `{"n":1}`}, {now, long}, {now.Add(-10 * time.Second), `{"n":2}`}} {
		if err := s.SaveGuards(ctx, w.at, []byte(w.state)); err != nil {
			t.Fatal(err)
		}
	}
	load(now.Add(-time.Hour), long)
	load(now, long)
	load(now.Add(time.Second), "")
	// Of one moment the one that was written last.
	time.Sleep(2 * time.Millisecond) // the column's unit
	if err := s.SaveGuards(ctx, now, []byte(`{"n":3}`)); err != nil {
		t.Fatal(err)
	}
	load(now.Add(-time.Hour), `{"n":3}`)
}
