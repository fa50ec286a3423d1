package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Carpet bombing: a UDP flood that is spread over the addresses of one network,
// so that no single one gets enough for the flood of one remote (detection.md
// §4, §9.11). It is a part of udp_flood.

const (
	// carpetRemotes is the least number of addresses: fewer are judged alone.
	carpetRemotes = 8
	// carpetSize is the mean packet, in bytes, above which it may be media that are
	// pushed to the subscribers of one provider, which look the same and are large.
	carpetSize = 400
	// carpetSilence is the share of packets that come back below which, proved,
	// large packets to few are no media: of those that are pushed with nothing but
	// RTP's reports (every 5 s, RFC 3550 §6.2) a report comes for some 1,700 packets,
	// which takes 150,000 samples to tell from silence.
	carpetSilence = 0.001
	// carpetFactor is how many times the rate of one remote a network must get for
	// more than a notice: the 50,000/s of detection.md §4 for a tenant in all.
	carpetFactor = 50. / 15
	// carpetEvery is how often it is looked for: it is a query of its own.
	carpetEvery = 10 * time.Second
)

// carpet judges what tenants sent by UDP to all ports of many addresses.
func (t *tickState) carpet() error {
	cfg := &t.d.loose.UDPFlood
	if !due(carpetEvery*dueShare, t.prev, t.ts) {
		return nil
	}
	for _, length := range t.dueLengths(flow.RuleUDPFlood, cfg.WindowsS) {
		if length < minFloodPersist {
			continue
		}
		r := span(t.ts, length)
		stats, err := t.d.deps.Windows.OneWay(t.ctx, r, flow.ProtoUDP, uint64(cfg.Rate*r.Seconds()), cfg.NotifyReturn)
		if err != nil {
			return fmt.Errorf("one-way tenants of %s: %w", seconds(length), err)
		}
		if len(stats) == 0 {
			continue
		}
		tenants := make([]netip.Addr, len(stats))
		for i := range stats {
			tenants[i] = stats[i].Tenant
		}
		slices.SortFunc(tenants, netip.Addr.Compare)
		nets, err := t.d.deps.Windows.TopPrefixes(t.ctx, r, tenants, flow.ProtoUDP)
		if err != nil {
			return fmt.Errorf("networks of one-way tenants: %w", err)
		}
		if err := t.carpetFindings(r, length, stats, nets); err != nil {
			return err
		}
	}
	return nil
}

func (t *tickState) carpetFindings(r flow.Range, length time.Duration, stats []flow.ServiceStat, nets []flow.PrefixStat) error {
	strongest := map[netip.Addr]flow.Finding{}
	stronger := func(f flow.Finding, ok bool) {
		if o, have := strongest[f.Tenant]; ok && (!have || f.Tier > o.Tier || f.Tier == o.Tier && f.Score > o.Score) {
			strongest[f.Tenant] = f
		}
	}
	remotes := map[netip.Addr]uint64{}
	for i := range nets {
		remotes[nets[i].Tenant] += nets[i].Remotes
		stronger(carpet(&t.th(nets[i].Tenant).UDPFlood, &nets[i], r))
	}
	for i := range stats {
		stronger(hostFlood(&t.th(stats[i].Tenant).UDPFlood, &stats[i], remotes[stats[i].Tenant], r))
	}
	var fs []flow.Finding
	open := map[netip.Addr]*flow.ServiceStat{}
	for i := range stats {
		f, ok := strongest[stats[i].Tenant]
		if !ok {
			continue
		}
		t.evidence(&f)
		if f.Tier > flow.TierNotify {
			if err := t.needsIncoming(&f, r, ownShare{}); err != nil {
				return err
			}
		}
		if f.Tier > flow.TierNotify {
			open[f.Tenant] = &stats[i]
		}
		fs = append(fs, f)
	}
	if err := t.carpetTwice(r, length, open); err != nil {
		return err
	}
	persists := func(f *flow.Finding) bool { return open[f.Tenant] == nil }
	for i := range fs {
		if f := &fs[i]; f.Tier > flow.TierNotify && persists(f) {
			if err := t.answeredBefore(f); err != nil {
				return err
			}
			if err := t.throughTunnel(f, r); err != nil {
				return err
			}
		}
	}
	return t.keepAll(r, length, fs, persists, nil)
}

