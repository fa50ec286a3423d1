package detect

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A SYN carpet is a SYN flood over the addresses of a network: no address gets
// enough for the flood of one remote, and all of them are met in the first
// second, so that no scan is seen to go on. It is a part of syn_flood and is
// told by what each destination gets: a client that waits sends few SYNs to one
// that is silent, a flood goes on.

const (
	// carpetSYNFactor is how many times the rate of one remote kernel SYNs to many
	// must reach: a proxy with forty dead backends is below (B36).
	carpetSYNFactor = 5
	// carpetEach is the least that each (address, port) gets, SYNs per second: a
	// kernel's socket sends six in the first minute (RFC 6298 §2).
	carpetEach = 0.5
	// carpetRaw is the share of raw SYNs above which they are a flooder's own.
	carpetRaw = 0.8
	// carpetKnown is how many times known_rate a proxy to many known backends may
	// come to when they fall silent.
	carpetKnown = 4
)

// synCarpet judges the SYNs that tenants sent to many addresses.
func (t *tickState) synCarpet() error {
	cfg, scan := &t.d.loose.SYNFlood, &t.d.loose.Blockscan
	if !due(carpetEvery*dueShare, t.prev, t.ts) {
		return nil
	}
	for _, length := range t.dueLengths(flow.RuleSYNFlood, cfg.WindowsS) {
		if length < minFloodPersist {
			continue
		}
		r := span(t.ts, length)
		// The question of blockscan, which costs little where nobody is suspect.
		stats, err := t.d.deps.Windows.AttemptStats(t.ctx, r, flow.ProtoTCP, scan.NotifyPairs, uint64(scan.Rate*r.Seconds()))
		if err != nil {
			return fmt.Errorf("attempts of %s: %w", seconds(length), err)
		}
		alone := t.judgedAlone(r)
		var fs []flow.Finding
		open := map[netip.Addr]*flow.AttemptStat{}
		for i := range stats {
			f, ok := synCarpet(&t.th(stats[i].Tenant).SYNFlood, &stats[i], alone[stats[i].Tenant], r)
			if !ok {
				continue
			}
			t.evidence(&f)
			if f.Tier > flow.TierNotify {
				open[f.Tenant] = &stats[i]
			}
			fs = append(fs, f)
		}
		stay, err := t.carpetSYNsTwice(r, length, open)
		if err != nil {
			return err
		}
		for i := range fs {
			if f := &fs[i]; f.Tier > flow.TierNotify && stay[f.Tenant] {
				if err := t.knownCarpet(f, open[f.Tenant]); err != nil {
					return err
				}
			}
		}
		if err := t.keepAll(r, length, fs, func(f *flow.Finding) bool { return stay[f.Tenant] }, nil); err != nil {
			return err
		}
	}
	return nil
}

// judgedAlone returns the SYNs of each tenant to remotes that get so many that
// they are judged one by one, scaled to 1:1. What holds one of those must not be
// passed by here.
func (t *tickState) judgedAlone(r flow.Range) map[netip.Addr]float64 {
	alone := map[netip.Addr]float64{}
	for i := range t.tcpPairs[r].stats {
		p := &t.tcpPairs[r].stats[i]
		if syn := float64(p.SYNPackets) * effectiveRate(p.Rate); syn > t.th(p.Tenant).SYNFlood.Rate*r.Seconds()/2 {
			alone[p.Tenant] += syn
		}
	}
	return alone
}

// carpetCounts are the scan's counts without the SYNs that are judged alone.
func carpetCounts(s *flow.AttemptStat, alone float64) scanCounts {
	c := hostCounts(s)
	c.s = math.Max(0, c.s-alone/c.n)
	c.u = math.Min(c.u, c.s)
	return c
}

