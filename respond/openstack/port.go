package openstack

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// port is what we read of a Neutron port.
type port struct {
	ID       string `json:"id"`
	MAC      string `json:"mac_address"`
	Up       bool   `json:"admin_state_up"`
	Device   string `json:"device_id"`
	Owner    string `json:"device_owner"`
	Host     string `json:"binding:host_id"` // admins see it
	Revision *int   `json:"revision_number"`
	PortSec  *bool  `json:"port_security_enabled"`
	FixedIPs []struct {
		IP netip.Addr `json:"ip_address"`
	} `json:"fixed_ips"`
	Groups []string `json:"security_groups"`
	Tags   []string `json:"tags"`
}

func (p port) path() string { return "ports/" + p.ID }

// filtered reports whether security groups have effect on it.
func (p port) filtered() bool { return p.PortSec == nil || *p.PortSec }

func (p port) holds(ip netip.Addr) bool {
	for _, f := range p.FixedIPs {
		if f.IP.Unmap() == ip {
			return true
		}
	}
	return false
}

// status is the port as Neutron has it. Its admin state is the one there is,
// now and at the next power-on; whether the server runs Nova would know.
func (p port) status() flow.NICStatus {
	l := flow.LinkDown
	if p.Up {
		l = flow.LinkUp
	}
	st := flow.NICStatus{Live: l, Config: l, Running: p.Device != ""}
	if m := markOf(p.Tags); m != nil {
		st.Mark = &m.Mark
	}
	return st
}

func (c *client) port(ctx context.Context, id string) (port, error) {
	var out struct {
		Port port `json:"port"`
	}
	err := c.get(ctx, "ports/"+url.PathEscape(id), nil, &out)
	return out.Port, err
}

func (c *client) ports(ctx context.Context, key, value string) ([]port, error) {
	all, err := list[port](ctx, c, "ports", "ports", url.Values{key: {value}})
	if err != nil {
		return nil, fmt.Errorf("list ports by %s: %w", key, err)
	}
	return all, nil
}

// update writes to a port if nobody did since it was read.
func (c *client) update(ctx context.Context, p port, fields map[string]any) error {
	headers := map[string]string{}
	if p.Revision != nil {
		headers["If-Match"] = "revision_number=" + strconv.Itoa(*p.Revision)
	}
	return c.call(ctx, http.MethodPut, p.path(), nil, map[string]any{"port": fields}, nil, headers)
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$`)

// find resolves a NIC to a port. The VDS is the server's UUID (the port's
// device_id) or a panel's own id, which says nothing here; the MAC names the
// port. Where the two contradict each other nothing is done: cutting the wrong
// customer is worse than cutting late. Ports of routers and DHCP are never
// touched.
func (c *client) find(ctx context.Context, nic flow.NIC) (port, error) {
	p, err := c.lookup(ctx, nic)
	if err == nil && strings.HasPrefix(p.Owner, "network:") {
		err = fail(flow.ErrDenied, "port %s belongs to OpenStack's own %s, not to a server", p.ID, p.Owner)
	}
	return p, err
}

func (c *client) lookup(ctx context.Context, nic flow.NIC) (port, error) {
	device := ""
	if uuid.MatchString(nic.VDS) {
		device = dashed(nic.VDS)
	}
	if nic.MAC == "" {
		return c.findByIP(ctx, nic, device)
	}
	hw, err := net.ParseMAC(nic.MAC)
	if err != nil || len(hw) != 6 {
		return port{}, fail(flow.ErrNotFound, "the inventory's MAC %q of %s is none: write it as fa:16:3e:12:34:56", nic.MAC, who(nic))
	}
	mac := hw.String()
	all, err := c.ports(ctx, "mac_address", mac)
	if err != nil {
		return port{}, err
	}
	hits := all
	if device != "" {
		hits = filter(all, func(p port) bool { return p.Device == device })
	}
	if len(hits) > 1 { // a MAC is unique in its network alone
		hits = filter(hits, func(p port) bool { return p.holds(nic.IP.Unmap()) })
	}
	switch {
	case len(hits) == 1:
		return hits[0], nil
	case len(all) == 0:
		return port{}, fail(flow.ErrNotFound, "no port with MAC %s of %s in this region: deleted, or of another one?", mac, who(nic))
	case len(all) > 1 && len(hits) != 1:
		return port{}, fail(flow.ErrConflict, "MAC %s of %s is ambiguous: %d ports have it; write the server's UUID as vds", mac, who(nic), len(all))
	}
	return port{}, fail(flow.ErrConflict, "the inventory says that MAC %s is of server %s, but here it is of %q; put the inventory right",
		mac, device, all[0].Device)
}

// findByIP is for an inventory without MACs: the server's only port, or the one
// that Neutron gave the address to, itself or as a floating one.
func (c *client) findByIP(ctx context.Context, nic flow.NIC, device string) (port, error) {
	ip := nic.IP.Unmap()
	var hits []port
	var err error
	switch {
	case device != "":
		if hits, err = c.ports(ctx, "device_id", device); err != nil {
			return port{}, err
		}
		if len(hits) > 1 {
			hits = filter(hits, func(p port) bool { return p.holds(ip) })
		}
	case ip.IsValid():
		if hits, err = c.ports(ctx, "fixed_ips", "ip_address="+ip.String()); err != nil {
			return port{}, err
		}
	}
	if len(hits) == 0 && ip.Is4() {
		if hits, err = c.floating(ctx, ip, device); err != nil {
			return port{}, err
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return port{}, fail(flow.ErrNotFound, "no port of %s is known to hold %s: write it to the inventory's entry as macs: [\"…\"]", who(nic), ip)
	}
	return port{}, fail(flow.ErrConflict, "%s is ambiguous: %d ports hold it; write macs to the inventory's entry", ip, len(hits))
}

func (c *client) floating(ctx context.Context, ip netip.Addr, device string) ([]port, error) {
	var out struct {
		IPs []struct {
			Port string `json:"port_id"`
		} `json:"floatingips"`
	}
	err := c.get(ctx, "floatingips", url.Values{"floating_ip_address": {ip.String()}}, &out)
	if isStatus(err, http.StatusNotFound) {
		return nil, nil // this Neutron has no routers
	}
	if err != nil {
		return nil, fmt.Errorf("look up the floating address: %w", err)
	}
	var hits []port
	for _, f := range out.IPs {
		if f.Port == "" {
			continue
		}
		p, err := c.port(ctx, f.Port)
		if err != nil {
			return nil, err
		}
		if device == "" || p.Device == device {
			hits = append(hits, p)
		}
	}
	return hits, nil
}

func filter(ps []port, keep func(port) bool) []port {
	return slices.DeleteFunc(slices.Clone(ps), func(p port) bool { return !keep(p) })
}

func dashed(id string) string {
	s := strings.ToLower(strings.ReplaceAll(id, "-", ""))
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func who(nic flow.NIC) string {
	if nic.VDS == "" {
		return nic.IP.String()
	}
	return nic.VDS
}
