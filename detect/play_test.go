package detect

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

var (
	tenant4 = scenario.Tenant4
	tenant6 = scenario.Tenant6
	second4 = scenario.Second4
	// tenant6Key is the tenant that the address belongs to: its /64.
	tenant6Key = netip.PrefixFrom(tenant6, 64).Masked().Addr()
	exporter   = scenario.Exporter
	epoch      = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
)

const step = scenario.Step

// result is what the detector said of one run.
type result struct {
	tier flow.Tier // the highest
	// When each tier or a higher was reached.
	notify, block, suspend time.Duration
	length                 time.Duration // that was simulated
	records                int
	tooMany                bool           // for an sFlow agent, see mostUnsampled
	innocent               []flow.Finding // above notify, of somebody else
	worst                  flow.Finding
}

const never = time.Duration(1<<63 - 1)

// pipe is the way of a router's records to the detector: encoded as the router
// would, decoded and aggregated as the collector does, kept by the model.
type pipe struct {
	t    testing.TB
	wire *scenario.Wire
	dec  *decode.Decoder
	agg  *aggregate.Local
	b    flow.Batch
	mem  *memWindows
	d    *Detector
}

func newPipe(t testing.TB, n uint32, protocol flow.Protocol, deps Deps) *pipe {
	p := &pipe{t: t, dec: decode.New(decode.Config{}, decode.Deps{}), mem: newMemWindows()}
	p.agg = aggregate.NewLocal(aggregate.Config{
		Internal:   scenario.Internal(),
		External:   []aggregate.Interface{{Exporter: exporter, IfIndex: scenario.IfExternal}},
		FlowPolicy: aggregate.FlowAll,
	}, collect(&p.b))
	dg := decode.Datagram{Exporter: netip.AddrPortFrom(exporter, 50000)}
	var err error
	p.wire, err = scenario.NewWire(n, protocol == flow.NetFlow9, epoch.Add(-31*24*time.Hour), func(payload []byte, received int64) {
		dg.Payload, dg.Received = payload, received
		p.dec.Decode(dg, p.agg.AddRun)
	})
	if err != nil {
		t.Fatal(err)
	}
	deps.Windows = p.mem
	p.d = New(Config{}, deps)
	return p
}

