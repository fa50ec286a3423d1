package respond

import (
	"context"
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// owesCalls reports whether a dry run has not yet said what it would call.
func (r record) owesCalls() bool {
	return r.inc.State == flow.StateHeld && r.reason == ReasonDryRun && r.described.Before(r.entered) && r.asked.Kind != ""
}

// describe asks the adapter which calls it would make, and stores the answer.
func (c *Controller) describe(ctx context.Context, id string) time.Duration {
	r, _ := c.record(id)
	if !r.owesCalls() {
		return 0
	}
	h := r.inc.Holder
	var calls []string
	for _, nic := range nicsOf(h, r.inc.Tenant) {
		text := fmt.Sprintf("%s would take %s on %s of %s; the adapter cannot say by which call", h.Hypervisor, r.asked.Kind, nic.MAC, nic.VDS)
		if d, ok := c.susp[h.Hypervisor].(Describer); ok {
			s, err := call(ctx, c, callKey(h, h.Hypervisor), "status", func(ctx context.Context) (string, error) { return d.Describe(ctx, nic, r.asked) })
			if ctx.Err() != nil {
				return c.cfg.RetryMin
			}
			if text = s; err != nil {
				text = fmt.Sprintf("%s on %s of %s would not be possible: %v", r.asked.Kind, nic.MAC, nic.VDS, err)
			}
		}
		calls = append(calls, clip(text, 4096))
	}
	err := c.store(ctx, func(t *txn) error {
		if r, _ := t.st.rec(id); r.owesCalls() {
			t.emit(newEvent(id, EventDescribed, actorController, ReasonDryRun, c.now(), body{Measure: &r.asked, HoldS: int64(r.askedHold / time.Second), Calls: calls}))
		}
		return nil
	})
	if err != nil {
		return c.cfg.RetryMin
	}
	return 0
}