// synCarpet judges one tenant's SYNs to all addresses over r, less those judged
// alone. It has no remote and no port.
func synCarpet(cfg *SYNFloodConfig, s *flow.AttemptStat, alone float64, r flow.Range) (flow.Finding, bool) {
	c := carpetCounts(s, alone)
	score := excess(c.s, cfg.carpetRate(c)*r.Seconds()/c.n)
	est, rst := float64(s.EstOut), float64(s.RSTIn)
	if s.Remotes < carpetRemotes || score < cfg.NotifyScore || shortfall(est, c.s, ackPerSYN) < cfg.NotifyScore ||
		repeats(c.s, c.u, c.s*c.n/r.Seconds()/carpetEach) < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleSYNFlood, Tier: flow.TierNotify, IPProto: s.IPProto,
		Samples: uint64(c.s), Distinct: s.Remotes, SamplingRate: c.n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: c.s * c.n / r.Seconds(), From: r.From, To: r.To, RuleVersion: synFloodVersion}
	if score >= cfg.SuspendScore && est < cfg.EstShare*c.s && shortfall(est, c.s, ackPerSYN) >= cfg.SuspendScore {
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
		if rst >= cfg.RSTShare*c.s || shortfall(rst, c.s, rstPerSYN) < cfg.SuspendScore {
			hold(&f, GateRefused)
		}
	}
	f.Reason = synCarpetReason(&f)
	return f, true
}

// carpetRate is R0 in SYNs per second to many addresses. SYNs that no kernel has
// made are nobody's retries.
func (cfg *SYNFloodConfig) carpetRate(c scanCounts) float64 {
	if c.alien && c.raw >= carpetRaw*c.s {
		return cfg.Rate
	}
	return carpetSYNFactor * cfg.Rate
}

// repeats is the exponent of the evidence that s SYNs went to fewer than pool
// destinations: s drawn from a pool meet pool·(1 − e^(−s/pool)) of them, and the
// others are repetitions. Few SYNs tell it by those, many by the distinct ones,
// u; both exponents are Chernoff's. Neither needs scaling: what was sampled twice
// says it at any rate.
func repeats(s, u, pool float64) float64 {
	met := -pool * math.Expm1(-s/pool)
	few := 0.
	if u > 0 && u < met {
		few = met - u + u*math.Log(u/met)
	}
	return max(few, excess(s-u, s-met))
}

// carpetSYNsTwice returns those for whom the range can be cut so that both parts
// show the rate.
func (t *tickState) carpetSYNsTwice(r flow.Range, length time.Duration, open map[netip.Addr]*flow.AttemptStat) (map[netip.Addr]bool, error) {
	stay := map[netip.Addr]bool{}
	defer t.inParts()()
	for _, l := range lateParts(length) {
		if len(stay) == len(open) {
			break
		}
		part := late(r, l)
		ends, err := t.d.deps.Windows.AttemptStats(t.ctx, part, flow.ProtoTCP, 1, 1)
		if err != nil {
			return nil, fmt.Errorf("attempts for persistence: %w", err)
		}
		for i := range ends {
			whole := open[ends[i].Tenant]
			if whole == nil {
				continue
			}
			own, c := &t.th(whole.Tenant).SYNFlood, hostCounts(whole)
			rate := own.carpetRate(c)
			end := float64(ends[i].SYNOut) * effectiveRate(ends[i].Rate) / c.n
			if excess(end, rate*l.Seconds()/c.n) >= own.PersistScore && excess(c.s-end, rate*(r.Seconds()-l.Seconds())/c.n) >= own.PersistScore {
				stay[whole.Tenant] = true
			}
		}
	}
	return stay, nil
}

// knownCarpet holds a carpet of those whose role it is to try many addresses,
// and the retries of a proxy whose many backends fell silent: kernel SYNs, at a
// rate that a few processes make, to acquaintances.
func (t *tickState) knownCarpet(f *flow.Finding, s *flow.AttemptStat) error {
	if tagHolds(t.tags(f.Tenant), flow.RuleBlockscan) {
		hold(f, GateRoleTag)
	}
	if float64(s.RawSYN) > rawClient*float64(s.SYNOut) || f.EstRate > carpetKnown*t.th(f.Tenant).SYNFlood.KnownRate {
		return nil
	}
	return t.askKnownPeers(f, s.TopPort)
}

func synCarpetReason(f *flow.Finding) string {
	return fmt.Sprintf("sent %s TCP connection requests per second to %s addresses, to each again and again, for %s and completed almost none%s",
		about(f), count(f.Distinct), length(f), sampled(f))
}
