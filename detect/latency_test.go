package detect

import (
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/flow"
)

// verdictTimes are how long after the first datagram of an attack the detector
// said something, and when what it said allows a cut.
type verdictTimes struct{ first, act time.Duration }

// timeVerdict plays an attack over sFlow that begins at a phase of the windows,
// on the event clock.
func timeVerdict(t *testing.T, name string, n uint32, phase time.Duration) verdictTimes {
	t.Helper()
	s, err := scenario.Read("testdata/" + name + ".scenario")
	if err != nil {
		t.Fatal(err)
	}
	g := scenario.NewGenerator(1, n, false)
	p := newPipe(t, n, flow.SFlow5, Deps{})
	start := epoch.Add(phase)
	out := verdictTimes{never, never}
	begun := time.Time{}
	for e := time.Duration(0); e < 2*time.Minute && out.act == never; e += step {
		for i := range s.Sources {
			g.Run(&s.Sources[i], start, e)
		}
		ts := epoch.Add(e + step)
		rs := g.Take(ts)
		if begun.IsZero() && len(rs) > 0 {
			begun = time.Unix(0, rs[0].Received)
		}
		for _, f := range p.tick(rs, ts) {
			if f.Tenant != tenant4 {
				continue
			}
			if f.Tier >= flow.TierNotify && out.first == never {
				out.first = ts.Sub(begun)
			}
			if f.Tier > flow.TierNotify {
				out.act = ts.Sub(begun)
			}
		}
	}
	return out
}

// TestTimeToVerdict: wherever in a window an attack begins, it is named within one
// interval and 3 s. Those are what it takes until there is enough of a flood: at
// 1:1000 the proof that nothing comes back is 287 samples, 2.9 s of 100,000/s.
// Acting on it waits for persistence: a second window for a scan, 20 s and what
// proves the rest for a flood. Rows are stored at once here, as in
// serve they are before each slot (Deps.Prepare).
func TestTimeToVerdict(t *testing.T) {
	const limit, scan = step + 3*time.Second, 2*windowLength + step
	for _, c := range []struct {
		name, kind string
		n          uint32
		act        time.Duration
	}{
		{"a01", "masscan, 10,000/s", 1000, scan},
		{"a02", "masscan, 100/s", 1, scan},
		{"a14", "nmap -p-, 1,000/s", 1, scan},
		{"a09", "SYN flood, 20,000/s", 1000, 30 * time.Second},
		{"a11", "UDP flood, 100,000/s", 1000, 45 * time.Second}, // 40 s without a break: see steady.go
		{"a19", "ping flood, 5,000/s", 256, 30 * time.Second},
		{"a29", "ACK flood, 200,000/s", 256, 40 * time.Second}, // at 1:1000 the proof that nothing comes back takes 1,400 samples, 7 s
	} {
		var first, act []time.Duration
		for phase := time.Duration(0); phase < windowLength; phase += 625 * time.Millisecond {
			v := timeVerdict(t, c.name, c.n, phase)
			if v.first > limit {
				t.Errorf("%s at 1:%d, begun %v into a window: named after %v, want %v", c.kind, c.n, phase, v.first, limit)
			}
			if v.act > c.act {
				t.Errorf("%s at 1:%d, begun %v into a window: worth acting on after %v, want %v", c.kind, c.n, phase, v.act, c.act)
			}
			first, act = append(first, v.first), append(act, v.act)
		}
		t.Logf("%-22s 1:%-5d named after %.1f to %.1f s, worth acting on after %.1f to %.1f s", c.kind, c.n,
			slices.Min(first).Seconds(), slices.Max(first).Seconds(), slices.Min(act).Seconds(), slices.Max(act).Seconds())
	}
}

const windowLength = flow.WindowSeconds * time.Second
