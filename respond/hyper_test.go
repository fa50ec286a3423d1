package respond

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// hyper is a hypervisor seen from one process.
type hyper struct {
	*proc
	name string
}

func (h hyper) Name() string { return h.name }

func (n *nicState) status() flow.NICStatus {
	ls := func(up bool) flow.LinkState {
		if up {
			return flow.LinkUp
		}
		return flow.LinkDown
	}
	st := flow.NICStatus{Live: ls(n.up), Config: ls(n.configUp), Running: n.running, Restrictions: slices.Clone(n.restrictions)}
	if !n.running {
		st.Live = flow.LinkUnknown
	}
	if n.mark != nil {
		m := *n.mark
		st.Mark = &m
	}
	return st
}

// find is the NIC at this adapter. The caller holds the lock.
func (h hyper) find(nic flow.NIC) (*nicState, error) {
	n := h.w.nics[nic.MAC]
	if n == nil || n.at != h.name {
		return nil, &flow.ActError{Class: flow.ErrNotFound, Err: errors.New(h.name + " does not know " + nic.MAC)}
	}
	return n, nil
}

// effect is do with what the script has before and after a call.
func (h hyper) effect(name string, f func() error) error {
	if h.w.before != nil {
		h.w.before(name)
	}
	err := h.do(f)
	if err == nil && h.w.after != nil {
		err = h.w.after(name)
	}
	return err
}

func (h hyper) Measures() []flow.MeasureKind {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return slices.Clone(h.w.measures)
}

func (h hyper) Restrict(_ context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (rc flow.Receipt, err error) {
	err = h.effect("restrict", func() error {
		h.w.restrictCalls++
		if err := scripted(h.w.restrictErr, h.w.restrictCalls); err != nil {
			return err
		}
		n, err := h.find(nic)
		if err != nil {
			return err
		}
		rc = flow.Receipt{NIC: nic, Before: n.status(), At: time.Now(), Undo: []byte(`"as it was"`)}
		i := slices.IndexFunc(n.restrictions, func(r flow.Restriction) bool { return r.Measure.Kind == me.Kind })
		switch {
		case i < 0:
			n.restrictions = append(n.restrictions, flow.Restriction{Measure: me, Mark: m})
		case n.restrictions[i].Mark.Incident != m.Incident:
			return &flow.ActError{Class: flow.ErrConflict, Err: errors.New("restricted for " + n.restrictions[i].Mark.Incident)}
		case cmp.Compare(n.restrictions[i].Measure.KbitS, me.KbitS) == 0 && slices.Equal(n.restrictions[i].Measure.Ports, me.Ports):
			h.w.redundant++
			return nil
		default:
			n.restrictions[i] = flow.Restriction{Measure: me, Mark: m}
		}
		n.takes++
		rc.After = n.status()
		return nil
	})
	return rc, err
}

func (h hyper) Lift(_ context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error {
	return h.effect("lift", func() error {
		h.w.liftCalls++
		if err := scripted(h.w.liftErr, h.w.liftCalls); err != nil {
			return err
		}
		n, err := h.find(nic)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(n.restrictions, func(r flow.Restriction) bool { return r.Measure.Kind == kind })
		if i < 0 || n.restrictions[i].Mark.Incident != m.Incident {
			h.w.redundant++
			return nil
		}
		if string(r.Undo) != `"as it was"` {
			return errors.New("no receipt: what to give back is not known")
		}
		n.restrictions = slices.Delete(slices.Clone(n.restrictions), i, i+1)
		n.lifts++
		return nil
	})
}

func (h hyper) Watch(ctx context.Context, changed func(string)) error {
	h.w.mu.Lock()
	evs := h.w.changes
	h.w.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case vds := <-evs:
			changed(vds)
		}
	}
}

func (h hyper) Marked(ctx context.Context) (out []flow.MarkedNIC, err error) {
	var list func(context.Context, []flow.MarkedNIC) ([]flow.MarkedNIC, error)
	err = h.ask(func() error {
		for _, mac := range slices.Sorted(maps.Keys(h.w.nics)) {
			n := h.w.nics[mac]
			if n.at == h.name && (n.mark != nil || len(n.restrictions) > 0) {
				out = append(out, flow.MarkedNIC{NIC: flow.NIC{VDS: "vds-" + mac[len(mac)-1:], Hypervisor: h.name, MAC: mac}, Status: n.status()})
			}
		}
		list = h.w.list
		return nil
	})
	if err == nil && list != nil {
		return list(ctx, out)
	}
	return out, err
}

