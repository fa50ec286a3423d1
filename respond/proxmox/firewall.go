package proxmox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	// ruleStart begins the comment of each rule of ours; the mark in JSON follows.
	ruleStart = "flowcordon "
	// maxPorts is what one rule takes: iptables' multiport matches 15 ports.
	maxPorts = 15
	// maxRuleReason keeps the comment readable in the GUI's list.
	maxRuleReason = 120
)

// rule is one of a guest's firewall rules. They are addressed by position, so
// each deletion names the digest of the list that the position is of.
type rule struct {
	Pos     int    `json:"pos"`
	Type    string `json:"type"`
	Action  string `json:"action"`
	Enable  text   `json:"enable"`
	Iface   string `json:"iface"`
	Proto   string `json:"proto"`
	DPort   text   `json:"dport"`
	Source  string `json:"source"`
	Dest    string `json:"dest"`
	SPort   text   `json:"sport"`
	Comment string `json:"comment"`
	Digest  string `json:"digest"`
}

// ruleMark is what the comment of a rule of ours says.
type ruleMark struct {
	MAC  string    `json:"mac"`
	Mark flow.Mark `json:"mark"`
	Undo undo      `json:"was"`
}

func (m ruleMark) comment() string {
	m.Mark.Reason = shorten(oneLine(m.Mark.Reason), maxRuleReason)
	b, err := json.Marshal(m)
	if err != nil {
		panic("proxmox: " + err.Error())
	}
	return ruleStart + ascii(string(b))
}

// ascii writes JSON without bytes above 127: the comment is one line of a file
// whose encoding older versions get wrong.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 128:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		}
	}
	return b.String()
}

func (r rule) mark() (ruleMark, bool) {
	s, ok := strings.CutPrefix(r.Comment, ruleStart)
	var m ruleMark
	if !ok || json.Unmarshal([]byte(s), &m) != nil || m.MAC == "" || m.Mark.Incident == "" {
		return ruleMark{}, false
	}
	return m, true
}

// protoNames are the protocols that the firewall wants by name, because only
// those take ports or are sorted into the right IP version (PVE::Firewall).
var protoNames = map[uint8]string{
	1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "ipv6-icmp", 132: "sctp", 136: "udplite",
}

func protoName(p uint8) string {
	if s, ok := protoNames[p]; ok {
		return s
	}
	return strconv.Itoa(int(p))
}

