package respond

// Version is another number after each change of what Incidents, Incident and
// Freezes tell: that of the last event that was folded.
func (c *Controller) Version() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.st.seq
}
