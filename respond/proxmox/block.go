package proxmox

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// block puts the rules in force. New ones are added before old ones of the
// incident go, so there is no moment without.
func (t *target) block(ctx context.Context, me flow.Measure, m flow.Mark) (undo, error) {
	rs, err := t.rules(ctx)
	if err != nil {
		return undo{}, err
	}
	own, old := t.ours(rs)
	if len(own) > 0 && old.Mark.Incident != m.Incident {
		return undo{}, fail(flow.ErrConflict, "%s: ports are already blocked for incident %s by %s", t, old.Mark.Incident, old.Mark.By)
	}
	rm := ruleMark{MAC: t.mac, Mark: m, Undo: old.Undo}
	for _, r := range rs { // what was changed for another NIC is put back with the last block of the guest
		if o, ok := r.mark(); ok && len(rm.Undo.Options) == 0 {
			rm.Undo.Options = o.Undo.Options
		}
	}
	on, changed, err := t.needFirewall(ctx, rs)
	if err != nil {
		return undo{}, err
	}
	if changed != nil && len(rm.Undo.Options) == 0 {
		rm.Undo.Options = changed
	}
	want, err := rulesFor(t.key, me.Ports, rm.comment())
	if err != nil {
		return undo{}, err
	}
	for _, w := range want {
		if slices.ContainsFunc(own, w.same) {
			continue
		}
		if err := t.create(ctx, w); err != nil {
			return undo{}, err
		}
	}
	if err := t.remove(ctx, func(r rule) bool { return slices.ContainsFunc(want, r.same) }); err != nil {
		return undo{}, err
	}
	// The firewall last: it must not run for a moment without our mark.
	return rm.Undo, on()
}

func (t *target) unblock(ctx context.Context, m flow.Mark, r flow.Receipt) error {
	rs, err := t.rules(ctx)
	if err != nil {
		return err
	}
	own, old := t.ours(rs)
	if len(own) == 0 {
		return nil
	}
	if old.Mark.Incident != m.Incident {
		return fail(flow.ErrConflict, "%s: ports are blocked for incident %s by %s, not for %s; they stay so",
			t, old.Mark.Incident, old.Mark.By, m.Incident)
	}
	was := undoOf(r, old.Undo).Options
	others := slices.ContainsFunc(rs, func(r rule) bool {
		rm, ok := r.mark()
		return ok && rm.MAC != t.mac // another NIC of the guest still needs the firewall
	})
	if len(was) > 0 && !others {
		if err := t.firewallBack(ctx, was); err != nil {
			return err
		}
	}
	return t.remove(ctx, func(rule) bool { return false })
}

// accepting are the settings under which a firewall that was off changes
// nothing but what our rules drop: policy_in is DROP where it is not set, and
// the MAC filter is on.
var accepting = map[string]string{
	"enable": "1", "policy_in": "ACCEPT", "policy_out": "ACCEPT", "macfilter": "0", "ipfilter": "0", "radv": "1", "ndp": "1", "dhcp": "1",
}

// needFirewall checks that the firewall works on the NIC, or can be made to,
// and gives what switches the guest's own on and what that changes.
func (t *target) needFirewall(ctx context.Context, rs []rule) (on func() error, was map[string]*string, err error) {
	nothing := func() error { return nil }
	why, err := t.firewallOutside(ctx)
	if err != nil {
		return nothing, nil, err
	}
	if why != "" {
		return nothing, nil, fail(flow.ErrUnsupported, "%s: ports cannot be blocked: %s", t, why)
	}
	have, err := t.options(ctx, t.g.path("/firewall/options"))
	if err != nil {
		return nothing, nil, err
	}
	if truth(string(have["enable"])) {
		return nothing, nil, nil
	}
	if !t.a.cfg.EnableFirewall {
		return nothing, nil, fail(flow.ErrUnsupported, "%s: ports cannot be blocked: %s; switch it on in the guest's Firewall, Options, "+
			"after a look at its policies, or set enable_firewall for this adapter", t, offGuest)
	}
	for _, r := range rs {
		if _, ours := r.mark(); !ours && truth(string(r.Enable)) {
			return nothing, nil, fail(flow.ErrUnsupported, "%s: ports cannot be blocked: %s, and it holds rules of somebody else's "+
				"that would come into force with it; switch it on by hand", t, offGuest)
		}
	}
	was = map[string]*string{}
	p := url.Values{"digest": {string(have["digest"])}}
	for k, v := range accepting {
		if string(have[k]) == v {
			continue
		}
		was[k] = nil
		if old, ok := have[k]; ok {
			s := string(old)
			was[k] = &s
		}
		p.Set(k, v)
	}
	return func() error {
		return t.a.api.change(ctx, t.g.Node, http.MethodPut, t.g.path("/firewall/options"), p)
	}, was, nil
}

// firewallBack puts the guest's firewall settings back that we changed and
// that still are as we set them.
func (t *target) firewallBack(ctx context.Context, was map[string]*string) error {
	have, err := t.options(ctx, t.g.path("/firewall/options"))
	if err != nil {
		return err
	}
	p := url.Values{}
	var drop []string
	for _, k := range sortedKeys(was) {
		switch v := was[k]; {
		case accepting[k] == "" || string(have[k]) != accepting[k]:
		case v == nil:
			drop = append(drop, k)
		default:
			p.Set(k, *v)
		}
	}
	if len(drop) > 0 {
		p.Set("delete", strings.Join(drop, ","))
	}
	if len(p) == 0 {
		return nil
	}
	p.Set("digest", string(have["digest"]))
	return t.a.api.change(ctx, t.g.Node, http.MethodPut, t.g.path("/firewall/options"), p)
}
