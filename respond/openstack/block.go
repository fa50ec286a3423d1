package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// A port block is a security group of ours in place of the port's own. It
// allows what those allow, less the blocked ports, and carries the mark with
// their ids. Its name is groupPrefix and the port's id.
const groupPrefix = "flowcordon-block-"

type group struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Stateful *bool    `json:"stateful"`
	Rules    []rule   `json:"security_group_rules"`
	Tags     []string `json:"tags"`

	mark *mark // of ours; nil where it is incomplete
}

func (g group) path() string { return "security-groups/" + g.ID }

// ourGroups are the groups of ours for the port, attached to it or not.
func (c *client) ourGroups(ctx context.Context, portID string) ([]group, error) {
	return c.groups(ctx, url.Values{"name": {groupPrefix + portID}})
}

func (c *client) groups(ctx context.Context, query url.Values) ([]group, error) {
	all, err := list[group](ctx, c, "security-groups", "security_groups", query)
	if err != nil {
		return nil, fmt.Errorf("list our security groups: %w", err)
	}
	for i := range all {
		g := &all[i]
		// The name alone could be a tenant's joke: it must name its port, too.
		if m := markOf(g.Tags); m != nil && g.Name == groupPrefix+m.Port {
			g.mark = m
		}
	}
	return all, nil
}

// blocking is a port with the groups of ours for it.
type blocking struct {
	c        *client
	p        port
	ours     []group
	attached *group // the one of ours on the port
}

func (c *client) blocking(ctx context.Context, p port) (*blocking, error) {
	ours, err := c.ourGroups(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	b := &blocking{c: c, p: p, ours: ours}
	for i, g := range ours {
		if !slices.Contains(p.Groups, g.ID) {
			continue
		}
		if g.mark == nil {
			return nil, fail(flow.ErrDenied, "security group %s on port %s is ours by name, but its mark is damaged: the former groups are unknown, a human must look", g.ID, p.ID)
		}
		if b.attached != nil {
			return nil, fail(flow.ErrDenied, "port %s carries two security groups of ours; a human must look", p.ID)
		}
		b.attached = &ours[i]
	}
	return b, nil
}

// foreign are the port's groups but ours.
func (b *blocking) foreign() []string {
	return slices.DeleteFunc(slices.Clone(b.p.Groups), func(id string) bool {
		return slices.ContainsFunc(b.ours, func(g group) bool { return g.ID == id })
	})
}

// former are the groups to go back to: those that ours took the place of, and
// what the user has added since.
func (b *blocking) former() []string {
	out := []string{}
	if b.attached != nil {
		out = append(out, b.attached.mark.Groups...)
	}
	out = append(out, b.foreign()...)
	slices.Sort(out)
	return slices.Compact(out)
}

// restrict puts the block in force.
func (b *blocking) restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	if !b.p.filtered() {
		return flow.Receipt{}, fail(flow.ErrUnsupported, "port %s has port security disabled: no security group filters it", b.p.ID)
	}
	own := mark{
		Mark: m, VDS: nic.VDS, MAC: b.p.MAC, IP: nic.IP, Port: b.p.ID, Ports: me.Ports, Groups: b.former(),
	}
	own.Reason = shorten(own.Reason)
	if b.attached != nil {
		old := b.attached.mark
		if old.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "port %s is already restricted for incident %s by %s", b.p.ID, old.Incident, old.By)
		}
		own.Mark = old.Mark // the first of the incident stays
	}
	rules, stateful, err := b.allowed(ctx, own.Groups)
	if err != nil {
		return flow.Receipt{}, err
	}
	want, err := narrow(rules, me.Ports)
	if err != nil {
		return flow.Receipt{}, err
	}
	keep := b.attached
	if keep == nil || !slices.Equal(b.p.Groups, []string{keep.ID}) || !slices.Equal(keep.mark.Ports, me.Ports) || !sameRules(keep.Rules, want) {
		if keep, err = b.swap(ctx, own, want, stateful); err != nil {
			return flow.Receipt{}, err
		}
	}
	b.sweep(ctx, keep.ID)
	now, err := b.c.port(ctx, b.p.ID)
	if err != nil {
		return flow.Receipt{}, err
	}
	st, err := b.c.status(ctx, now)
	if err != nil {
		return flow.Receipt{}, err
	}
	if r, ok := st.Restricted(flow.MeasureBlockPort); !ok || r.Mark.Incident != m.Incident {
		return flow.Receipt{}, fail(flow.ErrConflict, "port %s reads back the security groups %v after the block", b.p.ID, now.Groups)
	}
	before := now.status()
	return flow.Receipt{Before: before, After: st, Node: b.p.Host, Undo: undo{Port: b.p.ID, Groups: own.Groups}.json()}, nil
}

