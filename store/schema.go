package store

import (
	"net/netip"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

// table describes a table that batches go to. Its columns in ClickHouse are
// those of cols and, last, batch.
type table[T any] struct {
	id   byte // in the spool; never reused
	name string
	cols []column[T]
	// at is the row's event time in seconds as ClickHouse has it, and time the
	// column. Rows of different slots of slotSeconds are in different partitions.
	at          func(*T) int64
	time        string
	slotSeconds int64
}

// insertSQL names every column.
func (t *table[T]) insertSQL() string {
	names := make([]string, 0, len(t.cols)+1)
	for _, c := range t.cols {
		names = append(names, c.name)
	}
	return "INSERT INTO " + t.name + " (" + strings.Join(append(names, "batch"), ", ") + ")"
}

// clampSeconds keeps times to what a DateTime can hold, 1970 to 2106. Only a
// broken clock makes a difference; but wherever ClickHouse would put such a row,
// repair has to find it again.
func clampSeconds(s int64) int64 { return min(max(s, 0), 1<<32-1) }

// clampNanos is clampSeconds for nanoseconds.
func clampNanos(ns int64) int64 { return min(max(ns, 0), (1<<32-1)*1e9) }

var hostTable = table[flow.HostWindow]{
	id: 1, name: "host_window", time: "start", slotSeconds: 86400,
	at: func(r *flow.HostWindow) int64 { return clampSeconds(r.Start) },
	cols: join(
		keyCols(func(r *flow.HostWindow) *flow.Key { return &r.Key }),
		countCols(func(r *flow.HostWindow) *flow.Counts { return &r.Counts }),
		classCols(func(r *flow.HostWindow) *flow.Classes { return &r.Classes }),
		[]column[flow.HostWindow]{
			uintCol[uint64]("udp_out_packets", func(r *flow.HostWindow) *uint64 { return &r.UDPOutPackets }),
			uintCol[uint64]("icmp_out_packets", func(r *flow.HostWindow) *uint64 { return &r.ICMPOutPackets }),
			uintCol[uint64]("icmp_err_out", func(r *flow.HostWindow) *uint64 { return &r.ICMPErrOut }),
			uintCol[uint64]("bogon_out", func(r *flow.HostWindow) *uint64 { return &r.BogonOut }),
			uintCol[uint64]("spoof_out", func(r *flow.HostWindow) *uint64 { return &r.SpoofOut }),
		}),
}

var serviceTable = table[flow.ServiceWindow]{
	id: 2, name: "service_window", time: "start", slotSeconds: 86400,
	at: func(r *flow.ServiceWindow) int64 { return clampSeconds(r.Start) },
	cols: join(
		keyCols(func(r *flow.ServiceWindow) *flow.Key { return &r.Key }),
		[]column[flow.ServiceWindow]{
			uintCol[uint8]("ip_proto", func(r *flow.ServiceWindow) *uint8 { return &r.IPProto }),
			uintCol[uint8]("role", func(r *flow.ServiceWindow) *flow.Role { return &r.Role }),
			uintCol[uint16]("svc_port", func(r *flow.ServiceWindow) *uint16 { return &r.SvcPort }),
		},
		countCols(func(r *flow.ServiceWindow) *flow.Counts { return &r.Counts }),
		classCols(func(r *flow.ServiceWindow) *flow.Classes { return &r.Classes }),
		[]column[flow.ServiceWindow]{
			uintCol[uint64]("attempts", func(r *flow.ServiceWindow) *uint64 { return &r.Attempts }),
			arrayCol("remotes", func(r *flow.ServiceWindow) *[]uint64 { return &r.Remotes }),
		}),
}

var pairTable = table[flow.PairWindow]{
	id: 3, name: "pair_window", time: "start", slotSeconds: 86400,
	at: func(r *flow.PairWindow) int64 { return clampSeconds(r.Start) },
	cols: join(
		keyCols(func(r *flow.PairWindow) *flow.Key { return &r.Key }),
		[]column[flow.PairWindow]{
			addrCol("remote", func(r *flow.PairWindow) *netip.Addr { return &r.Remote }),
			uintCol[uint8]("ip_proto", func(r *flow.PairWindow) *uint8 { return &r.IPProto }),
		},
		countCols(func(r *flow.PairWindow) *flow.Counts { return &r.Counts }),
		classCols(func(r *flow.PairWindow) *flow.Classes { return &r.Classes }),
		[]column[flow.PairWindow]{
			uintCol[uint64]("syn_packets", func(r *flow.PairWindow) *uint64 { return &r.SYNPackets }),
			uintCol[uint64]("est_out_packets", func(r *flow.PairWindow) *uint64 { return &r.EstOutPackets }),
			uintCol[uint64]("rst_in_packets", func(r *flow.PairWindow) *uint64 { return &r.RSTInPackets }),
			arrayCol("ports", func(r *flow.PairWindow) *[]uint16 { return &r.Ports }),
		}),
}

var flowTable = table[flow.FlowRow]{
	id: 4, name: "flows", time: "toDateTime(time)", slotSeconds: 6 * 3600,
	at: func(r *flow.FlowRow) int64 { return clampNanos(r.Time) / 1e9 },
	cols: []column[flow.FlowRow]{
		nanosCol("time", func(r *flow.FlowRow) *int64 { return &r.Time }),
		nanosCol("start", func(r *flow.FlowRow) *int64 { return &r.Start }),
		nanosCol("end", func(r *flow.FlowRow) *int64 { return &r.End }),
		addrCol("exporter", func(r *flow.FlowRow) *netip.Addr { return &r.Exporter }),
		addrCol("tenant", func(r *flow.FlowRow) *netip.Addr { return &r.Tenant }),
		addrCol("host", func(r *flow.FlowRow) *netip.Addr { return &r.Host }),
		addrCol("remote", func(r *flow.FlowRow) *netip.Addr { return &r.Remote }),
		uintCol[uint16]("host_port", func(r *flow.FlowRow) *uint16 { return &r.HostPort }),
		uintCol[uint16]("remote_port", func(r *flow.FlowRow) *uint16 { return &r.RemotePort }),
		uintCol[uint16]("svc_port", func(r *flow.FlowRow) *uint16 { return &r.SvcPort }),
		uintCol[uint8]("dir", func(r *flow.FlowRow) *flow.Direction { return &r.Dir }),
		uintCol[uint8]("ip_proto", func(r *flow.FlowRow) *uint8 { return &r.IPProto }),
		uintCol[uint8]("role", func(r *flow.FlowRow) *flow.Role { return &r.Role }),
		uintCol[uint8]("class", func(r *flow.FlowRow) *flow.Class { return &r.Class }),
		uintCol[uint8]("tcp_flags", func(r *flow.FlowRow) *uint8 { return &r.TCPFlags }),
		uintCol[uint8]("icmp_type", func(r *flow.FlowRow) *uint8 { return &r.ICMPType }),
		uintCol[uint8]("icmp_code", func(r *flow.FlowRow) *uint8 { return &r.ICMPCode }),
		uintCol[uint64]("packets", func(r *flow.FlowRow) *uint64 { return &r.Packets }),
		uintCol[uint64]("bytes", func(r *flow.FlowRow) *uint64 { return &r.Bytes }),
		uintCol[uint16]("ip_len", func(r *flow.FlowRow) *uint16 { return &r.IPLen }),
		uintCol[uint8]("ttl", func(r *flow.FlowRow) *uint8 { return &r.TTL }),
		uintCol[uint32]("rate", func(r *flow.FlowRow) *uint32 { return &r.Rate }),
		uintCol[uint32]("in_if", func(r *flow.FlowRow) *uint32 { return &r.InIf }),
		uintCol[uint32]("out_if", func(r *flow.FlowRow) *uint32 { return &r.OutIf }),
		macCol("src_mac", func(r *flow.FlowRow) *[6]byte { return &r.SrcMAC }),
		uintCol[uint16]("vlan", func(r *flow.FlowRow) *uint16 { return &r.VLAN }),
		boolCol("bogon", func(r *flow.FlowRow) *bool { return &r.Bogon }),
		boolCol("spoofed", func(r *flow.FlowRow) *bool { return &r.Spoofed }),
	},
}

func keyCols[T any](key func(*T) *flow.Key) []column[T] {
	return []column[T]{
		secondsCol("start", func(r *T) *int64 { return &key(r).Start }),
		addrCol("tenant", func(r *T) *netip.Addr { return &key(r).Tenant }),
		uintCol[uint32]("rate", func(r *T) *uint32 { return &key(r).Rate }),
	}
}

func countCols[T any](f func(*T) *flow.Counts) []column[T] {
	return []column[T]{
		uintCol[uint64]("out_records", func(r *T) *uint64 { return &f(r).OutRecords }),
		uintCol[uint64]("in_records", func(r *T) *uint64 { return &f(r).InRecords }),
		uintCol[uint64]("out_packets", func(r *T) *uint64 { return &f(r).OutPackets }),
		uintCol[uint64]("in_packets", func(r *T) *uint64 { return &f(r).InPackets }),
		uintCol[uint64]("out_bytes", func(r *T) *uint64 { return &f(r).OutBytes }),
		uintCol[uint64]("in_bytes", func(r *T) *uint64 { return &f(r).InBytes }),
	}
}

func classCols[T any](f func(*T) *flow.Classes) []column[T] {
	return []column[T]{
		uintCol[uint64]("syn_out", func(r *T) *uint64 { return &f(r).SYNOut }),
		uintCol[uint64]("est_out", func(r *T) *uint64 { return &f(r).EstOut }),
		uintCol[uint64]("synack_out", func(r *T) *uint64 { return &f(r).SYNACKOut }),
		uintCol[uint64]("rst_out", func(r *T) *uint64 { return &f(r).RSTOut }),
		uintCol[uint64]("syn_in", func(r *T) *uint64 { return &f(r).SYNIn }),
		uintCol[uint64]("est_in", func(r *T) *uint64 { return &f(r).EstIn }),
		uintCol[uint64]("synack_in", func(r *T) *uint64 { return &f(r).SYNACKIn }),
		uintCol[uint64]("rst_in", func(r *T) *uint64 { return &f(r).RSTIn }),
		uintCol[uint64]("raw_syn", func(r *T) *uint64 { return &f(r).RawSYN }),
		uintCol[uint64]("no_flags", func(r *T) *uint64 { return &f(r).NoFlags }),
	}
}

func join[T any](parts ...[]column[T]) []column[T] {
	var all []column[T]
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
