package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// This file holds what rules share within a tick: questions whose answer
// several of them use, and what they ask of single tenants.

// settled is how old an acquaintance must be to speak for a login: whoever has
// guessed for an hour has met his targets before.
const settled = 24 * time.Hour

// askKnownPeers holds a finding whose destinations on a port are acquaintances.
func (t *tickState) askKnownPeers(f *flow.Finding, port uint16) error {
	g := t.d.cfg.Thresholds.Gates
	share, err := t.d.deps.Windows.KnownPeerShare(t.ctx, f.Tenant, f.IPProto, port,
		flow.Range{From: f.From, To: f.To}, time.Duration(g.KnownPeerDays)*24*time.Hour)
	return t.holdKnown(f, !(share < g.KnownPeers), "known peers", err)
}

// holdKnown holds a finding that a tenant's past explains, and one whose past
// could not be asked for: err says so. The error that it returns ends the tick.
func (t *tickState) holdKnown(f *flow.Finding, known bool, what string, err error) error {
	switch {
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	case err != nil: // one slow answer must not hide the other findings
		t.d.m.errors.WithLabelValues(stepKnownPeers).Inc()
		t.d.warn(t.ts, what+" not available, suspension held", err)
		hold(f, GatePeersUnknown)
	case known:
		hold(f, GateKnownPeers)
	}
	return nil
}

// peersTogether bounds the tenants of one question, and so what is lost, and what
// the engine holds in memory, with one answer.
const peersTogether = 100

// askPeers completes candidates by whom the tenants sent to, and keeps those that
// stand.
func (t *tickState) askPeers(rule *serviceRule, all []candidate, r flow.Range) ([]candidate, error) {
	if rule.peers == nil {
		return all, nil
	}
	lookback := time.Duration(t.d.cfg.Thresholds.Gates.KnownPeerDays) * 24 * time.Hour
	stand := all[:0]
	for some := range slices.Chunk(all, peersTogether) {
		of := make([]flow.PeerQuery, len(some))
		for i, c := range some {
			of[i] = flow.PeerQuery{Tenant: c.stat.Tenant, IPProto: some[0].stat.IPProto, Role: rule.role, SvcPort: c.stat.SvcPort,
				Range: r, Lookback: lookback, Settled: settled}
		}
		peers, err := t.d.deps.Windows.Peers(t.ctx, of)
		switch {
		case t.ctx.Err() != nil:
			return nil, t.ctx.Err()
		case err != nil: // one slow answer must not hide the other findings
			t.d.m.errors.WithLabelValues(stepKnownPeers).Inc()
			t.d.warn(t.ts, "destinations not available", err)
			peers = make([]flow.Peers, len(some))
		}
		for i, c := range some {
			ok := rule.holdUnknown
			switch {
			case peers[i].Remotes > 0:
				ok = rule.peers(&c.Finding, c.stat, peers[i], r)
			case ok:
				hold(&c.Finding, GatePeersUnknown)
			}
			if ok {
				stand = append(stand, c)
			}
		}
	}
	return stand, nil
}

// logins returns the clients of all TCP ports that spam, bruteforce and
// blocked_port ask for, once for each range: reading them is what costs.
func (t *tickState) logins(r flow.Range, _ bool) ([]flow.ServiceStat, error) {
	if t.loginStats == nil {
		t.loginStats = map[flow.Range][]flow.ServiceStat{}
	}
	if stats, ok := t.loginStats[r]; ok {
		return stats, nil
	}
	th := &t.d.loose
	stats, err := t.d.deps.Windows.ServiceTotals(t.ctx, r, flow.ServiceQuery{IPProto: flow.ProtoTCP, Role: flow.RoleClient,
		Ports: loginPorts(th), MinOutPackets: min(th.BlockedPort.MinSamples, th.Spam.MinServers)})
	if err == nil {
		t.loginStats[r] = stats
	}
	return stats, err
}

// loginPorts are the TCP ports of spam, bruteforce and blocked_port, in order.
func loginPorts(th *Thresholds) []uint16 {
	ports := append([]uint16{portSMTP}, th.Bruteforce.Ports...)
	ports = append(ports, th.BlockedPort.ports(flow.ProtoTCP)...)
	slices.Sort(ports)
	return slices.Compact(ports)
}

func (t *tickState) isLogin(port uint16) bool {
	return slices.Contains(t.d.cfg.Thresholds.Bruteforce.Ports, port)
}

func (t *tickState) tags(tenant netip.Addr) []string {
	if t.d.deps.Tags != nil {
		return t.d.deps.Tags(tenant)
	}
	return t.d.holder(tenant).Tags
}

func (t *tickState) tagged(tenant netip.Addr, tag string) bool {
	return slices.Contains(t.tags(tenant), tag)
}

// An export that shows both directions has at least one record in for five out
// (detection.md §5.2 G2). Each tenant counts heardCap records at most, as with
// deafCap, and it takes three to prove it; a tenant that is nearly alone speaks
// for itself by heardAlone records.
const (
	heardShare = 0.2
	heardCap   = 100
	heardAlone = 3
)

// needsIncoming holds a finding that looks the same where answers are just not
// exported, unless others of the fleet, or else the tenant itself, are seen to
// receive something in r. own is the finding's own part of the tenant's totals.
func (t *tickState) needsIncoming(f *flow.Finding, r flow.Range, own ownShare) error {
	if t.hosts == nil {
		t.hosts = map[flow.Range][]flow.HostStat{}
	}
	all, ok := t.hosts[r]
	if !ok {
		var err error
		if all, err = t.d.deps.Windows.HostStats(t.ctx, r, nil); err != nil {
			return fmt.Errorf("totals of the fleet: %w", err)
		}
		t.hosts[r] = all
	}
	var out, in, self float64
	for i := range all {
		h := &all[i]
		if h.Tenant == f.Tenant {
			self = float64(h.InRecords) - float64(own.in)
			continue
		}
		part := min(1, heardCap/max(float64(h.OutRecords), 1))
		out += part * float64(h.OutRecords)
		in += part * float64(h.InRecords)
	}
	heard := self >= heardAlone
	if out >= 3*heardCap {
		heard = in >= heardShare*out
	}
	if !heard {
		hold(f, GateNoIncoming)
	}
	return nil
}

// spoofed judges attachments. Their owners' other traffic says nothing of it, so
// that no gate but the evidence holds it.
func (t *tickState) spoofed() error {
	cfg := &t.d.loose.Spoofed
	if t.d.deps.PortOwner == nil {
		return nil
	}
	for _, length := range t.dueLengths(flow.RuleSpoofed, cfg.WindowsS) {
		r := span(t.ts, length)
		stats, err := t.d.deps.Windows.SpoofStats(t.ctx, r, cfg.NotifyRecords)
		if err != nil {
			return fmt.Errorf("forged sources of %s: %w", seconds(length), err)
		}
		for i := range stats {
			owner, ok := t.d.deps.PortOwner(stats[i].Attachment)
			if !ok {
				continue
			}
			if f, ok := spoofed(&t.th(owner).Spoofed, &stats[i], owner, r); ok {
				t.evidence(&f)
				t.keep(f, length)
			}
		}
	}
	return nil
}
