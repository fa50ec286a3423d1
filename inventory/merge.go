package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory/discover"
)

// claim is what one source says of one prefix.
type claim struct {
	discover.Entry
	source string
	order  int // of the source in the configuration
	tier   int // 0: written, 1: discovered
}

// found is what all sources together say of one prefix at one moment.
type found struct {
	h       flow.Holder // as it may be used: of a doubtful one what is agreed on
	doubt   flow.Doubt
	why     string
	sources []string  // that it stands on
	told    []string  // where it was found: Entry.Source of each
	from    time.Time // as the sources say; zero: they do not
	to      time.Time
	fresh   bool   // every source that it stands on has read it for the first time
	ignored string // a claim that something weightier contradicts
}

// combine makes of what the sources say one answer for each prefix that any of
// them names. It is pure: ts says which of the entries are valid.
//
// For an address each source counts with its longest prefix. What is written
// outweighs what is discovered; within the two nobody outweighs anybody: where
// two name different servers, or different customers of one, the address is
// disputed. Sources that agree complete each other.
func combine(listings []listing, ts time.Time) map[netip.Prefix]found {
	var tables []*bart.Table[[]claim]
	all := map[netip.Prefix]bool{}
	for n, l := range listings {
		t := &bart.Table[[]claim]{}
		for _, e := range l.entries {
			if !e.ValidFrom.IsZero() && ts.Before(e.ValidFrom) || !e.ValidTo.IsZero() && !ts.Before(e.ValidTo) {
				continue
			}
			c := claim{Entry: e, source: l.name, order: n, tier: 1}
			if l.written {
				c.tier = 0
			}
			for _, p := range e.Prefixes {
				t.Modify(p, func(have []claim, _ bool) ([]claim, bool) { return append(have, c), false })
				all[p] = true
			}
		}
		tables = append(tables, t)
	}
	out := make(map[netip.Prefix]found, len(all))
	for p := range all {
		var cs []claim
		fresh := true
		for n, t := range tables {
			if said, ok := t.LookupPrefix(p); ok {
				cs = append(cs, said...)
				fresh = fresh && !listings[n].known
			}
		}
		f := settle(p, cs)
		f.fresh = fresh
		out[p] = f
	}
	return out
}

// listing is a source's last good reading.
type listing struct {
	name    string
	written bool
	known   bool // one of it is in force already
	entries []discover.Entry
}

// settle decides between the claims on one prefix.
func settle(p netip.Prefix, cs []claim) found {
	f := found{}
	best := slices.MinFunc(cs, func(a, b claim) int { return a.tier - b.tier }).tier
	var base, more []claim
	for _, c := range cs {
		if c.tier == best {
			base = append(base, c)
		} else {
			more = append(more, c)
		}
	}
	base = awake(base)
	// A claim that the tenant itself can have made up counts only where nobody
	// else says anything.
	if firm := slices.DeleteFunc(slices.Clone(base), func(c claim) bool { return c.Forgeable }); len(firm) > 0 {
		for _, c := range base {
			if c.Forgeable && !alike(c, firm[0]) {
				f.ignored = c.Source
			}
		}
		base = firm
	} else {
		f.doubt, f.why = flow.DoubtForgeable, "only the server itself says so: "+told(base)
	}
	if a, b, what := dispute(base); what != "" {
		return disputed(p, base, fmt.Sprintf("%s says %s %q, %s says %q", a.Source, what, valueOf(a, what), b.Source, valueOf(b, what)))
	}
	for _, c := range awake(more) {
		switch {
		case c.Forgeable:
		case slices.ContainsFunc(base, func(b claim) bool { return !alike(b, c) }):
			f.ignored = c.Source
		default:
			base = append(base, c)
		}
	}
	if a, b, what := dispute(base); what != "" { // two completions that contradict each other
		return disputed(p, base, fmt.Sprintf("%s says %s %q, %s says %q", a.Source, what, valueOf(a, what), b.Source, valueOf(b, what)))
	}
	slices.SortStableFunc(base, func(a, b claim) int {
		if a.tier != b.tier {
			return a.tier - b.tier
		}
		return a.order - b.order
	})
	f.h.Prefix = p
	written := slices.ContainsFunc(base, func(c claim) bool { return c.tier == 0 && c.MAC != "" })
	for _, c := range base {
		fill(&f.h.Tenant, c.Tenant)
		fill(&f.h.VDS, c.VDS)
		fill(&f.h.Hypervisor, c.Hypervisor)
		fill(&f.h.Contact, c.Contact)
		fill(&f.h.Language, c.Language)
		for _, t := range c.Tags {
			if !slices.Contains(f.h.Tags, t) {
				f.h.Tags = append(f.h.Tags, t)
			}
		}
		if c.MAC != "" && (c.tier == 0 || !written) && !slices.Contains(f.h.NICs, c.MAC) {
			f.h.NICs = append(f.h.NICs, c.MAC)
		}
		f.note(c)
	}
	if !written && len(f.h.NICs) > 1 && f.doubt == "" {
		// Two NICs of one server: both would be cut for what one of them does.
		g := disputed(p, base, fmt.Sprintf("of %s it is at NICs %s", f.h.VDS, strings.Join(f.h.NICs, " and ")))
		g.h.Tenant, g.h.VDS = f.h.Tenant, f.h.VDS
		return g
	}
	if f.doubt != "" {
		f.h.Hypervisor, f.h.NICs = "", nil // nothing to act on
	}
	return f
}

