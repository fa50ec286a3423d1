package respond

import "time"

// Version is another number after each change of what Incidents, Incident and
// Freezes tell: that of the last event that was folded.
func (c *Controller) Version() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.st.seq
}

// StandingVersion is another number after each change of what Standing tells at ts
// that time alone makes: offences that do not count any more, probations that end.
// What events change is in Version.
func (c *Controller) StandingVersion(ts time.Time) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var over uint64 // as ts grows, so does this with each of them
	for _, list := range c.st.offences {
		for _, at := range list {
			if !at.After(ts.Add(-c.cfg.OffenceWindow)) {
				over++
			}
			if c.cfg.Probation > 0 && !ts.Before(at.Add(c.cfg.Probation)) {
				over++
			}
		}
	}
	return over
}
