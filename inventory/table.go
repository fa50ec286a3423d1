package inventory

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory/discover"
)

// Table is one checked inventory file. It does not change and may be read by
// any number of goroutines.
type Table struct {
	byPrefix bart.Table[[]entry] // of one prefix: sorted by From, not overlapping
	entries  int
	servers  int
	warnings []Issue
	since    map[netip.Prefix]time.Time // see follow
}

type entry struct {
	h    *flow.Holder
	line int
}

// Load reads and checks the file at path: .yaml, .yml or .csv. The error is of
// type Issues and holds everything that is wrong, unless the file cannot be
// opened.
func Load(path string) (*Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open inventory: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	return Parse(path, f)
}

// Parse is Load for a file that is already open; the ending of name tells the
// format, and name is what the errors call it.
func Parse(name string, r io.Reader) (*Table, error) {
	c := &checker{file: name, intern: map[string]string{}}
	var all []entry
	emit := func(e *raw) {
		if h, ok := c.check(e); ok {
			all = append(all, entry{&h, e.line})
		}
	}
	lr := &io.LimitedReader{R: r, N: maxFileBytes + 1}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml":
		parseYAML(lr, c, emit)
	case ".csv":
		parseCSV(lr, c, emit)
	default:
		c.add(0, "", "the format is not known from the name", "call it .yaml or .csv")
	}
	if lr.N <= 0 {
		c.issues = nil // whatever they say is due to the cut
		c.add(0, "", fmt.Sprintf("is larger than %d MiB", maxFileBytes>>20), "split off what is not needed; one entry may cover a whole prefix")
	}
	t := &Table{entries: len(all), servers: countServers(all)}
	t.index(all, c)
	if len(c.issues) > 0 {
		sort.SliceStable(c.issues, func(i, j int) bool { return c.issues[i].Line < c.issues[j].Line })
		return nil, c.issues
	}
	t.warnings = macWarnings(name, all)
	return t, nil
}

// follow makes entries without from: that changed hands since old begin at the
// moment at. The file says that they always were the new holder's, which would
// lay the abuse of the last half hour, that is judged with today's, at the door
// of somebody who came after it. An entry that nobody held before is left alone,
// and so is one with from:, which knows better.
func (t *Table) follow(old *Table, at time.Time) {
	t.since = map[netip.Prefix]time.Time{}
	for p, es := range t.byPrefix.All() {
		h := valid(es, at)
		if h == nil || !h.From.IsZero() {
			continue
		}
		before, _ := old.byPrefix.LookupPrefix(p)
		was := valid(before, at)
		if was == nil {
			continue
		}
		if was.VDS != h.VDS || was.Tenant != h.Tenant {
			t.since[p] = at
		} else if s, ok := old.since[p]; ok {
			t.since[p] = s
		}
		h.From = t.since[p]
	}
}

// followFound is follow for what the sources said before the file said anything.
func (t *Table) followFound(was *loaded, at time.Time) {
	if was.view == nil {
		return
	}
	for p, es := range t.byPrefix.All() {
		h := valid(es, at)
		if h == nil || !h.From.IsZero() {
			continue
		}
		if _, told := was.table.Holder(p.Addr(), at); told {
			continue
		}
		before, ok := was.view.holder(p.Addr(), at, at)
		if ok && before.VDS != "" && (!strings.EqualFold(before.VDS, h.VDS) || before.Tenant != "" && before.Tenant != h.Tenant) {
			t.since[p] = at
			h.From = at
		}
	}
}

// Len is the number of entries.
func (t *Table) Len() int { return t.entries }

// Servers is the number of different VDS in the table.
func (t *Table) Servers() int { return t.servers }

func countServers(all []entry) int {
	type server struct{ hypervisor, vds string }
	seen := make(map[server]struct{}, len(all))
	for _, e := range all {
		if e.h.VDS != "" {
			seen[server{e.h.Hypervisor, e.h.VDS}] = struct{}{}
		}
	}
	return len(seen)
}

// Warnings are what looks wrong but can be lived with.
func (t *Table) Warnings() []Issue { return t.warnings }

func (t *Table) index(all []entry, c *checker) {
	for _, e := range all {
		t.byPrefix.Modify(e.h.Prefix, func(have []entry, _ bool) ([]entry, bool) { return append(have, e), false })
	}
	for p, es := range t.byPrefix.All() {
		if len(es) < 2 {
			continue
		}
		slices.SortStableFunc(es, byFrom) // in place: the table's own slice
		last := es[0]
		for _, e := range es[1:] {
			if overlap(last.h, e.h) {
				c.overlap(p, last, e)
			}
			if endsAfter(e.h, last.h) {
				last = e
			}
		}
	}
}

func (c *checker) overlap(p netip.Prefix, a, b entry) {
	if a.line > b.line {
		a, b = b, a
	}
	problem := fmt.Sprintf("%s is held by the entry of line %d at the same time (%s and %s)", p, a.line, span(a.h), span(b.h))
	if a.h.From.Equal(b.h.From) && a.h.To.Equal(b.h.To) {
		problem = fmt.Sprintf("%s stands in line %d already, with the same validity", p, a.line)
	}
	c.add(b.line, "prefix", problem, fmt.Sprintf("end one of lines %d and %d with to: where the other begins with from:, or remove one", a.line, b.line))
}

