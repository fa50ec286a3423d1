package detect

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The first stage of a tick. What a rule can find over a range is bounded by the
// sum of what slots of time show (flow.Sign), so that each window is read once,
// when it is new or has got rows, and the rules' questions are asked only of the
// tenants who may be suspects, mostly nobody. It loses no finding: see bound, and
// TestScreenLosesNothing. What is kept follows from the stored rows alone, so that
// a detector that has just started finds the same.

// Screener is a Windows that says what slots of time show.
type Screener interface {
	// ServiceScreen and PairScreen return the signs before flow.SignPortScan, and
	// those from it on.
	ServiceScreen(ctx context.Context, q flow.ScreenQuery) ([]flow.ScreenRow, error)
	PairScreen(ctx context.Context, q flow.ScreenQuery) ([]flow.ScreenRow, error)
	// RowCount counts the rows of windows that begin in r, WindowRows those of
	// each window that has any.
	RowCount(ctx context.Context, r flow.Range) (flow.RowCounts, error)
	WindowRows(ctx context.Context, r flow.Range) (map[int64]flow.RowCounts, error)
	// FleetPairs sums EstOutPackets and InPackets of PairStats' TCP pairs with any
	// of the former by tenant.
	FleetPairs(ctx context.Context, r flow.Range, minOutPackets uint64) ([]flow.PairStat, error)
	// ServiceRows returns stored windows of the tenants' client sides.
	ServiceRows(ctx context.Context, r flow.Range, limit int) ([]flow.ServiceWindow, error)
}

// screened asks the store what the rules ask, of suspects only. A question that
// is not one of those that a rule begins with is passed on as it is, and a part
// of a range (inParts) is asked of those who were suspects of the whole.
type screened struct {
	Windows
	slots *slotCache
	held  *heldRows
	loose *Thresholds
	ports screenPorts

	asks map[askKey][]bound // the questions whose answers are held

	ts       time.Time
	suspects map[string]map[netip.Addr]struct{} // of this tick, by question
	attempts map[attemptsKey][]flow.AttemptStat // answers of this tick
}

type attemptsKey struct {
	r             flow.Range
	ipProto       uint8
	least, scaled uint64
	suspects      int
}

// screenPorts are the service ports that one question is asked about; shut are
// those of asked that are closed.
type screenPorts struct {
	asked, shut, closed, answers []uint16
	weights                      []float64 // of answers: the seconds that a packet stands for
}

func newScreened(w Windows, s Screener, loose *Thresholds, reflector *ReflectorConfig) *screened {
	p := screenPorts{asked: loginPorts(loose), shut: loose.BlockedPort.ports(flow.ProtoTCP), closed: loose.BlockedPort.ports(flow.ProtoUDP), answers: reflector.ports()}
	for _, port := range p.answers {
		p.weights = append(p.weights, 1/reflector.service(port).Rate)
	}
	slots := newSlotCache(s, screenQuery(loose, p), longest(loose))
	return &screened{Windows: w, slots: slots, held: newHeldRows(s, slots), loose: loose, ports: p, asks: map[askKey][]bound{}}
}

// drift is the part of a flood's rate that a slot may have and show nothing. Of
// SYNs it is half as much: synCarpet is told of remotes that get half the rate.
const (
	drift    = 0.5
	driftSYN = drift / 2
)

// screenQuery is what every slot is asked.
func screenQuery(th *Thresholds, p screenPorts) flow.ScreenQuery {
	q := flow.ScreenQuery{Logins: th.Bruteforce.Ports, Mail: []uint16{portSMTP}, ClosedTCP: p.shut, ClosedUDP: p.closed, UDPServer: p.answers, AnswerWeights: p.weights,
		OneWay: drift * th.UDPFlood.Rate, UDP: drift * th.UDPFlood.Rate, SYN: driftSYN * th.SYNFlood.Rate,
		TCP: drift * th.PacketFlood.Rate, Other: drift * th.PacketFlood.Rate, Echo: drift * th.ICMPFlood.Rate}
	if th.UDPFlood.Mbps > 0 {
		q.ByteWeight = th.UDPFlood.Rate * 8 / (th.UDPFlood.Mbps * 1e6)
	}
	return q
}

