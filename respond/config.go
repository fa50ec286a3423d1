package respond

import (
	"context"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Log is the append-only event log (store). AppendEvents returns when the
// events are stored for good and is idempotent by Seq; Events calls fn in
// order of Seq, without duplicates.
type Log interface {
	AppendEvents(ctx context.Context, ev []flow.Event) error
	Events(ctx context.Context, fn func(flow.Event) error) error
}

// Flows answers what a tenant sent, and keeps the evidence (store).
type Flows interface {
	Flows(ctx context.Context, q flow.FlowQuery) ([]flow.FlowRow, error)
	Outbound(ctx context.Context, tenant netip.Addr, since time.Time) (flow.Outbound, error)
	SaveEvidence(ctx context.Context, e flow.Evidence) error
	Evidence(ctx context.Context, incident string) (flow.Evidence, error)
}

// Meter is what Flows may be as well: how fast a tenant sent (store). Without
// it the effect of a rate limit cannot be verified.
type Meter interface {
	HostSeries(ctx context.Context, tenant netip.Addr, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error)
}

// Inventory tells who held an address at a moment.
type Inventory interface {
	Holder(ip netip.Addr, at time.Time) (flow.Holder, bool)
}

// Suspender cuts the network of one NIC at a hypervisor and gives it back.
// Errors are *flow.ActError; any other error counts as transient.
type Suspender interface {
	Name() string // the adapter's name in the configuration; flow.Holder.Hypervisor refers to it
	Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error)
	// Cut is idempotent and leaves the mark.
	Cut(ctx context.Context, nic flow.NIC, m flow.Mark) (flow.Receipt, error)
	// Restore gives back only what carries our mark, in exactly the state that
	// the receipt says it had before.
	Restore(ctx context.Context, nic flow.NIC, m flow.Mark, r flow.Receipt) error
}

// Restrictor is a Suspender that also takes milder measures. Like a cut, they
// are idempotent, leave a mark, and are lifted only where the mark is ours,
// giving back exactly what was there before. They show in Status.
type Restrictor interface {
	Suspender
	Measures() []flow.MeasureKind // the milder ones it can take
	// Restrict puts a measure in force. One of the same kind and incident is
	// replaced (more ports, another limit); one of another incident is ErrConflict.
	Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error)
	Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, r flow.Receipt) error
}

// Watcher tells of changes that others make: a server started, defined anew,
// migrated or deleted. Watch blocks until ctx ends, and connects again by
// itself; vds is empty when anything may have changed.
type Watcher interface {
	Watch(ctx context.Context, changed func(vds string)) error
}

// Lister lists every NIC that carries a mark of ours, whether or not an
// incident says so. A list that came to an end early is returned with the error
// that ended it.
type Lister interface {
	Marked(ctx context.Context) ([]flow.MarkedNIC, error)
}

// Describer says, for a dry run, which call would be made, without a secret.
type Describer interface {
	Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error)
}

// Notifier sends one notice over one channel. It may implement Selector. An
// error with a method Permanent() bool that returns true is not retried.
type Notifier interface {
	Name() string
	Notify(ctx context.Context, n flow.Notice) error
}

// Selector lets a Notifier say which notices it wants. The answer is asked for
// once, when the notice becomes due, and is stored with it.
type Selector interface {
	Wants(kind string, inc flow.Incident) bool
}

// Protected names what is never cut, whoever asks.
type Protected struct {
	Prefixes []netip.Prefix
	Tenants  []string
	Tags     []string
}

// Exemption is flow's: one matcher for those of the configuration and those that
// people make while the service runs.
type Exemption = flow.Exemption

