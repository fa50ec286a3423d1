package respond

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// maxPacketLines bounds the packet excerpt: it shows the form of the traffic,
// the list and the summary show its amount.
const maxPacketLines = 1000

// attempt reports whether a row is one try to reach somebody.
func attempted(row flow.FlowRow) bool {
	if row.Dir != flow.Out || row.Bogon || row.Spoofed {
		return false
	}
	return row.Class == flow.ClassSYN || row.Class == flow.ClassEcho || row.Class == flow.ClassUDP && row.Role != flow.RoleServer
}

// source is the address that a text is about: the one internal host of the
// rows, or the tenant's address when a v6 tenant sent from several.
func (p proof) source() netip.Addr {
	var host netip.Addr
	for _, row := range p.Rows {
		if host.IsValid() && row.Host != host {
			return p.Incident.Tenant
		}
		host = row.Host
	}
	if host.IsValid() {
		return host
	}
	return p.Incident.Tenant
}

// sampling says how the rows were seen, for people.
func (p proof) sampling() string {
	var rates []uint32
	for _, row := range p.Rows {
		if !slices.Contains(rates, row.Rate) {
			rates = append(rates, row.Rate)
		}
	}
	slices.Sort(rates)
	switch {
	case len(rates) == 0:
		return "no flow rows are stored for this time"
	case len(rates) == 1 && rates[0] <= 1:
		return "every packet was counted, nothing is estimated"
	}
	names := make([]string, len(rates))
	for i, r := range rates {
		names[i] = "1:" + strconv.FormatUint(uint64(r), 10)
	}
	return "estimated from " + strings.Join(names, ", ") + " samples"
}

// preamble is what each text says of itself.
func (p proof) preamble(b *strings.Builder) {
	fmt.Fprintf(b, "Incident %s, %s to %s. All times are UTC.\n", p.Incident.ID, stamp(p.Range.From), stamp(p.Range.To))
	fmt.Fprintf(b, "Flow rows: %d, %s.\n", len(p.Rows), p.sampling())
	if p.Truncated {
		fmt.Fprintf(b, "TRUNCATED: more rows matched than the %d that are kept here.\n", len(p.Rows))
	}
}

func utc(ns int64, layout string) string { return time.Unix(0, ns).UTC().Format(layout) }

func protoName(p uint8) string {
	switch p {
	case flow.ProtoTCP:
		return "TCP"
	case flow.ProtoUDP:
		return "UDP"
	case flow.ProtoICMP:
		return "ICMP"
	case flow.ProtoICMPv6:
		return "ICMP6"
	}
	return "IP/" + strconv.Itoa(int(p))
}

// renderNetscan is the list in the form that abuse desks have sent for years:
// time, protocol, source and port, =>, destination and port.
func renderNetscan(p proof) string {
	var b strings.Builder
	title := "Netscan detected from host " + p.source().String()
	line := strings.Repeat("#", max(74, len(title)+4))
	pad := len(line) - 2 - len(title)
	fmt.Fprintf(&b, "%s\n#%s%s%s#\n%s\n\n", line, strings.Repeat(" ", pad/2), title, strings.Repeat(" ", pad-pad/2), line)
	p.preamble(&b)
	b.WriteByte('\n')
	src, dst := len("src_ip"), len("dest_ip")
	n := 0
	for _, row := range p.Rows {
		if attempted(row) {
			n++
			src, dst = max(src, len(row.Host.String())), max(dst, len(row.Remote.String()))
		}
	}
	head := fmt.Sprintf("%-19s %-8s %*s %-8s    %*s %s", "time (UTC)", "protocol", src, "src_ip", "src_port", dst, "dest_ip", "dest_port")
	fmt.Fprintf(&b, "%s\n%s\n", head, strings.Repeat("-", len(head)))
	for _, row := range p.Rows {
		if !attempted(row) {
			continue
		}
		sp, dp := strconv.Itoa(int(row.HostPort)), strconv.Itoa(int(row.RemotePort))
		if row.IPProto != flow.ProtoTCP && row.IPProto != flow.ProtoUDP {
			sp, dp = "-", "-"
		}
		fmt.Fprintf(&b, "%s %-8s %*s %-8s => %*s %s\n", utc(row.Time, time.DateTime), protoName(row.IPProto), src, row.Host, sp, dst, row.Remote, dp)
	}
	if n == 0 {
		b.WriteString("(no attempts are among the stored flow rows)\n")
	}
	return b.String()
}

