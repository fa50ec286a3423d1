package detect

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A day of ordinary tenants at the level of counts: no packets are made, but
// for each habit of each tenant and each minute the numbers of sampled SYNs,
// answers and data packets are drawn, as they are Poisson, and which
// destinations the SYNs went to. The rules judge each minute over 60, 300 and
// 1800 s. Of the gates one is there: destinations that most often answer are
// known peers. The other gates and the guards only lower a verdict further. What
// is not there: floods of less than a minute, spam, bruteforce and blocked_port, which cannot
// suspend, and the forms of traffic of the scenarios, which have them all.
const (
	envDay     = "FLOWCORDON_DAY"         // set: TestDay runs
	envTenants = "FLOWCORDON_DAY_TENANTS" // default 100000
	envRate    = "FLOWCORDON_DAY_RATE"    // 1:N, default 1000
	envDaySeed = "FLOWCORDON_DAY_SEED"    // default 1
)

const (
	// dayAllowed is what detection.md §10 wants, as a rate and not as a bound; what
	// was measured (docs/detectors.md) is none.
	dayAllowed = 2e-5
	dayMinutes = 24 * 60
	dayRing    = 30 // minutes that the longest range is long
)

// habit is a kind of traffic that many tenants have. Rates of conversations are
// drawn between lo and hi, most near lo.
type habit struct {
	name        string
	share       float64 // of the tenants
	proto       uint8
	port        uint16
	lo, hi      float64 // conversations/s
	pool        int     // destinations, or the least of them; 0: always new ones
	ok, rst     float64
	tries       float64 // SYNs of one that fails
	out, in     float64 // further packets of one that succeeds
	size, sizeI uint64
	server      bool
}

var habits = []habit{
	{"web server", 0.62, flow.ProtoTCP, 443, 0.02, 60, 0, 0.97, 0.01, 1, 9, 14, 300, 900, true},
	{"API calls", 0.7, flow.ProtoTCP, 443, 0.01, 8, 12, 0.985, 0.005, 3, 8, 9, 250, 800, false},
	{"package and image mirrors", 0.5, flow.ProtoTCP, 80, 0.001, 0.5, 20, 0.97, 0.01, 3, 12, 40, 120, 1300, false},
	{"stub resolver", 0.95, flow.ProtoUDP, 53, 0.02, 40, 2, 0.985, 0, 1, 0, 1, 72, 190, false},
	{"recursive resolver", 0.08, flow.ProtoUDP, 53, 1, 900, 0, 0.9, 0, 1, 0, 1, 74, 230, false},
	{"name server", 0.04, flow.ProtoUDP, 53, 0.5, 900, 0, 1, 0, 1, 0, 1, 74, 210, true},
	{"NTP client", 0.9, flow.ProtoUDP, 123, 0.005, 0.06, 4, 0.97, 0, 1, 0, 1, 76, 76, false},
	{"mail server", 0.17, flow.ProtoTCP, 25, 0.01, 12, 0, 0.84, 0.03, 5, 18, 14, 500, 90, false},
	{"crawler or feed reader", 0.03, flow.ProtoTCP, 443, 0.5, 120, 0, 0.84, 0.05, 3, 9, 14, 220, 1100, false},
	{"link checker", 0.01, flow.ProtoTCP, 80, 0.2, 60, 0, 0.62, 0.1, 2, 6, 7, 180, 700, false},
	{"monitoring by TCP", 0.03, flow.ProtoTCP, 443, 0.5, 60, 400, 0.95, 0.02, 3, 5, 4, 150, 400, false},
	{"metrics", 0.05, flow.ProtoTCP, 9100, 0.2, 40, 120, 0.95, 0.02, 3, 6, 12, 150, 1200, false},
	{"database client", 0.25, flow.ProtoTCP, 3306, 0.02, 40, 2, 0.995, 0.003, 4, 12, 12, 160, 500, false},
	{"cache client", 0.1, flow.ProtoTCP, 6379, 0.05, 60, 3, 0.995, 0.003, 4, 6, 6, 120, 200, false},
	{"SSH to a fleet", 0.03, flow.ProtoTCP, 22, 0.01, 5, 60, 0.93, 0.01, 4, 90, 80, 200, 180, false},
	{"pings", 0.08, flow.ProtoICMP, 0, 0.1, 120, 150, 0.95, 0, 1, 0, 1, 84, 84, false},
	{"BitTorrent", 0.01, flow.ProtoTCP, 6881, 0.5, 20, 0, 0.25, 0.1, 2, 120, 110, 700, 700, false},
	{"chain or IPFS node", 0.01, flow.ProtoTCP, 30303, 0.1, 6, 900, 0.2, 0.15, 2, 30, 30, 300, 300, false},
	{"QUIC client", 0.15, flow.ProtoUDP, 443, 0.01, 10, 0, 0.94, 0, 1, 12, 40, 220, 1150, false},
	{"SIP", 0.01, flow.ProtoUDP, 5060, 0.05, 6, 60, 0.9, 0, 1, 0, 1, 480, 420, false},
	{"SNMP poller", 0.01, flow.ProtoUDP, 161, 0.5, 60, 200, 0.92, 0, 1, 0, 1, 90, 140, false},
	{"federation", 0.01, flow.ProtoTCP, 8448, 0.1, 20, 3000, 0.6, 0.1, 3, 9, 8, 300, 300, false},
}

