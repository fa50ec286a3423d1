package respond

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// OrphanPolicy is what becomes of a NIC with our mark that no incident holds.
type OrphanPolicy string

// The policies.
const (
	OrphansReport  OrphanPolicy = "report"  // staff are told
	OrphansRelease OrphanPolicy = "release" // given back, and staff are told
)

// stray is an orphan that was seen.
type stray struct {
	adapter string
	nic     flow.NIC
	kind    flow.MeasureKind
	mark    flow.Mark
	since   time.Time
	seen    time.Time // last
}

func strayKey(adapter string, nic flow.NIC, kind flow.MeasureKind, m flow.Mark) string {
	return strings.Join([]string{adapter, nic.VDS, strings.ToLower(nic.MAC), string(kind), m.Incident}, "/")
}

// holdsOn reports whether an incident has a measure of that kind on the NIC.
func (r record) holdsOn(adapter string, nic flow.NIC, kind flow.MeasureKind) bool {
	return r.holdsCut() && slices.ContainsFunc(r.held(), func(a flow.Action) bool {
		return a.Adapter == adapter && a.Taken() == kind && slices.ContainsFunc(a.NICs, func(n flow.NIC) bool { return sameNIC(n, nic) })
	})
}

// sameNIC compares as far as both sides know: an adapter at the network side
// knows addresses only.
func sameNIC(a, b flow.NIC) bool {
	switch {
	case a.MAC != "" && b.MAC != "":
		return strings.EqualFold(a.MAC, b.MAC)
	case a.IP.IsValid() && b.IP.IsValid():
		return a.IP == b.IP
	}
	return a.VDS != "" && a.VDS == b.VDS
}

// marks are those of ours that a NIC carries, by kind of measure.
func (c *Controller) marks(st flow.NICStatus) map[flow.MeasureKind]flow.Mark {
	out := map[flow.MeasureKind]flow.Mark{}
	if st.Mark != nil {
		out[flow.MeasureCut] = *st.Mark
	}
	for _, r := range st.Restrictions {
		out[r.Measure.Kind] = r.Mark
	}
	for k, m := range out {
		if m.By != c.cfg.MarkBy {
			delete(out, k)
		}
	}
	return out
}

// sweep lists what an adapter's NICs carry of ours and keeps what no incident
// holds. A listing is older than what was done while it was made, so an orphan
// is one that two listings show. One that came to an end halfway is used as far
// as it goes: what it does not show may be there all the same.
func (c *Controller) sweep(ctx context.Context, name string, l Lister) time.Duration {
	now := c.now()
	list, err := callFor(ctx, c, c.cfg.ListTimeout, "orphans@"+name, "list", func(ctx context.Context) (marksRead, error) {
		list, err := l.Marked(ctx)
		return marksRead{list, err}, nil // a list is kept with the error that ended it
	})
	if err == nil {
		err = list.err
	}
	var ae *flow.ActError
	if errors.As(err, &ae) && ae.Class == flow.ErrUnsupported {
		c.log.Debug("a hypervisor's marks cannot be listed", zap.String("adapter", name), zap.Error(err))
		return c.cfg.Reassert
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("the marks of a hypervisor cannot be listed", zap.String("adapter", name), zap.Int("listed", len(list.nics)), zap.Error(err))
		}
		if ctx.Err() != nil || len(list.nics) == 0 {
			return c.cfg.Reassert
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, m := range list.nics {
		for kind, mark := range c.marks(m.Status) {
			if c.st.recs[mark.Incident].holdsOn(name, m.NIC, kind) {
				continue
			}
			n++
			k := strayKey(name, m.NIC, kind, mark)
			o, known := c.strays[k]
			if !known {
				o = stray{adapter: name, nic: m.NIC, kind: kind, mark: mark, since: now}
			}
			o.seen = now
			c.strays[k] = o
		}
	}
	if err != nil {
		return c.cfg.Reassert
	}
	for k, o := range c.strays {
		if o.adapter == name && o.seen.Before(now) {
			delete(c.strays, k)
		}
	}
	c.m.orphans.WithLabelValues(name).Set(float64(n))
	return c.cfg.Reassert
}

// marksRead is a listing, as far as it came.
type marksRead struct {
	nics []flow.MarkedNIC
	err  error
}

// adopt stores an orphan, tells staff, and gives it back if the policy says so.
func (c *Controller) adopt(ctx context.Context, key string, o stray) time.Duration {
	s := c.susp[o.adapter]
	server := o.adapter + "/" + o.nic.VDS + "@" + o.adapter
	st, err := call(ctx, c, server, "status", func(ctx context.Context) (flow.NICStatus, error) { return s.Status(ctx, o.nic) })
	if err != nil {
		return c.cfg.Reassert // the next listing shows what is left of it
	}
	m := st.MarkOf(o.kind)
	r, known := c.record(o.mark.Incident)
	if m == nil || m.Incident != o.mark.Incident || m.By != c.cfg.MarkBy || r.holdsOn(o.adapter, o.nic, o.kind) {
		c.forget(key)
		return 0
	}
	release := c.cfg.Orphans == OrphansRelease
	rc := flow.Receipt{NIC: o.nic, Before: flow.NICStatus{Live: flow.LinkUp, Config: flow.LinkUp, Running: st.Running}, After: st, At: c.now()}
	if known {
		for _, a := range r.held() {
			if i := slices.IndexFunc(a.Receipts, func(x flow.Receipt) bool { return strings.EqualFold(x.NIC.MAC, o.nic.MAC) }); i >= 0 && a.Taken() == o.kind {
				rc = a.Receipts[i]
			}
		}
	}
	detail := fmt.Sprintf("%s on %s of %s at %s", o.kind, o.nic.MAC, o.nic.VDS, o.adapter)
	err = c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(o.mark.Incident)
		b := body{Receipts: []flow.Receipt{rc}, Detail: detail}
		if r.inc.ID == "" {
			r.inc.ID, r.inc.Reason = o.mark.Incident, detail
			b.Holder = &flow.Holder{VDS: o.nic.VDS, Hypervisor: o.adapter, NICs: []string{o.nic.MAC}}
		}
		if !r.orphaned[key] {
			b.Key = key
			b.Notices = c.dues(t, r, noticeOrphan, r.inc.State)
			t.emit(newEvent(o.mark.Incident, EventOrphan, actorController, ReasonOrphan, c.now(), b))
		}
		return nil
	})
	if err != nil {
		return c.cfg.RetryMin
	}
	if release && !c.cfg.DryRun {
		if err := c.sched.barred(server, kindRestore); err != nil {
			return c.cfg.Reassert
		}
		_, err = call(ctx, c, server, kindRestore, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, giveBackCall(ctx, s, o.nic, o.kind, *m, rc)
		})
		result := resultDone
		if err != nil {
			result = resultRetry
			c.log.Warn("an orphan could not be given back", zap.String("mark", o.mark.Incident), zap.Error(err))
		}
		c.m.actions.WithLabelValues(o.adapter, result).Inc()
	}
	return c.cfg.Reassert
}

func (c *Controller) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.strays, key)
}
