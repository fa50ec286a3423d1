package respond

import (
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// LastSeq is the number of the newest event; 0 before the first.
func (c *Controller) LastSeq() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.st.seq
}

// After gives the events with numbers above seq, oldest first, at most limit, as
// the audit shows them, each with its incident as it is now. changed is closed
// when there are more: whoever was given nothing waits for it and asks again.
func (c *Controller) After(seq uint64, limit int) (news []flow.News, changed <-chan struct{}) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	log := c.st.log
	i, found := slices.BinarySearchFunc(log, seq, func(ev flow.Event, seq uint64) int {
		switch {
		case ev.Seq < seq:
			return -1
		case ev.Seq > seq:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	for _, ev := range log[i:min(i+max(limit, 0), len(log))] {
		r := c.st.recs[ev.Incident]
		news = append(news, flow.News{AuditEntry: entryOf(ev, r), Now: r.inc})
	}
	return news, c.news
}
