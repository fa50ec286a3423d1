package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// check refuses what the receiver cannot be asked for.
func (a *Adapter) check(action string, me flow.Measure, m flow.Mark) error {
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "the mark names no incident")
	case action == actionSuspend, action == actionRestore:
		return nil
	case me.Kind == flow.MeasureCut || !slices.Contains(a.cfg.Measures, me.Kind):
		return fail(flow.ErrUnsupported, "measure %q is not among the receiver's configured measures", me.Kind)
	case action == actionRestrict && me.Kind == flow.MeasureBlockPort && len(me.Ports) == 0:
		return fail(flow.ErrDenied, "block_port: no ports")
	case action == actionRestrict && me.Kind == flow.MeasureLimit && me.KbitS == 0:
		return fail(flow.ErrDenied, "rate_limit: kbit_s is 0")
	}
	return nil
}

// took checks that a receiver which says that it is done did it.
func took(st flow.NICStatus, action string, me flow.Measure, m flow.Mark) error {
	mark := st.MarkOf(me.Kind)
	if mark == nil || mark.Incident != m.Incident || me.Kind == flow.MeasureCut && !st.Cut() {
		return fail(flow.ErrConflict, "answered 200 to %s, but says live %s, config %s, mark of %s %s",
			action, st.Live, st.Config, me.Kind, incident(mark))
	}
	if me.Kind == flow.MeasureCut {
		return nil
	}
	if got, _ := st.Restricted(me.Kind); !got.Measure.Same(me) {
		return fail(flow.ErrConflict, "answered 200 to %s, but says that %+v is in force, not %+v", action, got.Measure, me)
	}
	return nil
}

// Marked lists every NIC with a mark of ours; flow.ErrUnsupported where the
// configuration does not say that the receiver answers list.
func (a *Adapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	var out []flow.MarkedNIC
	err := a.do(ctx, actionList, func(ctx context.Context) error {
		if !a.cfg.List {
			return fail(flow.ErrUnsupported, "the configuration does not say that the receiver answers list")
		}
		rep, err := a.call(ctx, actionList, flow.NIC{}, flow.Mark{}, nil, nil)
		out = rep.NICs
		for i := range out {
			out[i].NIC.Hypervisor = a.cfg.Name
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Describe says which call a measure would be, without the secret and without
// more of the URL than the host, since the rest may hold a token.
func (a *Adapter) Describe(_ context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	u, err := url.Parse(a.cfg.URL)
	if err != nil {
		return "", fail(flow.ErrUnsupported, "webhook %s: describe: configuration: the url cannot be read", a.cfg.Name)
	}
	action := actionSuspend
	if me.Kind != flow.MeasureCut {
		action = actionRestrict
		if !slices.Contains(a.cfg.Measures, me.Kind) {
			return "", fail(flow.ErrUnsupported, "webhook %s: describe: measure %q is not among the receiver's configured measures", a.cfg.Name, me.Kind)
		}
	}
	text, err := json.Marshal(a.body(action, nic, flow.Mark{}, &me, nil))
	if err != nil {
		return "", fail(flow.ErrUnsupported, "webhook %s: describe: %w", a.cfg.Name, err)
	}
	return fmt.Sprintf("POST %s://%s, signed, with %s", u.Scheme, u.Host, text), nil
}
