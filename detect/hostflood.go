package detect

import (
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A UDP flood over more than one network: the total of what a tenant sends one
// way (detection.md §4: 50,000 packets per second). It is a part of udp_flood.

const (
	// hostLeast is how many addresses the total must go to: each of fewer gets more
	// than the rate of one remote and is judged alone.
	hostLeast = 4
	// hostFactor is how many times the total large packets must come to for more
	// than a notice, and hostRemotes how many addresses they must go to unless it is
	// proved that those are silent: media is pushed to some hundred receivers so
	// (D19, E45). It is a lower bound that the eight largest networks give.
	hostRemotes = 320
	hostFactor  = 2
)

// hostFlood judges all that one tenant sent by UDP over r, to remotes addresses
// or more.
func hostFlood(cfg *UDPFloodConfig, s *flow.ServiceStat, remotes uint64, r flow.Range) (flow.Finding, bool) {
	n := effectiveRate(s.Rate)
	out, in := float64(s.OutPackets), float64(s.InPackets)
	total := carpetFactor * cfg.Rate * r.Seconds() / n
	score, oneWay := excess(out, total), shortfall(in, out, cfg.NotifyReturn)
	if remotes < hostLeast || score < cfg.NotifyScore || oneWay < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: s.Tenant, Rule: flow.RuleUDPFlood, Tier: flow.TierNotify, IPProto: flow.ProtoUDP,
		Samples: s.OutPackets, Distinct: remotes, SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: out * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: udpFloodVersion}
	small := float64(s.OutBytes) <= carpetSize*out
	if !small {
		score = excess(out, hostFactor*total)
	}
	if score >= cfg.SuspendScore && oneWay >= cfg.SuspendScore && in < cfg.SuspendReturn*out && (small || remotes >= hostRemotes || cfg.silent(out, in)) {
		f.Tier, f.Score, f.Threshold = flow.TierSuspend, score, cfg.SuspendScore
	}
	f.Reason = hostFloodReason(&f, s)
	return f, true
}

// answeredLookback is how far back an answer makes a receiver an acquaintance: a
// day has the quiet hours of all of them.
const answeredLookback = 24 * time.Hour

// answeredBefore holds a carpet whose receivers had sent something before: those
// of media and of statistics say at times that they are there, if no more.
func (t *tickState) answeredBefore(f *flow.Finding) error {
	p, err := t.d.deps.Windows.Answered(t.ctx, f.Tenant, f.IPProto, flow.Range{From: f.From, To: f.To}, answeredLookback)
	known := p.Remotes > 0 && float64(p.Known) >= t.d.cfg.Thresholds.Gates.KnownPeers*float64(p.Remotes)
	return t.holdKnown(f, known, "known peers", err)
}

func hostFloodReason(f *flow.Finding, s *flow.ServiceStat) string {
	mbps := f.EstRate * float64(s.OutBytes) / float64(max(s.OutPackets, 1)) * 8 / 1e6
	return fmt.Sprintf("sent %s UDP packets per second (%s Mbit/s) to %s and more addresses for %s and got almost nothing back%s",
		about(f), count(uint64(mbps+0.5)), count(f.Distinct), length(f), sampled(f))
}