func protoNumber(s string) (uint8, bool) {
	for n, name := range protoNames {
		if s == name {
			return n, true
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil
}

// rulesFor are the rules that block the ports, in an order that is always the
// same.
func rulesFor(iface string, ports []flow.PortRule, comment string) ([]rule, error) {
	by := map[uint8][]uint16{}
	for _, p := range ports {
		if p.Proto == 0 {
			return nil, fail(flow.ErrUnsupported, "a port rule without a protocol cannot be blocked")
		}
		if !slices.Contains(by[p.Proto], p.Port) {
			by[p.Proto] = append(by[p.Proto], p.Port)
		}
	}
	var out []rule
	add := func(proto uint8, dport string) {
		out = append(out, rule{Type: "out", Action: "DROP", Enable: "1", Iface: iface, Proto: protoName(proto), DPort: text(dport), Comment: comment})
	}
	for proto := range 256 {
		list := by[uint8(proto)]
		slices.Sort(list)
		if len(list) > 0 && list[0] == 0 { // all ports
			add(uint8(proto), "")
			continue
		}
		for part := range slices.Chunk(list, maxPorts) {
			var s []string
			for _, p := range part {
				s = append(s, strconv.Itoa(int(p)))
			}
			add(uint8(proto), strings.Join(s, ","))
		}
	}
	return out, nil
}

// blocks reports whether the rule drops what it names, and what that is.
func (r rule) blocks(iface string) ([]flow.PortRule, bool) {
	if r.Type != "out" || r.Action != "DROP" || !truth(string(r.Enable)) || r.Iface != iface ||
		r.Source != "" || r.Dest != "" || r.SPort != "" {
		return nil, false
	}
	proto, ok := protoNumber(r.Proto)
	if !ok {
		return nil, false
	}
	if r.DPort == "" {
		return []flow.PortRule{{Proto: proto}}, true
	}
	var out []flow.PortRule
	for s := range strings.SplitSeq(string(r.DPort), ",") {
		p, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return nil, false
		}
		out = append(out, flow.PortRule{Proto: proto, Port: uint16(p)})
	}
	return out, true
}

func (t *target) rules(ctx context.Context) ([]rule, error) {
	var rs []rule
	err := t.a.api.call(ctx, http.MethodGet, t.g.path("/firewall/rules"), nil, &rs)
	return rs, err
}

// ours are the rules that carry a mark of ours for this NIC.
func (t *target) ours(rs []rule) (own []rule, m ruleMark) {
	for _, r := range rs {
		if rm, ok := r.mark(); ok && rm.MAC == t.mac {
			own = append(own, r)
			m = rm
		}
	}
	return own, m
}

// options are firewall settings: of the cluster or of a guest.
type options map[string]text

func (t *target) options(ctx context.Context, path string) (options, error) {
	var o options
	err := t.a.api.call(ctx, http.MethodGet, path, nil, &o)
	return o, err
}

// blocked is our port block, if it is in force: the rules are there for this
// NIC and switched on, and so is the firewall.
func (t *target) blocked(ctx context.Context) (*flow.Restriction, error) {
	rs, err := t.rules(ctx)
	if err != nil {
		return nil, err
	}
	own, m := t.ours(rs)
	out := flow.Restriction{Measure: flow.Measure{Kind: flow.MeasureBlockPort}, Mark: m.Mark}
	for _, r := range own {
		if ports, ok := r.blocks(t.key); ok {
			out.Measure.Ports = append(out.Measure.Ports, ports...)
		}
	}
	if len(out.Measure.Ports) == 0 {
		return nil, nil
	}
	off, err := t.firewallOff(ctx)
	if api := (*apiError)(nil); errors.As(err, &api) && api.class() == flow.ErrDenied {
		return nil, nil // not known to be in force; the cut must still be seen
	}
	if err != nil || off != "" {
		return nil, err
	}
	return &out, nil
}

// firewallOff says what keeps the firewall from working on the NIC; empty:
// nothing does. All three switches are needed (PVE::Firewall, compile).
func (t *target) firewallOff(ctx context.Context) (string, error) {
	why, err := t.firewallOutside(ctx)
	if err != nil || why != "" {
		return why, err
	}
	guest, err := t.options(ctx, t.g.path("/firewall/options"))
	if err != nil {
		return "", err
	}
	if !truth(string(guest["enable"])) {
		return offGuest, nil
	}
	return "", nil
}

const offGuest = "the guest's firewall is off"

// firewallOutside is firewallOff without the guest's own switch.
func (t *target) firewallOutside(ctx context.Context) (string, error) {
	if !truth(parseNet(t.v.now[t.key]).get("firewall")) {
		return t.key + " has firewall=0: switch it on in the guest's Hardware (Network), in a quiet moment, as the NIC is plugged anew", nil
	}
	cluster, err := t.options(ctx, "/cluster/firewall/options")
	if err != nil {
		return "", fmt.Errorf("is the cluster's firewall on (the token needs Sys.Audit on /): %w", err)
	}
	if !truth(string(cluster["enable"])) {
		return "the cluster's firewall is off: switch it on in Datacenter, Firewall, Options", nil
	}
	return "", nil
}

// create adds one rule. The server puts it first, where it wins.
func (t *target) create(ctx context.Context, r rule) error {
	p := url.Values{
		"type": {r.Type}, "action": {r.Action}, "enable": {string(r.Enable)}, "iface": {r.Iface},
		"proto": {r.Proto}, "comment": {r.Comment},
	}
	if r.DPort != "" {
		p.Set("dport", string(r.DPort))
	}
	if err := t.a.api.change(ctx, t.g.Node, http.MethodPost, t.g.path("/firewall/rules"), p); err != nil {
		return fmt.Errorf("add a firewall rule to guest %s: %w", t.g, err)
	}
	return nil
}

// remove deletes our rules of this NIC that keep does not want, one after the
// other: each deletion moves the positions of those that follow.
func (t *target) remove(ctx context.Context, keep func(rule) bool) error {
	for {
		rs, err := t.rules(ctx)
		if err != nil {
			return err
		}
		own, _ := t.ours(rs)
		i := slices.IndexFunc(own, func(r rule) bool { return !keep(r) })
		if i < 0 {
			return nil
		}
		p := url.Values{"digest": {own[i].Digest}}
		path := t.g.path("/firewall/rules/" + strconv.Itoa(own[i].Pos))
		if err := t.a.api.change(ctx, t.g.Node, http.MethodDelete, path, p); err != nil {
			return fmt.Errorf("delete a firewall rule of guest %s: %w", t.g, err)
		}
	}
}

// same compares what a rule does and whose it is.
func (r rule) same(o rule) bool {
	o.Pos, o.Digest = r.Pos, r.Digest
	return r == o
}
