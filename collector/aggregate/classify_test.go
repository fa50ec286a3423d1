package aggregate

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	fin, syn, rst, psh, ack, ece, cwr = flow.FIN, flow.SYN, flow.RST, flow.PSH, flow.ACK, flow.ECE, flow.CWR
	client, server, unknown           = flow.RoleClient, flow.RoleServer, flow.RoleUnknown
)

func tcp(p flow.Protocol, src, dst uint16, packets, bytes uint64, flags uint8) *flow.Record {
	return &flow.Record{
		Protocol: p, IPProto: flow.ProtoTCP, SrcPort: src, DstPort: dst, Packets: packets, Bytes: bytes, TCPFlags: flags,
		Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("9.9.9.9"),
		Has: flow.HasPorts | flow.HasTCPFlags | flow.HasIPProto,
	}
}

func TestClassifyTCP(t *testing.T) {
	type want struct {
		Class           flow.Class
		Sender          flow.Role
		Svc             uint16
		Answered, Reset bool
		SYN             uint64
		Attempt         bool
	}
	sflow, nf := flow.SFlow5, flow.NetFlow9
	for _, c := range []struct {
		name string
		rec  *flow.Record
		want want
	}{
		// Packet samples: the flags are one packet's.
		{"sample syn", tcp(sflow, 40000, 22, 1, 60, syn), want{flow.ClassSYN, client, 22, false, false, 1, true}},
		{"sample syn, ecn setup", tcp(sflow, 40000, 22, 1, 60, syn|ece|cwr), want{flow.ClassSYN, client, 22, false, false, 1, true}},
		{"sample syn from a low port to a high one", tcp(sflow, 22, 40000, 1, 60, syn), want{flow.ClassSYN, client, 40000, false, false, 1, true}},
		{"sample synack", tcp(sflow, 22, 40000, 1, 60, syn|ack), want{flow.ClassSYNACK, server, 22, false, false, 0, false}},
		{"sample synack of a victim on a high port", tcp(sflow, 50000, 80, 1, 60, syn|ack), want{flow.ClassSYNACK, server, 50000, false, false, 0, false}},
		{"sample rst", tcp(sflow, 22, 40000, 1, 40, rst), want{flow.ClassRST, server, 22, false, false, 0, false}},
		{"sample rst ack", tcp(sflow, 22, 40000, 1, 40, rst|ack), want{flow.ClassRST, server, 22, false, false, 0, false}},
		{"sample syn rst", tcp(sflow, 40000, 22, 1, 40, syn|rst), want{flow.ClassRST, client, 22, false, false, 0, false}},
		{"sample ack", tcp(sflow, 40000, 443, 1, 52, ack), want{flow.ClassEst, client, 443, false, false, 0, false}},
		{"sample fin ack", tcp(sflow, 443, 40000, 1, 52, fin|ack), want{flow.ClassEst, server, 443, false, false, 0, false}},
		{"sample fin alone", tcp(sflow, 40000, 443, 1, 40, fin), want{flow.ClassOther, client, 443, false, false, 0, false}},
		{"sample xmas", tcp(sflow, 40000, 443, 1, 40, fin|psh|flow.URG), want{flow.ClassOther, client, 443, false, false, 0, false}},
		{"sample syn fin", tcp(sflow, 40000, 443, 1, 40, syn|fin), want{flow.ClassOther, client, 443, false, false, 0, false}},
		{"sample without flags", tcp(sflow, 40000, 443, 1, 40, 0), want{flow.ClassNoFlags, client, 443, false, false, 0, false}},

		// Flow records of one packet are as exact.
		{"flow of one synack", tcp(nf, 50000, 80, 1, 60, syn|ack), want{flow.ClassSYNACK, server, 50000, false, false, 0, false}},
		{"flow of one rst ack with push", tcp(nf, 22, 40000, 1, 40, rst|ack|psh), want{flow.ClassRST, server, 22, false, false, 0, false}},

		// Flow records of several packets carry the OR.
		{"flow of retried syns", tcp(nf, 40000, 22, 3, 180, syn), want{flow.ClassSYN, client, 22, false, false, 3, true}},
		{"flow half-open: syn then the kernel's rst", tcp(nf, 40000, 22, 2, 84, syn|rst), want{flow.ClassSYN, client, 22, false, true, 1, true}},
		{"flow half-open, five times", tcp(nf, 40000, 22, 10, 420, syn|rst), want{flow.ClassSYN, client, 22, false, true, 5, true}},
		{"flow syn rst with data is no attempt", tcp(nf, 40000, 22, 3, 420, syn|rst|psh), want{flow.ClassRST, client, 22, false, false, 0, false}},
		{"flow of repeated synacks: flooded server", tcp(nf, 80, 40000, 6, 360, syn|ack), want{flow.ClassSYNACK, server, 80, false, false, 0, false}},
		{"flow of repeated synacks, largest size", tcp(nf, 80, 40000, 6, 600, syn|ack), want{flow.ClassSYNACK, server, 80, false, false, 0, false}},
		{"flow syn ack from the server, just larger: conversation", tcp(nf, 80, 40000, 6, 606, syn|ack), want{flow.ClassEst, server, 80, true, false, 0, false}},
		{"flow syn ack from the client: conversation", tcp(nf, 40000, 80, 2, 112, syn|ack), want{flow.ClassEst, client, 80, false, false, 0, false}},
		{"flow syn ack, equal ports: conversation", tcp(nf, 6000, 6000, 2, 112, syn|ack), want{flow.ClassEst, unknown, 6000, false, false, 0, false}},
		{"flow whole conversation from the client", tcp(nf, 40000, 443, 12, 1800, syn|ack|psh|fin), want{flow.ClassEst, client, 443, false, false, 0, false}},
		{"flow whole conversation from the server", tcp(nf, 443, 40000, 12, 18000, syn|ack|psh|fin), want{flow.ClassEst, server, 443, true, false, 0, false}},
		{"flow connect scan of an open port: syn, ack, rst", tcp(nf, 40000, 22, 3, 160, syn|ack|rst), want{flow.ClassEst, client, 22, false, false, 0, false}},
		{"flow server accepts, then resets", tcp(nf, 22, 40000, 2, 100, syn|ack|rst), want{flow.ClassEst, server, 22, true, false, 0, false}},
		{"flow later piece", tcp(nf, 40000, 443, 5, 7000, ack|psh), want{flow.ClassEst, client, 443, false, false, 0, false}},
		{"flow last piece, reset", tcp(nf, 40000, 443, 5, 7000, ack|psh|rst), want{flow.ClassEst, client, 443, false, true, 0, false}},
		{"flow of refusals", tcp(nf, 22, 40000, 4, 160, rst|ack), want{flow.ClassRST, server, 22, false, false, 0, false}},
		{"flow of bare resets", tcp(nf, 22, 40000, 4, 160, rst), want{flow.ClassRST, server, 22, false, false, 0, false}},
		{"flow of fins", tcp(nf, 40000, 22, 4, 160, fin), want{flow.ClassOther, client, 22, false, false, 0, false}},
		{"flow of syn fin", tcp(nf, 40000, 22, 4, 160, syn|fin), want{flow.ClassOther, client, 22, false, false, 0, false}},
		{"flow without flags", tcp(nf, 40000, 443, 12, 18000, 0), want{flow.ClassNoFlags, client, 443, false, false, 0, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k kind
			k.classify(c.rec)
			it := Item{packets: c.rec.Packets, set: k.set}
			got := want{k.class, k.sender, k.svc, k.set&itemAnswered != 0, k.set&itemReset != 0, it.synPackets(), k.isAttempt()}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestClassifyOthers(t *testing.T) {
	type want struct {
		Class   flow.Class
		Sender  flow.Role
		Svc     uint16
		Attempt bool
	}
	udp := func(src, dst uint16) *flow.Record {
		return &flow.Record{IPProto: flow.ProtoUDP, SrcPort: src, DstPort: dst, Packets: 1, Has: flow.HasPorts}
	}
	icmp := func(proto, typ uint8) *flow.Record {
		return &flow.Record{IPProto: proto, ICMPType: typ, Packets: 1, Has: flow.HasICMP}
	}
	with := func(r *flow.Record, set, clear flow.Has) *flow.Record { r.Has = r.Has&^clear | set; return r }
	for _, c := range []struct {
		name string
		rec  *flow.Record
		want want
	}{
		{"udp query", udp(40000, 53), want{flow.ClassUDP, client, 53, true}},
		{"udp answer", udp(53, 40000), want{flow.ClassUDP, server, 53, false}},
		{"udp to a known high port", udp(5000, 51820), want{flow.ClassUDP, client, 51820, true}},
		{"udp both unknown: lower is the service", udp(2000, 50001), want{flow.ClassUDP, server, 2000, false}},
		{"udp both known: lower is the service", udp(1900, 53), want{flow.ClassUDP, client, 53, true}},
		{"udp equal ports: open", udp(123, 123), want{flow.ClassUDP, unknown, 123, false}},
		{"udp bittorrent's own port", udp(6881, 23456), want{flow.ClassUDP, server, 6881, false}},
		{"udp fragment", with(udp(0, 0), flow.HasFragment, 0), want{flow.ClassUDP, unknown, 0, false}},
		{"udp fragment with invented ports", with(udp(40000, 53), flow.HasFragment, 0), want{flow.ClassUDP, unknown, 0, false}},
		{"udp without ports", with(udp(0, 0), 0, flow.HasPorts), want{flow.ClassUDP, unknown, 0, false}},
		{"tcp fragment", with(tcp(flow.SFlow5, 0, 0, 1, 1500, 0), flow.HasFragment, flow.HasTCPFlags|flow.HasPorts), want{flow.ClassOther, unknown, 0, false}},
		{"tcp, flags not exported", with(tcp(flow.NetFlow9, 40000, 22, 1, 60, 0), 0, flow.HasTCPFlags), want{flow.ClassNoFlags, client, 22, false}},
		{"tcp syn without ports", with(tcp(flow.SFlow5, 7, 9, 1, 60, syn), 0, flow.HasPorts), want{flow.ClassSYN, client, 0, true}},
		{"echo request", icmp(1, 8), want{flow.ClassEcho, client, 0, true}},
		{"echo reply", icmp(1, 0), want{flow.ClassOther, server, 0, false}},
		{"unreachable", icmp(1, 3), want{flow.ClassICMPErr, unknown, 0, false}},
		{"quench", icmp(1, 4), want{flow.ClassICMPErr, unknown, 0, false}},
		{"redirect", icmp(1, 5), want{flow.ClassICMPErr, unknown, 0, false}},
		{"time exceeded", icmp(1, 11), want{flow.ClassICMPErr, unknown, 0, false}},
		{"parameter problem", icmp(1, 12), want{flow.ClassICMPErr, unknown, 0, false}},
		{"timestamp", icmp(1, 13), want{flow.ClassOther, unknown, 0, false}},
		{"icmp without type", with(icmp(1, 8), 0, flow.HasICMP), want{flow.ClassOther, unknown, 0, false}},
		{"v6 echo request", icmp(58, 128), want{flow.ClassEcho, client, 0, true}},
		{"v6 echo reply", icmp(58, 129), want{flow.ClassOther, server, 0, false}},
		{"v6 unreachable", icmp(58, 1), want{flow.ClassICMPErr, unknown, 0, false}},
		{"v6 parameter problem", icmp(58, 4), want{flow.ClassICMPErr, unknown, 0, false}},
		{"v6 neighbour solicitation", icmp(58, 135), want{flow.ClassOther, unknown, 0, false}},
		{"v6 type 8 is not echo", icmp(58, 8), want{flow.ClassOther, unknown, 0, false}},
		{"gre", &flow.Record{IPProto: 47, Packets: 1}, want{flow.ClassOther, unknown, 0, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k kind
			k.classify(c.rec)
			if d := cmp.Diff(c.want, want{k.class, k.sender, k.svc, k.isAttempt()}); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestRawSYN(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		name string
		rec  flow.Record
		want bool
	}{
		{"masscan, 44 bytes", flow.Record{Src: v4, IPLen: 44, Packets: 1}, true},
		{"just above", flow.Record{Src: v4, IPLen: 45, Packets: 1}, false},
		{"v6, 64 bytes", flow.Record{Src: v6, IPLen: 64, Packets: 1}, true},
		{"v6 just above", flow.Record{Src: v6, IPLen: 65, Packets: 1}, false},
		{"ttl 129", flow.Record{Src: v4, IPLen: 60, Packets: 1, TTL: 129, Has: flow.HasTTL}, true},
		{"ttl 128", flow.Record{Src: v4, IPLen: 60, Packets: 1, TTL: 128, Has: flow.HasTTL}, false},
		{"ttl not exported", flow.Record{Src: v4, IPLen: 60, Packets: 1, TTL: 200}, false},
		{"flow record, mean 44", flow.Record{Src: v4, Packets: 3, Bytes: 132}, true},
		{"flow record, mean 60", flow.Record{Src: v4, Packets: 3, Bytes: 180}, false},
		{"no length at all", flow.Record{Src: v4, Packets: 1}, false},
		{"nothing", flow.Record{Src: v4}, false},
	} {
		if got := isRawSYN(&c.rec); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
