package proxmox

import (
	"context"
	"fmt"
	"maps"
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

// guest is where a VM or container is, as the cluster says it now.
type guest struct {
	Type     string `json:"type"` // qemu or lxc
	ID       int    `json:"vmid"`
	Name     string `json:"name"`
	Node     string `json:"node"`
	Template text   `json:"template"`
}

func (g guest) String() string {
	if g.Name == "" {
		return strconv.Itoa(g.ID)
	}
	return fmt.Sprintf("%d (%s)", g.ID, g.Name)
}

func (g guest) path(sub string) string {
	return fmt.Sprintf("/nodes/%s/%s/%d%s", url.PathEscape(g.Node), g.Type, g.ID, sub)
}

// guests lists every guest that the token may see (VM.Audit).
func (a *Adapter) guests(ctx context.Context) ([]guest, error) {
	var all []guest
	if err := a.api.call(ctx, http.MethodGet, "/cluster/resources", url.Values{"type": {"vm"}}, &all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(g guest) bool {
		return g.Type != "qemu" && g.Type != "lxc" || g.Node == "" || g.ID == 0
	}), nil
}

// view is a guest's configuration at one moment: each setting as it is in
// effect and, where that differs, as the next start will have it.
type view struct {
	now    map[string]string
	next   map[string]string
	gone   map[string]bool // to be deleted at the next start
	held   map[string]bool // next or gone are not there now: a note of ours holds them
	digest string
}

// read asks for the configuration with its pending changes. One call answers
// for both sides under one digest.
func (a *Adapter) read(ctx context.Context, g guest) (view, error) {
	var items []struct {
		Key     string `json:"key"`
		Value   *text  `json:"value"`
		Pending *text  `json:"pending"`
		Delete  text   `json:"delete"`
	}
	if err := a.api.call(ctx, http.MethodGet, g.path("/pending"), nil, &items); err != nil {
		return view{}, err
	}
	v := view{now: map[string]string{}, next: map[string]string{}, gone: map[string]bool{}, held: map[string]bool{}}
	for _, i := range items {
		if i.Value != nil {
			v.now[i.Key] = string(*i.Value)
		}
		if i.Pending != nil {
			v.next[i.Key] = string(*i.Pending)
		}
		if i.Delete != "" && i.Delete != "0" {
			v.gone[i.Key] = true
		}
	}
	if v.digest = v.now["digest"]; v.digest == "" {
		return view{}, fail(flow.ErrUnsupported, "the configuration of %s comes without a digest, so it cannot be changed safely", g)
	}
	v.takeHeld(g)
	return v, nil
}

// takeHeld reads what an operation that was broken off between its two writes
// left in our notes as if it still waited for the next start.
func (v view) takeHeld(g guest) {
	_, notes := splitNotes(v.now["description"])
	for _, n := range notes {
		key, val, set := strings.Cut(n.Held, "=")
		_, pending := v.next[key]
		if n.Guest != g.ID || !netKey.MatchString(key) || pending || v.gone[key] {
			continue
		}
		v.held[key] = true
		if set {
			v.next[key] = val
		} else {
			v.gone[key] = true
		}
	}
}

var netKey = regexp.MustCompile(`^net\d{1,2}$`)

// nics are the keys of the guest's NICs, those that are only pending included.
func (v view) nics() []string {
	keys := map[string]bool{}
	for _, m := range []map[string]string{v.now, v.next} {
		for k := range m {
			if netKey.MatchString(k) {
				keys[k] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(keys), func(a, b string) int {
		return strings.Compare(fmt.Sprintf("%6s", a), fmt.Sprintf("%6s", b))
	})
}

// macOf is the MAC that the NIC has now, or will have if it is not there yet.
func (v view) macOf(key string) string {
	if s, ok := v.now[key]; ok {
		return parseNet(s).mac()
	}
	return parseNet(v.next[key]).mac()
}

// macsOf are the MACs of the NIC now and, where that differs, at the next
// start: an inventory may know the one or the other.
func (v view) macsOf(key string) []string {
	out := []string{v.macOf(key)}
	if m := parseNet(v.next[key]).mac(); m != "" && m != out[0] {
		out = append(out, m)
	}
	return out
}

// macs says which NICs there are, for an error text.
func (v view) macs() string {
	var out []string
	for _, k := range v.nics() {
		out = append(out, k+" "+strings.Join(v.macsOf(k), ", then "))
	}
	if len(out) == 0 {
		return "it has no NIC"
	}
	return "it has " + strings.Join(out, ", ")
}

// find resolves a NIC to netN of one guest. The VDS names the guest, by VMID
// or by name, and the MAC the NIC. Where the two contradict each other nothing
// is done: cutting the wrong customer is worse than cutting late.
func (a *Adapter) find(ctx context.Context, nic flow.NIC) (*target, error) {
	var mac string
	if nic.MAC != "" {
		hw, err := net.ParseMAC(nic.MAC)
		if err != nil {
			return nil, fail(flow.ErrNotFound, "the inventory's MAC %q of %s is none: write it as bc:24:11:12:34:56", nic.MAC, nic.VDS)
		}
		mac = hw.String()
	}
	if nic.VDS == "" {
		return nil, fail(flow.ErrNotFound, "the inventory's entry for %s has no vds: write the guest's VMID or name", nic.IP)
	}
	all, err := a.guests(ctx)
	if err != nil {
		return nil, fmt.Errorf("where is %s: %w", nic.VDS, err)
	}
	var hits []*target
	var seen []string
	for _, g := range all {
		if strconv.Itoa(g.ID) != nic.VDS && g.Name != nic.VDS {
			continue
		}
		v, err := a.read(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("read guest %s on %s: %w", g, g.Node, err)
		}
		seen = append(seen, fmt.Sprintf("guest %s: %s", g, v.macs()))
		for _, key := range v.pick(mac, nic.IP, g) {
			t := &target{a: a, g: g, v: v, key: key, mac: mac}
			if mac == "" {
				t.mac = v.macOf(key)
			}
			hits = append(hits, t)
		}
	}
	switch {
	case len(hits) == 1:
		return hits[0], nil
	case len(hits) > 1:
		return nil, fail(flow.ErrConflict, "%s and MAC %q are ambiguous: guests %s; write the VMID into the inventory's vds and the NIC's MAC into macs",
			nic.VDS, nic.MAC, strings.Join(seen, ", "))
	case len(seen) == 0:
		return nil, fail(flow.ErrNotFound, "the cluster has no guest %q that the token may see: deleted, or without VM.Audit?", nic.VDS)
	case mac == "":
		return nil, fail(flow.ErrNotFound, "no NIC of %s is known to hold %s: write its MAC into the inventory's macs; %s",
			nic.VDS, nic.IP, strings.Join(seen, "; "))
	}
	return nil, fail(flow.ErrNotFound, "no NIC %s: rebuilt with another, or the inventory is wrong; %s", mac, strings.Join(seen, "; "))
}

// pick gives the keys of the NICs that are meant. Without a MAC it is the only
// one, or that whose configured address (a container's ip, a VM's ipconfigN of
// cloud-init) is the incident's; what the guest says of itself does not count.
func (v view) pick(mac string, ip netip.Addr, g guest) []string {
	keys := v.nics()
	var out []string
	for _, k := range keys {
		switch {
		case mac != "":
			if slices.Contains(v.macsOf(k), mac) {
				out = append(out, k)
			}
		case len(keys) == 1 || v.configured(k, g).Contains(ip.Unmap()):
			out = append(out, k)
		}
	}
	return out
}

// addrs are the networks that netN is configured for.
type addrs []netip.Prefix

// Contains reports whether ip is one of the addresses.
func (as addrs) Contains(ip netip.Addr) bool {
	return slices.ContainsFunc(as, func(p netip.Prefix) bool { return p.Addr() == ip })
}

func (v view) configured(key string, g guest) addrs {
	s := v.now[key]
	if g.Type == "qemu" {
		s = v.now["ipconfig"+strings.TrimPrefix(key, "net")]
	}
	var out addrs
	n := parseNet(s)
	for _, k := range []string{"ip", "ip6"} {
		if p, err := netip.ParsePrefix(n.get(k)); err == nil {
			out = append(out, p)
		}
	}
	return out
}