// carpetTwice takes those out of open for which the range can be cut so that
// both parts show the rate.
func (t *tickState) carpetTwice(r flow.Range, length time.Duration, open map[netip.Addr]*flow.ServiceStat) error {
	defer t.inParts()()
	for _, l := range lateParts(length) {
		if len(open) == 0 {
			return nil
		}
		ends, err := t.d.deps.Windows.OneWay(t.ctx, late(r, l), flow.ProtoUDP, 1, 1)
		if err != nil {
			return fmt.Errorf("one-way tenants for persistence: %w", err)
		}
		for i := range ends {
			whole := open[ends[i].Tenant]
			if whole == nil {
				continue
			}
			own := &t.th(whole.Tenant).UDPFlood
			n, rate := effectiveRate(whole.Rate), carpetFactor*own.Rate
			all, end := float64(whole.OutPackets), float64(ends[i].OutPackets)*effectiveRate(ends[i].Rate)/n
			if excess(end, rate*l.Seconds()/n) >= own.PersistScore && excess(all-end, rate*(r.Seconds()-l.Seconds())/n) >= own.PersistScore {
				delete(open, whole.Tenant)
			}
		}
	}
	return nil
}

// carpet judges what one tenant sent to one network over r. It has no remote:
// the evidence is all that the tenant sent by UDP.
func carpet(cfg *UDPFloodConfig, p *flow.PrefixStat, r flow.Range) (flow.Finding, bool) {
	if p.Remotes < carpetRemotes {
		return flow.Finding{}, false
	}
	n := effectiveRate(p.Rate)
	out, in := float64(p.OutPackets), float64(p.InPackets)
	r0 := cfg.packetRate(p.OutPackets, p.OutBytes) * r.Seconds() / n
	score, oneWay := excess(out, r0), shortfall(in, out, cfg.NotifyReturn)
	if score < cfg.NotifyScore || oneWay < cfg.NotifyScore {
		return flow.Finding{}, false
	}
	f := flow.Finding{Tenant: p.Tenant, Rule: flow.RuleUDPFlood, Tier: flow.TierNotify, IPProto: flow.ProtoUDP,
		Samples: p.OutPackets, Distinct: p.Remotes, SamplingRate: n, Score: score, Threshold: cfg.NotifyScore,
		EstRate: out * n / r.Seconds(), From: r.From, To: r.To, RuleVersion: udpFloodVersion}
	total := carpetFactor * cfg.Rate * r.Seconds() / n
	large := float64(p.OutBytes) > carpetSize*out
	if large {
		total *= hostFactor
	}
	strong := excess(out, total)
	if strong >= cfg.SuspendScore && oneWay >= cfg.SuspendScore && in < cfg.SuspendReturn*out && (!large || cfg.silent(out, in)) {
		f.Tier, f.Score, f.Threshold = flow.TierSuspend, strong, cfg.SuspendScore
	}
	f.Reason = carpetReason(&f, p)
	return f, true
}

// silent reports whether it is proved that next to nothing comes back.
func (cfg *UDPFloodConfig) silent(out, in float64) bool {
	return shortfall(in, out, carpetSilence) >= cfg.NotifyScore
}

func carpetReason(f *flow.Finding, p *flow.PrefixStat) string {
	mbps := f.EstRate * float64(p.OutBytes) / float64(max(p.OutPackets, 1)) * 8 / 1e6
	return fmt.Sprintf("sent %s UDP packets per second (%s Mbit/s) to %s addresses of %s for %s and got almost nothing back%s",
		about(f), count(uint64(mbps+0.5)), count(p.Remotes), p.Prefix, length(f), sampled(f))
}