func (f *found) note(c claim) {
	if !slices.Contains(f.sources, c.source) {
		f.sources = append(f.sources, c.source)
	}
	if !slices.Contains(f.told, c.Source) {
		f.told = append(f.told, c.Source)
	}
	if c.ValidFrom.After(f.from) {
		f.from = c.ValidFrom
	}
	if !c.ValidTo.IsZero() && (f.to.IsZero() || c.ValidTo.Before(f.to)) {
		f.to = c.ValidTo
	}
}

// disputed is the answer where sources contradict each other: nobody is named,
// so nobody is acted on or written to.
func disputed(p netip.Prefix, cs []claim, why string) found {
	f := found{h: flow.Holder{Prefix: p}, doubt: flow.DoubtDisputed, why: why}
	for _, c := range cs {
		f.note(c)
		for _, t := range c.Tags { // a tag that protects does so in doubt too
			if !slices.Contains(f.h.Tags, t) {
				f.h.Tags = append(f.h.Tags, t)
			}
		}
	}
	return f
}

// awake leaves out a server that is only defined where another claim says that
// it runs elsewhere.
func awake(cs []claim) []claim {
	return slices.DeleteFunc(slices.Clone(cs), func(c claim) bool {
		return c.Standby && slices.ContainsFunc(cs, func(o claim) bool {
			return !o.Standby && o.VDS != "" && strings.EqualFold(o.VDS, c.VDS) && (o.MAC == c.MAC || o.MAC == "" || c.MAC == "")
		})
	})
}

// dispute finds two claims that cannot both be true, and in what.
func dispute(cs []claim) (a, b claim, what string) {
	for n, a := range cs {
		for _, b := range cs[:n] {
			if what := differ(b, a); what != "" {
				return b, a, what
			}
		}
	}
	return claim{}, claim{}, ""
}

// differ says in what two claims contradict each other; what one of them leaves
// open is no contradiction.
func differ(a, b claim) string {
	for _, what := range []string{"server", "hypervisor", "customer"} {
		x, y := valueOf(a, what), valueOf(b, what)
		if x != "" && y != "" && !strings.EqualFold(x, y) {
			return what
		}
	}
	return ""
}

func alike(a, b claim) bool { return differ(a, b) == "" }

func valueOf(c claim, what string) string {
	switch what {
	case "server":
		return c.VDS
	case "hypervisor":
		return c.Hypervisor
	}
	return c.Tenant
}

func fill(to *string, with string) {
	if *to == "" {
		*to = with
	}
}

func told(cs []claim) string {
	var out []string
	for _, c := range cs {
		if !slices.Contains(out, c.Source) {
			out = append(out, c.Source)
		}
	}
	return strings.Join(out, ", ")
}