// tick lets the records arrive that came before ts, and judges.
func (p *pipe) tick(rs []flow.Record, ts time.Time) []flow.Finding {
	if err := p.wire.Send(rs, ts.UnixNano()); err != nil {
		p.t.Fatal(err)
	}
	p.agg.Flush(ts.UnixNano(), false)
	p.mem.add(&p.b)
	p.b = flow.Batch{}
	found, err := p.d.Tick(context.Background(), ts)
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

// taken fails the test where records were lost on the way. Of those with forged
// sources, which neither end of is ours, only a few rows are kept; the others are
// counted as not internal.
func (p *pipe) taken(made int, forged bool) {
	s := p.agg.Stats()
	kept := s.Aggregated
	if forged {
		kept += s.Dropped["not_internal"]
	}
	if s.Records != uint64(made) || kept != s.Records {
		p.t.Errorf("of %d records %d were decoded and %d aggregated; dropped: %v, %v", made, s.Records, s.Aggregated, p.dec.Stats(), s.Dropped)
	}
}

// play runs a scenario through our own encoder, decoder, aggregator, the rows'
// model and the detector. An abusive one ends when the expected tier is reached;
// traffic ends when budget records were made and nothing more is expected.
//
// The first seed of a cell is at least leastLength long, unless that is more than
// mostRecords or the budget is small, and sFlow at 1:1 of more than mostUnsampled records/s is not played
// at all: no agent copies so many headers.
const (
	leastLength   = time.Minute
	mostRecords   = 1_500_000
	mostUnsampled = 20_000
)

func play(t testing.TB, s *scenario.Scenario, n uint32, seed uint64, protocol flow.Protocol, budget int) result {
	g := scenario.NewGenerator(seed, n, protocol == flow.NetFlow9)
	g.OutOnly = s.OutOnly
	p := newPipe(t, n, protocol, Deps{Tags: func(netip.Addr) []string { return s.Tags }, PortOwner: func(a flow.Attachment) (netip.Addr, bool) {
		return tenant4, a.InIf == scenario.IfForger
	}})
	p.mem.known, p.mem.met = s.Known, s.Met
	start := epoch.Add(phase(s, seed, n))
	res := result{notify: never, block: never, suspend: never}
	second := res
	two := slices.ContainsFunc(s.Sources, scenario.Source.IsSecond)
	end := s.Length + scenario.ActiveTimeout + 2*scenario.InactiveTimeout
	want, asked := s.Expects(n, protocol)
	if asked {
		end = min(end, want.Within+5*time.Minute) // what was not found by then is late enough
	}
	for e := time.Duration(0); e < end; e += step {
		if g.Records() < budget || res.tier < want.Tier || seed == 1 && budget >= defaultBudget && e < leastLength && g.Records() < mostRecords {
			for i := range s.Sources {
				g.Run(&s.Sources[i], start, e)
			}
			res.length = min(e+step, s.Length)
		}
		if n == 1 && protocol == flow.SFlow5 && g.Records() > mostUnsampled*int((e+step)/time.Second) {
			res.tooMany = true
			return res
		}
		ts := epoch.Add(e + step) // all that is received before was made
		rs := g.Take(ts)
		res.records += len(rs)
		found, after := p.tick(rs, ts), ts.Sub(start.Add(s.Begin()))
		res.see(found, after, want.Rule, tenant4, tenant6Key)
		second.see(found, after, want.Rule, second4)
		for _, f := range found {
			if f.Tier > flow.TierNotify && f.Tenant != tenant4 && f.Tenant != tenant6Key && (!two || f.Tenant != second4) {
				res.innocent = append(res.innocent, f)
			}
		}
		if !s.Benign && want.Tier > flow.TierNone && res.tier >= want.Tier && (!two || second.tier >= want.Tier) {
			break
		}
	}
	if two {
		res.join(&second, s.Benign)
	}
	p.taken(res.records, slices.ContainsFunc(s.Sources, scenario.Source.Forges))
	return res
}

// phase is when the run begins: no attack begins on a window's edge.
func phase(s *scenario.Scenario, seed uint64, n uint32) time.Duration {
	if s.Phase >= 0 {
		return s.Phase
	}
	return time.Duration(rand.New(rand.NewPCG(seed, uint64(n)^0x70686173)).Int64N(int64(10 * time.Second)))
}

// see notes what was found of the tenants.
func (r *result) see(found []flow.Finding, after time.Duration, only flow.Rule, tenants ...netip.Addr) {
	for _, f := range found {
		if !slices.Contains(tenants, f.Tenant) || only != "" && f.Rule != only {
			continue
		}
		if f.Tier > r.tier {
			r.tier, r.worst = f.Tier, f
		}
		if f.Tier >= flow.TierNotify {
			r.notify = min(r.notify, after)
		}
		if f.Tier >= flow.TierBlockPort {
			r.block = min(r.block, after)
		}
		if f.Tier >= flow.TierSuspend {
			r.suspend = min(r.suspend, after)
		}
	}
}

// join adds what was said of the second tenant: of benign ones the worst counts,
// of attackers both must be found.
func (r *result) join(o *result, benign bool) {
	if o.tier > r.tier == benign {
		r.tier, r.worst = o.tier, o.worst
	}
	r.notify, r.block, r.suspend = max(r.notify, o.notify), max(r.block, o.block), max(r.suspend, o.suspend)
}

func (r *result) reached(t flow.Tier) time.Duration {
	switch t {
	case flow.TierSuspend:
		return r.suspend
	case flow.TierBlockPort:
		return r.block
	}
	return r.notify
}