// longest is the longest length of any rule that is screened.
func longest(th *Thresholds) time.Duration {
	all := slices.Concat(th.Netscan.WindowsS, th.Portscan.WindowsS, th.Blockscan.WindowsS, th.UDPSweep.WindowsS, th.ICMPSweep.WindowsS,
		th.SYNFlood.WindowsS, th.UDPFlood.WindowsS, th.ICMPFlood.WindowsS, th.PacketFlood.WindowsS,
		th.Reflector.WindowsS, th.Spam.WindowsS, th.Bruteforce.WindowsS, th.BlockedPort.WindowsS)
	all = slices.DeleteFunc(all, func(s int) bool { return s > maxWindowS }) // judged by hours
	return time.Duration(slices.Max(append(all, flow.WindowSeconds))) * time.Second
}

// begin starts a tick.
func (w *screened) begin(ts time.Time) {
	w.ts, w.suspects, w.attempts = ts, map[string]map[netip.Addr]struct{}{}, map[attemptsKey][]flow.AttemptStat{}
	w.slots.begin(ts)
	w.held.begin(ts)
}

type partsKey struct{}

// inParts marks the tick's questions as being about parts of a range, for tenants
// that the whole was asked for before, until the function that it returns is called.
func (t *tickState) inParts() func() {
	whole := t.ctx
	t.ctx = context.WithValue(whole, partsKey{}, true)
	return func() { t.ctx = whole }
}

// bound says that a rule can find something over a range only if the sum of sign
// over its slots is at least, and enough of it and the sum of with, where that is set.
type bound struct {
	sign   flow.Sign
	least  float64
	with   flow.Sign
	enough func(much, with float64) bool
}

// rounding is what bringing counts to the thinnest rate may add to a score: half
// of the weights of lambdaA, the greatest.
const rounding = (laDistinct + laEstOut + laSYNACK + laEstIn) / 2

// scoreBound is for the log-likelihoods: the score is no more than one of them,
// which is linear in the counts, and the sum of positive parts is not below it.
func scoreBound(s flow.Sign, notify float64) bound {
	return bound{sign: s, least: notify - rounding - 0.1}
}

// leastScore is the score below which an excess may be half a packet.
const leastScore = 2

// rateBound is for the floods: excess is 0 unless more than rate goes out, of
// which slots may hide drift each.
func rateBound(s flow.Sign, score, rate float64, r flow.Range) bound {
	if score < leastScore {
		return bound{sign: s}
	}
	return bound{sign: s, least: 0.999 * (1 - drift) * rate * r.Seconds()}
}

// synBound is rateBound for half the rate of the SYN flood.
func synBound(s flow.Sign, cfg *SYNFloodConfig, r flow.Range) bound {
	if cfg.NotifyScore < leastScore {
		return bound{sign: s}
	}
	return bound{sign: s, least: 0.999 * (drift - driftSYN) * cfg.Rate * r.Seconds()}
}

// excessBound is for a rule with excess(c, R0·T/n) of at least score: with the sums
// of what c is made of, as exported (seen), and times the sampling rates divided by
// R0 (stands, in seconds). c is at most seen and, its parts being rounded, at most
// twice stands·R0/n. So the benign R0·T/n is no less than c/x for x = 2·stands/T, and
// excess no more than c·(ln x − 1 + 1/x), or 0 where x is below 1.
func excessBound(stands, seen flow.Sign, score, seconds float64) bound {
	if score < leastScore {
		return bound{sign: stands}
	}
	return bound{sign: stands, least: 0.999 * seconds / 2, with: seen, enough: func(stands, seen float64) bool {
		x := 2 * stands / seconds
		return x >= 1 && seen*(math.Log(x)-1+1/x) >= 0.999*score
	}}
}

// loginBound is for bruteforce, whose openings are not divided by its rate.
func loginBound(cfg *BruteforceConfig, r flow.Range) bound {
	return excessBound(flow.SignOpenings, flow.SignOpened, cfg.NotifyScore, cfg.Rate*r.Seconds())
}

