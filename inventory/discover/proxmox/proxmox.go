// Package proxmox discovers which NIC of which guest of a Proxmox VE cluster
// holds which addresses.
//
// In comes the cluster's API; out goes a list of discover.Entry, one for each NIC that
// has addresses: those that the cluster's own settings name (a VM's cloud-init
// ipconfigN, a container's ip and ip6; if asked for, the IP set ipfilter-netN of
// its firewall) and, if asked for, those that guests say they have. A part of the cluster that cannot be read is an error, never
// half a list.
//
// The Source starts no goroutine that outlives a call. The package imports no
// sibling.
package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

// Source is one cluster. It is safe for concurrent use.
type Source struct {
	cfg Config
	now func() time.Time
	api func() (*api, error) // made at the first call
}

// New returns a Source. It does no I/O: a wrong configuration shows at the
// first call (Config.Validate tells it beforehand). now may be nil.
func New(cfg Config, now func() time.Time) *Source {
	if now == nil {
		now = time.Now
	}
	return &Source{cfg: cfg, now: now, api: sync.OnceValues(func() (*api, error) { return newAPI(cfg) })}
}

// Name is the source's name in the configuration.
func (s *Source) Name() string { return s.cfg.Name }

// guest is a VM or a container as the cluster lists it.
type guest struct {
	Type     string `json:"type"`
	ID       int    `json:"vmid"`
	Node     string `json:"node"`
	Pool     string `json:"pool"`
	Status   string `json:"status"`
	Template text   `json:"template"`
}

func (g guest) path(sub string) string {
	return fmt.Sprintf("/nodes/%s/%s/%d%s", url.PathEscape(g.Node), g.Type, g.ID, sub)
}

// nic is one NIC with what was found of it.
type nic struct {
	guest  guest
	key    string // net0
	mac    string
	tenant string
	tags   []string
	set    []netip.Prefix // by the cluster's settings
	claims []netip.Addr   // by the guest itself
}

// Discover reads all guests, or gives an error. A cluster without any address
// is an error too: that is what a token without VM.Audit sees.
func (s *Source) Discover(ctx context.Context) ([]discover.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.timeout())
	defer cancel()
	out, err := s.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", s.cfg.Name, err)
	}
	return out, nil
}

func (s *Source) discover(ctx context.Context) ([]discover.Entry, error) {
	a, err := s.api()
	if err != nil {
		return nil, err
	}
	all, err := list(ctx, a)
	if err != nil {
		return nil, err
	}
	nics, moved, err := s.readAll(ctx, a, all)
	if err != nil {
		return nil, err
	}
	if len(moved) > 0 { // deleted, or migrated since the list was made: then it is elsewhere now
		again, err := list(ctx, a)
		if err != nil {
			return nil, err
		}
		again = slices.DeleteFunc(again, func(g guest) bool { return !moved[g.ID] })
		more, _, err := s.readAll(ctx, a, again)
		if err != nil {
			return nil, err
		}
		nics = append(nics, more...)
	}
	slices.SortFunc(nics, func(a, b nic) int {
		if a.guest.ID != b.guest.ID {
			return a.guest.ID - b.guest.ID
		}
		return strings.Compare(a.key, b.key)
	})
	out := s.entries(nics)
	if !slices.ContainsFunc(out, func(e discover.Entry) bool { return len(e.Prefixes) > 0 }) {
		return nil, fmt.Errorf("no guest with an address among %d that the token may see (VM.Audit)", len(all))
	}
	return out, nil
}

func list(ctx context.Context, a *api) ([]guest, error) {
	var all []guest
	if err := a.get(ctx, "/cluster/resources?type=vm", &all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(g guest) bool {
		return g.Type != "qemu" && g.Type != "lxc" || g.Template == "1" || g.Template == "true"
	}), nil
}

