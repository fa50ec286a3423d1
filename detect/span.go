package detect

import (
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

const window = flow.WindowSeconds * time.Second

// span is the range of event time that a length is judged over at ts: at least
// length, ending with the window that ts is in, and on windows' edges, so that
// its seconds are never less than its rows may cover.
func span(ts time.Time, length time.Duration) flow.Range {
	from := floorTo(ts, window).Add(-length)
	to := floorTo(ts, window)
	if to.Before(ts) {
		to = to.Add(window)
	}
	return flow.Range{From: from, To: to}
}

// lastWindow is the window that ts lies in, for a length of one window: the span
// of it is two windows long there, and a flood that has just begun would need
// twice as much to stand out. False where the two are the same. What is judged is
// never more than a window's rows against a whole window's expectation.
func lastWindow(ts time.Time, length time.Duration) (flow.Range, bool) {
	from := floorTo(ts, window)
	return flow.Range{From: from, To: from.Add(window)}, length == window && from.Before(ts)
}

// floorTo rounds t down to a multiple of step since the Unix epoch.
func floorTo(t time.Time, step time.Duration) time.Time {
	ns := t.UnixNano()
	return time.Unix(0, ns-mod(ns, int64(step))).UTC()
}

func mod(a, b int64) int64 { return ((a % b) + b) % b }

// dueShare is how much of its length a window may be behind: the half-hour
// window is asked for once a minute, not every slot.
const dueShare = 30

// shifts spread the longer lengths of the rules over the slots in which they are
// due, so that no tick asks for all half hours at once. Rules that share an
// answer share a shift.
var shifts = map[flow.Rule]time.Duration{
	flow.RuleReflector: 5 * time.Second, flow.RuleSpoofed: 5 * time.Second,
	flow.RuleBlockscan: 15 * time.Second, flow.RuleUDPSweep: 25 * time.Second, flow.RuleICMPSweep: 35 * time.Second,
	flow.RuleSpam: 45 * time.Second, flow.RuleBruteforce: 45 * time.Second, flow.RuleBlockedPort: 45 * time.Second,
}

// due reports whether a length is to be judged at ts, the last tick having been
// at prev: whether a multiple of length/30 lies in (prev, ts].
func due(length time.Duration, prev, ts time.Time) bool {
	step := max(length/dueShare, time.Second)
	return floorTo(ts, step).After(prev)
}

// lateParts are the lengths at the end of a range that persistence tries to cut
// it at: halves of halves, so that an attack that began anywhere in the range
// is met by one cut that leaves a third of it or more on either side. Shorter
// attacks are judged over the next shorter length.
func lateParts(length time.Duration) []time.Duration {
	var out []time.Duration
	for _, div := range []time.Duration{2, 4, 8} {
		o := (length/div + window - 1) / window * window
		if o < length && (len(out) == 0 || o < out[len(out)-1]) {
			out = append(out, o)
		}
	}
	return out
}

// floodParts cuts a range into pieces, the last of which may be shorter, and says
// how many neighbours of them are a sixth of length or more. From those of a
// minute, a window each, a burst that lies across an edge is taken out as two of
// the strongest; of longer lengths pieces are half of that, so that it has a
// stretch that holds all of it. See persist.go.
func floodParts(r flow.Range, length time.Duration) (parts []flow.Range, stretch int) {
	step, stretch := (length/6+window-1)/window*window, 1
	if step > window {
		step, stretch = (step/2+window-1)/window*window, 2
	}
	for from := r.From; from.Before(r.To); from = from.Add(step) {
		to := from.Add(step)
		if to.After(r.To) {
			to = r.To
		}
		parts = append(parts, flow.Range{From: from, To: to})
	}
	return parts, stretch
}
