package main

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
)

// ports tells whose port a packet came in by: by the MACs of the inventory, and
// by networks.ports. The table is made anew when either changes, and once a
// minute, because entries begin and end.
type ports struct {
	inv      *inventory.Inventory
	networks func() *config.Networks
	same     func(a, b netip.Addr) bool
	log      *zap.Logger
	now      func() time.Time

	mu     sync.Mutex
	table  *detect.PortTable
	made   time.Time // when the table was made
	loaded time.Time // inventory that it is of
	of     *config.Networks
	told   string // the last complaint, so that it is not repeated every minute
}

// portsKept is how long a table is good while nothing is reloaded.
const portsKept = time.Minute

// Owner is detect.Deps.PortOwner.
func (p *ports) Owner(a flow.Attachment) (netip.Addr, bool) {
	p.mu.Lock()
	now, loaded, of := p.now(), p.inv.LoadedAt(), p.networks()
	if p.table == nil || loaded != p.loaded || of != p.of || now.Sub(p.made) >= portsKept {
		var err error
		if p.table, err = detect.NewPortTable(p.list(of, now), p.same); err != nil && err.Error() != p.told {
			p.told = err.Error()
			p.log.Warn("ports of tenants are not clear, the first of each stands", zap.Error(err))
		}
		p.made, p.loaded, p.of = now, loaded, of
	}
	t := p.table
	p.mu.Unlock()
	return t.Owner(a)
}

// list has each MAC that is one VDS's, and the ports of the configuration. A MAC
// that the inventory gives to several VDS is nobody's: it would blame one for the
// other. The inventory warns of those.
func (p *ports) list(n *config.Networks, now time.Time) []detect.Port {
	type user struct {
		port  detect.Port
		owner string
		clash bool
	}
	users := map[[6]byte]*user{}
	for h := range p.inv.At(now) {
		tenant := tenantKey(*n, h.Prefix.Addr())
		if !tenant.IsValid() || h.VDS == "" {
			continue
		}
		id := h.Hypervisor + "\x00" + h.VDS + "\x00" + h.Tenant
		for _, s := range h.NICs {
			mac, err := net.ParseMAC(s)
			if err != nil || len(mac) != 6 {
				continue // the inventory takes no other
			}
			switch u := users[[6]byte(mac)]; {
			case u == nil:
				users[[6]byte(mac)] = &user{port: detect.Port{Tenant: tenant, MAC: [6]byte(mac)}, owner: id}
			case u.owner != id:
				u.clash = true
			case tenant.Less(u.port.Tenant): // one of its addresses, the same one each time
				u.port.Tenant = tenant
			}
		}
	}
	out := make([]detect.Port, 0, len(users)+len(n.Ports))
	for _, u := range users {
		if !u.clash {
			out = append(out, u.port)
		}
	}
	for _, c := range n.Ports {
		if tenant := tenantKey(*n, c.Tenant); tenant.IsValid() {
			out = append(out, detect.Port{Tenant: tenant, Exporter: c.Exporter.Unmap(), Interface: c.Interface, VLAN: c.VLAN})
		}
	}
	return out
}

// portOwner makes the detector's question of whose port it is; it follows reloads.
func (s *service) portOwner(now func() time.Time) func(flow.Attachment) (netip.Addr, bool) {
	p := &ports{inv: s.inventory, networks: s.networks.Load, same: sameHolder(s.inventory, now), log: s.log.Named("ports"), now: now}
	return p.Owner
}
