package complaint

import (
	"math"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// chance of seeing at least one of k packets sampled 1:n, each for itself:
// 1-(1-1/n)^k. RFC 5475 §5.2.2.2 (probabilistic sampling); for sampling of
// every nth packet it is a good approximation.
func chance(n uint32, k uint64) float64 {
	switch {
	case n == 0 || k == 0:
		return 0
	case n == 1:
		return 1
	}
	return -math.Expm1(float64(k) * math.Log1p(-1/float64(n)))
}

// shown is what rows show of a claim.
type shown struct {
	rows    int
	packets uint64
	first   time.Time
	last    time.Time
	exact   bool
	out     bool // packets from our side are among them
	server  bool // our side was the server
	synack  bool // our side answered connections
	remotes map[netip.Addr]bool
	forged  int // rows with our source that came in from outside
	res     Resolution
	tried   bool // of sums by service, which name who was tried and not how
}

// look finds the rows that show the claim with its time moved by off.
func (ev *evidence) look(c *claim, off, tolerance time.Duration) shown {
	rows := ev.rows
	if !c.remote.IsValid() {
		rows = ev.open
	}
	s := shown{remotes: map[netip.Addr]bool{}, res: ResolutionFlow}
	if !c.named() {
		return s // any traffic would do, which proves nothing
	}
	servers := 0
	for i := range rows {
		r := &rows[i]
		if r.Spoofed && r.Host == c.host && (!c.remote.IsValid() || r.Remote == c.remote) && c.within(r, off, tolerance) {
			s.forged++
			continue
		}
		ok, exact := c.matches(r)
		if !ok || !c.within(r, off, tolerance) {
			continue
		}
		if !c.remote.IsValid() && !c.net.IsValid() && r.Role == flow.RoleServer {
			continue // of a service on our side, to whoever used it
		}
		s.add(r, exact)
		if r.Role == flow.RoleServer {
			servers++
		}
	}
	s.server = s.rows > 0 && servers*2 > s.rows
	return s
}

func (s *shown) add(r *flow.FlowRow, exact bool) {
	at, end := time.Unix(0, r.Start).UTC(), time.Unix(0, r.End).UTC()
	if s.rows == 0 || at.Before(s.first) {
		s.first = at
	}
	if s.rows == 0 || end.After(s.last) {
		s.last = end
	}
	s.rows++
	s.exact = s.exact || exact
	if r.Dir == flow.Out {
		s.out = true
		s.packets += r.Packets * uint64(max(r.Rate, 1))
		s.synack = s.synack || r.Class == flow.ClassSYNACK || r.Class == flow.ClassRST
	}
	s.remotes[r.Remote] = true
}

// known is what is known of the time of a claim, apart from the claim itself.
type known struct {
	packets uint64 // of the host, half an hour around, unscaled
	host    bool   // seen half an hour around
	rate    uint32 // thinnest at that time; 0: unknown
	covered bool   // something was collected at the claimed time itself
	asked   bool   // covered is an answer, not a guess
	kept    bool   // flow rows of that time are stored
	whole   bool   // all of them that matter were read
	sums    *about // what the sums by service say where flow rows are not stored; nil: they were not asked
}

// judge says what the flows make of one claim; group is of the lines alike.
func judge(c *claim, s shown, k known, certain float64, group groupSum) Traffic {
	t := Traffic{Rate: k.rate, Claimed: c.k, CountStated: c.stated, HostPackets: k.packets, Chance: chance(k.rate, c.k)}
	if k.kept {
		t.Resolution = ResolutionFlow
	}
	if group.lines > 1 {
		t.GroupLines, t.GroupChance = group.lines, chance(k.rate, group.k)
	}
	if s.rows > 0 {
		return t.confirm(c, s)
	}
	if k.asked && !k.covered {
		t.Verdict, t.Why, t.Chance, t.GroupChance = NoData, WhyNone, 0, 0
		return t
	}
	t.Verdict = NotVisible
	if !k.kept && k.sums != nil {
		t.Resolution = k.sums.res
	}
	switch {
	case !k.kept && k.sums == nil:
		t.Why, t.Chance, t.GroupChance = WhyNotKept, 0, 0
	case !c.named():
		t.Why, t.Chance, t.GroupChance = WhyUnspecific, 0, 0
	case !k.host || k.packets == 0:
		t.Why = WhySilent
	case !k.asked || !k.whole:
		t.Why, t.Chance, t.GroupChance = WhyTooMany, 0, 0
	case !k.kept:
		return t.bySums(c, k, certain, group)
	case t.Chance >= certain || t.GroupChance >= certain && group.seen == 0:
		t.Verdict, t.Why = Contradicted, WhyAbsent
	default:
		t.Why = WhySampling
	}
	return t
}

// confirm fills in what the rows show.
func (t Traffic) confirm(c *claim, s shown) Traffic {
	t.Verdict, t.Rows, t.Packets, t.First, t.Last, t.Resolution = Confirmed, s.rows, s.packets, s.first, s.last, s.res
	switch {
	case !c.remote.IsValid():
		t.Why, t.Remotes = WhyService, len(s.remotes)
	case s.tried:
		t.Why = WhyTried
	case s.remotes == nil:
		t.Why = WhyPair
	case s.exact:
		t.Why = WhyExact
	case c.remotePort > 0 || len(c.usual) > 0 || c.proto != 0 && c.proto != flow.ProtoTCP && c.proto != flow.ProtoUDP:
		t.Why = WhyPort
	default:
		t.Why = WhyRemote
	}
	return t
}

// groupKey is what makes lines alike.
type groupKey struct {
	host, remote netip.Addr
	port         uint16
	proto        uint8
	hour         int64
}

type groupSum struct {
	lines int
	k     uint64
	seen  int // lines of them that flows confirm
}

// groupsOf sums up lines alike within an hour. Lines without a target are
// alike by their service.
func groupsOf(claims []*claim) map[groupKey]*groupSum {
	out := map[groupKey]*groupSum{}
	for _, c := range claims {
		k := c.group()
		if out[k] == nil {
			out[k] = &groupSum{}
		}
		out[k].lines++
		out[k].k += c.k
	}
	return out
}

func (c *claim) group() groupKey {
	return groupKey{c.host, c.remote, c.remotePort, c.proto, c.from.Unix() / 3600}
}