// Holder tells who held ip at the moment at: of the entries valid then, the one
// with the longest prefix. A more specific entry that is not valid at that
// moment hides nothing. The holder's slices belong to the table.
func (t *Table) Holder(ip netip.Addr, at time.Time) (flow.Holder, bool) {
	ip = ip.Unmap().WithZone("")
	es, ok := t.byPrefix.Lookup(ip)
	if !ok {
		return flow.Holder{}, false
	}
	if h := valid(es, at); h != nil {
		return *h, true
	}
	// Rare: the longest prefix has no entry for that moment, so the wider ones
	// are asked, from long to short.
	for _, es := range t.byPrefix.Supernets(netip.PrefixFrom(ip, ip.BitLen())) {
		if h := valid(es, at); h != nil {
			return *h, true
		}
	}
	return flow.Holder{}, false
}

// valid finds the entry that holds at the moment at; es are sorted by From and
// do not overlap, so only the last one that began can.
func valid(es []entry, at time.Time) *flow.Holder {
	for i := len(es) - 1; i >= 0; i-- {
		if h := es[i].h; h.From.IsZero() || !at.Before(h.From) {
			if h.To.IsZero() || at.Before(h.To) {
				return h
			}
			return nil
		}
	}
	return nil
}

// macWarnings names MACs that two VDS hold at the same time: cutting one would
// cut the other, or the wrong one. One line for each MAC.
func macWarnings(file string, all []entry) []Issue {
	byMAC := map[string][]entry{}
	for _, e := range all {
		for _, m := range e.h.NICs {
			byMAC[m] = append(byMAC[m], e)
		}
	}
	var out []Issue
	for mac, es := range byMAC {
		if len(es) < 2 {
			continue
		}
		a, b, clash := macClash(es)
		if !clash {
			continue
		}
		if a.line > b.line {
			a, b = b, a
		}
		out = append(out, Issue{File: file, Line: b.line, Field: "macs",
			Problem: fmt.Sprintf("%s belongs to %s here and to %s in line %d at the same time", mac, owner(b.h), owner(a.h), a.line),
			Fix:     "give each VDS its own MAC, or end one entry with to:"})
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Line < out[j].Line || out[i].Line == out[j].Line && out[i].Problem < out[j].Problem
	})
	return out
}

// macClash finds two entries of different owners that overlap. It keeps, going
// by From, the entry that ends last and the one of another owner that ends
// last: whatever overlaps anything of another owner overlaps one of the two.
func macClash(es []entry) (entry, entry, bool) {
	slices.SortStableFunc(es, byFrom)
	first := es[0]
	var other entry
	for _, e := range es[1:] {
		same := owner(e.h) == owner(first.h)
		switch {
		case !same && overlap(first.h, e.h):
			return first, e, true
		case same && other.h != nil && overlap(other.h, e.h):
			return other, e, true
		}
		switch {
		case same && endsAfter(e.h, first.h):
			first = e
		case !same && endsAfter(e.h, first.h):
			first, other = e, first
		case !same && (other.h == nil || endsAfter(e.h, other.h)):
			other = e
		}
	}
	return entry{}, entry{}, false
}

func owner(h *flow.Holder) string {
	if h.VDS != "" {
		return h.VDS
	}
	return h.Tenant
}

func byFrom(a, b entry) int { return a.h.From.Compare(b.h.From) } // zero: always, so first

func endsAfter(a, b *flow.Holder) bool {
	return !b.To.IsZero() && (a.To.IsZero() || a.To.After(b.To))
}

// overlap assumes that a does not begin after b.
func overlap(a, b *flow.Holder) bool {
	return a.To.IsZero() || b.From.Before(a.To)
}

func span(h *flow.Holder) string {
	from, to := "always", "now on"
	if !h.From.IsZero() {
		from = h.From.Format(time.RFC3339)
	}
	if !h.To.IsZero() {
		to = h.To.Format(time.RFC3339)
	}
	return from + " to " + to
}

// Entries are the table's, one for each NIC of each; source is what they are
// called by.
func (t *Table) Entries(source string) []discover.Entry {
	var out []discover.Entry
	for p, es := range t.byPrefix.AllSorted() {
		for _, x := range es {
			e := discover.Entry{
				Prefixes: []netip.Prefix{p}, Tenant: x.h.Tenant, VDS: x.h.VDS, Hypervisor: x.h.Hypervisor, Contact: x.h.Contact,
				Language: x.h.Language, Tags: x.h.Tags, ValidFrom: x.h.From, ValidTo: x.h.To, Source: fmt.Sprintf("%s line %d", source, x.line),
			}
			for _, mac := range x.h.NICs {
				e.MAC = mac
				out = append(out, e)
			}
			if len(x.h.NICs) == 0 {
				out = append(out, e)
			}
		}
	}
	return out
}
