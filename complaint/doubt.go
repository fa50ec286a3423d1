package complaint

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// maxDoubts bounds the questions whether flow rows of a host are there at all.
const maxDoubts = 100

// doubt takes a contradiction back where it rests on something that is not
// sure: a zone that nobody stated, or rows that a full spool may have shed while
// the sums were kept.
func (r *run) doubt(ctx context.Context, l *Line, c *claim, t *Traffic) error {
	if !l.Zone.Known() && r.elsewhere(c) {
		t.Verdict, t.Why = NotVisible, WhyZone
		return nil
	}
	if t.Why == WhyNoService { // which rests on sums that are proven whole
		return nil
	}
	kept, err := r.rowsKept(ctx, c)
	if err != nil {
		return err
	}
	if !kept {
		t.Verdict, t.Why, t.Chance, t.GroupChance = NotVisible, WhyNotKept, 0, 0
	}
	return nil
}

// elsewhere reports whether flows show the claim in another zone. Without a
// target, and of times of which only sums are left, they are only known for the
// time as read, so that it may be.
func (r *run) elsewhere(c *claim) bool {
	if !c.remote.IsValid() || r.since.IsZero() || c.from.Before(r.since) {
		return true
	}
	far := *c
	far.from, far.to = c.from.Add(-14*time.Hour), c.to.Add(12*time.Hour)
	return r.evs[c.tenant].look(&far, 0, r.m.cfg.Tolerance).rows > 0
}

type keptKey struct {
	tenant netip.Addr
	hour   int64
}

// rowsKept reports whether any flow row of the host is stored around the
// claim's time. Where it sent, there must be some.
func (r *run) rowsKept(ctx context.Context, c *claim) (bool, error) {
	key := keptKey{c.tenant, c.from.Unix() / int64(time.Hour/time.Second)}
	if kept, ok := r.kept[key]; ok || len(r.kept) == maxDoubts {
		return kept, nil
	}
	rows, err := r.m.deps.Store.FlowsWith(ctx, flow.FlowQuery{Tenant: c.tenant, Range: c.span(around), SvcPort: -1, Limit: 1}, nil)
	if err != nil {
		return false, fmt.Errorf("ask for the flows of %s: %w", c.tenant, err)
	}
	r.kept[key] = len(rows) > 0
	return len(rows) > 0, nil
}
