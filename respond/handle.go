package respond

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Handle takes the findings of one tick. ts is event time. When it returns nil
// every decision is stored; acts and notices follow in Run. On ErrLogAway
// nothing was lost: the detector finds the same again while the abuse lasts,
// and what was numbered is appended when the log is back.
func (c *Controller) Handle(ctx context.Context, ts time.Time, fs []flow.Finding) error {
	ts = ts.UTC()
	var order []netip.Addr
	byTenant := map[netip.Addr][]flow.Finding{}
	for _, f := range fs {
		if c.cfg.mode(f.Rule) == flow.ModeOff || f.Tier == flow.TierNone {
			continue
		}
		if _, ok := byTenant[f.Tenant]; !ok {
			order = append(order, f.Tenant)
		}
		byTenant[f.Tenant] = append(byTenant[f.Tenant], f)
	}
	if len(order) == 0 {
		return nil
	}
	err := c.transact(ctx, func(t *txn) error {
		var fresh []flow.Finding
		for _, tenant := range order {
			byTenant[tenant] = c.fresh(t, ts, tenant, byTenant[tenant])
			fresh = append(fresh, byTenant[tenant]...)
		}
		c.noteBusy(ts, fresh)
		// The whole tick counts for a freeze before its first tenant is acted on.
		trips := c.tripping(t.st, ts, fresh)
		for _, tenant := range order {
			if fs := byTenant[tenant]; len(fs) > 0 {
				c.handleTenant(t, ts, tenant, fs, trips)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("handle %d findings: %w", len(fs), err)
	}
	return nil
}

// fresh leaves out findings that count windows from before the end of the last
// incident: the long ones still hold the abuse that was already dealt with.
func (c *Controller) fresh(t *txn, ts time.Time, tenant netip.Addr, fs []flow.Finding) []flow.Finding {
	h, _ := c.deps.Inventory.Holder(tenant, ts)
	nb := t.st.earliest(tenant, h)
	if nb.IsZero() {
		return fs
	}
	out := fs[:0:0]
	for _, f := range fs {
		if f.From.Before(nb.Add(c.cfg.Settle)) {
			c.m.stale.Inc()
			continue
		}
		out = append(out, f)
	}
	return out
}

// handleTenant decides on one tenant's findings and emits what follows.
func (c *Controller) handleTenant(t *txn, ts time.Time, tenant netip.Addr, fs []flow.Finding, trips map[flow.Rule]map[netip.Addr]bool) {
	h, known := c.deps.Inventory.Holder(tenant, ts)
	c.mu.Lock()
	c.lastSeen[tenant] = ts
	c.mu.Unlock()

	r, live := t.st.liveOf(tenant)
	in := c.input(t, ts, tenant, fs, h, known, r)
	var from flow.State
	if live {
		from = r.inc.State
	}
	d, reason := decide(c.cfg, from, in, ts)
	id := r.inc.ID
	if !live {
		id = incidentID(tenant, ts)
		if _, taken := t.st.rec(id); taken {
			return // opened and ended within one slot: the next slot opens another
		}
		b := body{
			Tenant: tenant.String(), Holder: &h, Findings: fs, Prior: t.st.priorOf(holderKey(tenant, h)),
			Exemption: d.Exemption, Probation: in.Probation,
		}
		why := reason
		if d.State != flow.StateOpen {
			why, b.Then = ReasonObserved, d.State
		}
		t.emit(newEvent(id, EventOpened, actorDetector, why, ts, b))
	} else if newsworthy(r, fs, ts) || reason == ReasonNotifyWait && r.waiting.IsZero() {
		b := body{Findings: fs, Exemption: d.Exemption}
		if !r.holdsCut() && known {
			b.Holder = &h // while something is cut, the holder it was cut for stays
		}
		t.emit(newEvent(id, EventFinding, actorDetector, reason, ts, b))
	}
	// A cap that is reached must not keep a freeze from closing.
	if (d.State == flow.StateSuspending || d.State == flow.StateHeld) && !in.Frozen {
		if c.closeFreeze(t, ts, id, trips); c.anyFrozen(t.st, fs) {
			in.Frozen = true
			d, reason = decide(c.cfg, from, in, ts)
		}
	}
	c.emitDecision(t, ts, id, d, reason, in)
}

// anyFrozen reports whether automatic acts of one of the findings' rules are
// frozen.
func (c *Controller) anyFrozen(s *state, fs []flow.Finding) bool {
	return slices.ContainsFunc(fs, func(f flow.Finding) bool {
		_, yes := s.frozen(f.Rule)
		return yes && c.cfg.mode(f.Rule) == flow.ModeEnforce
	})
}

// input collects what decide may look at.
func (c *Controller) input(t *txn, ts time.Time, tenant netip.Addr, fs []flow.Finding, h flow.Holder, known bool, r record) Input {
	first := ts
	for _, f := range fs {
		if !f.From.IsZero() && f.From.Before(first) {
			first = f.From
		}
	}
	before, knownBefore := c.deps.Inventory.Holder(tenant, first)
	inc := r.inc
	inc.Tenant, inc.Holder = tenant, h
	in := Input{
		Findings: fs, Holder: h, Known: known, Before: before, KnownBefore: knownBefore,
		Adapter:  len(h.NICs) > 0 && c.susp[h.Hypervisor] != nil,
		Measures: c.measures(h.Hypervisor),
		Released: t.st.releasedOf(holderKey(tenant, h)),
		Held:     r.reason, Waiting: r.waiting,
		OtherCut: t.st.cutByOther(h, r.inc.ID),
		Frozen:   c.anyFrozen(t.st, fs),
		Exempt:   c.deps.Exempt,
	}
	in.Counts, in.LastHour = t.st.counts(ts, inc)
	in.Counts.Fleet = c.fleetSize()
	in.Offences, in.Probation = t.st.standing(c.cfg, standingKey(tenant, h), ts)
	if c.deps.InventoryAge != nil {
		in.InventoryAge = c.deps.InventoryAge()
	}
	if a := r.inForce(); a != nil {
		in.InForce, in.InForceSince, in.StepSince, in.Held = a.Measure, a.Done, r.stepAt, r.stepHeld
		in.InForceAuto = !r.autoAt.IsZero()
		in.InForce.Kind = a.Taken()
		if r.holder(h) {
			in.Before = h // who holds it now is who it was taken for; what was before is settled
			in.KnownBefore = true
		}
	}
	return in
}

// holder reports whether h is still the customer and server of the incident.
func (r record) holder(h flow.Holder) bool {
	return r.inc.Holder.VDS == h.VDS && r.inc.Holder.Tenant == h.Tenant
}

// measures are the milder ones that an adapter can take.
func (c *Controller) measures(adapter string) []flow.MeasureKind {
	if r, ok := c.susp[adapter].(Restrictor); ok {
		return r.Measures()
	}
	return nil
}

// emitDecision stores the state that a decision leads to.
func (c *Controller) emitDecision(t *txn, ts time.Time, id string, d Decision, reason Reason, in Input) {
	r, _ := t.st.rec(id)
	h := in.Holder
	b := body{Holder: &h, Exemption: d.Exemption, HoldS: int64(d.Hold / time.Second)}
	if d.Measure.Kind != "" {
		b.Measure = &d.Measure
	}
	switch d.State {
	case flow.StateNotified:
		b.Notices = c.dues(t, r, noticeNotified, flow.StateNotified)
		t.emit(newEvent(id, EventNotified, actorController, reason, ts, b))
	case flow.StateHeld, flow.StateApproval:
		c.emitHeld(t, ts, r, d, reason, b, in)
	case flow.StateSuspending:
		t.emit(c.intent(r, actorController, reason, ts, d, in))
	}
}

// emitHeld stores that an act is due and waits, for a person or for a safety
// to open.
func (c *Controller) emitHeld(t *txn, ts time.Time, r record, d Decision, reason Reason, b body, in Input) {
	kind := EventHeld
	switch {
	case d.Climb:
		kind, b.Holder = EventStepHeld, nil
	case d.State == flow.StateApproval:
		kind = EventApprovalAsked
	}
	state := d.State
	if d.Climb {
		state = r.inc.State
	}
	switch reason {
	case ReasonAlreadyCut:
		b.Detail = in.OtherCut
	case ReasonFreeze:
		if list := t.st.freezesNow(); len(list) > 0 {
			b.Detail = list[0].Why
		}
	}
	// Staff know; a reason that comes and goes is not news. A freeze has a page of its own.
	told := slices.ContainsFunc(r.notices, func(n notice) bool { return n.Kind == noticeHeld && n.reply == reason })
	if d.State == flow.StateApproval || !told && reason != ReasonFreeze {
		b.Notices = c.dues(t, r, noticeHeld, state)
	}
	c.m.held.WithLabelValues(string(reason)).Inc()
	t.emit(newEvent(r.inc.ID, kind, actorController, reason, ts, b))
}

// intent is the event that must be stored before a hypervisor is called.
func (c *Controller) intent(r record, actor string, reason Reason, ts time.Time, d Decision, in Input) flow.Event {
	h := in.Holder
	a := &flow.Action{
		Key: actionKey(r, kindSuspend), Kind: kindSuspend, Adapter: h.Hypervisor, NICs: nicsOf(h, r.inc.Tenant),
		Intent: ts.UTC(), Measure: d.Measure, HoldS: int64(d.Hold / time.Second),
	}
	if a.Measure.Kind == "" {
		a.Measure.Kind = flow.MeasureCut
	}
	if a.Measure.Kind == flow.MeasureCut && c.deps.PrivateNICs != nil {
		h.NICs = append(slices.Clone(h.NICs), c.deps.PrivateNICs(h)...)
		a.NICs = nicsOf(h, r.inc.Tenant)
		h.NICs = in.Holder.NICs
	}
	b := body{Holder: &h, Action: a}
	if in.refused(c.cfg) && !r.inc.Refuse && a.Measure.Kind == flow.MeasureCut {
		a.HoldS, b.Refuse = 0, true
		c.m.refused.Inc()
	}
	return newEvent(r.inc.ID, EventIntent, actor, reason, ts, b)
}

func nicsOf(h flow.Holder, ip netip.Addr) []flow.NIC {
	var out []flow.NIC
	for _, mac := range h.NICs {
		out = append(out, flow.NIC{VDS: h.VDS, Hypervisor: h.Hypervisor, MAC: mac, IP: ip})
	}
	return out
}