// allowed are the rules of the groups, and whether these track connections.
// A group that is gone allowed nothing.
func (b *blocking) allowed(ctx context.Context, ids []string) ([]rule, *bool, error) {
	var rules []rule
	var stateful *bool
	for _, id := range ids {
		var out struct {
			Group group `json:"security_group"`
		}
		err := b.c.get(ctx, "security-groups/"+id, nil, &out)
		if isStatus(err, http.StatusNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read a security group of the port: %w", err)
		}
		rules = append(rules, out.Group.Rules...)
		stateful = out.Group.Stateful
	}
	return rules, stateful, nil
}

// swap makes a group of ours with these rules and puts the port into it alone.
// Until the port is written to, which is refused if anybody did since it was
// read, nothing has changed for the server.
func (b *blocking) swap(ctx context.Context, own mark, want []rule, stateful *bool) (*group, error) {
	g, err := b.make(ctx, own, want, stateful)
	if err == nil {
		if err = b.c.update(ctx, b.p, map[string]any{"security_groups": []string{g.ID}}); err == nil {
			return g, nil
		}
		err = fmt.Errorf("put the port into our security group: %w", err)
	}
	if g != nil {
		b.discard(ctx, g.ID)
	}
	return nil, err
}

func (b *blocking) make(ctx context.Context, own mark, want []rule, stateful *bool) (*group, error) {
	tags, err := own.tags()
	if err != nil {
		return nil, err
	}
	fields := map[string]any{
		"name": groupPrefix + b.p.ID, "description": "flowcordon blocks ports for incident " + own.Incident + "; do not edit",
	}
	if stateful != nil && !*stateful {
		fields["stateful"] = false // the other kind: a port has groups of one
	}
	var made struct {
		Group group `json:"security_group"`
	}
	err = b.c.call(ctx, http.MethodPost, "security-groups", nil, map[string]any{"security_group": fields}, &made, nil)
	if err != nil {
		return nil, fmt.Errorf("make our security group: %w", err)
	}
	g := &made.Group
	for _, r := range g.Rules { // a new one allows everything outward
		if err := b.c.remove(ctx, "security-group-rules/"+r.ID); err != nil {
			return g, fmt.Errorf("empty our security group: %w", err)
		}
	}
	if len(want) > 0 {
		rules := slices.Clone(want)
		for i := range rules {
			rules[i].Group = g.ID
		}
		err = b.c.call(ctx, http.MethodPost, "security-group-rules", nil, map[string]any{"security_group_rules": rules}, nil, nil)
		if err != nil {
			return g, fmt.Errorf("fill our security group with %d rules: %w", len(rules), err)
		}
	}
	if err := b.c.setTags(ctx, g.path(), nil, tags); err != nil {
		return g, err
	}
	// A rule less would cut what nobody asked to cut, one more would let out
	// what is to be blocked.
	back, _, err := b.allowed(ctx, []string{g.ID})
	if err == nil && !sameRules(back, want) {
		err = fail(flow.ErrConflict, "our security group %s reads back %d rules, want %d", g.ID, len(back), len(want))
	}
	return g, err
}

// lift gives the port its former groups back and deletes ours.
func (b *blocking) lift(ctx context.Context, m flow.Mark) error {
	if b.attached == nil {
		b.sweep(ctx, "") // what an interrupted call left
		return nil
	}
	if old := b.attached.mark; old.Incident != m.Incident {
		return fail(flow.ErrConflict, "port %s is restricted for incident %s by %s, not for %s; it stays as it is", b.p.ID, old.Incident, old.By, m.Incident)
	}
	var back []string
	for _, id := range b.former() {
		var g struct{}
		switch err := b.c.get(ctx, "security-groups/"+id, url.Values{"fields": {"id"}}, &g); {
		case err == nil:
			back = append(back, id)
		case !isStatus(err, http.StatusNotFound): // the user deleted it since
			return err
		}
	}
	if back == nil {
		back = []string{}
	}
	if err := b.c.update(ctx, b.p, map[string]any{"security_groups": back}); err != nil {
		return fmt.Errorf("give the port its security groups back: %w", err)
	}
	now, err := b.c.port(ctx, b.p.ID)
	if err != nil {
		return err
	}
	if slices.Contains(now.Groups, b.attached.ID) {
		return fail(flow.ErrConflict, "port %s reads back the security groups %v after the lift", b.p.ID, now.Groups)
	}
	for _, g := range b.ours {
		if err := b.c.remove(ctx, g.path()); err != nil {
			return fmt.Errorf("delete our security group: %w", err)
		}
	}
	return nil
}

// sweep deletes the groups of ours for the port but keep. What cannot be
// deleted now is found again by the next call.
func (b *blocking) sweep(ctx context.Context, keep string) {
	for _, g := range b.ours {
		if g.ID != keep {
			b.discard(ctx, g.ID)
		}
	}
}

// discard has a time of its own: the context may be what ended.
func (b *blocking) discard(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), byeTimeout)
	defer cancel()
	_ = b.c.remove(ctx, "security-groups/"+id)
}
