package respond

import (
	"fmt"
	"testing"
	"time"
)

// TestStandingVersion: at every moment at which time alone makes a standing
// another, the version is another, and between them it is the same.
func TestStandingVersion(t *testing.T) {
	t0 := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &Controller{cfg: Config{OffenceWindow: 30 * time.Hour, Probation: time.Hour}, st: newState(nil)}
	c.st.offences["a"] = []time.Time{t0, t0.Add(10 * time.Minute)}
	c.st.offences["b"] = []time.Time{t0.Add(5 * time.Minute)}
	told := func(ts time.Time) string {
		text := ""
		for _, k := range []string{"a", "b"} {
			n, probation := c.st.standing(c.cfg, k, ts)
			text += fmt.Sprint(n, probation, " ")
		}
		return text
	}
	ts := t0.Add(15 * time.Minute)
	was, text, changes := c.StandingVersion(ts), told(ts), 0
	for ts.Before(t0.Add(31 * time.Hour)) {
		ts = ts.Add(5 * time.Minute)
		for _, at := range []time.Time{ts.Add(-1), ts, ts.Add(1)} {
			v, now := c.StandingVersion(at), told(at)
			if now != text {
				changes++
			}
			if now != text && v == was {
				t.Errorf("%v: %q after %q under one version", at, now, text)
			}
			was, text = v, now
		}
	}
	if changes != 5 { // two probations, three offences
		t.Errorf("%d changes were seen", changes)
	}
	if c.StandingVersion(ts) != c.StandingVersion(ts.Add(time.Hour)) {
		t.Error("the version changes by itself")
	}
}
