package libvirt

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

const (
	// filterPrefix begins the name of each filter that we define.
	filterPrefix = "flowcordon-"

	// filterPriority puts our rules before all others: it is libvirt's lowest
	// (formatnwfilter, "priority": -1000 to 1000), and rules of the root
	// chain below -800 stand before the jumps into the chains of filters such as
	// clean-traffic, which may accept.
	filterPriority = -1000

	// maxPortRules bounds a filter. The bridge looks at the rules one by one
	// for each packet of the guest.
	maxPortRules = 128
)

// The protocols with ports that the bridge's filter can look at, and the ones
// that libvirt writes by name (nwfilter_conf.c, ipProtoMap).
var (
	withPorts  = map[uint8]bool{6: true, 17: true, 132: true}
	protoNames = map[string]uint8{
		"tcp": 6, "udp": 17, "udplite": 136, "esp": 50, "ah": 51, "icmp": 1, "igmp": 2, "sctp": 132, "icmpv6": 58,
	}
)

const protoICMP, protoICMPv6 = 1, 58

// icmpv6Types are the ICMPv6 types that a block of ICMPv6 drops: all but
// multicast listener and neighbour discovery (130 to 137 and 143, RFC 4861 §4,
// RFC 3810 §5), without which the guest had no IPv6 at all.
var icmpv6Types = [][2]int{{0, 129}, {138, 142}, {144, 255}}

// filterName is the name of the filter that blocks for the incident on a NIC
// with that former filter.
func filterName(incident, mac, former string) string {
	sum := sha256.Sum256([]byte(incident + "\x00" + mac + "\x00" + former))
	return filterPrefix + hex.EncodeToString(sum[:10])
}

// filterUUID makes the filter's UUID of its name: libvirt takes a definition
// as a new one of a filter that it has only when both are the same.
func filterUUID(name string) string {
	sum := sha256.Sum256([]byte(name))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80 // RFC 9562 §5.8
	h := hex.EncodeToString(u)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// checkPorts refuses what a filter cannot block.
func checkPorts(ports []flow.PortRule) error {
	if len(ports) == 0 {
		return fail(flow.ErrDenied, "block_port: no ports; write at least one protocol and port")
	}
	if len(ports) > maxPortRules {
		return fail(flow.ErrUnsupported, "block_port: %d ports, at most %d; block the protocol (port 0) or cut", len(ports), maxPortRules)
	}
	for _, p := range ports {
		switch {
		case p.Proto == 0:
			return fail(flow.ErrUnsupported, "block_port: protocol 0 names none; write 6 for TCP, 17 for UDP")
		case p.Port != 0 && !withPorts[p.Proto]:
			return fail(flow.ErrUnsupported, "block_port: protocol %d with port %d; only TCP, UDP and SCTP are told apart by port, write port 0",
				p.Proto, p.Port)
		}
	}
	return nil
}

// filterXML drops what the guest sends to the ports, and else does what the
// former filter did. It takes libvirt's rules on Ethernet frames (ip, ipv6),
// which ebtables enforces on every bridge. The rules named tcp or tcp-ipv6 would
// go to iptables, which sees bridged packets only where the node's
// bridge-nf-call-iptables is on, and which lets established connections go on.
func filterXML(name, former string, ports []flow.PortRule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<filter name='%s' chain='root'>\n  <uuid>%s</uuid>\n", name, filterUUID(name))
	rule := func(format string, args ...any) {
		fmt.Fprintf(&b, "  <rule action='drop' direction='out' priority='%d'>"+format+"</rule>\n",
			append([]any{filterPriority}, args...)...)
	}
	for _, p := range ports {
		port := ""
		if p.Port != 0 {
			port = fmt.Sprintf(" dstportstart='%d'", p.Port)
		}
		if p.Proto != protoICMPv6 {
			rule("<ip protocol='%d'%s/>", p.Proto, port)
		}
		switch p.Proto {
		case protoICMPv6:
			for _, r := range icmpv6Types {
				rule("<ipv6 protocol='%d' type='%d' typeend='%d'/>", p.Proto, r[0], r[1])
			}
		case protoICMP:
		default:
			rule("<ipv6 protocol='%d'%s/>", p.Proto, port)
		}
	}
	if former != "" {
		fmt.Fprintf(&b, "  <filterref filter='%s'/>\n", escape(former))
	}
	b.WriteString("</filter>\n")
	return b.String()
}

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a bytes.Buffer does not fail
	return b.String()
}

