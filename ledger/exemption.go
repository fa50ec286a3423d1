package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Exemption lets findings be recorded but not acted on. Every field that is set
// must match; Tenant or Holder must be set. The meaning is respond.Exemption's,
// with the remote's AS besides.
type Exemption struct {
	Name     string       `json:"name"` // unique
	Tenant   netip.Prefix `json:"tenant,omitzero"`
	Holder   string       `json:"holder,omitempty"` // customer id
	Remote   netip.Prefix `json:"remote,omitzero"`  // of the finding's remote, which scans of many do not have
	RemoteAS uint32       `json:"remote_as,omitempty"`
	Port     uint16       `json:"port,omitempty"`
	Rule     flow.Rule    `json:"rule,omitempty"`
	Owner    string       `json:"owner"` // who answers for it
	Reason   string       `json:"reason"`
	Expires  time.Time    `json:"expires,omitzero"` // zero: never
}

// Validate returns everything that is wrong, with what to write instead.
func (e *Exemption) Validate() error {
	var errs []error
	bad := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("exemption %q: "+format, append([]any{e.Name}, a...)...))
	}
	if e.Name == "" {
		bad("name is missing: write a unique one, as pentest-c42")
	}
	if !e.Tenant.IsValid() && e.Holder == "" {
		bad("neither tenant nor holder is there, which would exempt everybody: write one of them")
	}
	for _, p := range []struct {
		key string
		p   netip.Prefix
	}{{"tenant", e.Tenant}, {"remote", e.Remote}} {
		switch {
		case !p.p.IsValid():
		case p.p.Addr().Is4In6():
			bad("%s is %s, mapped into IPv6: write it as IPv4", p.key, p.p)
		case p.p != p.p.Masked():
			bad("%s is %s: write %s", p.key, p.p, p.p.Masked())
		}
	}
	if e.Remote.IsValid() && e.RemoteAS != 0 {
		bad("has remote and remote_as: write one of them")
	}
	if e.Owner == "" {
		bad("owner is missing: write who answers for it")
	}
	if e.Reason == "" {
		bad("reason is missing: write why, for those who come after you")
	}
	return errors.Join(errs...)
}

// Matches reports whether the exemption covers a finding of holder h at ts. asOf
// tells the AS of an address; nil: none is known, and what asks for one does not
// match.
func (e *Exemption) Matches(f *flow.Finding, h flow.Holder, ts time.Time, asOf func(netip.Addr) (uint32, bool)) bool {
	switch {
	case !e.Tenant.IsValid() && e.Holder == "",
		!e.Expires.IsZero() && !ts.Before(e.Expires),
		e.Tenant.IsValid() && !e.Tenant.Contains(f.Tenant),
		e.Holder != "" && e.Holder != h.Tenant,
		e.Remote.IsValid() && (!f.Remote.IsValid() || !e.Remote.Contains(f.Remote)),
		e.Port != 0 && e.Port != f.Port,
		e.Rule != "" && e.Rule != f.Rule:
		return false
	}
	if e.RemoteAS == 0 {
		return true
	}
	if asOf == nil || !f.Remote.IsValid() {
		return false
	}
	as, ok := asOf(f.Remote)
	return ok && as == e.RemoteAS
}

// Hits is how often an exemption was needed.
type Hits struct {
	Findings uint64    `json:"findings"`    // ticks
	Days     uint64    `json:"tenant_days"` // distinct tenants and days
	Last     time.Time `json:"last,omitzero"`
}

// Book holds the exemptions and counts what they cover, since its start. Its
// methods may be called from any goroutine.
type Book struct {
	list []Exemption
	asOf func(netip.Addr) (uint32, bool)

	mu    sync.Mutex
	hits  []Hits
	today []map[netip.Addr]string // the day that a tenant was last counted on
	since time.Time
}

// NewBook checks the exemptions. asOf may be nil; since is when counting begins.
func NewBook(list []Exemption, asOf func(netip.Addr) (uint32, bool), since time.Time) (*Book, error) {
	var errs []error
	names := map[string]bool{}
	for i := range list {
		if err := list[i].Validate(); err != nil {
			errs = append(errs, err)
		}
		if names[list[i].Name] {
			errs = append(errs, fmt.Errorf("exemption %q is there twice: give each a name of its own", list[i].Name))
		}
		if list[i].RemoteAS != 0 && asOf == nil {
			errs = append(errs, fmt.Errorf("exemption %q: remote_as needs a table of AS numbers: write remote instead", list[i].Name))
		}
		names[list[i].Name] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	b := &Book{list: slices.Clone(list), asOf: asOf, hits: make([]Hits, len(list)), today: make([]map[netip.Addr]string, len(list)), since: since}
	for i := range b.today {
		b.today[i] = map[netip.Addr]string{}
	}
	return b, nil
}

// Cover returns the name of the first exemption that covers a finding, and
// counts a hit.
func (b *Book) Cover(f *flow.Finding, h flow.Holder, ts time.Time) (name string, ok bool) {
	for i := range b.list {
		if !b.list[i].Matches(f, h, ts, b.asOf) {
			continue
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		x := &b.hits[i]
		x.Findings++
		if ts.After(x.Last) {
			x.Last = ts
		}
		if day := dayOf(ts); b.today[i][f.Tenant] != day {
			b.today[i][f.Tenant] = day
			x.Days++
		}
		return b.list[i].Name, true
	}
	return "", false
}

// Status is one exemption with its hits and what is to be said of it.
type Status struct {
	Exemption
	Hits    Hits   `json:"hits"`
	Warning string `json:"warning,omitempty"`
}

const (
	// warnBefore is when an exemption that ends is told of.
	warnBefore = 14 * 24 * time.Hour
	// warnUnused is when one that nothing needed is.
	warnUnused = 30 * 24 * time.Hour
)

// Status returns all exemptions, those with a warning first: expired, about to
// expire, without an end, or not needed for 30 days.
func (b *Book) Status(ts time.Time) []Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Status, len(b.list))
	for i := range b.list {
		out[i] = Status{Exemption: b.list[i], Hits: b.hits[i], Warning: warning(&b.list[i], b.hits[i], b.since, ts)}
	}
	slices.SortStableFunc(out, func(a, c Status) int {
		return cmp.Or(-cmp.Compare(len(a.Warning), 0)+cmp.Compare(len(c.Warning), 0), cmp.Compare(a.Name, c.Name))
	})
	return out
}

func warning(e *Exemption, h Hits, since, ts time.Time) string {
	left := e.Expires.Sub(ts)
	switch last := latest(h.Last, since); {
	case !e.Expires.IsZero() && left <= 0:
		return fmt.Sprintf("expired on %s and exempts nothing: remove it, or ask %s whether it is still needed", e.Expires.UTC().Format(time.DateOnly), e.Owner)
	case !e.Expires.IsZero() && left <= warnBefore && h.Findings > 0:
		return fmt.Sprintf("expires on %s and was needed on %s: what it covers will be acted on then; ask %s", e.Expires.UTC().Format(time.DateOnly), h.Last.UTC().Format(time.DateOnly), e.Owner)
	case !e.Expires.IsZero() && left <= warnBefore:
		return fmt.Sprintf("expires on %s, and nothing needed it", e.Expires.UTC().Format(time.DateOnly))
	case ts.Sub(last) >= warnUnused:
		return fmt.Sprintf("nothing needed it for %d days: ask %s whether it can go", int(ts.Sub(last)/(24*time.Hour)), e.Owner)
	case e.Expires.IsZero():
		return "never expires: give it an end"
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
