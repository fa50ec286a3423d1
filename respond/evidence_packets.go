package respond

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// renderPackets is an excerpt in tcpdump's form. A sampled packet is a line as
// tcpdump writes it, with the IP length; a flow record says that it is one.
func renderPackets(p proof) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Packets of %s as routers exported them, in tcpdump's form\n", p.source())
	var pre strings.Builder
	p.preamble(&pre)
	for _, l := range strings.Split(strings.TrimSuffix(pre.String(), "\n"), "\n") {
		b.WriteString("# " + l + "\n")
	}
	rows := p.Rows
	if len(rows) > maxPacketLines {
		end := "first"
		if p.Newest {
			end, rows = "last", rows[len(rows)-maxPacketLines:]
		} else {
			rows = rows[:maxPacketLines]
		}
		fmt.Fprintf(&b, "# The %s %d of %d rows.\n", end, maxPacketLines, len(p.Rows))
	}
	b.WriteString("# length is that of the IP packet.\n")
	for _, row := range rows {
		b.WriteString(packetLine(row))
		b.WriteByte('\n')
	}
	return b.String()
}

// packetLine is one row in tcpdump's form.
func packetLine(row flow.FlowRow) string {
	src, dst, sp, dp := row.Host, row.Remote, row.HostPort, row.RemotePort
	if row.Dir == flow.In {
		src, dst, sp, dp = dst, src, dp, sp
	}
	family := "IP"
	if src.Is6() {
		family = "IP6"
	}
	at := utc(row.Time, "2006-01-02 15:04:05.000000")
	switch row.IPProto {
	case flow.ProtoTCP:
		return fmt.Sprintf("%s %s %s > %s: Flags [%s], %s", at, family, endpoint(src, sp), endpoint(dst, dp), tcpFlags(row), size(row))
	case flow.ProtoUDP:
		return fmt.Sprintf("%s %s %s > %s: UDP, %s", at, family, endpoint(src, sp), endpoint(dst, dp), size(row))
	case flow.ProtoICMP:
		return fmt.Sprintf("%s %s %s > %s: ICMP %s, %s", at, family, src, dst, icmpName(row), size(row))
	case flow.ProtoICMPv6:
		return fmt.Sprintf("%s %s %s > %s: ICMP6, %s, %s", at, family, src, dst, icmpName(row), size(row))
	}
	return fmt.Sprintf("%s %s %s > %s: ip-proto-%d, %s", at, family, src, dst, row.IPProto, size(row))
}

func endpoint(a netip.Addr, port uint16) string { return fmt.Sprintf("%s.%d", a, port) }

// size tells a sampled packet from a flow record, and says what the latter sums.
func size(row flow.FlowRow) string {
	if row.IPLen > 0 && row.Packets == 1 {
		s := fmt.Sprintf("length %d", row.IPLen)
		if row.Rate > 1 {
			s += fmt.Sprintf(" (sampled 1:%d)", row.Rate)
		}
		return s
	}
	var each uint64
	if row.Packets > 0 {
		each = row.Bytes / row.Packets
	}
	s := fmt.Sprintf("length %d (flow record: %d packets, %d bytes, %.3f s", each, row.Packets, row.Bytes,
		time.Duration(row.End-row.Start).Seconds())
	if row.Rate > 1 {
		s += fmt.Sprintf(", sampled 1:%d", row.Rate)
	}
	return s + ")"
}

// tcpFlags writes flags in tcpdump's letters and order.
func tcpFlags(row flow.FlowRow) string {
	if row.Class == flow.ClassNoFlags {
		return "?" // the export carries no flags
	}
	letters := []struct {
		bit  uint8
		name byte
	}{{flow.FIN, 'F'}, {flow.SYN, 'S'}, {flow.RST, 'R'}, {flow.PSH, 'P'}, {flow.ACK, '.'}, {flow.URG, 'U'}, {flow.ECE, 'E'}, {flow.CWR, 'W'}}
	var s []byte
	for _, l := range letters {
		if row.TCPFlags&l.bit != 0 {
			s = append(s, l.name)
		}
	}
	if len(s) == 0 {
		return "none"
	}
	return string(s)
}

// icmpName names the types that abuse is made of (RFC 792, RFC 4443 §4).
func icmpName(row flow.FlowRow) string {
	type tc struct{ proto, typ uint8 }
	switch (tc{row.IPProto, row.ICMPType}) {
	case tc{flow.ProtoICMP, 8}, tc{flow.ProtoICMPv6, 128}:
		return "echo request"
	case tc{flow.ProtoICMP, 0}, tc{flow.ProtoICMPv6, 129}:
		return "echo reply"
	}
	return fmt.Sprintf("type %d code %d", row.ICMPType, row.ICMPCode)
}
