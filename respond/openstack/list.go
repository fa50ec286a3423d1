package openstack

import (
	"context"
	"net/http"
	"net/url"

	"github.com/flowcordon/flowcordon/flow"
)

// Marked lists every port of the region that carries a mark of ours, of a cut
// or of a block. A group of ours whose port is gone or not in it is not listed.
func (a *Adapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	var out []flow.MarkedNIC
	err := a.run(ctx, "marked", func(ctx context.Context, c *client) error {
		cut, err := c.ports(ctx, "tags", tagName)
		if err != nil {
			return err
		}
		groups, err := c.groups(ctx, url.Values{"tags": {tagName}})
		if err != nil {
			return err
		}
		out = nil
		seen := map[string]bool{}
		for _, p := range cut {
			if m := markOf(p.Tags); m != nil {
				seen[p.ID] = true
				if out, err = c.appendMarked(ctx, out, a.cfg.Name, p, m); err != nil {
					return err
				}
			}
		}
		for _, g := range groups {
			if g.mark == nil || seen[g.mark.Port] {
				continue
			}
			p, err := c.port(ctx, g.mark.Port)
			if isStatus(err, http.StatusNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			seen[p.ID] = true
			if out, err = c.appendMarked(ctx, out, a.cfg.Name, p, g.mark); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (c *client) appendMarked(ctx context.Context, out []flow.MarkedNIC, name string, p port, m *mark) ([]flow.MarkedNIC, error) {
	st, err := c.status(ctx, p)
	if err != nil || st.Mark == nil && len(st.Restrictions) == 0 {
		return out, err
	}
	vds := m.VDS
	if vds == "" {
		vds = p.Device
	}
	return append(out, flow.MarkedNIC{NIC: flow.NIC{VDS: vds, Hypervisor: name, MAC: p.MAC, IP: m.IP}, Status: st}), nil
}
