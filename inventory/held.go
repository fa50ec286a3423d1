package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// Held is who holds a prefix now, and how that is known.
type Held struct {
	flow.Holder
	Sources []string `json:"sources"`           // "file", or names of sources
	Told    []string `json:"told"`              // where in them
	Ignored string   `json:"ignored,omitempty"` // what something weightier contradicts
}

// Held lists who holds what now, by prefix.
func (i *Inventory) Held() []Held {
	l, now := i.current.Load(), i.now()
	var out []Held
	for p, es := range l.table.byPrefix.AllSorted() {
		h := valid(es, now)
		if h == nil {
			continue
		}
		x := Held{Holder: *h, Sources: []string{"file"}}
		for _, e := range es {
			if e.h == h {
				x.Told = []string{fmt.Sprintf("line %d", e.line)}
			}
		}
		if l.view != nil {
			x.Holder = l.complete(*h, p.Addr(), now)
			if f, ok := l.found.Lookup(p.Addr()); ok {
				switch {
				case x.Hypervisor != h.Hypervisor || len(x.NICs) != len(h.NICs):
					x.Sources, x.Told = append(x.Sources, f.sources...), append(x.Told, f.told...)
				case f.doubt == "" && f.h.VDS != "" && !strings.EqualFold(f.h.VDS, h.VDS):
					x.Ignored = fmt.Sprintf("%s says server %q", strings.Join(f.told, ", "), f.h.VDS)
				}
			}
		}
		out = append(out, x)
	}
	if l.view == nil {
		return out
	}
	for p, ivs := range l.view.byPrefix.AllSorted() {
		iv := ivs[len(ivs)-1]
		if !iv.open() {
			continue
		}
		x := Held{Holder: l.view.judge(iv, now, now), Sources: iv.Sources, Told: iv.Told, Ignored: iv.Ignored}
		if f, ok := l.found.Get(p); ok {
			x.Sources, x.Told = f.sources, f.told
		}
		out = append(out, x)
	}
	slices.SortStableFunc(out, func(a, b Held) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

// Doubtful counts the prefixes that nobody is acted on for, and names the first
// ones of each doubt.
func (i *Inventory) Doubtful() map[flow.Doubt][]netip.Prefix {
	out := map[flow.Doubt][]netip.Prefix{}
	for _, h := range i.Held() {
		if h.Doubt != "" {
			out[h.Doubt] = append(out[h.Doubt], h.Prefix)
		}
	}
	return out
}
