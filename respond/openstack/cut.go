package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// undo is what a receipt keeps for giving back.
type undo struct {
	Port   string   `json:"port"`
	Up     *bool    `json:"admin_state_up,omitempty"`
	Groups []string `json:"security_groups,omitempty"` // of a port block
}

func (u undo) json() json.RawMessage {
	raw, err := json.Marshal(u)
	if err != nil {
		panic("openstack: " + err.Error()) // strings and a bool
	}
	return raw
}

// cut takes the port down. The mark goes first: a port that is down without it
// could not be told from an admin's work, a mark on a port that is still up
// only means that the cut has to be repeated.
func (c *client) cut(ctx context.Context, p port, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	own := mark{Mark: m, VDS: nic.VDS, MAC: p.MAC, IP: nic.IP, Up: p.Up}
	own.Reason = shorten(own.Reason)
	old := markOf(p.Tags)
	if old != nil {
		if old.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "port %s is already cut for incident %s by %s", p.ID, old.Incident, old.By)
		}
		own = *old
	}
	want, err := own.tags()
	if err != nil {
		return flow.Receipt{}, err
	}
	if err := c.setTags(ctx, p.path(), p.Tags, want); err != nil {
		return flow.Receipt{}, err
	}
	now, err := c.port(ctx, p.ID) // tags give it another revision
	if err != nil {
		return flow.Receipt{}, err
	}
	if old == nil && now.Up != p.Up {
		// Somebody set it in between, so that our mark has the former state wrong.
		return flow.Receipt{}, c.retract(ctx, now, fail(flow.ErrConflict, "port %s was set to admin_state_up=%t meanwhile", p.ID, now.Up))
	}
	if now.Up {
		if err := c.update(ctx, now, map[string]any{"admin_state_up": false}); err != nil {
			return flow.Receipt{}, fmt.Errorf("take the port down: %w", err)
		}
		if now, err = c.port(ctx, p.ID); err != nil {
			return flow.Receipt{}, err
		}
	}
	st, err := c.status(ctx, now)
	if err != nil {
		return flow.Receipt{}, err
	}
	if !st.Cut() || st.Mark == nil || st.Mark.Incident != m.Incident {
		return flow.Receipt{}, fail(flow.ErrConflict, "port %s reads back %s with mark %s after the cut", p.ID, st.Live, incident(st.Mark))
	}
	was := port{Up: own.Up, Device: p.Device}.status()
	was.Restrictions = st.Restrictions
	return flow.Receipt{Before: was, After: st, Node: p.Host, Undo: undo{Port: p.ID, Up: &own.Up}.json()}, nil
}

// retract takes a mark away that was just set in error.
func (c *client) retract(ctx context.Context, p port, why error) error {
	if err := c.setTags(ctx, p.path(), p.Tags, nil); err != nil {
		return fmt.Errorf("%w; and %w", why, err)
	}
	return why
}

// restore brings the port back to what the mark says. The mark goes last: until
// it is gone a repeat knows what to restore.
func (c *client) restore(ctx context.Context, p port, m flow.Mark, r flow.Receipt) error {
	own := markOf(p.Tags)
	if own == nil {
		return c.restored(ctx, p, r)
	}
	if own.Incident != m.Incident {
		return fail(flow.ErrConflict, "port %s is cut for incident %s by %s, not for %s; it stays as it is", p.ID, own.Incident, own.By, m.Incident)
	}
	if p.Up != own.Up {
		if err := c.update(ctx, p, map[string]any{"admin_state_up": own.Up}); err != nil {
			return fmt.Errorf("set the port's former state: %w", err)
		}
	}
	if err := c.setTags(ctx, p.path(), p.Tags, nil); err != nil {
		return err
	}
	now, err := c.port(ctx, p.ID)
	if err != nil {
		return err
	}
	if now.Up != own.Up || len(ourTags(now.Tags)) != 0 {
		return fail(flow.ErrConflict, "port %s reads back admin_state_up=%t after the restore, want %t without a mark", p.ID, now.Up, own.Up)
	}
	return nil
}

// restored answers a restore that finds no mark: nothing is left to do when the
// port is as the receipt says, because then an earlier call did it and only its
// answer was lost. Otherwise the state is somebody else's work.
func (c *client) restored(ctx context.Context, p port, r flow.Receipt) error {
	want := r.Before.Config
	if want == "" { // no receipt: a port nobody cut is up
		want = flow.LinkUp
	}
	st := p.status()
	if st.Config != want {
		return fail(flow.ErrConflict, "port %s carries no mark of ours and is %s; somebody else set it, so it stays as it is", p.ID, st.Config)
	}
	// What an interrupted removal left.
	return c.setTags(ctx, p.path(), p.Tags, nil)
}

func incident(m *flow.Mark) string {
	if m == nil {
		return "none"
	}
	return m.Incident
}

// status is the port's with the port block that it carries.
func (c *client) status(ctx context.Context, p port) (flow.NICStatus, error) {
	st := p.status()
	gs, err := c.ourGroups(ctx, p.ID)
	if err != nil {
		return flow.NICStatus{}, err
	}
	for _, g := range gs {
		// Beside another group ours blocks nothing: groups allow, and the port
		// may what any of them allows.
		if g.mark != nil && slices.Equal(p.Groups, []string{g.ID}) {
			st.Restrictions = append(st.Restrictions, flow.Restriction{
				Measure: flow.Measure{Kind: flow.MeasureBlockPort, Ports: g.mark.Ports}, Mark: g.mark.Mark,
			})
		}
	}
	return st, nil
}
