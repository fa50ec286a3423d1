package inventory

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"

	"github.com/flowcordon/flowcordon/flow"
)

// interval is who held a discovered prefix, and from when to when. The last one
// of a prefix is open (Holder.To is zero) while somebody holds it.
type interval struct {
	Holder  flow.Holder `json:"holder"`
	Sources []string    `json:"sources"`
	Told    []string    `json:"told"` // where it was found, at last
	// Unsure is since when its sources contradict each other; zero: they do not.
	Unsure  time.Time `json:"unsure,omitzero"`
	Ignored string    `json:"ignored,omitempty"`
}

func (iv interval) open() bool { return iv.Holder.To.IsZero() }

// history is who held the discovered prefixes, by prefix and oldest first.
type history map[netip.Prefix][]interval

// Limits of the history.
const (
	// keepClosed is how long it is known who held an address before: complaints
	// come weeks late, and what was seen is kept for two.
	keepClosed = 90 * 24 * time.Hour
	// maxIntervals bounds one prefix: two sources that take turns in being wrong.
	maxIntervals = 64
)

// step takes over what all sources say at the moment ts, and reports whether
// anything changed that must not be lost. covered tells of prefixes of which
// the file says who holds them, unread of sources without any good reading.
func (hs history) step(now map[netip.Prefix]found, ts time.Time, covered func(netip.Prefix) bool, unread func(source string) bool) bool {
	dirty := false
	for p, f := range now {
		if covered(p) {
			continue
		}
		dirty = hs.see(p, f, ts) || dirty
	}
	for p, ivs := range hs {
		last := &ivs[len(ivs)-1]
		if _, still := now[p]; last.open() && (!still || covered(p)) {
			if !covered(p) && slices.ContainsFunc(last.Sources, unread) {
				continue // nobody could say that it is gone
			}
			last.close(ts)
			dirty = true
		}
		hs.prune(p, ts)
	}
	return dirty
}

// see takes over what is known of one prefix.
func (hs history) see(p netip.Prefix, f found, ts time.Time) bool {
	next := interval{Holder: f.h, Sources: f.sources, Told: f.told, Ignored: f.ignored}
	next.Holder.Doubt, next.Holder.DoubtWhy = f.doubt, f.why
	ivs := hs[p]
	if n := len(ivs); n > 0 && ivs[n-1].open() {
		last := &ivs[n-1]
		switch {
		case f.doubt == flow.DoubtDisputed && last.Holder.Doubt != flow.DoubtDisputed:
			// It stays the former holder's until it is known to be another's.
			if last.Unsure.IsZero() {
				last.Unsure = ts
				last.Ignored = f.why
				return true
			}
			last.Ignored = f.why
			return false
		case sameHolder(last.Holder, next.Holder):
			next.Holder.From = last.Holder.From
			if f.from.After(next.Holder.From) {
				next.Holder.From = f.from
			}
			changed := !last.Unsure.IsZero() || !slices.Equal(last.Sources, next.Sources) ||
				last.Holder.Doubt != next.Holder.Doubt || !slices.Equal(last.Holder.NICs, next.Holder.NICs) || last.Holder.Hypervisor != next.Holder.Hypervisor
			*last = next
			return changed
		}
		last.close(ts)
	}
	switch {
	case !f.from.IsZero():
		next.Holder.From = f.from
	case len(ivs) > 0 || !f.fresh:
		next.Holder.From = ts // what came before is not its doing
	}
	if n := len(ivs); n > 0 && next.Holder.From.Before(ivs[n-1].Holder.To) {
		next.Holder.From = ivs[n-1].Holder.To
	}
	hs[p] = append(ivs, next)
	return true
}

// close ends the interval: at the moment when it became unsure, if it did.
func (iv *interval) close(ts time.Time) {
	if !iv.Unsure.IsZero() && iv.Unsure.Before(ts) {
		ts = iv.Unsure
	}
	if ts.Before(iv.Holder.From) {
		ts = iv.Holder.From
	}
	iv.Holder.To, iv.Unsure, iv.Ignored = ts, time.Time{}, ""
}

// sameHolder reports whether b, which comes after a, is about the same server of
// the same customer. A name that was not known before is no change.
func sameHolder(a, b flow.Holder) bool {
	if (a.Doubt == flow.DoubtDisputed) != (b.Doubt == flow.DoubtDisputed) {
		return false
	}
	if a.Doubt == flow.DoubtForgeable && b.Doubt == "" {
		return false // what it said of itself before proves nothing of that time
	}
	same := func(x, y string) bool { return x == "" || y == "" || strings.EqualFold(x, y) }
	return strings.EqualFold(a.VDS, b.VDS) && same(a.Tenant, b.Tenant)
}

func (hs history) prune(p netip.Prefix, ts time.Time) {
	ivs := hs[p]
	ivs = slices.DeleteFunc(ivs, func(iv interval) bool { return !iv.open() && ts.Sub(iv.Holder.To) > keepClosed })
	if n := len(ivs) - maxIntervals; n > 0 {
		ivs = ivs[n:]
	}
	if len(ivs) == 0 {
		delete(hs, p)
		return
	}
	hs[p] = ivs
}

// view is the discovered part as lookups see it. It does not change.
type view struct {
	byPrefix *bart.Table[[]interval]
	stale    map[string]staleness // by source
}

// staleness is when a source's reading becomes too old.
type staleness struct {
	read bool
	till time.Time // zero: never
}

func (hs history) table() *bart.Table[[]interval] {
	t := &bart.Table[[]interval]{}
	for p, ivs := range hs {
		t.Insert(p, slices.Clone(ivs))
	}
	return t
}

// holder is who held ip at the moment at, by what was discovered. now decides
// about staleness.
func (v *view) holder(ip netip.Addr, at, now time.Time) (flow.Holder, bool) {
	if v == nil {
		return flow.Holder{}, false
	}
	// From long to short: a more specific prefix that nobody held at that moment
	// hides nothing.
	for _, ivs := range v.byPrefix.Supernets(netip.PrefixFrom(ip, ip.BitLen())) {
		for _, iv := range slices.Backward(ivs) {
			if !iv.Holder.From.IsZero() && at.Before(iv.Holder.From) {
				continue
			}
			if !iv.open() && !at.Before(iv.Holder.To) {
				break
			}
			return v.judge(iv, at, now), true
		}
	}
	return flow.Holder{}, false
}

// judge is the interval's holder with what is doubtful about it.
func (v *view) judge(iv interval, at, now time.Time) flow.Holder {
	h := iv.Holder
	if !iv.open() {
		return h
	}
	if !iv.Unsure.IsZero() && !at.Before(iv.Unsure) {
		return flow.Holder{Prefix: h.Prefix, Tags: h.Tags, From: iv.Unsure, Doubt: flow.DoubtDisputed, DoubtWhy: iv.Ignored}
	}
	if h.Doubt != "" {
		return h
	}
	h.Doubt, h.DoubtWhy = v.stalest(iv.Sources, now)
	return h
}

// stalest is the doubt that a source which was not read for too long casts.
func (v *view) stalest(sources []string, now time.Time) (flow.Doubt, string) {
	for _, name := range sources {
		if s, ok := v.stale[name]; ok && (!s.read || !s.till.IsZero() && now.After(s.till)) {
			return flow.DoubtStale, "the source " + name + " was not read for too long"
		}
	}
	return "", ""
}

// prefixes are those of the history, sorted.
func (hs history) prefixes() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(hs), netip.Prefix.Compare)
}