// readAll reads the guests and says which were no longer where the list has them.
func (s *Source) readAll(ctx context.Context, a *api, all []guest) (nics []nic, moved map[int]bool, err error) {
	var mu sync.Mutex
	moved = map[int]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, one := range all {
		g.Go(func() error {
			got, err := s.read(ctx, a, one)
			mu.Lock()
			defer mu.Unlock()
			if gone(err) {
				moved[one.ID] = true
				return nil
			}
			nics = append(nics, got...)
			return err
		})
	}
	err = g.Wait()
	return nics, moved, err
}

func gone(err error) bool {
	var ae *answerError
	return errors.As(err, &ae) && strings.Contains(ae.text, "does not exist")
}

// read gives the NICs of one guest.
func (s *Source) read(ctx context.Context, a *api, g guest) ([]nic, error) {
	var conf map[string]text
	if err := a.get(ctx, g.path("/config?current=1"), &conf); err != nil {
		return nil, err
	}
	tags := strings.FieldsFunc(string(conf["tags"]), func(r rune) bool { return r == ';' || r == ',' || r == ' ' })
	var out []nic
	for key, val := range conf {
		n, ok := strings.CutPrefix(key, "net")
		if _, err := strconv.Atoi(n); !ok || err != nil {
			continue
		}
		props := parse(string(val))
		x := nic{guest: g, key: key, mac: macOf(props), tenant: s.tenant(g, tags), tags: tags}
		if x.mac == "" {
			continue
		}
		if g.Type == "qemu" {
			props = parse(string(conf["ipconfig"+n]))
		}
		for _, k := range []string{"ip", "ip6"} { // dhcp, auto and manual say no address
			if p, err := netip.ParsePrefix(props[k]); err == nil {
				x.set = append(x.set, s.prefix(p.Addr()))
			}
		}
		out = append(out, x)
	}
	if s.cfg.IPSets {
		if err := s.filters(ctx, a, g, out); err != nil {
			return nil, err
		}
	}
	if s.cfg.Agent && g.Status == "running" {
		return out, s.claims(ctx, a, g, out)
	}
	return out, nil
}

// filters adds what the guest's firewall lets each NIC send from: the IP set
// ipfilter-netN, which the node enforces.
func (s *Source) filters(ctx context.Context, a *api, g guest, nics []nic) error {
	var sets []struct {
		Name string `json:"name"`
	}
	if err := a.get(ctx, g.path("/firewall/ipset"), &sets); err != nil {
		return err
	}
	for n := range nics {
		name := "ipfilter-" + nics[n].key
		if !slices.ContainsFunc(sets, func(x struct {
			Name string `json:"name"`
		}) bool {
			return x.Name == name
		}) {
			continue
		}
		var members []struct {
			CIDR    string `json:"cidr"`
			NoMatch text   `json:"nomatch"`
		}
		if err := a.get(ctx, g.path("/firewall/ipset/"+name), &members); err != nil {
			return err
		}
		for _, m := range members {
			p, ok := network(m.CIDR)
			if no := string(m.NoMatch); !ok || no != "" && no != "0" && no != "false" || p.Addr().IsLinkLocalUnicast() || p.Bits() < 16 {
				continue // an alias, an exception, or nothing that one guest holds
			}
			if p.IsSingleIP() {
				p = s.prefix(p.Addr())
			}
			if !slices.Contains(nics[n].set, p) {
				nics[n].set = append(nics[n].set, p)
			}
		}
	}
	return nil
}

func network(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil
}

func (s *Source) tenant(g guest, tags []string) string {
	if s.cfg.TenantTag != "" {
		for _, t := range tags {
			if strings.HasPrefix(t, s.cfg.TenantTag) {
				return t
			}
		}
	}
	if s.cfg.TenantPool {
		return g.Pool
	}
	return ""
}

func (s *Source) prefix(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap()
	if ip.Is6() && s.cfg.V6Bits != 0 {
		return netip.PrefixFrom(ip, s.cfg.V6Bits).Masked()
	}
	return netip.PrefixFrom(ip, ip.BitLen())
}

// parse reads a property string.
func parse(s string) map[string]string {
	out := map[string]string{}
	for p := range strings.SplitSeq(s, ",") {
		k, v, _ := strings.Cut(p, "=")
		out[k] = v
	}
	return out
}

