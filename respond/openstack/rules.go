package openstack

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	egress  = "egress"
	ingress = "ingress"
	ipv4    = "IPv4"
	ipv6    = "IPv6"

	protoTCP = 6
	protoUDP = 17
)

// rule is a rule of a security group. Security groups allow, and what no rule
// allows is dropped. Pointers, because ICMP type 0 is not the same as none.
type rule struct {
	ID            string  `json:"id,omitempty"`
	Group         string  `json:"security_group_id,omitempty"`
	Direction     string  `json:"direction"`
	EtherType     string  `json:"ethertype"`
	Protocol      *string `json:"protocol"`
	Min           *int    `json:"port_range_min"`
	Max           *int    `json:"port_range_max"`
	RemotePrefix  *string `json:"remote_ip_prefix"`
	RemoteGroup   *string `json:"remote_group_id"`
	RemoteAddress *string `json:"remote_address_group_id,omitempty"` // older Neutrons know none
}

// protocols are Neutron's names (neutron-lib constants.py, IP_PROTOCOL_MAP).
var protocols = map[string]int{
	"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6-encap": 41, "ipv6-route": 43,
	"ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59,
	"ipv6-opts": 60, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132, "udplite": 136,
}

// everything stands for "any protocol" once one of them has to be left out.
// Neutron has no rule for all but one, and 254 rules for each family would
// overrun every quota: these are the protocols that servers speak. IPv6 within
// IPv4 (41) is missing because Neutron refuses such a rule.
var everything = map[string][]int{
	ipv4: {1, 2, 4, protoTCP, protoUDP, 47, 50, 51, 89, 112, 132, 136},
	ipv6: {4, protoTCP, protoUDP, 41, 47, 50, 51, 58, 89, 112, 132, 136},
}

const anyProto = -1

// proto is the rule's protocol number, anyProto where it names none, and
// whether it could be understood.
func (r rule) proto() (int, bool) {
	if r.Protocol == nil || *r.Protocol == "" || *r.Protocol == "any" {
		return anyProto, true
	}
	n, ok := protocols[*r.Protocol]
	if !ok {
		var err error
		n, err = strconv.Atoi(*r.Protocol)
		ok = err == nil && n >= 0 && n <= 255
	}
	if r.EtherType == ipv6 && n == 1 {
		n = 58 // icmp of an IPv6 rule, as Neutron reads it
	}
	return n, ok
}

// hasPorts tells the protocols whose port_range means ports.
func hasPorts(proto int) bool {
	return proto == protoTCP || proto == protoUDP || proto == 33 || proto == 132 || proto == 136
}

// ruleKey is what makes two rules the same for Neutron, which refuses the
// second.
type ruleKey struct {
	direction, ether        string
	proto, min, max         int
	prefix, group, addrsGrp string
}

func (r rule) key() ruleKey {
	p, _ := r.proto()
	k := ruleKey{direction: r.Direction, ether: r.EtherType, proto: p, min: -1, max: -1}
	if r.Min != nil {
		k.min = *r.Min
	}
	if r.Max != nil {
		k.max = *r.Max
	}
	if hasPorts(p) && k.min == 1 && k.max == 65535 {
		k.min, k.max = -1, -1
	}
	if r.RemotePrefix != nil && *r.RemotePrefix != "0.0.0.0/0" && *r.RemotePrefix != "::/0" {
		k.prefix = *r.RemotePrefix
	}
	if r.RemoteGroup != nil {
		k.group = *r.RemoteGroup
	}
	if r.RemoteAddress != nil {
		k.addrsGrp = *r.RemoteAddress
	}
	return k
}

// narrow is what rules allow, less what the blocked ports take from egress.
// Ingress stays as it is. The result holds no rule twice and has a fixed order.
func narrow(rules []rule, blocked []flow.PortRule) ([]rule, error) {
	seen := map[ruleKey]bool{}
	var out []rule
	add := func(r rule) {
		r.ID, r.Group = "", ""
		if k := r.key(); !seen[k] {
			seen[k] = true
			out = append(out, r)
		}
	}
	for _, r := range rules {
		if r.Direction != egress {
			add(r)
			continue
		}
		p, ok := r.proto()
		if !ok {
			return nil, fail(flow.ErrUnsupported, "security group rule %s has the unknown protocol %q", r.ID, *r.Protocol)
		}
		if p != anyProto {
			for _, n := range r.without(p, blocked) {
				add(n)
			}
			continue
		}
		for _, p := range everything[r.EtherType] {
			one := r
			name := protocolName(p)
			one.Protocol = &name
			for _, n := range one.without(p, blocked) {
				add(n)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b rule) int {
		x, y := a.key(), b.key()
		return cmp.Or(cmp.Compare(x.direction, y.direction), cmp.Compare(x.ether, y.ether), cmp.Compare(x.proto, y.proto),
			cmp.Compare(x.min, y.min), cmp.Compare(x.max, y.max), cmp.Compare(x.prefix, y.prefix),
			cmp.Compare(x.group, y.group), cmp.Compare(x.addrsGrp, y.addrsGrp))
	})
	return out, nil
}

// without is the rule, of protocol p, in the pieces that the blocked ports
// leave: 1 to 65535 less 22 is 1 to 21 and 23 to 65535.
func (r rule) without(p int, blocked []flow.PortRule) []rule {
	var ports []int
	for _, b := range blocked {
		if int(b.Proto) != p {
			continue
		}
		if b.Port == 0 || !hasPorts(p) {
			return nil
		}
		ports = append(ports, int(b.Port))
	}
	if len(ports) == 0 {
		return []rule{r}
	}
	slices.Sort(ports)
	low, high := 1, 65535
	if r.Min != nil {
		low = *r.Min
	}
	if r.Max != nil {
		high = *r.Max
	}
	var out []rule
	piece := func(from, to int) {
		if from <= to {
			n := r
			n.Min, n.Max = &from, &to
			out = append(out, n)
		}
	}
	for _, port := range ports {
		if port < low || port > high {
			continue
		}
		piece(low, port-1)
		low = port + 1
	}
	if r.Min == nil && low == 1 { // nothing was taken
		return []rule{r}
	}
	piece(low, high)
	return out
}

// protocolName is how Neutron is told a protocol; it takes numbers, too.
func protocolName(p int) string {
	switch p {
	case 1:
		return "icmp"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case 58:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	}
	return strconv.Itoa(p)
}

// sameRules reports whether two groups allow the same, in whatever order.
func sameRules(a, b []rule) bool {
	keys := func(rs []rule) map[ruleKey]bool {
		out := map[ruleKey]bool{}
		for _, r := range rs {
			out[r.key()] = true
		}
		return out
	}
	x, y := keys(a), keys(b)
	if len(x) != len(y) {
		return false
	}
	for k := range x {
		if !y[k] {
			return false
		}
	}
	return true
}