// ruleset is what a filter of ours holds, as libvirt gives it back.
type ruleset struct {
	former string
	drops  map[string]bool // "ip 6/22", "ipv6 17/0", "ipv6 58/0 0-129"
}

func (r ruleset) equal(o ruleset) bool { return r.former == o.former && maps.Equal(r.drops, o.drops) }

func parseFilter(raw string) (ruleset, error) {
	r := ruleset{drops: map[string]bool{}}
	d := xml.NewDecoder(strings.NewReader(raw))
	drop := false
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, fmt.Errorf("parse the filter's XML: %w", err)
		}
		t, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		switch t.Name.Local {
		case "filterref":
			r.former = attr(t, "filter")
		case "rule":
			drop = attr(t, "action") == "drop" && attr(t, "direction") == "out"
		case "ip", "ipv6":
			if key, ok := dropKey(t); ok && drop {
				r.drops[key] = true
			}
		}
	}
}

// dropKey names a rule by what it drops; not ok for one that is not ours,
// because it drops less than we would.
func dropKey(t xml.StartElement) (string, bool) {
	proto, ok := protoNames[attr(t, "protocol")]
	if !ok {
		n, err := strconv.ParseUint(attr(t, "protocol"), 0, 8)
		if err != nil {
			return "", false
		}
		proto = uint8(n)
	}
	port, types, from := "0", "", ""
	for _, a := range t.Attr {
		switch a.Name.Local {
		case "protocol":
		case "dstportstart":
			port = a.Value
		case "type":
			from = a.Value
		case "typeend":
			types = " " + from + "-" + a.Value
		default:
			return "", false
		}
	}
	return fmt.Sprintf("%s %d/%s%s", t.Name.Local, proto, port, types), true
}

// blocks reports whether the filter drops all that the rule names.
func (r ruleset) blocks(p flow.PortRule) bool {
	var want []string
	if p.Proto != protoICMPv6 {
		want = append(want, fmt.Sprintf("ip %d/%d", p.Proto, p.Port))
	}
	switch p.Proto {
	case protoICMP:
	case protoICMPv6:
		for _, ty := range icmpv6Types {
			want = append(want, fmt.Sprintf("ipv6 %d/0 %d-%d", p.Proto, ty[0], ty[1]))
		}
	default:
		want = append(want, fmt.Sprintf("ipv6 %d/%d", p.Proto, p.Port))
	}
	return !slices.ContainsFunc(want, func(k string) bool { return !r.drops[k] })
}

// loadFilter reads a filter from the node; an empty ruleset if it has none of the name.
func loadFilter(s *session, name string) (ruleset, error) {
	f, err := s.l.NwfilterLookupByName(name)
	if isNoFilter(err) {
		return ruleset{}, nil
	}
	if err != nil {
		return ruleset{}, fmt.Errorf("look up the filter %s: %w", name, err)
	}
	raw, err := s.l.NwfilterGetXMLDesc(f, 0)
	if err != nil {
		return ruleset{}, fmt.Errorf("read the filter %s: %w", name, err)
	}
	return parseFilter(raw)
}

func isNoFilter(err error) bool {
	var le golibvirt.Error
	return errors.As(err, &le) && golibvirt.ErrorNumber(le.Code) == golibvirt.ErrNoNwfilter
}

func isOurs(filter string) bool { return strings.HasPrefix(filter, filterPrefix) }
