package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// IANA protocol numbers that the rules treat apart.
const (
	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

// rule is what one route of ours matches; its rate is beside it. It is the
// route's identity: announcing it again replaces the rate.
type rule struct {
	source    netip.Prefix
	proto     uint8  // 0: any
	port      uint16 // destination; 0: any
	blackhole bool   // a unicast route to source instead of a FlowSpec rule
}

// rules maps what is matched to bytes/s; 0 discards. RFC 8955 §7.1: "the
// traffic-rate-bytes … units are bytes per second".
type rules map[rule]float32

// sourceOf is the prefix that a tenant's address stands for.
func (c Config) sourceOf(ip netip.Addr) (netip.Prefix, error) {
	ip = ip.Unmap().WithZone("")
	if !ip.IsValid() {
		return netip.Prefix{}, fail(flow.ErrNotFound, "the inventory names no address for this NIC, and BGP knows nothing else")
	}
	bits := 32
	if ip.Is6() {
		bits = c.V6Length
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}, fail(flow.ErrNotFound, "%s: %w", ip, err)
	}
	return p, c.guard(p)
}

// guard refuses what must never be announced, wherever it comes from.
func (c Config) guard(p netip.Prefix) error {
	want := 32
	if p.Addr().Is6() {
		want = c.V6Length
	}
	if !p.IsValid() || p.Bits() < want || p != p.Masked() {
		return fail(flow.ErrDenied, "%s is wider than one tenant (/%d); it is not announced", p, want)
	}
	for _, own := range c.OwnPrefixes {
		if own.Bits() <= p.Bits() && own.Contains(p.Addr()) {
			return nil
		}
	}
	return fail(flow.ErrNotFound, "%s is in none of own_prefixes; only own addresses are announced", p)
}

// rulesOf are the rules that put a measure in force for a source.
func (c Config) rulesOf(source netip.Prefix, me flow.Measure) (rules, error) {
	if c.Method != MethodFlowSpec && me.Kind != flow.MeasureCut {
		return nil, fail(flow.ErrUnsupported, "%s needs method flowspec; a blackhole route knows no ports and no rates", me.Kind)
	}
	switch me.Kind {
	case flow.MeasureCut:
		return rules{{source: source, blackhole: c.Method != MethodFlowSpec}: 0}, nil
	case flow.MeasureLimit:
		if me.KbitS == 0 {
			return nil, fail(flow.ErrDenied, "rate_limit: kbit_s is 0; that would be a cut")
		}
		return rules{{source: source}: float32(me.KbitS) * 125}, nil // 1000 bits are 125 bytes
	case flow.MeasureBlockPort:
		return portRules(source, me.Ports)
	}
	return nil, fail(flow.ErrUnsupported, "measure %q; this adapter knows block_port, rate_limit and cut", me.Kind)
}

func portRules(source netip.Prefix, ports []flow.PortRule) (rules, error) {
	if len(ports) == 0 {
		return nil, fail(flow.ErrDenied, "block_port: no ports; that would block all or nothing")
	}
	out := rules{}
	for _, p := range ports {
		if p.Proto == 0 {
			return nil, fail(flow.ErrDenied, "block_port: a port rule names no protocol")
		}
		if p.Port != 0 && !slices.Contains([]uint8{protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite}, p.Proto) {
			return nil, fail(flow.ErrDenied, "block_port: protocol %d has no ports, but port %d is asked for", p.Proto, p.Port)
		}
		if foreign(source, p.Proto) {
			continue
		}
		out[rule{source: source, proto: p.Proto, port: p.Port}] = 0
	}
	if len(out) == 0 {
		return nil, fail(flow.ErrUnsupported, "block_port: %s sends none of the protocols asked for", source)
	}
	return out, nil
}

// foreign reports whether the protocol is the other family's: a rule that
// nothing can match would only fill the routers' tables.
func foreign(source netip.Prefix, proto uint8) bool {
	return source.Addr().Is4() && proto == protoICMPv6 || source.Addr().Is6() && proto == protoICMP
}

func (r rule) family() gobgp.Family {
	switch v6 := r.source.Addr().Is6(); {
	case r.blackhole && v6:
		return gobgp.RF_IPv6_UC
	case r.blackhole:
		return gobgp.RF_IPv4_UC
	case v6:
		return gobgp.RF_FS_IPv6_UC
	}
	return gobgp.RF_FS_IPv4_UC
}

