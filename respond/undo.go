package respond

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Undo gives back everything of the incidents that were cut or restricted
// without a human since a moment. It is idempotent, counts as no offence of
// the holders, and is stored with each incident. It returns when the intents
// are stored; Run makes the calls. What was wrong once would be found again at
// once, so giving anything back freezes all automatic acts until Unfreeze.
func (c *Controller) Undo(ctx context.Context, since time.Time, actor, reason string) (flow.Undone, error) {
	var out flow.Undone
	if strings.TrimSpace(reason) == "" {
		return out, ErrReason
	}
	err := c.transact(ctx, func(t *txn) error {
		out = flow.Undone{GivingBack: []string{}, Before: []string{}}
		ids := t.st.automaticSince(since)
		for _, id := range ids {
			r, _ := t.st.rec(id)
			switch {
			case r.inc.State == flow.StateReleasing || !r.holdsCut():
				out.Before = append(out.Before, id)
			default:
				t.emit(c.restoreIntent(r, actor, ReasonUndone, body{Detail: clip(reason, maxText)}))
				out.GivingBack = append(out.GivingBack, id)
			}
		}
		if _, frozen := t.st.frozen(""); !frozen && len(out.GivingBack) > 0 {
			c.emitFreeze(t, c.now(), out.GivingBack[0], actor, "", 0, "undo by "+actor+": "+clip(reason, maxText))
		}
		return nil
	})
	if err != nil {
		return flow.Undone{}, err
	}
	c.m.undone.Add(float64(len(out.GivingBack)))
	return out, nil
}

// automaticSince lists the incidents with a suspend intent that no person gave.
func (s *state) automaticSince(since time.Time) []string {
	var ids []string
	for ; s != nil; s = s.parent {
		for id, r := range s.recs {
			if !r.autoAt.IsZero() && !r.autoAt.Before(since) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}
