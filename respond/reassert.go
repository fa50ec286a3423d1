package respond

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// reassert reads back what must be in force and takes it up again where it is
// not: the panel defined the server anew, a power cycle undid what was only
// live, it was rebuilt with another NIC, or moved.
func (c *Controller) reassert(ctx context.Context, id string) time.Duration {
	c.mu.Lock()
	delete(c.nudged, id)
	c.mu.Unlock()
	r, _ := c.record(id)
	a := r.inForce()
	if a == nil {
		return 0
	}
	s := c.susp[a.Adapter]
	if s == nil || c.cfg.DryRun {
		return c.cfg.Reassert
	}
	node := nodeOf(*a)
	if wait := c.nodes.enter(node, c.now()); wait > 0 {
		return wait
	}
	sts, err := c.look(ctx, s, callKey(r.inc.Holder, a.Adapter), *a)
	c.nodes.leave(node, err, c.now())
	if err != nil {
		if ctx.Err() == nil && classOf(err) == flow.ErrNotFound {
			c.resolveAgain(ctx, id, a.Key)
		} else if ctx.Err() == nil {
			c.log.Warn("what is in force cannot be read back", zap.String("incident", id), zap.Error(err))
		}
		return c.cfg.Reassert
	}
	var off []string
	for i, st := range sts {
		if !effective(st, *a) {
			off = append(off, readsAs(a.NICs[i], st))
		}
	}
	switch h, elsewhere := c.elsewhere(ctx, r, *a); {
	case len(off) > 0:
		c.again(ctx, id, a.Key, ReasonDrift, nil, strings.Join(off, "; "))
	case elsewhere:
		c.again(ctx, id, a.Key, ReasonResolved, &h, "")
	case r.reason == ReasonNICAway:
		c.again(ctx, id, a.Key, ReasonDrift, nil, "the NIC is back")
	}
	return c.cfg.Reassert
}

// elsewhere reports whether the inventory lists the server of an action, all
// of whose NICs read back as in force, with a NIC more, or at another
// hypervisor that knows it: a copy may have stayed where it was.
func (c *Controller) elsewhere(ctx context.Context, r record, a flow.Action) (flow.Holder, bool) {
	h, known := c.deps.Inventory.Holder(r.inc.Tenant, c.now())
	s := c.susp[h.Hypervisor]
	if !known || !r.holder(h) || s == nil || c.cfg.Protected.covers(r.inc.Tenant, h) {
		return h, false
	}
	if h.Hypervisor == a.Adapter {
		had := macs(a.NICs)
		more := h.NICs
		h.NICs = nil
		for _, n := range a.NICs {
			h.NICs = append(h.NICs, n.MAC) // what the inventory forgot stays as it is
		}
		for _, mac := range more {
			if !slices.Contains(had, strings.ToLower(mac)) {
				h.NICs = append(h.NICs, mac)
			}
		}
		return h, len(h.NICs) > len(a.NICs)
	}
	there := a
	there.NICs = nicsOf(h, r.inc.Tenant)
	if len(there.NICs) == 0 {
		return h, false
	}
	_, err := c.look(ctx, s, callKey(h, h.Hypervisor), there)
	return h, err == nil
}

// macs are the addresses of NICs, in order and in lower case.
func macs(nics []flow.NIC) []string {
	var out []string
	for _, n := range nics {
		out = append(out, strings.ToLower(n.MAC))
	}
	slices.Sort(out)
	return out
}

// moved reports whether the inventory lists other NICs, or another adapter,
// than those of the action.
func moved(a flow.Action, h flow.Holder, r record) bool {
	nics := nicsOf(h, r.inc.Tenant)
	return len(nics) > 0 && h.Hypervisor != "" && (h.Hypervisor != a.Adapter || !slices.Equal(macs(nics), macs(a.NICs)))
}

// listed reports whether the inventory still lists a NIC for the incident's
// server.
func (c *Controller) listed(r record, nic flow.NIC) bool {
	h, known := c.deps.Inventory.Holder(r.inc.Tenant, c.now())
	return known && r.holder(h) && h.Hypervisor == nic.Hypervisor && slices.Contains(macs(nicsOf(h, nic.IP)), strings.ToLower(nic.MAC))
}

