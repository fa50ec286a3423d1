package detect

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A flood of TCP packets other than SYNs over several addresses, none of which
// gets the rate of one remote. It is a part of packet_flood. What tells it from a
// busy host is that each of its remotes, by itself, is proved to send nothing
// back: a download's ACKs have data coming in, and an upload's segments ACKs.

const (
	// packetCarpetFactor is how many times the rate of one remote they must come to,
	// packetCarpetRemotes how many of them there must be.
	packetCarpetFactor  = 3
	packetCarpetRemotes = 4
	// packetCarpetLeast is the least of a pair, in samples, that the first look adds
	// up.
	packetCarpetLeast = 20
	// packetCarpetEvery is how often it is looked for: it asks for the pairs of all
	// tenants. The shift is to a slot in which little else is due.
	packetCarpetEvery = time.Minute
	packetCarpetShift = 20 * time.Second
	packetCarpetLook  = time.Minute
)

// packetCarpet judges what tenants sent to several addresses that are silent.
func (t *tickState) packetCarpet() error {
	cfg := &t.d.loose.PacketFlood
	if !due(packetCarpetEvery*dueShare, t.prev.Add(-packetCarpetShift), t.ts.Add(-packetCarpetShift)) {
		return nil
	}
	suspects, err := t.silentTenants(cfg)
	if err != nil || len(suspects) == 0 {
		return err
	}
	for _, s := range cfg.WindowsS {
		if length := time.Duration(s) * time.Second; length >= minFloodPersist {
			if err := t.packetCarpetOver(length, suspects); err != nil {
				return err
			}
		}
	}
	return nil
}

// silentTenants returns those who get next to nothing back for what they send to
// their busier remotes of the last minute.
func (t *tickState) silentTenants(cfg *PacketFloodConfig) (map[netip.Addr]bool, error) {
	r, sums := span(t.ts, packetCarpetLook), fleet{}
	if t.d.screen != nil {
		stats, err := t.d.screen.slots.s.FleetPairs(t.ctx, r, packetCarpetLeast)
		if err != nil {
			return nil, fmt.Errorf("pair windows of the fleet: %w", err)
		}
		sums.see(stats)
	} else {
		stats, err := t.d.deps.Windows.PairStats(t.ctx, r, flow.ProtoTCP, packetCarpetLeast, 0)
		if err != nil {
			return nil, fmt.Errorf("pair windows of %s: %w", seconds(packetCarpetLook), err)
		}
		sums.see(stats)
	}
	out := map[netip.Addr]bool{}
	for a, s := range sums {
		if shortfall(float64(s.in), float64(s.estOut), cfg.Return) >= cfg.NotifyScore {
			out[a] = true
		}
	}
	return out, nil
}

// packetCarpetSum is what one tenant sent to its silent remotes.
type packetCarpetSum struct {
	tenant     netip.Addr
	remotes    map[netip.Addr]bool
	out, bytes float64 // scaled to 1:1
	back       float64
	rate       float64 // the thinnest
	own        ownShare
}

func (t *tickState) packetCarpetOver(length time.Duration, suspects map[netip.Addr]bool) error {
	r := span(t.ts, length)
	stats, err := t.d.deps.Windows.PairStats(amongThem(t.ctx, asSet(suspects)), r, flow.ProtoTCP, packetCarpetLeast, 0)
	if err != nil {
		return fmt.Errorf("pair windows of %s: %w", seconds(length), err)
	}
	sums := map[netip.Addr]*packetCarpetSum{}
	for i := range stats {
		p := &stats[i]
		if !suspects[p.Tenant] || !t.th(p.Tenant).PacketFlood.silentFew(p, r) {
			continue
		}
		s := sums[p.Tenant]
		if s == nil {
			s = &packetCarpetSum{tenant: p.Tenant, remotes: map[netip.Addr]bool{}}
			sums[p.Tenant] = s
		}
		s.add(p)
	}
	var fs []flow.Finding
	for _, s := range sums {
		f, ok := packetCarpet(&t.th(s.tenant).PacketFlood, s, r)
		if !ok {
			continue
		}
		t.evidence(&f)
		if f.Tier > flow.TierNotify {
			if err := t.needsIncoming(&f, r, s.own); err != nil {
				return err
			}
		}
		if f.Tier > flow.TierNotify {
			if err := t.answeredBefore(&f); err != nil {
				return err
			}
		}
		fs = append(fs, f)
	}
	inOrder(fs)
	stay, err := t.packetCarpetTwice(r, length, fs, sums)
	if err != nil {
		return err
	}
	return t.keepAll(r, length, fs, func(f *flow.Finding) bool { return stay[f.Tenant] },
		func(f *flow.Finding) ownShare { return sums[f.Tenant].own })
}