// Config is the policy. Zero values mean the defaults that are written beside
// the fields.
type Config struct {
	Modes      map[flow.Rule]flow.Mode // observe where a rule is absent
	Protected  Protected
	Exemptions []Exemption
	// SharedTags mark holders whose address many customers share.
	SharedTags []string // shared, nat
	MaxPerHour int      // 10; suspend intents in any 60 minutes; negative: none at all
	Caps       Caps     // further bounds of what happens without a human
	Freeze     Freeze
	// Ladders are the measures of a rule, milder first. Without an entry a
	// finding of tier suspend is a cut. One of tier block_port blocks its port
	// and never climbs.
	Ladders map[flow.Rule][]Step
	// SkipUnsupported goes to the next step of the ladder, for tier suspend, where
	// the adapter cannot take one; otherwise such a finding is only told of.
	SkipUnsupported bool
	RepeatFactor    float64       // 2: each earlier offence multiplies the time of a temporary measure by it
	RepeatMax       time.Duration // 7 days, the longest that a temporary measure grows to
	// Probation is how long after a release the holder is judged by a lower bar:
	// what else is a notice takes the first step, and what else takes a step is
	// answered by the last. 0: none.
	Probation time.Duration
	// RefuseAfter is the n-th offence that is cut at once and left to a human,
	// who decides whether to refuse further service. 0: none.
	RefuseAfter   int
	OffenceWindow time.Duration // 180 days: how long an offence counts
	// ReleaseOnStatement is for how many offences the customer's statement alone
	// gives everything back: 0 for none, 1 for the first only.
	ReleaseOnStatement int
	RemindAfter        time.Duration // the customer is reminded of the answer that is owed; 0: never
	AnswerWithin       time.Duration // after which staff must decide; 0: never
	// DryRun makes no call that takes a measure: what would be called is stored
	// with the incident. What is in force can still be given back.
	DryRun bool
	// InventoryMaxAge holds acts when the inventory is older; 0: any age will do.
	InventoryMaxAge time.Duration
	// Cooldown is how long after a release of the same holder no automatic
	// cut follows; 0: none.
	Cooldown time.Duration
	// NotifyAfter is how long, in the modes approve and enforce, a notice waits
	// whether the abuse rises to an act: a young attack is seen as a small one
	// first, and nobody is to be asked to look at a server that is cut off
	// seconds later. 2 min; negative: the notice goes out at once.
	NotifyAfter     time.Duration
	ApprovalTimeout time.Duration // 24 h
	CloseAfter      time.Duration // 24 h without findings close an incident without an act

	// Reassert is how often what must be in force is read back, and put in force
	// again where it is not. 1 min; negative: never.
	Reassert      time.Duration
	Orphans       OrphanPolicy  // report
	MarkBy        string        // flowcordon: the name in our marks; another for each installation on one hypervisor
	BreakerAfter  int           // 5 transient failures in a row leave a node alone
	BreakerFor    time.Duration // 30 s, then one probe
	Fallback      string        // name of the adapter that steps in for one that cannot act; "": none
	FallbackAfter time.Duration // 2 min of attempts before it does

	CallTimeout time.Duration // 10 s for each call to a hypervisor
	ListTimeout time.Duration // 2 min for the list of all marks, which may read thousands of servers
	MaxAttempts int           // 10
	MaxActTime  time.Duration // 15 min of attempts
	RetryMin    time.Duration // 1 s; doubles
	RetryMax    time.Duration // 2 min
	Workers     int           // 8 calls at once

	Settle         time.Duration // 10 s after the cut before silence is expected
	VerifyFor      time.Duration // 20 s of silence, while others are heard
	VerifyDeadline time.Duration // 180 s
	VerifyEvery    time.Duration // 5 s between looks

	AppendTimeout  time.Duration // 5 s for each append to the log
	QueryTimeout   time.Duration // 3 s for each query of flows
	EvidenceAfter  time.Duration // 7 s after an act, until which flow rows of before it arrive
	EvidenceWait   time.Duration // 2 min that a notice waits for its evidence
	EvidenceRows   int           // 10,000, also the most
	NotifyTimeout  time.Duration // 30 s for each notice
	NoticeRetryMax time.Duration // 10 min
	NoticeMaxAge   time.Duration // 72 h, then the notice is given up and that is stored
	Tick           time.Duration // 1 s: how often Run looks for timers that are due
}