// macOf is the value of the model (virtio=…), of macaddr or of hwaddr.
func macOf(props map[string]string) string {
	for _, v := range props {
		if len(v) == 17 {
			if hw, err := net.ParseMAC(v); err == nil {
				return hw.String()
			}
		}
	}
	return ""
}

// claims asks the guest itself. One whose agent does not run, or that has
// none, claims nothing; a token that may not ask is an error.
func (s *Source) claims(ctx context.Context, a *api, g guest, nics []nic) error {
	type addr struct {
		IP text `json:"ip-address"`
	}
	type iface struct {
		MAC   string `json:"hardware-address"`
		HW    string `json:"hwaddr"` // of a container
		Addrs []addr `json:"ip-addresses"`
		Inet  text   `json:"inet"`
		Inet6 text   `json:"inet6"`
	}
	var ifs []iface
	if g.Type == "qemu" {
		var r struct {
			Result []iface `json:"result"`
		}
		err := a.get(ctx, g.path("/agent/network-get-interfaces"), &r)
		var ae *answerError
		if errors.As(err, &ae) && ae.code >= 500 { // not installed, not running, not configured
			return nil
		}
		if err != nil {
			return err
		}
		ifs = r.Result
	} else if err := a.get(ctx, g.path("/interfaces"), &ifs); err != nil {
		return err
	}
	for _, i := range ifs {
		hw, err := net.ParseMAC(i.MAC + i.HW)
		if err != nil {
			continue
		}
		for _, x := range append(i.Addrs, addr{i.Inet}, addr{i.Inet6}) {
			host, _, _ := strings.Cut(string(x.IP), "/")
			ip, err := netip.ParseAddr(host)
			if err != nil || !ip.Unmap().IsGlobalUnicast() {
				continue
			}
			for n := range nics {
				if nics[n].mac == hw.String() {
					nics[n].claims = append(nics[n].claims, ip.Unmap().WithZone(""))
				}
			}
		}
	}
	return nil
}

// entries gives each NIC what the settings say. What its guest claims is an
// entry of its own, whose source ends in "agent": a guest may say anything, so
// it counts only in Networks, and where nobody's settings and no other guest
// say otherwise.
func (s *Source) entries(nics []nic) []discover.Entry {
	settings := map[netip.Prefix]bool{}
	var wide []netip.Prefix                    // settings that are more than a guest's usual prefix
	claimed := map[netip.Prefix]map[int]bool{} // by which guests
	for _, n := range nics {
		for _, p := range n.set {
			settings[p] = true
			if p != s.prefix(p.Addr()) {
				wide = append(wide, p)
			}
		}
		for _, ip := range n.claims {
			p := s.prefix(ip)
			if claimed[p] == nil {
				claimed[p] = map[int]bool{}
			}
			claimed[p][n.guest.ID] = true
		}
	}
	seen := s.now().UTC()
	var out []discover.Entry
	for _, n := range nics {
		e := discover.Entry{
			Tenant: n.tenant, VDS: strconv.Itoa(n.guest.ID), Hypervisor: s.cfg.Hypervisor, MAC: n.mac, Tags: n.tags,
			Source: fmt.Sprintf("%s guest %d %s", s.cfg.Name, n.guest.ID, n.key), Seen: seen, Prefixes: n.set,
		}
		if len(e.Prefixes) > 0 || s.cfg.Bare {
			out = append(out, e)
		}
		e.Prefixes, e.Source, e.Forgeable = nil, e.Source+" agent", true
		for _, ip := range n.claims {
			p := s.prefix(ip)
			in := slices.ContainsFunc(s.cfg.Networks, func(w netip.Prefix) bool { return w.Contains(ip) })
			if in && !settings[p] && !slices.ContainsFunc(wide, p.Overlaps) && len(claimed[p]) == 1 && !slices.Contains(e.Prefixes, p) {
				e.Prefixes = append(e.Prefixes, p)
			}
		}
		if len(e.Prefixes) > 0 {
			out = append(out, e)
		}
	}
	return out
}