// sampledMinute is what was sampled of one habit in a minute.
type sampledMinute struct {
	syn, est, answer, estIn, rst uint32 // of UDP and ICMP: syn requests, answer answers
	to                           []uint32
}

type habitOf struct {
	*habit
	rate  float64
	pool  int
	ring  [dayRing]sampledMinute
	sum   [3]sampledMinute // over 1, 5 and 30 minutes
	burst int              // minutes that a burst still lasts
	down  int              // minutes that all its destinations are unreachable
	past  [dayPast]flow.Exchange
}

// The day before begins with an hour that is not judged: who has just come has
// no past.
const (
	dayPast   = 24 * 60 // minutes
	dayWarmUp = 60
)

// before is what the habit's one destination and the tenant exchanged in the
// minutes before the range.
func (h *habitOf) before(from int) []flow.Exchange {
	var out []flow.Exchange
	for k := max(0, from-dayPast+1); k < from; k++ {
		if e := h.past[k%dayPast]; e.Out > 0 {
			out = append(out, e)
		}
	}
	return out
}

var dayRanges = [3]int{1, 5, dayRing}

type dayCount struct {
	sync.Mutex
	tested, notified uint64
	cut              map[string]map[int]bool // rule and habit → tenants
}

func (h *habitOf) draw(r *rand.Rand, n float64, at int) {
	h.burst, h.down = max(0, h.burst-1), max(0, h.down-1)
	if r.Float64() < 1.0/(6*60) { // cron, a campaign, a rerun: some of them each day
		h.burst = 1 + r.IntN(20)
	}
	if r.Float64() < 1.0/(5*dayMinutes) { // a dependency or the way to it is down
		h.down = 2 + r.IntN(45)
	}
	rate := h.rate * (0.6 + 0.4*math.Sin(2*math.Pi*float64(at)/dayMinutes))
	if h.burst > 0 {
		rate *= 6
	}
	ok, rst := h.ok, h.rst
	switch {
	case h.down > 0 && h.pool > 0:
		ok, rst = 0, 0
	case h.down > 0: // half of the world cannot be reached
		ok /= 2
	}
	conv := rate * 60 / n
	m := sampledMinute{to: h.ring[at%dayRing].to[:0]}
	draw := func(mean float64) uint32 {
		switch {
		case mean <= 0:
			return 0
		case mean > 60:
			return uint32(max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
		}
		k, p := uint32(0), math.Exp(-mean)
		for u := r.Float64(); u > p; k++ {
			u *= r.Float64()
		}
		return k
	}
	syns := ok + rst + (1-ok-rst)*h.tries
	all := conv * (syns + ok*(h.out+1+h.in) + rst)
	if u := r.Float64(); u >= 1-all && (all > 20 || u >= math.Exp(-all)) { // else nothing is sampled: most often
		for m.syn+m.est+m.answer+m.estIn+m.rst == 0 {
			m.syn = draw(conv * syns)
			m.est, m.answer, m.estIn, m.rst = draw(conv*ok*h.out), draw(conv*ok), draw(conv*ok*h.in), draw(conv*rst)
		}
	}
	if !h.server {
		for range m.syn {
			m.to = append(m.to, h.destination(r, ok, rst))
		}
	}
	h.add(at, m)
}

// destination of a SYN: dead ones are tried several times, and are the last of
// the pool.
func (h *habitOf) destination(r *rand.Rand, ok, rst float64) uint32 {
	if h.pool == 0 {
		return r.Uint32()
	}
	p := (ok + rst) / (ok + rst + (1-ok-rst)*h.tries)
	up := int(math.Round((ok + rst) * float64(h.pool)))
	if up > 0 && (up >= h.pool || r.Float64() < p) {
		return uint32(r.IntN(up))
	}
	return uint32(up + r.IntN(h.pool-up))
}

func (h *habitOf) add(at int, m sampledMinute) {
	for i, length := range dayRanges {
		s := &h.sum[i]
		if at >= length {
			o := &h.ring[(at-length)%dayRing]
			s.syn, s.est, s.answer, s.estIn, s.rst = s.syn-o.syn, s.est-o.est, s.answer-o.answer, s.estIn-o.estIn, s.rst-o.rst
		}
		s.syn, s.est, s.answer, s.estIn, s.rst = s.syn+m.syn, s.est+m.est, s.answer+m.answer, s.estIn+m.estIn, s.rst+m.rst
	}
	h.ring[at%dayRing] = m
	h.past[at%dayPast] = flow.Exchange{Out: uint64(m.est), In: uint64(m.estIn)}
}

func (h *habitOf) distinct(at, length int) uint64 {
	seen := map[uint32]struct{}{}
	for i := max(0, at-length+1); i <= at; i++ {
		for _, d := range h.ring[i%dayRing].to {
			seen[d] = struct{}{}
		}
	}
	return uint64(len(seen))
}

// judge returns the strongest tier and its rule over one range.
func (h *habitOf) judge(th *Thresholds, ports *portTable, at, i int, n float64) (flow.Tier, flow.Rule) {
	s, length := &h.sum[i], dayRanges[i]
	if s.syn < 12 && s.answer < 20 {
		return flow.TierNone, ""
	}
	rg := flow.Range{From: epoch.Add(time.Duration(at-length+1) * time.Minute), To: epoch.Add(time.Duration(at+1) * time.Minute)}
	requests, est, answers, estIn, rst := uint64(s.syn), uint64(s.est), uint64(s.answer), uint64(s.estIn), uint64(s.rst)
	st := flow.ServiceStat{IPProto: h.proto, SvcPort: h.port, Rate: n, Counts: flow.Counts{
		OutRecords: requests + est, OutPackets: requests + est, OutBytes: (requests + est) * h.size,
		InRecords: answers + estIn + rst, InPackets: answers + estIn + rst, InBytes: (answers + estIn + rst) * h.sizeI}}
	pair := flow.PairStat{IPProto: h.proto, Rate: n, Counts: st.Counts, First: rg.From, Last: rg.To, Windows: uint64(6 * length)}
	if h.proto == flow.ProtoTCP {
		st.Classes = flow.Classes{SYNOut: requests, EstOut: est, SYNACKIn: answers, EstIn: estIn, RSTIn: rst}
		pair.Classes, pair.SYNPackets, pair.EstOutPackets, pair.RSTInPackets, pair.Ports = st.Classes, requests, est, rst, 1
	}
	if h.server {
		if h.proto != flow.ProtoUDP || answers < 20 {
			return flow.TierNone, ""
		}
		st.OutPackets, st.OutBytes, st.InPackets, st.InBytes = answers, answers*h.sizeI, requests, requests*h.size
		return tierOf(reflector(&th.Reflector, &st, rg)), flow.RuleReflector
	}
	if requests < 12 {
		return flow.TierNone, ""
	}
	// With as many destinations as there can be; to count them is dear.
	if best, rule := h.client(th, ports, &st, &pair, requests, rg); best <= flow.TierNotify {
		return best, rule
	}
	best, rule := h.client(th, ports, &st, &pair, h.distinct(at, length), rg)
	if rule == flow.RuleSYNFlood && best > flow.TierNotify {
		f, _ := synFlood(&th.SYNFlood, &pair, rg)
		before := h.before(at - length + 1)
		for i := range before {
			before[i].Out, before[i].In = before[i].Out*uint64(n), before[i].In*uint64(n)
		}
		if th.SYNFlood.mayReconnect(&f, &pair) && th.SYNFlood.explains(before, f.EstRate) {
			best = flow.TierNotify
		}
	}
	known := h.pool > 0 && h.ok >= defaultGates().KnownPeers && (rule == flow.RuleNetscan || rule == flow.RuleUDPSweep || rule == flow.RuleICMPSweep)
	if known && best > flow.TierNotify {
		best = flow.TierNotify
	}
	return best, rule
}

// client judges what a client did, with that many destinations.
func (h *habitOf) client(th *Thresholds, ports *portTable, st *flow.ServiceStat, pair *flow.PairStat, u uint64, rg flow.Range) (best flow.Tier, rule flow.Rule) {
	st.Attempts, st.Distinct = pair.OutRecords, u
	if h.proto == flow.ProtoTCP {
		st.Attempts = st.SYNOut
	}
	see := func(name flow.Rule, t flow.Tier) {
		if t > best {
			best, rule = t, name
		}
	}
	one := h.pool > 0 && h.pool <= 4 // all to one address is worse than what it does
	switch h.proto {
	case flow.ProtoTCP:
		see(flow.RuleNetscan, tierOf(netscan(&th.Netscan, ports, st, rg)))
		see(flow.RuleBlockscan, tierOf(blockscan(&th.Blockscan, &flow.AttemptStat{IPProto: h.proto, Attempts: st.Attempts, Pairs: u, Remotes: u, TopDistinct: u / 3, Rate: st.Rate, Classes: st.Classes}, rg)))
		if one {
			see(flow.RuleSYNFlood, tierOf(synFlood(&th.SYNFlood, pair, rg)))
			see(flow.RulePacketFlood, tierOf(packetFlood(&th.PacketFlood, pair, rg)))
		}
	case flow.ProtoUDP:
		see(flow.RuleUDPSweep, tierOf(udpSweep(&th.UDPSweep, ports, st, rg)))
		if one {
			see(flow.RuleUDPFlood, tierOf(udpFlood(&th.UDPFlood, pair, rg)))
		}
	default:
		see(flow.RuleICMPSweep, tierOf(icmpSweep(&th.ICMPSweep, st, rg)))
	}
	return best, rule
}

func TestDay(t *testing.T) {
	if os.Getenv(envDay) == "" {
		t.Skipf("a day of 100,000 tenants takes minutes; set %s=1 or run make scenarios DAY=1", envDay)
	}
	tenants, n := envInt(t, envTenants, 100_000), float64(envInt(t, envRate, 1000))
	seed := uint64(envInt(t, envDaySeed, 1))
	c := &dayCount{cut: map[string]map[int]bool{}}
	th := Defaults().Thresholds
	ports := th.PortClasses.table()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 2 {
		wg.Go(func() {
			for i := range next {
				c.live(i, seed, n, &th, ports)
			}
		})
	}
	for i := range tenants {
		next <- i
	}
	close(next)
	wg.Wait()
	wrong := 0
	for what, who := range c.cut {
		wrong += len(who)
		t.Logf("%s: %d tenants", what, len(who))
	}
	// The upper bound of a Poisson mean at 95 % after none: 3.0 (rule of three).
	bound := 3.0
	if wrong > 0 {
		bound = float64(wrong) + 2*math.Sqrt(float64(wrong)) + 2
	}
	if rate := float64(wrong) / float64(tenants); rate > dayAllowed {
		t.Errorf("%.2g tenants suspended or blocked per tenant and day, want at most %.2g", rate, dayAllowed)
	}
	t.Logf("%s", fmt.Sprintf("a day of %d tenants at 1:%.0f: %d judgements of habits and ranges; %d tenants suspended or blocked: %.2g per tenant and day, at most %.2g (95 %%); %d habit-minutes at notify",
		tenants, n, c.tested, wrong, float64(wrong)/float64(tenants), bound/float64(tenants), c.notified))
}

// live is the day of one tenant.
func (c *dayCount) live(i int, seed uint64, n float64, th *Thresholds, ports *portTable) {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	var hs []*habitOf
	for j := range habits {
		if h := &habits[j]; r.Float64() < h.share {
			x := r.Float64()
			o := &habitOf{habit: h, rate: h.lo + (h.hi-h.lo)*x*x*x*x, pool: h.pool}
			if o.pool > 10 {
				o.pool = int(float64(o.pool) * (1 + 9*r.Float64()*r.Float64()))
			}
			hs = append(hs, o)
		}
	}
	tested, notified := uint64(0), uint64(0)
	for at := range dayWarmUp + dayMinutes {
		for _, h := range hs {
			h.draw(r, n, at)
			for k := range dayRanges {
				if at < dayWarmUp {
					continue
				}
				tested++
				tier, rule := h.judge(th, ports, at, k, n)
				if tier == flow.TierNotify {
					notified++
				}
				if tier > flow.TierNotify {
					c.Lock()
					what := fmt.Sprintf("%s of %q", rule, h.name)
					if c.cut[what] == nil {
						c.cut[what] = map[int]bool{}
					}
					c.cut[what][i] = true
					c.Unlock()
				}
			}
		}
	}
	c.Lock()
	c.tested, c.notified = c.tested+tested, c.notified+notified
	c.Unlock()
}