// path is the rule as a route for gobgp.
func (r rule) path(c Config, rate float32) (*apiutil.Path, error) {
	if r.blackhole {
		return r.blackholePath(c)
	}
	src, err := gobgp.NewIPAddrPrefix(r.source)
	if err != nil {
		return nil, err
	}
	var parts []gobgp.FlowSpecComponentInterface
	if r.source.Addr().Is6() {
		parts = append(parts, gobgp.NewFlowSpecSourcePrefix6(src, 0))
	} else {
		parts = append(parts, gobgp.NewFlowSpecSourcePrefix(src))
	}
	equals := func(t gobgp.BGPFlowSpecType, v uint64) gobgp.FlowSpecComponentInterface {
		item := gobgp.NewFlowSpecComponentItem(uint8(gobgp.DEC_NUM_OP_EQ), v)
		return gobgp.NewFlowSpecComponent(t, []*gobgp.FlowSpecComponentItem{item})
	}
	if r.proto != 0 {
		parts = append(parts, equals(gobgp.FLOW_SPEC_TYPE_IP_PROTO, uint64(r.proto)))
	}
	if r.port != 0 {
		parts = append(parts, equals(gobgp.FLOW_SPEC_TYPE_DST_PORT, uint64(r.port)))
	}
	nlri, err := gobgp.NewFlowSpecUnicast(r.family(), parts)
	if err != nil {
		return nil, err
	}
	mp, err := gobgp.NewPathAttributeMpReachNLRI(r.family(), []gobgp.PathNLRI{{NLRI: nlri}})
	if err != nil {
		return nil, err
	}
	// The AS in the community is for people; of a four-octet one the lower half
	// stands there (RFC 8955 §7.1).
	ext := gobgp.NewTrafficRateExtended(uint16(c.AS), rate)
	return &apiutil.Path{Family: r.family(), Nlri: nlri, Attrs: []gobgp.PathAttributeInterface{
		gobgp.NewPathAttributeOrigin(0), mp,
		gobgp.NewPathAttributeExtendedCommunities([]gobgp.ExtendedCommunityInterface{ext}),
	}}, nil
}

func (r rule) blackholePath(c Config) (*apiutil.Path, error) {
	nlri, err := gobgp.NewIPAddrPrefix(r.source)
	if err != nil {
		return nil, err
	}
	com, err := communities(c.Communities)
	if err != nil {
		return nil, err
	}
	attrs := []gobgp.PathAttributeInterface{gobgp.NewPathAttributeOrigin(0)}
	if r.source.Addr().Is4() {
		hop, err := gobgp.NewPathAttributeNextHop(c.NextHop4)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, hop)
	} else {
		mp, err := gobgp.NewPathAttributeMpReachNLRI(r.family(), []gobgp.PathNLRI{{NLRI: nlri}}, c.NextHop6)
		if err != nil {
			return nil, err
		}
		attrs = append(attrs, mp)
	}
	if len(com) > 0 {
		attrs = append(attrs, gobgp.NewPathAttributeCommunities(com))
	}
	return &apiutil.Path{Family: r.family(), Nlri: nlri, Attrs: attrs}, nil
}

// String is the rule in the words of a router's configuration.
func (r rule) String() string {
	if r.blackhole {
		return "route " + r.source.String()
	}
	var b strings.Builder
	b.WriteString("match source " + r.source.String())
	if r.proto != 0 {
		b.WriteString(", protocol " + protoName(r.proto))
	}
	if r.port != 0 {
		fmt.Fprintf(&b, ", destination-port %d", r.port)
	}
	return b.String()
}

// then is what a router does with what the rule matches.
func (r rule) then(c Config, rate float32) string {
	switch {
	case r.blackhole && r.source.Addr().Is4():
		return fmt.Sprintf("next hop %s, communities %s", c.NextHop4, strings.Join(c.Communities, " "))
	case r.blackhole:
		return fmt.Sprintf("next hop %s, communities %s", c.NextHop6, strings.Join(c.Communities, " "))
	case rate == 0:
		return "then discard (traffic-rate 0)"
	}
	return fmt.Sprintf("then traffic-rate %.0f bytes/s (%.0f kbit/s)", rate, rate/125)
}

func protoName(p uint8) string {
	switch p {
	case protoICMP:
		return "icmp"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoICMPv6:
		return "icmp6"
	}
	return strconv.Itoa(int(p))
}
