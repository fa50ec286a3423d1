package respond

import (
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// standingKey names whose offences are counted: the server in the hands of
// this customer. Whoever gets the server or the address next starts anew, and
// another server of the same customer is not punished for this one.
func standingKey(tenant netip.Addr, h flow.Holder) string {
	return holderKey(tenant, h) + "\x00" + h.Tenant
}

// offence reports whether a release for this reason counts against the
// holder: what was taken back as wrong, or was never done, does not.
func offence(r Reason) bool { return r == ReasonReleased || r == ReasonExpired }

func (s *state) offencesOf(key string) []time.Time {
	at, _ := lookup(s, func(s *state) map[string][]time.Time { return s.offences }, key)
	return at
}

// Standing is what the history of who holds an address says now: offences that
// count, and whether the holder is on probation.
func (c *Controller) Standing(tenant netip.Addr, h flow.Holder) (offences int, probation bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.st.standing(c.cfg, standingKey(tenant, h), c.now())
}

// Fresh reports whether windows from a moment on still count for a tenant: those
// before the end of his last incident do not, nor do those before the measure
// in force showed its effect.
func (c *Controller) Fresh(tenant netip.Addr, from time.Time) bool {
	h, _ := c.deps.Inventory.Holder(tenant, c.now())
	c.mu.RLock()
	defer c.mu.RUnlock()
	if nb := c.st.earliest(tenant, h); !nb.IsZero() && from.Before(nb.Add(c.cfg.Settle)) {
		return false
	}
	r, _ := c.st.liveOf(tenant)
	a := r.inForce()
	return a == nil || !from.Before(a.Done.Add(c.cfg.Settle))
}

// standing is what a holder's history says at ts.
func (s *state) standing(cfg Config, key string, ts time.Time) (offences int, probation bool) {
	for _, at := range s.offencesOf(key) {
		if at.After(ts.Add(-cfg.OffenceWindow)) {
			offences++
		}
		if cfg.Probation > 0 && ts.Before(at.Add(cfg.Probation)) {
			probation = true
		}
	}
	return offences, probation
}