// closedBound is for blocked_port: as many attempts and established as samples, or
// at 1:1 as destinations, which are no more than those.
func closedBound(s flow.Sign, cfg *BlockedPortConfig) bound {
	return bound{sign: s, least: float64(min(cfg.MinSamples, cfg.MinAttempts1, cfg.MinDistinct1))}
}

// narrowHeld is narrow for a question whose answer is held: which it was is
// remembered, for ahead.
func (w *screened) narrowHeld(ctx context.Context, key string, r flow.Range, main bool, bounds ...bound) (context.Context, bool, error) {
	if part, _ := ctx.Value(partsKey{}).(bool); main && !part {
		w.asks[askKey{key, r.To.Sub(r.From)}] = bounds
	}
	return w.narrow(ctx, key, r, main, bounds...)
}

// narrow returns ctx for a question, and whether nobody is to be asked about.
// Suspects add up over a tick, so that parts of any range find theirs.
func (w *screened) narrow(ctx context.Context, key string, r flow.Range, main bool, bounds ...bound) (context.Context, bool, error) {
	if part, _ := ctx.Value(partsKey{}).(bool); part {
		if l, ok := w.suspects[key]; ok {
			return amongThem(ctx, l), len(l) == 0, nil
		}
		return ctx, false, nil
	}
	if !main || slices.ContainsFunc(bounds, func(b bound) bool { return !(b.least > 0) }) {
		return ctx, false, nil
	}
	if err := w.slots.ensure(ctx, r); err != nil {
		return ctx, false, fmt.Errorf("screen of %s: %w", seconds(r.To.Sub(r.From)), err)
	}
	l := w.suspects[key]
	if l == nil {
		l = map[netip.Addr]struct{}{}
		w.suspects[key] = l
	}
	for i := range bounds {
		w.slots.over(&bounds[i], r, func(a netip.Addr) { l[a] = struct{}{} })
	}
	return amongThem(ctx, l), len(l) == 0, nil
}

// hold loads the rows of those that ctx wants, if they are to be held.
func (w *screened) hold(ctx context.Context, r flow.Range) ([]netip.Addr, bool, error) {
	few, ok := flow.WantedOf(ctx)
	if !ok {
		return nil, false, nil
	}
	ok, err := w.held.load(ctx, r, few)
	return few, ok, err
}

func amongThem(ctx context.Context, l map[netip.Addr]struct{}) context.Context {
	return flow.Among(ctx, slices.SortedFunc(maps.Keys(l), netip.Addr.Compare))
}

// spans reports whether r is what one of the lists of lengths is judged over now.
func (w *screened) spans(r flow.Range, lists ...[]int) bool {
	for _, s := range slices.Concat(lists...) {
		length := time.Duration(s) * time.Second
		if r == span(w.ts, length) {
			return true
		}
		if last, ok := lastWindow(w.ts, length); ok && r == last {
			return true
		}
	}
	return false
}

// seeFleet completes what syn_flood saw of the fleet where it was asked of
// suspects only, if there is a finding that the fleet can hold.
func (t *tickState) seeFleet(fs []flow.Finding) error {
	held := func(f flow.Finding) bool { return f.Tier > flow.TierNotify || len(f.Gates) > 0 }
	if t.d.screen == nil || !t.d.cfg.on(flow.RuleSYNFlood) || !slices.ContainsFunc(fs, held) {
		return nil
	}
	cfg := &t.d.loose.SYNFlood
	lengths := t.dueLengths(flow.RuleSYNFlood, cfg.WindowsS)
	if len(lengths) == 0 {
		return nil
	}
	r := span(t.ts, slices.Max(lengths))
	stats, err := t.d.screen.slots.s.FleetPairs(t.ctx, r, leastPackets(cfg.NotifyScore, ackPerSYN))
	if err != nil {
		return fmt.Errorf("pair windows of the fleet: %w", err)
	}
	clear(t.fleet)
	t.fleet.see(stats)
	return nil
}
