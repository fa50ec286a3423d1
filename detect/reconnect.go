package detect

import (
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A client whose backend falls silent sends SYNs as a flood does: each request
// that used to be a few packets of a conversation is now a connection that is
// tried. What tells the two apart is the past: such a client has talked with
// that remote for hours, and how much it talked bounds how often it can try.
// Who has one conversation with a victim first has bought next to nothing.
const (
	reconnectLookback = 24 * time.Hour // the busiest time of a day is in it
	reconnectStep     = time.Minute
	// reconnectSteps is in how many steps the two must have exchanged so much: what
	// protects is the rate, not how long ago it began.
	reconnectSteps = 3
	// answeredPart is the least that comes back of a conversation, whatever its
	// sides do: an ACK for ten segments.
	answeredPart = 0.1
	// rawClient is the share of SYNs of a raw shape that a kernel's may seem to
	// have; see detection.md §2.3, Λc.
	rawClient = 0.05
)

// mayReconnect reports whether a kernel's client could send these SYNs at all:
// at this rate, and of this shape.
func (cfg *SYNFloodConfig) mayReconnect(f *flow.Finding, p *flow.PairStat) bool {
	return f.EstRate <= cfg.KnownRate && float64(p.RawSYN) <= rawClient*float64(p.SYNOut)
}

// explains reports whether what the two exchanged before explains syn SYNs per
// second.
func (cfg *SYNFloodConfig) explains(before []flow.Exchange, syn float64) bool {
	if len(before) < reconnectSteps {
		return false
	}
	rates := make([]float64, len(before))
	for i, e := range before {
		rates[i] = min(float64(e.Out), float64(e.In)/answeredPart) / reconnectStep.Seconds()
	}
	slices.Sort(rates)
	return syn <= cfg.KnownFactor*rates[len(rates)-reconnectSteps]
}

// reconnects holds a SYN flood that is a known client's.
func (t *tickState) reconnects(f *flow.Finding, p *flow.PairStat) error {
	cfg := &t.th(f.Tenant).SYNFlood
	if !cfg.mayReconnect(f, p) {
		return nil
	}
	r := flow.Range{From: f.From.Add(-reconnectLookback), To: f.From}
	before, err := t.d.deps.Windows.Exchanged(t.ctx, f.Tenant, f.Remote, r, reconnectStep)
	return t.holdKnown(f, cfg.explains(before, f.EstRate), "history of a remote", err)
}
