package inventory

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// server names a server of a hypervisor.
type server struct{ hypervisor, vds string }

func serverOf(hypervisor, vds string) server { return server{hypervisor, strings.ToLower(vds)} }

// nics are a server's, and whether a public address of any of them is known.
type nics map[string]bool

// nicsOf gathers the NICs of every server, of the file and of the sources.
func (i *Inventory) nicsOf(l *loaded) map[server]nics {
	out := map[server]nics{}
	add := func(s server, mac string, ps ...netip.Prefix) {
		if s.vds == "" || s.hypervisor == "" || mac == "" {
			return
		}
		if out[s] == nil {
			out[s] = nics{}
		}
		out[s][mac] = out[s][mac] || slices.ContainsFunc(ps, isPublic)
	}
	now := i.now()
	for h := range l.table.At(now) {
		for _, mac := range h.NICs {
			add(serverOf(h.Hypervisor, h.VDS), mac, h.Prefix)
		}
	}
	for _, s := range i.sources {
		s.mu.Lock()
		for _, e := range s.entries {
			add(serverOf(e.Hypervisor, e.VDS), strings.ToLower(e.MAC), e.Prefixes...)
		}
		s.mu.Unlock()
	}
	return out
}

// PrivateNICs are the MACs of the holder's server of which no public address is
// known, beside those of the holder itself, sorted.
func (i *Inventory) PrivateNICs(h flow.Holder) []string {
	l := i.current.Load()
	var out []string
	for mac, public := range l.nics[serverOf(h.Hypervisor, h.VDS)] {
		if !public && !slices.ContainsFunc(h.NICs, func(m string) bool { return strings.EqualFold(m, mac) }) {
			out = append(out, mac)
		}
	}
	slices.Sort(out)
	return out
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

func isPublic(p netip.Prefix) bool {
	a := p.Addr()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a)
}