func (h hyper) Describe(_ context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.describeCalls++
	return "PUT /" + nic.VDS + "/" + nic.MAC + " " + string(me.Kind), nil
}

// edge is the network side: it drops by source address and never fails.
type edge struct{ *proc }

func (e edge) Name() string { return "edge" }

func (e edge) at(nic flow.NIC) *nicState {
	k := nic.IP.String()
	if e.w.edge[k] == nil {
		e.w.edge[k] = &nicState{up: true, configUp: true, running: true}
	}
	return e.w.edge[k]
}

func (e edge) Status(_ context.Context, nic flow.NIC) (st flow.NICStatus, err error) {
	err = e.do(func() error { st = e.at(nic).status(); return nil })
	return st, err
}

func (e edge) Cut(_ context.Context, nic flow.NIC, m flow.Mark) (rc flow.Receipt, err error) {
	err = e.do(func() error {
		n := e.at(nic)
		rc = flow.Receipt{NIC: nic, Before: n.status(), At: time.Now()}
		n.up, n.configUp, n.mark = false, false, &m
		n.cuts++
		rc.After = n.status()
		return nil
	})
	return rc, err
}

func (e edge) Restore(_ context.Context, nic flow.NIC, m flow.Mark, _ flow.Receipt) error {
	return e.do(func() error {
		n := e.at(nic)
		n.up, n.configUp, n.mark = true, true, nil
		n.gives++
		return nil
	})
}

func scripted(f func(int) error, n int) error {
	if f == nil {
		return nil
	}
	return f(n)
}

func (h hyper) Status(_ context.Context, nic flow.NIC) (st flow.NICStatus, err error) {
	err = h.do(func() error {
		h.w.statusCalls++
		if err := scripted(h.w.statusErr, h.w.statusCalls); err != nil {
			return err
		}
		n, err := h.find(nic)
		if err == nil {
			st = n.status()
		}
		return err
	})
	return st, err
}

func (h hyper) Cut(_ context.Context, nic flow.NIC, m flow.Mark) (rc flow.Receipt, err error) {
	h.w.mu.Lock()
	hang := h.w.hang
	if hang != nil {
		h.w.cutCalls++
	}
	h.w.mu.Unlock()
	if hang != nil {
		<-hang
		return rc, errors.New("hung")
	}
	err = h.effect("cut", func() error {
		h.w.cutCalls++
		if err := scripted(h.w.cutErr, h.w.cutCalls); err != nil {
			return err
		}
		n, err := h.find(nic)
		if err != nil {
			return err
		}
		if n.mark != nil && n.mark.Incident != m.Incident { // one mark on a NIC, as with libvirt
			return &flow.ActError{Class: flow.ErrConflict, Err: errors.New("marked for " + n.mark.Incident)}
		}
		rc = flow.Receipt{NIC: nic, Before: n.status(), At: time.Now(), Node: n.node}
		if n.up && n.running || n.configUp {
			n.cuts++
		} else {
			h.w.redundant++
		}
		n.up, n.configUp, n.mark = false, false, &m
		rc.After = n.status()
		return nil
	})
	return rc, err
}

func (h hyper) Restore(_ context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error {
	return h.effect("restore", func() error {
		h.w.restoreCalls++
		if err := scripted(h.w.restoreErr, h.w.restoreCalls); err != nil {
			return err
		}
		n, err := h.find(nic)
		if err != nil {
			return err
		}
		if n.mark == nil || n.mark.Incident != m.Incident {
			h.w.redundant++
			return nil
		}
		if r.Before.Live == "" {
			return errors.New("no receipt: what to restore is not known")
		}
		n.up, n.configUp, n.mark = r.Before.Live == flow.LinkUp, r.Before.Config == flow.LinkUp, nil
		n.gives++
		return nil
	})
}
