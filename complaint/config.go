package complaint

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Defaults of Config.
const (
	// DefaultTolerance: clocks with NTP agree to a second, flow records end up
	// to a minute after what they tell, and reporters' clocks without NTP drift
	// by a minute or two; what is farther off the search for an offset finds.
	DefaultTolerance = 2 * time.Minute
	// DefaultCertain is how sure we must have been to see it before not having
	// seen it contradicts the complaint.
	DefaultCertain = 0.99
)

const (
	// around a claim in which a host must have been seen for its silence about
	// the claim to mean anything.
	around = 30 * time.Minute
	// banAfter: a ban comes after what it punishes; fail2ban looks ten minutes
	// back by default (findtime).
	banAfter = 10 * time.Minute
	// searchSpan of the clock: any two zones are at most 26 hours apart.
	searchSpan = 26 * time.Hour
	// maxLines that are held against flows; beyond that lines repeat.
	maxLines = 5000
	// maxRows of flows read in one question: 40 MB.
	maxRows = 200_000
	// maxRanges asked for one host; closer ones are asked as one.
	maxRanges = 40
	// maxFleet bounds the questions whether anything was collected at a time.
	maxFleet = 30
	// maxHosts of ours that one complaint is matched for.
	maxHosts = 100
	// maxRemotes of one question.
	maxRemotes = 2000
)

// sharedTags are tags of the inventory by which an address serves several
// customers.
var sharedTags = []string{"nat", "cgnat", "shared", "vpn", "proxy", "tor"}

// Config is what may be chosen.
type Config struct {
	Tolerance time.Duration // of a claimed time, to both sides; 0: DefaultTolerance
	Certain   float64       // 0: DefaultCertain
	// FlowPolicy is store.flow_policy: all, attempts or off. What is not stored
	// cannot contradict.
	FlowPolicy string
	// SharedTags mark holders whose address serves several customers; nil: nat,
	// cgnat, shared, vpn, proxy, tor.
	SharedTags []string
}

// Store is the part of the store that is asked.
type Store interface {
	// FlowsWith gives flow rows of a tenant with one of the remotes (nil: any).
	FlowsWith(ctx context.Context, q flow.FlowQuery, remotes []netip.Addr) ([]flow.FlowRow, error)
	// PairsWith gives pair windows of a tenant with the remotes.
	PairsWith(ctx context.Context, tenant netip.Addr, r flow.Range, remotes []netip.Addr) ([]flow.PairWindow, error)
	// HostActivity and FleetActivity sum windows by step and sampling rate.
	HostActivity(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) ([]flow.HostWindow, error)
	FleetActivity(ctx context.Context, r flow.Range, step time.Duration) ([]flow.HostWindow, error)
	// FlowsSince is the time of the earliest flow row; zero: there is none.
	FlowsSince(ctx context.Context) (time.Time, error)
}

// Sums is what a Store may be as well: the sums that are left of times of which
// single flows, and windows, are not stored any more.
type Sums interface {
	// Finest is the length of the finest sums that are stored of a moment.
	Finest(at time.Time) time.Duration
	// PairHours gives the pairs with the remotes that were seen before r ended and
	// after it began, in the hours that it touches.
	PairHours(ctx context.Context, tenant netip.Addr, r flow.Range, remotes []netip.Addr) ([]flow.PairHour, error)
	// ServicesWith gives a tenant's services in r by windows or by hours, and which
	// of the remotes each tried.
	ServicesWith(ctx context.Context, tenant netip.Addr, r flow.Range, res flow.Resolution, remotes []netip.Addr) (flow.ServiceSums, error)
}

// Inventory tells who held an address.
type Inventory interface {
	Holder(ip netip.Addr, at time.Time) (flow.Holder, bool)
}

// Incidents gives the incidents of a tenant, by the address that its windows
// are stored under.
type Incidents interface {
	IncidentsOf(ctx context.Context, tenant netip.Addr) ([]flow.Incident, error)
}

// Deps is what a Matcher asks. Store, Inventory and TenantKey are needed.
type Deps struct {
	Store     Store
	Inventory Inventory
	Incidents Incidents // nil: no case is joined to an incident
	// TenantKey maps an address to the one its windows are stored under, and to
	// the zero Addr when it is none of ours.
	TenantKey func(netip.Addr) netip.Addr
	Now       func() time.Time // nil: time.Now
}

// Matcher holds complaints against what is stored. It is safe for concurrent use.
type Matcher struct {
	cfg  Config
	deps Deps
}

// New makes a matcher. The error names what is missing.
func New(cfg Config, deps Deps) (*Matcher, error) {
	if deps.Store == nil || deps.Inventory == nil || deps.TenantKey == nil {
		return nil, errors.New("complaint: Deps.Store, Inventory and TenantKey are needed")
	}
	if cfg.Tolerance == 0 {
		cfg.Tolerance = DefaultTolerance
	}
	if cfg.Tolerance < time.Second || cfg.Tolerance > time.Hour {
		return nil, errors.New("complaint: the tolerance must be between a second and an hour")
	}
	if cfg.Certain == 0 {
		cfg.Certain = DefaultCertain
	}
	if cfg.Certain <= 0.5 || cfg.Certain >= 1 {
		return nil, errors.New("complaint: how certain a contradiction must be lies between 0.5 and 1")
	}
	if cfg.SharedTags == nil {
		cfg.SharedTags = sharedTags
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Matcher{cfg: cfg, deps: deps}, nil
}