// perRemote is the traffic to one external address, scaled by the sampling rate.
type perRemote struct {
	remote         netip.Addr
	rows           int
	packets, bytes float64
	first, last    int64
	ports          []uint16
}

// seconds is the time the address was sent to; a window at least, because one
// sample has no duration.
func (r perRemote) seconds() float64 {
	return max(float64(r.last-r.first)/1e9, flow.WindowSeconds)
}

func (r *perRemote) add(row flow.FlowRow) {
	if r.rows == 0 || row.Start < r.first {
		r.first = row.Start
	}
	if r.rows == 0 || row.End > r.last {
		r.last = row.End
	}
	r.rows++
	rate := float64(max(row.Rate, 1))
	r.packets += float64(row.Packets) * rate
	r.bytes += float64(row.Bytes) * rate
}

// byRemote sums the outgoing rows by external address, most packets first.
func byRemote(rows []flow.FlowRow) (list []perRemote, total perRemote) {
	index := map[netip.Addr]int{}
	for _, row := range rows {
		if row.Dir != flow.Out {
			continue
		}
		i, ok := index[row.Remote]
		if !ok {
			i = len(list)
			index[row.Remote] = i
			list = append(list, perRemote{remote: row.Remote})
		}
		list[i].add(row)
		if len(list[i].ports) < 4 && !slices.Contains(list[i].ports, row.RemotePort) {
			list[i].ports = append(list[i].ports, row.RemotePort)
		}
		total.add(row)
	}
	slices.SortFunc(list, func(a, b perRemote) int {
		return cmp.Or(cmp.Compare(b.packets, a.packets), cmp.Compare(b.bytes, a.bytes), a.remote.Compare(b.remote))
	})
	return list, total
}

// renderSummary is packets/s and Mbit/s by external address, and the findings
// with everything needed to compute them again.
func renderSummary(p proof) string {
	var b strings.Builder
	list, total := byRemote(p.Rows)
	fmt.Fprintf(&b, "Traffic sent by %s, by external address\n\n", p.source())
	p.preamble(&b)
	fmt.Fprintf(&b, "Rates are averages between first and last seen, over %d s at least.\n\n", flow.WindowSeconds)
	if total.rows > 0 {
		fmt.Fprintf(&b, "Total: %d external addresses, %.1f packets/s, %.3f Mbit/s, %.0f packets, %.0f bytes\n\n",
			len(list), total.packets/total.seconds(), total.bytes*8/total.seconds()/1e6, total.packets, total.bytes)
		width := len("external_ip")
		for _, r := range list {
			width = max(width, len(r.remote.String()))
		}
		fmt.Fprintf(&b, "%-*s %12s %10s %12s %14s %7s  %-19s  %-19s  %s\n", width,
			"external_ip", "packets/s", "Mbit/s", "packets", "bytes", "rows", "first_seen (UTC)", "last_seen (UTC)", "ports")
		for _, r := range list {
			fmt.Fprintf(&b, "%-*s %12.1f %10.3f %12.0f %14.0f %7d  %s  %s  %s\n", width,
				r.remote, r.packets/r.seconds(), r.bytes*8/r.seconds()/1e6, r.packets, r.bytes, r.rows,
				utc(r.first, time.DateTime), utc(r.last, time.DateTime), portList(r.ports))
		}
		b.WriteByte('\n')
	}
	b.WriteString("Findings:\n")
	for _, f := range p.Incident.Findings {
		fmt.Fprintf(&b, "- %s (tier %s, rule version %d, configuration %s), %s to %s, window %d s: %s\n", f.Rule, f.Tier,
			f.RuleVersion, f.ConfigHash, stamp(f.From), stamp(f.To), f.WindowS, f.Reason)
		fmt.Fprintf(&b, "  protocol %s", protoName(f.IPProto))
		if f.Port != 0 {
			fmt.Fprintf(&b, ", port %d", f.Port)
		}
		if f.Remote.IsValid() {
			fmt.Fprintf(&b, ", remote %s", f.Remote)
		}
		fmt.Fprintf(&b, ", samples %d, distinct %d, sampling 1:%.0f, score %.2f, threshold %.2f, estimated %.1f/s\n",
			f.Samples, f.Distinct, f.SamplingRate, f.Score, f.Threshold, f.EstRate)
	}
	return b.String()
}

func portList(ports []uint16) string {
	slices.Sort(ports)
	s := make([]string, 0, len(ports))
	for i, p := range ports {
		if i == 3 {
			return strings.Join(append(s, "..."), ",")
		}
		s = append(s, strconv.Itoa(int(p)))
	}
	return strings.Join(s, ",")
}
