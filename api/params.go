package api

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

const timeForm = "an RFC 3339 time such as 2026-01-31T15:04:05Z, a time before now such as -15m or -24h, or now"

// parseTime reads a time parameter; def stands for an empty one.
func parseTime(name, s string, now, def time.Time) (time.Time, error) {
	switch {
	case s == "":
		return def, nil
	case s == "now":
		return now.UTC(), nil
	case s[0] == '-':
		d, err := time.ParseDuration(s)
		if err != nil {
			return time.Time{}, errParam(name, s, timeForm)
		}
		return now.Add(d).UTC(), nil
	}
	// An unescaped + of a zone arrives as a space.
	t, err := time.Parse(time.RFC3339Nano, strings.Replace(s, " ", "+", 1))
	if err != nil {
		return time.Time{}, errParam(name, s, timeForm)
	}
	return t.UTC(), nil
}

// parseRange reads from and to; without them it is the time back before now.
func parseRange(from, to string, now time.Time, back time.Duration) (flow.Range, error) {
	t, err := parseTime("to", to, now, now.UTC())
	if err != nil {
		return flow.Range{}, err
	}
	f, err := parseTime("from", from, now, t.Add(-back))
	if err != nil {
		return flow.Range{}, err
	}
	if !f.Before(t) {
		return flow.Range{}, invalid("from_to", f.Format(time.RFC3339), t.Format(time.RFC3339))
	}
	return flow.Range{From: f, To: t}, nil
}

// parseAddr reads an address of a path or query.
func parseAddr(name, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errParam(name, s, "an address such as 198.18.0.7 or 2001:db8::7")
	}
	return a.Unmap(), nil
}

// host gives the address and the key that its traffic is stored under.
func (h *Handler) host(name, s string) (addr, tenant netip.Addr, err error) {
	addr, err = parseAddr(name, s)
	if err != nil {
		return addr, tenant, err
	}
	if tenant = h.deps.TenantKey(addr); !tenant.IsValid() {
		return addr, tenant, missing("not_ours", addr)
	}
	return addr, tenant, nil
}

var protoNames = map[string]uint8{"icmp": flow.ProtoICMP, "tcp": flow.ProtoTCP, "udp": flow.ProtoUDP, "icmpv6": flow.ProtoICMPv6}

// parseProto reads an IP protocol by name or number; 0 is all.
func parseProto(s string) (uint8, error) {
	if s == "" {
		return 0, nil
	}
	if n, ok := protoNames[strings.ToLower(s)]; ok {
		return n, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, errParam("proto", s, "tcp, udp, icmp, icmpv6 or a number from 1 to 255")
	}
	return uint8(n), nil
}

// steps are what a series may be drawn in; each is a multiple of the one before
// and of a window.
var steps = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// parseStep reads a step, or chooses one for r.
func parseStep(s string, r flow.Range) (time.Duration, error) {
	span := r.To.Sub(r.From)
	if s == "" || s == "auto" {
		for _, step := range steps {
			if span/step <= wantPoints {
				return step, nil
			}
		}
		return steps[len(steps)-1], nil
	}
	const want = "auto or a multiple of 10s such as 10s, 1m or 1h"
	step, err := time.ParseDuration(s)
	if err != nil || step < flow.WindowSeconds*time.Second || step%(flow.WindowSeconds*time.Second) != 0 {
		return 0, errParam("step", s, want)
	}
	if span/step > maxPoints {
		return 0, invalid("step", s, int64(span/step), ((span/maxPoints)/steps[0]+1)*steps[0])
	}
	return step, nil
}

// allStates in the order of an incident's life.
var allStates = []flow.State{flow.StateOpen, flow.StateNotified, flow.StateHeld, flow.StateApproval, flow.StateSuspending, flow.StateSuspended,
	flow.StateVerified, flow.StateUnverified, flow.StateFailed, flow.StateReleasing, flow.StateReleased, flow.StateClosed}

// liveStates are those of incidents that are not over.
func liveStates() []flow.State {
	return slices.DeleteFunc(slices.Clone(allStates), func(s flow.State) bool { return !s.Live() })
}

// parseStates reads states separated by commas; live stands for several.
func parseStates(in []string) ([]flow.State, error) {
	var out []flow.State
	for _, s := range in {
		switch {
		case s == "live":
			out = append(out, liveStates()...)
		case slices.Contains(allStates, flow.State(s)):
			out = append(out, flow.State(s))
		default:
			names := make([]string, len(allStates))
			for i, st := range allStates {
				names[i] = string(st)
			}
			return nil, errParam("state", s, "live or some of "+strings.Join(names, ", "))
		}
	}
	return out, nil
}

var allRules = []flow.Rule{flow.RuleNetscan, flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleSYNFlood, flow.RuleUDPFlood,
	flow.RuleICMPFlood, flow.RulePacketFlood, flow.RuleReflector, flow.RuleSpam, flow.RuleBruteforce, flow.RuleBlockedPort, flow.RuleSpoofed}

func parseRule(s string) (flow.Rule, error) {
	if s == "" || slices.Contains(allRules, flow.Rule(s)) {
		return flow.Rule(s), nil
	}
	names := make([]string, len(allRules))
	for i, r := range allRules {
		names[i] = string(r)
	}
	return "", errParam("rule", s, "one of "+strings.Join(names, ", "))
}
