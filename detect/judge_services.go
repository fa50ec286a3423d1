package detect

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// This file runs the rules of one tenant and one service port, and of one
// tenant and all of them.

func (t *tickState) blockscan() error {
	cfg := &t.d.loose.Blockscan
	for _, length := range t.dueLengths(flow.RuleBlockscan, cfg.WindowsS) {
		r := span(t.ts, length)
		// Pairs are no more than attempts, and excess is 0 below the benign rate.
		stats, err := t.d.deps.Windows.AttemptStats(t.ctx, r, flow.ProtoTCP, cfg.NotifyPairs, uint64(cfg.Rate*r.Seconds()))
		if err != nil {
			return fmt.Errorf("attempts of %s: %w", seconds(length), err)
		}
		var fs []flow.Finding
		open := map[netip.Addr]scanCounts{} // must persist
		for i := range stats {
			own := &t.th(stats[i].Tenant).Blockscan
			f, ok := blockscan(own, &stats[i], r)
			if !ok {
				continue
			}
			t.evidence(&f)
			c := hostCounts(&stats[i])
			if f.Tier == flow.TierSuspend || !own.isRaw(c) {
				open[f.Tenant] = c
			}
			fs = append(fs, f)
		}
		if err := t.triesAllTwice(cfg, r, length, open); err != nil {
			return err
		}
		once := func(f *flow.Finding) bool { _, still := open[f.Tenant]; return still }
		// Of a peer-to-peer program that starts, the failures are exported before
		// the conversations: at notify such a moment is nothing at all.
		fs = slices.DeleteFunc(fs, func(f flow.Finding) bool { return f.Tier == flow.TierNotify && once(&f) })
		if err := t.keepAll(r, length, fs, func(f *flow.Finding) bool { return !once(f) }, nil); err != nil {
			return err
		}
	}
	return nil
}

// triesAllTwice is scansTwice for all ports of a tenant.
func (t *tickState) triesAllTwice(cfg *BlockscanConfig, r flow.Range, length time.Duration, open map[netip.Addr]scanCounts) error {
	defer t.inParts()()
	for _, l := range lateParts(length) {
		if len(open) == 0 {
			return nil
		}
		ends, err := t.d.deps.Windows.AttemptStats(t.ctx, late(r, l), flow.ProtoTCP, 1+uint64(cfg.PersistScore/maxPerSample), uint64(cfg.Rate*l.Seconds()))
		if err != nil {
			return fmt.Errorf("attempts for persistence: %w", err)
		}
		for i := range ends {
			if whole, ok := open[ends[i].Tenant]; ok && t.th(ends[i].Tenant).Blockscan.twice(whole, hostCounts(&ends[i]), r.Seconds(), l.Seconds()) {
				delete(open, ends[i].Tenant)
			}
		}
	}
	return nil
}

func (t *tickState) udpSweep() error {
	cfg := &t.d.loose.UDPSweep
	return t.service(serviceRule{
		rule: flow.RuleUDPSweep, windowsS: cfg.WindowsS,
		stats: t.clientsOf(flow.ProtoUDP, cfg.NotifyDistinct, 1+uint64(cfg.PersistScore/luDistinct)),
		judge: func(s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
			return udpSweep(&t.th(s.Tenant).UDPSweep, t.d.ports, s, r)
		},
		twice: func(whole, late *flow.ServiceStat, secs, lateS float64) bool {
			own := &t.th(whole.Tenant).UDPSweep
			return sweptTwice(sweepOf(whole), sweepOf(late), own.Rate, secs, lateS, own.PersistScore)
		},
		heard: true,
	})
}

