package respond

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	tenantA = netip.MustParseAddr("198.18.0.7")
	tenantB = netip.MustParseAddr("198.18.0.8")
	tenantC = netip.MustParseAddr("198.18.0.9")
	tenantX = netip.MustParseAddr("198.18.99.1") // in no inventory
)

var errDead = errors.New("the process is dead")

// world is what outlives a process: the log, the hypervisor, the flows, the
// mailboxes. Everything that a process does to it passes through proc.
type world struct {
	mu      sync.Mutex
	events  []flow.Event
	nics    map[string]*nicState // by MAC
	private func(flow.Holder) []string
	holders map[netip.Addr]flow.Holder
	saved   map[string]flow.Evidence
	mail    []sentNotice
	rows    []flow.FlowRow
	fleet   func() time.Time // FleetLast
	onFlows func()           // called, if set, before flows are read
	sends   map[netip.Addr]bool
	logDown bool
	// scripted answers
	cutErr     func(n int) error // n-th call, from 1
	restoreErr func(n int) error
	statusErr  func(n int) error
	notifyErr  func(name string, n int) error
	noticeErr  func(name string, n flow.Notice) error
	cutCalls, restoreCalls, statusCalls,
	notifyCalls int
	redundant int           // calls that found already done what they ask for
	hang      chan struct{} // non-nil: Cut blocks until it is closed, deaf to its context
	// list is asked, without the lock, what a listing of marks answers of what is
	// there; nil: all of it, at once.
	list func(ctx context.Context, all []flow.MarkedNIC) ([]flow.MarkedNIC, error)
	// crash points
	points  int
	crashAt map[int]bool
	proc    *proc

	// the ladder
	measures                                []flow.MeasureKind // what the hypervisor can take beside the cut
	restrictErr                             func(n int) error
	liftErr                                 func(n int) error
	after                                   func(call string) error // called after an effect: an error is an answer that was lost
	before                                  func(call string)       // called before an effect, without the lock
	adapters                                []string                // beside "hv"
	edge                                    map[string]*nicState    // by server: the network side, which needs no hypervisor
	changes                                 chan string             // what Watch tells, made in the bubble
	attacks                                 map[netip.Addr][]uint16 // ports that a tenant scans
	kbit                                    map[netip.Addr]uint64   // what a tenant would send
	restrictCalls, liftCalls, describeCalls int
	fleetSize                               int
	age                                     time.Duration
	reg                                     *prometheus.Registry // of the newest process
}

type nicState struct {
	up, configUp bool
	running      bool
	mark         *flow.Mark
	restrictions []flow.Restriction
	cuts, gives  int    // real changes of the link
	takes, lifts int    // and of what is milder
	at           string // the adapter that knows it
	node         string
}

type sentNotice struct {
	notifier string
	n        flow.Notice
}

// proc is one life of the process.
type proc struct {
	w    *world
	dead bool
	die  context.CancelFunc
}

func newWorld() *world {
	w := &world{
		nics: map[string]*nicState{}, holders: map[netip.Addr]flow.Holder{}, saved: map[string]flow.Evidence{},
		crashAt: map[int]bool{}, sends: map[netip.Addr]bool{}, fleet: time.Now, edge: map[string]*nicState{},
		attacks: map[netip.Addr][]uint16{}, kbit: map[netip.Addr]uint64{}, measures: []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit},
	}
	for i, a := range []netip.Addr{tenantA, tenantB, tenantC} {
		w.addServer(a, string(rune('a'+i)))
	}
	return w
}

func (w *world) addServer(a netip.Addr, name string) {
	mac := "52:54:00:00:00:0" + name
	w.nics[mac] = &nicState{up: true, configUp: true, running: true, at: "hv"}
	w.holders[a] = flow.Holder{
		Prefix: netip.PrefixFrom(a, a.BitLen()), Tenant: "cust-" + name, VDS: "vds-" + name, Hypervisor: "hv", NICs: []string{mac},
		Contact: name + "@example.org", Language: "en",
	}
}

// point is a place where the process may die. It reports whether it is dead.
func (p *proc) point() bool {
	if p.dead {
		return true
	}
	p.w.points++
	if p.w.crashAt[p.w.points] {
		p.dead = true
		p.die()
	}
	return p.dead
}