func asSet(m map[netip.Addr]bool) map[netip.Addr]struct{} {
	out := make(map[netip.Addr]struct{}, len(m))
	for a := range m {
		out[a] = struct{}{}
	}
	return out
}

// silentFew reports whether it is proved of a remote that gets less than one that
// is judged alone that it sends nothing back.
func (cfg *PacketFloodConfig) silentFew(p *flow.PairStat, r flow.Range) bool {
	out := float64(floodPackets(p))
	back := float64(p.InPackets - min(p.InPackets, p.RSTInPackets))
	return out*effectiveRate(p.Rate) < cfg.Rate*r.Seconds() && shortfall(back, out, cfg.Return) >= cfg.NotifyScore
}

func (s *packetCarpetSum) add(p *flow.PairStat) {
	n := effectiveRate(p.Rate)
	s.remotes[p.Remote] = true
	s.rate = max(s.rate, n)
	s.out += float64(floodPackets(p)) * n
	s.bytes += float64(p.OutBytes) * n
	s.back += float64(p.InPackets-min(p.InPackets, p.RSTInPackets)) * n
	s.own.estOut += p.EstOutPackets
	s.own.in += p.InRecords
}

// packetCarpet judges what one tenant sent to silent remotes over r. Packets with
// data are an upload that may be acknowledged for megabytes at once.
func packetCarpet(cfg *PacketFloodConfig, s *packetCarpetSum, r flow.Range) (flow.Finding, bool) {
	out := s.out / s.rate
	score := excess(out, packetCarpetFactor*cfg.Rate*r.Seconds()/s.rate)
	if len(s.remotes) < packetCarpetRemotes || s.bytes >= cfg.LargeSize*s.out || score < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.tenant, Rule: flow.RulePacketFlood, Tier: flow.TierNotify, IPProto: flow.ProtoTCP,
		Samples: uint64(out), Distinct: uint64(len(s.remotes)), SamplingRate: s.rate, Score: score, Threshold: cfg.NotifyScore,
		EstRate: s.out / r.Seconds(), From: r.From, To: r.To, RuleVersion: packetFloodVersion}
	if score >= cfg.SuspendScore && shortfall(s.back/s.rate, out, cfg.Return) >= cfg.SuspendScore {
		f.Tier, f.Threshold = flow.TierSuspend, cfg.SuspendScore
	}
	f.Reason = packetCarpetReason(&f)
	return f, true
}

// packetCarpetTwice returns those for whom the range can be cut so that both parts
// show the rate.
func (t *tickState) packetCarpetTwice(r flow.Range, length time.Duration, fs []flow.Finding, sums map[netip.Addr]*packetCarpetSum) (map[netip.Addr]bool, error) {
	open, stay := map[netip.Addr]struct{}{}, map[netip.Addr]bool{}
	for i := range fs {
		if fs[i].Tier > flow.TierNotify {
			open[fs[i].Tenant] = struct{}{}
		}
	}
	if len(open) == 0 {
		return stay, nil
	}
	defer t.inParts()()
	for _, l := range lateParts(length) {
		stats, err := t.d.deps.Windows.PairStats(amongThem(t.ctx, open), late(r, l), flow.ProtoTCP, 1, 0)
		if err != nil {
			return nil, fmt.Errorf("pair windows for persistence: %w", err)
		}
		ends := map[netip.Addr]float64{}
		for i := range stats {
			if s := sums[stats[i].Tenant]; s != nil && s.remotes[stats[i].Remote] {
				ends[s.tenant] += float64(floodPackets(&stats[i])) * effectiveRate(stats[i].Rate)
			}
		}
		for a := range open {
			s, cfg := sums[a], &t.th(a).PacketFlood
			rate := packetCarpetFactor * cfg.Rate
			if excess(ends[a]/s.rate, rate*l.Seconds()/s.rate) >= cfg.PersistScore && excess((s.out-ends[a])/s.rate, rate*(r.Seconds()-l.Seconds())/s.rate) >= cfg.PersistScore {
				stay[a] = true
			}
		}
	}
	return stay, nil
}

func packetCarpetReason(f *flow.Finding) string {
	return fmt.Sprintf("sent %s %s packets per second to %s addresses for %s and got almost nothing back%s",
		about(f), protocolName(f.IPProto), count(f.Distinct), length(f), sampled(f))
}