func (t *tickState) icmpSweep() error {
	cfg := &t.d.loose.ICMPSweep
	for _, proto := range []uint8{flow.ProtoICMP, flow.ProtoICMPv6} {
		err := t.service(serviceRule{
			rule: flow.RuleICMPSweep, windowsS: cfg.WindowsS,
			stats: t.clientsOf(proto, cfg.NotifyDistinct, 1+uint64(cfg.PersistScore/luDistinct)),
			judge: func(s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
				return icmpSweep(&t.th(s.Tenant).ICMPSweep, s, r)
			},
			twice: func(whole, late *flow.ServiceStat, secs, lateS float64) bool {
				own := &t.th(whole.Tenant).ICMPSweep
				return sweptTwice(sweepOf(whole), sweepOf(late), own.SuspendRate, secs, lateS, own.PersistScore)
			},
			heard: true,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tickState) reflector() error {
	cfg := &t.d.cfg.Thresholds.Reflector
	ports := cfg.ports()
	if len(ports) == 0 {
		return nil
	}
	return t.service(serviceRule{
		rule: flow.RuleReflector, windowsS: cfg.WindowsS,
		stats: func(r flow.Range, part bool) ([]flow.ServiceStat, error) {
			return t.d.deps.Windows.ServiceTotals(t.ctx, r, flow.ServiceQuery{IPProto: flow.ProtoUDP, Role: flow.RoleServer, Ports: ports, MinOutPackets: leastAnswers})
		},
		judge: func(s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
			return reflector(&t.th(s.Tenant).Reflector, s, r)
		},
		peers: func(f *flow.Finding, s *flow.ServiceStat, p flow.Peers, _ flow.Range) bool {
			own := &t.th(f.Tenant).Reflector
			f.Distinct = p.Remotes
			if own.serves(s, p, t.d.cfg.Thresholds.Gates.KnownPeers) {
				hold(f, GateKnownPeers)
			}
			return own.victims(p)
		},
		role: flow.RoleServer, holdUnknown: true,
		twice: func(whole, late *flow.ServiceStat, secs, lateS float64) bool {
			return t.th(whole.Tenant).Reflector.twice(whole, late, secs, lateS)
		},
		heard: true,
	})
}

// leastAnswers is the screen of the reflector: what excess can reach with fewer
// packets is below notify at any rate of R0 that a router's sampling leaves.
const leastAnswers = 5

func (t *tickState) spam() error {
	cfg := &t.d.loose.Spam
	return t.service(serviceRule{
		rule: flow.RuleSpam, windowsS: cfg.WindowsS, stats: t.logins,
		judge: func(s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
			own := &t.th(s.Tenant).Spam
			if s.SvcPort != portSMTP || !spamScreen(own, s, r) || t.tagged(s.Tenant, own.ExemptTag) && !t.maybeUnusual(own, s, r) {
				return flow.Finding{}, false
			}
			return flow.Finding{Tenant: s.Tenant, IPProto: s.IPProto, Port: s.SvcPort}, true
		},
		peers: func(f *flow.Finding, s *flow.ServiceStat, p flow.Peers, r flow.Range) (ok bool) {
			own := &t.th(s.Tenant).Spam
			if !t.tagged(s.Tenant, own.ExemptTag) {
				*f, ok = spam(own, s, p, r)
				return ok
			}
			*f, ok = unusual(own, s, p, t.usual(own, s.Tenant), r)
			return ok
		},
		role: flow.RoleClient,
	})
}

func (t *tickState) bruteforce() error {
	cfg, known := &t.d.cfg.Thresholds.Bruteforce, t.d.cfg.Thresholds.Gates.KnownPeers
	return t.service(serviceRule{
		rule: flow.RuleBruteforce, windowsS: cfg.WindowsS, stats: t.logins,
		judge: func(s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
			if !t.isLogin(s.SvcPort) {
				return flow.Finding{}, false
			}
			return bruteforce(&t.th(s.Tenant).Bruteforce, s, r)
		},
		peers: func(f *flow.Finding, _ *flow.ServiceStat, p flow.Peers, r flow.Range) bool {
			f.Distinct = p.Remotes
			return t.th(f.Tenant).Bruteforce.targets(p, known, r.Seconds())
		},
		role: flow.RoleClient,
	})
}

func (t *tickState) blockedPort() error {
	cfg := &t.d.loose.BlockedPort
	for _, proto := range []uint8{flow.ProtoTCP, flow.ProtoUDP} {
		ports := cfg.ports(proto)
		if len(ports) == 0 {
			continue
		}
		err := t.service(serviceRule{
			rule: flow.RuleBlockedPort, windowsS: cfg.WindowsS,
			stats: func(r flow.Range, _ bool) ([]flow.ServiceStat, error) {
				if proto == flow.ProtoTCP {
					return t.logins(r, false)
				}
				return t.d.deps.Windows.ServiceTotals(t.ctx, r, flow.ServiceQuery{IPProto: proto, Role: flow.RoleClient, Ports: ports, MinOutPackets: cfg.MinSamples})
			},
			judge: func(s *flow.ServiceStat, r flow.Range) (flow.Finding, bool) {
				if !cfg.closedFor(s.Tenant, t.tags(s.Tenant), proto, s.SvcPort) {
					return flow.Finding{}, false
				}
				return blockedPort(&t.th(s.Tenant).BlockedPort, s, r)
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// serviceRule is what the rules of one tenant and one service port differ in.
type serviceRule struct {
	rule     flow.Rule
	windowsS []int
	// stats asks for the sums of a range; part: of a part of it, for persistence.
	stats func(r flow.Range, part bool) ([]flow.ServiceStat, error)
	judge func(*flow.ServiceStat, flow.Range) (flow.Finding, bool)
	// peers is asked whether a finding stands, given whom the tenant sent to as
	// role; nil: always. It may complete the finding. Where the store has no rows
	// of it, the finding is dropped, or with holdUnknown held.
	peers       func(*flow.Finding, *flow.ServiceStat, flow.Peers, flow.Range) bool
	role        flow.Role
	holdUnknown bool
	// twice says of a whole range and its end that both parts show it; nil: the
	// rule is notify at most.
	twice func(whole, late *flow.ServiceStat, seconds, lateS float64) bool
	heard bool // above notify it needs an export that shows what comes in
}

// clientsOf asks for the clients of one protocol with least attempts, or with
// leastPart in a part of a range.
func (t *tickState) clientsOf(ipProto uint8, least, leastPart uint64) func(flow.Range, bool) ([]flow.ServiceStat, error) {
	return func(r flow.Range, part bool) ([]flow.ServiceStat, error) {
		n := least
		if part {
			n = leastPart
		}
		return t.d.deps.Windows.ServiceStats(t.ctx, r, ipProto, n)
	}
}

func (t *tickState) service(rule serviceRule) error {
	for _, length := range t.dueLengths(rule.rule, rule.windowsS) {
		r := span(t.ts, length)
		stats, err := rule.stats(r, false)
		if err != nil {
			return fmt.Errorf("service windows of %s: %w", seconds(length), err)
		}
		var found []candidate
		for i := range stats {
			// By value: nearly all are nothing, and a pointer would put each on the heap.
			if f, ok := rule.judge(&stats[i], r); ok {
				found = append(found, candidate{f, &stats[i]})
			}
		}
		if found, err = t.askPeers(&rule, found, r); err != nil {
			return err
		}
		fs := make([]flow.Finding, len(found))
		open := map[serviceKey]*flow.ServiceStat{} // above notify: must persist
		for i, c := range found {
			if err := t.serviceGates(&rule, &c.Finding, r); err != nil {
				return err
			}
			if c.Tier > flow.TierNotify {
				open[serviceKey{c.Tenant, c.Port}] = c.stat
			}
			fs[i] = c.Finding
		}
		if err := t.servesTwice(&rule, r, length, open); err != nil {
			return err
		}
		err = t.keepAll(r, length, fs, func(f *flow.Finding) bool { return open[serviceKey{f.Tenant, f.Port}] == nil }, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// candidate is a finding of a service rule that may not stand yet, and what it is of.
type candidate struct {
	flow.Finding
	stat *flow.ServiceStat
}

// serviceGates completes a finding by the gates of one finding.
func (t *tickState) serviceGates(rule *serviceRule, f *flow.Finding, r flow.Range) error {
	t.evidence(f)
	if f.Tier > flow.TierNotify && rule.heard {
		return t.needsIncoming(f, r, ownShare{})
	}
	return nil
}

// servesTwice takes those out of open for which the range can be cut so that
// both parts show the finding on their own, as scansTwice does.
func (t *tickState) servesTwice(rule *serviceRule, r flow.Range, length time.Duration, open map[serviceKey]*flow.ServiceStat) error {
	defer t.inParts()()
	// A flow cache may hold back the last 15 s or more: of a minute, three
	// quarters are the half that has rows.
	parts := append([]time.Duration{(length*3/4 + window - 1) / window * window}, lateParts(length)...)
	for _, l := range parts {
		if len(open) == 0 || l >= length {
			continue
		}
		ends, err := rule.stats(late(r, l), true)
		if err != nil {
			return fmt.Errorf("service windows for persistence: %w", err)
		}
		for i := range ends {
			k := serviceKey{ends[i].Tenant, ends[i].SvcPort}
			if whole := open[k]; whole != nil && rule.twice(whole, &ends[i], r.Seconds(), l.Seconds()) {
				delete(open, k)
			}
		}
	}
	return nil
}