// do runs an effect on the world with a crash point before and after it.
func (p *proc) do(effect func() error) error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.point() {
		return errDead
	}
	err := effect()
	if p.point() {
		return errDead
	}
	return err
}

// ask is do without crash points: reading changes nothing.
func (p *proc) ask(f func() error) error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.dead {
		return errDead
	}
	return f()
}

func (p *proc) AppendEvents(_ context.Context, ev []flow.Event) error {
	return p.do(func() error {
		if p.w.logDown {
			return errors.New("database away")
		}
		for _, e := range ev {
			dup := false
			for _, o := range p.w.events {
				dup = dup || o.Seq == e.Seq
			}
			if !dup {
				p.w.events = append(p.w.events, e)
			}
		}
		return nil
	})
}

func (p *proc) Events(_ context.Context, fn func(flow.Event) error) error {
	p.w.mu.Lock()
	evs := append([]flow.Event(nil), p.w.events...)
	p.w.mu.Unlock()
	for _, e := range evs {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func (p *proc) Holder(ip netip.Addr, _ time.Time) (flow.Holder, bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	h, ok := p.w.holders[ip]
	return h, ok
}

func (p *proc) Flows(_ context.Context, q flow.FlowQuery) (out []flow.FlowRow, err error) {
	if p.w.onFlows != nil {
		p.w.onFlows()
	}
	err = p.ask(func() error {
		if q.Limit == portRows { // what is looked at after a port was blocked
			out = p.w.toPort(q)
			return nil
		}
		for _, r := range p.w.rows {
			if r.Tenant == q.Tenant && selects(q, r) {
				out = append(out, r)
			}
		}
		slices.SortStableFunc(out, func(a, b flow.FlowRow) int { return cmp.Compare(a.Time, b.Time) })
		if over := len(out) - q.Limit; q.Limit > 0 && over > 0 && q.Newest {
			out = out[over:]
		} else if q.Limit > 0 && over > 0 {
			out = out[:q.Limit]
		}
		return nil
	})
	return out, err
}

func (p *proc) Outbound(_ context.Context, tenant netip.Addr, since time.Time) (o flow.Outbound, err error) {
	err = p.ask(func() error {
		o.FleetLast = p.w.fleet()
		h := p.w.holders[tenant]
		if len(h.NICs) > 0 && (p.w.nics[h.NICs[0]] != nil && p.w.nics[h.NICs[0]].up || p.w.sends[tenant]) && time.Now().After(since) {
			o.Packets, o.Last = 7, time.Now()
		}
		return nil
	})
	return o, err
}

func (p *proc) SaveEvidence(_ context.Context, e flow.Evidence) error {
	return p.do(func() error {
		if _, ok := p.w.saved[e.Incident]; !ok { // the first stays, as in the store
			p.w.saved[e.Incident] = e
		}
		return nil
	})
}

func (p *proc) Evidence(_ context.Context, id string) (e flow.Evidence, err error) {
	err = p.ask(func() error {
		var ok bool
		if e, ok = p.w.saved[id]; !ok {
			return errors.New("not found")
		}
		return nil
	})
	return e, err
}

// nicOf is the NIC of a tenant as the packets find it, whatever the inventory
// says; nil when there is none.
func (w *world) nicOf(a netip.Addr) *nicState {
	if h := w.holders[a]; len(h.NICs) > 0 {
		return w.nics[h.NICs[0]]
	}
	return nil
}

// toPort is what a tenant still sends to a port.
func (w *world) toPort(q flow.FlowQuery) []flow.FlowRow {
	n := w.nicOf(q.Tenant)
	if n == nil || !n.up || !slices.Contains(w.attacks[q.Tenant], uint16(q.SvcPort)) {
		return nil
	}
	st := n.status()
	if r, ok := st.Restricted(flow.MeasureBlockPort); ok && slices.Contains(r.Measure.Ports, flow.PortRule{Proto: q.IPProto, Port: uint16(q.SvcPort)}) {
		return nil
	}
	at := q.Range.To.UnixNano()
	return []flow.FlowRow{{Time: at, End: at, Tenant: q.Tenant, RemotePort: uint16(q.SvcPort), SvcPort: uint16(q.SvcPort), Packets: 3}}
}

func (p *proc) HostSeries(_ context.Context, tenant netip.Addr, r flow.Range, step time.Duration) (out []flow.SeriesPoint, err error) {
	err = p.ask(func() error {
		rate := p.w.kbit[tenant]
		if n := p.w.nicOf(tenant); n != nil {
			if x, ok := n.status().Restricted(flow.MeasureLimit); ok && !p.w.sends[tenant] {
				rate = min(rate, x.Measure.KbitS)
			}
		}
		for at := r.From; at.Before(r.To); at = at.Add(step) {
			out = append(out, flow.SeriesPoint{Time: at, EstOutBytes: rate * 125 * uint64(step/time.Second)})
		}
		return nil
	})
	return out, err
}

// box is a mailbox seen from one process.
type box struct {
	*proc
	name  string
	kinds []string // nil: all
}

func (b box) Name() string { return b.name }

func (b box) Wants(kind string, _ flow.Incident) bool {
	for _, k := range b.kinds {
		if k == kind {
			return true
		}
	}
	return b.kinds == nil
}

func (b box) Notify(_ context.Context, n flow.Notice) error {
	return b.do(func() error {
		b.w.notifyCalls++
		if b.w.notifyErr != nil {
			if err := b.w.notifyErr(b.name, b.w.notifyCalls); err != nil {
				return err
			}
		}
		if b.w.noticeErr != nil {
			if err := b.w.noticeErr(b.name, n); err != nil {
				return err
			}
		}
		b.w.mail = append(b.w.mail, sentNotice{b.name, n})
		return nil
	})
}

// boot starts a process on the world: a controller that is loaded and runs.
func (w *world) boot(ctx context.Context, cfg Config) (*Controller, *proc, <-chan error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &proc{w: w, die: cancel}
	w.proc = p
	deps := Deps{
		Events: p, Flows: p, Inventory: p, Suspenders: []Suspender{hyper{p, "hv"}},
		Notifiers: []Notifier{
			box{p, "staff", nil},
			box{p, "customer", []string{noticeSuspended, noticeRestricted, noticeNotified, noticeReleased, noticeLifted, noticeReminder, noticeStatement, noticeParoleOver}},
		},
		FleetSize:    func() int { return w.fleetSize },
		InventoryAge: func() time.Duration { w.mu.Lock(); defer w.mu.Unlock(); return w.age },
		PrivateNICs:  w.private,
	}
	w.reg = prometheus.NewRegistry()
	deps.Registerer = w.reg
	for _, name := range w.adapters {
		deps.Suspenders = append(deps.Suspenders, hyper{p, name})
	}
	if cfg.Fallback == "edge" {
		deps.Suspenders = append(deps.Suspenders, edge{p})
	}
	c := New(cfg, deps)
	done := make(chan error, 1)
	if err := c.Load(ctx); err != nil {
		done <- err
		return c, p, done
	}
	go func() { done <- c.Run(ctx) }()
	return c, p, done
}

func (w *world) nic(a netip.Addr) nicState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.nics[w.holders[a].NICs[0]]
}

func (w *world) mails(notifier, kind string) (keys []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.mail {
		if m.notifier == notifier && m.n.Kind == kind {
			keys = append(keys, m.n.Key)
		}
	}
	return keys
}

// scan is a netscan finding of tier suspend over the last minute.
func scan(tenant netip.Addr, ts time.Time) flow.Finding {
	return flow.Finding{
		Time: ts, Tenant: tenant, Rule: flow.RuleNetscan, Tier: flow.TierSuspend, IPProto: flow.ProtoTCP, Port: 22, WindowS: 60,
		Samples: 1200, Distinct: 1150, SamplingRate: 1, Score: 412, Threshold: 30, EstRate: 20, From: ts.Add(-time.Minute), To: ts,
		Reason: "1,150 destinations on TCP port 22 in 60 s, none answered", RuleVersion: 1, ConfigHash: "c0ffee",
	}
}

// early is a netscan finding that supports a notice only.
func early(tenant netip.Addr, ts time.Time) flow.Finding {
	f := scan(tenant, ts)
	f.Tier, f.Score, f.Samples, f.Distinct = flow.TierNotify, 31, 40, 38
	f.Reason = "38 destinations on TCP port 22 in 60 s, none answered"
	return f
}

func enforce() Config {
	return Config{Modes: map[flow.Rule]flow.Mode{flow.RuleNetscan: flow.ModeEnforce}}
}

func addr4(b [4]byte) netip.Addr { return netip.AddrFrom4(b) }