// resolution is what the inventory says of a server that the hypervisor does
// not know.
type resolution uint8

const (
	resolvedSame      resolution = iota // the inventory still lists the same NICs
	resolvedElsewhere                   // it lists others, and the action is about those now
	resolvedGone                        // nobody knows it: the incident has ended
)

// resolveAgain looks the server of an action up anew. Whoever has the address
// now is left alone, unless it is the same customer's same server.
func (c *Controller) resolveAgain(ctx context.Context, id, key string) resolution {
	r, _ := c.record(id)
	a := r.actionOf(key)
	if a == nil {
		return resolvedSame
	}
	h, known := c.deps.Inventory.Holder(r.inc.Tenant, c.now())
	switch {
	case !known || !r.holder(h):
		c.end(ctx, id, key)
		return resolvedGone
	case moved(*a, h, r) && c.susp[h.Hypervisor] != nil && !c.cfg.Protected.covers(r.inc.Tenant, h):
		c.again(ctx, id, key, ReasonResolved, &h, "")
		return resolvedElsewhere
	}
	_ = c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		if r.inForce() != nil && r.reason != ReasonNICAway {
			t.emit(newEvent(id, EventWaiting, actorController, ReasonNICAway, c.now(), body{Key: key}))
		}
		return nil
	})
	return resolvedSame
}

// again stores that an action is taken up again, at the NICs of h if that is
// given.
func (c *Controller) again(ctx context.Context, id, key string, why Reason, h *flow.Holder, detail string) {
	err := c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		a := r.current()
		if a == nil || a.Key != key || a.Kind != kindSuspend || r.inForce() == nil && r.pending() == nil {
			return errSuperseded
		}
		b := body{Key: key, Detail: detail}
		if h != nil {
			b.Holder = h
			b.Action = &flow.Action{Key: key, Kind: a.Kind, Adapter: h.Hypervisor, NICs: nicsOf(*h, r.inc.Tenant), Intent: a.Intent}
		}
		t.emit(newEvent(id, EventAgain, actorController, why, c.now(), b))
		return nil
	})
	if err == nil {
		c.m.reasserted.WithLabelValues(string(why)).Inc()
		c.log.Warn("a measure is taken up again", zap.String("incident", id), zap.String("reason", string(why)), zap.String("detail", detail))
	} else if !errors.Is(err, errSuperseded) {
		c.log.Warn("what is not in force could not be stored", zap.String("incident", id), zap.Error(err))
	}
}

// end closes an incident whose server is gone. What stands elsewhere, at the
// fallback, is given back first: the address may be another customer's next.
func (c *Controller) end(ctx context.Context, id, key string) {
	_ = c.store(ctx, func(t *txn) error {
		r, _ := t.st.rec(id)
		if a := r.current(); a == nil || a.Key != key || !r.inc.State.Live() {
			return nil
		}
		if slices.ContainsFunc(r.inc.Others, func(a flow.Action) bool { return a.Lifted.IsZero() && !a.Called.IsZero() }) {
			t.emit(c.restoreIntent(r, actorController, ReasonGone, body{}))
			return nil
		}
		t.emit(newEvent(id, EventClosed, actorController, ReasonGone, c.now(), body{}))
		return nil
	})
}

// nudge has the incidents of a server read back now; vds "" means all of the
// adapter.
func (c *Controller) nudge(adapter, vds string) {
	c.mu.Lock()
	for id := range c.st.active {
		if r := c.st.recs[id]; (r.inForce() != nil || len(r.upheld()) > 0) && r.inc.Action.Adapter == adapter && (vds == "" || r.inc.Holder.VDS == vds) {
			c.nudged[id] = true
		}
	}
	c.mu.Unlock()
	c.kick()
}

// watch follows one adapter's events until ctx ends.
func (c *Controller) watch(ctx context.Context, name string, w Watcher) {
	for try := 0; ctx.Err() == nil; try++ {
		_, err := guarded(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, w.Watch(ctx, func(vds string) { c.nudge(name, vds) })
		})
		if ctx.Err() != nil {
			return
		}
		c.log.Warn("events of a hypervisor cannot be followed, each minute is read back all the same", zap.String("adapter", name), zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(backoff(try, time.Second, time.Minute)):
		}
	}
}