// Deps are what the controller works with. What follows Notifiers may be nil.
type Deps struct {
	Events     Log
	Flows      Flows
	Inventory  Inventory
	Suspenders []Suspender
	Notifiers  []Notifier
	Log        *zap.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
	// FleetSize is the number of servers that the inventory knows; 0: not known.
	// It may be nil, and is called under the writer's lock: it must not block.
	FleetSize func() int
	// InventoryAge is how long ago the inventory was last known to be right. It
	// may be nil, and must not block.
	InventoryAge func() time.Duration
	// PrivateNICs are the MACs of the holder's server that a cut takes as well as
	// the NIC that holds the address; nil: none. It is called under the writer's
	// lock and must not block.
	PrivateNICs func(h flow.Holder) []string
	// Exempt tells of exemptions beside those of Config. It may be nil, is called
	// under the writer's lock and must not block.
	Exempt Exempter
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	if c.SharedTags == nil {
		c.SharedTags = []string{"shared", "nat"}
	}
	orDefault(&c.MaxPerHour, 10)
	c.Caps = c.Caps.withDefaults(c.MaxPerHour)
	c.Freeze = c.Freeze.withDefaults()
	orDefault(&c.RepeatFactor, 2)
	orDefault(&c.RepeatMax, 7*24*time.Hour)
	orDefault(&c.OffenceWindow, 180*24*time.Hour)
	orDefault(&c.Reassert, time.Minute)
	orDefault(&c.Orphans, OrphansReport)
	orDefault(&c.MarkBy, "flowcordon")
	orDefault(&c.BreakerAfter, 5)
	orDefault(&c.BreakerFor, 30*time.Second)
	orDefault(&c.FallbackAfter, 2*time.Minute)
	orDefault(&c.NotifyAfter, 2*time.Minute)
	orDefault(&c.ApprovalTimeout, 24*time.Hour)
	orDefault(&c.CloseAfter, 24*time.Hour)
	orDefault(&c.CallTimeout, 10*time.Second)
	orDefault(&c.ListTimeout, 2*time.Minute)
	orDefault(&c.MaxAttempts, 10)
	orDefault(&c.MaxActTime, 15*time.Minute)
	orDefault(&c.RetryMin, time.Second)
	orDefault(&c.RetryMax, 2*time.Minute)
	orDefault(&c.Workers, 8)
	orDefault(&c.Settle, 10*time.Second)
	orDefault(&c.VerifyFor, 20*time.Second)
	orDefault(&c.VerifyDeadline, 180*time.Second)
	orDefault(&c.VerifyEvery, 5*time.Second)
	orDefault(&c.AppendTimeout, 5*time.Second)
	orDefault(&c.QueryTimeout, 3*time.Second)
	orDefault(&c.EvidenceAfter, flushLag)
	orDefault(&c.EvidenceWait, 2*time.Minute)
	orDefault(&c.EvidenceRows, maxEvidenceRows)
	c.EvidenceRows = min(c.EvidenceRows, maxEvidenceRows)
	orDefault(&c.NotifyTimeout, 30*time.Second)
	orDefault(&c.NoticeRetryMax, 10*time.Minute)
	orDefault(&c.NoticeMaxAge, 72*time.Hour)
	orDefault(&c.Tick, time.Second)
	return c
}

func (c Config) mode(r flow.Rule) flow.Mode {
	if m, ok := c.Modes[r]; ok {
		return m
	}
	return flow.ModeObserve
}

// exempt names the first exemption that covers a finding of holder h at ts.
func (c Config) exempt(f flow.Finding, h flow.Holder, ts time.Time, more Exempter) (name string, ok bool) {
	for _, e := range c.Exemptions {
		if e.Covers(f, h, ts, nil) {
			return e.Name, true
		}
	}
	if more == nil {
		return "", false
	}
	return more(f, h, ts)
}

// Exempter names the exemption that covers a finding of holder h at ts, beside
// those of Config.
type Exempter func(f flow.Finding, h flow.Holder, ts time.Time) (name string, ok bool)

// covers reports whether the holder or the address is protected.
func (p Protected) covers(addr netip.Addr, h flow.Holder) bool {
	for _, pre := range p.Prefixes {
		// A v6 tenant is a prefix; it is protected as soon as it overlaps.
		if pre.Contains(addr) || (h.Prefix.IsValid() && pre.Overlaps(h.Prefix)) {
			return true
		}
	}
	for _, t := range p.Tenants {
		if t != "" && t == h.Tenant {
			return true
		}
	}
	for _, t := range p.Tags {
		if h.Tagged(t) {
			return true
		}
	}
	return false
}
