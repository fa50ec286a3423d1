package store

import (
	"encoding/binary"
	"reflect"
	"strings"
	"unsafe"

	"github.com/flowcordon/flowcordon/flow"
)

// table describes a table that batches go to. Its columns in ClickHouse are
// those of cols and, last, batch. The first is the event time.
type table struct {
	id    byte // in the spool; never reused
	name  string
	cols  []column
	size  uintptr // of a row in memory
	nanos bool    // the first column is a DateTime64
	// time is the event time in seconds as ClickHouse has it. Rows of different
	// slots of slotSeconds are in different partitions.
	time        string
	slotSeconds int64
	insert      string // the statement
}

// tables are those that batches go to, in the order in which they are inserted.
// What a full spool gives up first is last.
var tables = [...]*table{&hostTable, &serviceTable, &pairTable, &flowTable}

// tableIndex returns where in tables an id is, -1 if it is not known.
func tableIndex(id byte) int {
	for i, t := range tables {
		if t.id == id {
			return i
		}
	}
	return -1
}

func newTable[T any](id byte, name, time string, slotSeconds int64, fields ...[]field) table {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		panic("store: columns are copied as they lie in memory, which must be little endian")
	}
	row := reflect.TypeFor[T]()
	t := table{id: id, name: name, time: time, slotSeconds: slotSeconds, size: row.Size()}
	var names []string
	for _, l := range fields {
		for _, f := range l {
			t.cols = append(t.cols, columnOf(row, f))
			names = append(names, f.name)
		}
	}
	t.nanos = t.cols[0].typ == typeNanos
	if !t.nanos && t.cols[0].typ != typeSeconds {
		panic("store: the first column of " + name + " is not its time")
	}
	t.insert = "INSERT INTO " + name + " (" + strings.Join(append(names, "batch"), ", ") + ") FORMAT Native"
	return t
}

// rows are n rows of a table in memory, the first at p.
type rows struct {
	t *table
	p unsafe.Pointer
	n int
}

// rowsOf is for rows of the type that the table was made for.
func rowsOf[T any](t *table, l []T) rows {
	if t.size != unsafe.Sizeof(*new(T)) {
		panic("store: rows of another table than " + t.name)
	}
	return rows{t, unsafe.Pointer(unsafe.SliceData(l)), len(l)}
}

// part is r's rows from i on, at most n.
func (r rows) part(i, n int) rows {
	return rows{r.t, unsafe.Add(r.p, uintptr(i)*r.t.size), min(n, r.n-i)}
}

// clampSeconds keeps times to what a DateTime can hold, 1970 to 2106. Only a
// broken clock makes a difference; but wherever ClickHouse would put such a row,
// repair has to find it again.
func clampSeconds(s int64) int64 { return min(max(s, 0), 1<<32-1) }

// clampNanos is clampSeconds for nanoseconds.
func clampNanos(ns int64) int64 { return min(max(ns, 0), (1<<32-1)*1e9) }

var hostTable = newTable[flow.HostWindow](1, "host_window", "start", 86400,
	keyFields, countFields, classFields, []field{
		{"udp_out_packets", "UDPOutPackets", ""},
		{"icmp_out_packets", "ICMPOutPackets", ""},
		{"icmp_err_out", "ICMPErrOut", ""},
		{"bogon_out", "BogonOut", ""},
		{"spoof_out", "SpoofOut", ""},
	})

var serviceTable = newTable[flow.ServiceWindow](2, "service_window", "start", 86400,
	keyFields, []field{
		{"ip_proto", "IPProto", ""},
		{"role", "Role", ""},
		{"svc_port", "SvcPort", ""},
	}, countFields, classFields, []field{
		{"attempts", "Attempts", ""},
		{"remotes_level", "RemotesLevel", ""},
		{"remotes", "Remotes", ""},
	})

var pairTable = newTable[flow.PairWindow](3, "pair_window", "start", 86400,
	keyFields, []field{
		{"remote", "Remote", ""},
		{"ip_proto", "IPProto", ""},
	}, countFields, classFields, []field{
		{"syn_packets", "SYNPackets", ""},
		{"est_out_packets", "EstOutPackets", ""},
		{"rst_in_packets", "RSTInPackets", ""},
		{"ports", "Ports", ""},
	})

var flowTable = newTable[flow.FlowRow](4, "flows", "toDateTime(time)", 6*3600, []field{
	{"time", "Time", typeNanos},
	{"start", "Start", typeNanos},
	{"end", "End", typeNanos},
	{"exporter", "Exporter", ""},
	{"tenant", "Tenant", ""},
	{"host", "Host", ""},
	{"remote", "Remote", ""},
	{"host_port", "HostPort", ""},
	{"remote_port", "RemotePort", ""},
	{"svc_port", "SvcPort", ""},
	{"dir", "Dir", ""},
	{"ip_proto", "IPProto", ""},
	{"role", "Role", ""},
	{"class", "Class", ""},
	{"tcp_flags", "TCPFlags", ""},
	{"icmp_type", "ICMPType", ""},
	{"icmp_code", "ICMPCode", ""},
	{"packets", "Packets", ""},
	{"bytes", "Bytes", ""},
	{"ip_len", "IPLen", ""},
	{"ttl", "TTL", ""},
	{"rate", "Rate", ""},
	{"in_if", "InIf", ""},
	{"out_if", "OutIf", ""},
	{"src_mac", "SrcMAC", ""},
	{"vlan", "VLAN", ""},
	{"bogon", "Bogon", ""},
	{"spoofed", "Spoofed", ""},
})

var keyFields = []field{
	{"start", "Start", typeSeconds},
	{"tenant", "Tenant", ""},
	{"rate", "Rate", ""},
}

var countFields = []field{
	{"out_records", "OutRecords", ""},
	{"in_records", "InRecords", ""},
	{"out_packets", "OutPackets", ""},
	{"in_packets", "InPackets", ""},
	{"out_bytes", "OutBytes", ""},
	{"in_bytes", "InBytes", ""},
}

var classFields = []field{
	{"syn_out", "SYNOut", ""},
	{"est_out", "EstOut", ""},
	{"synack_out", "SYNACKOut", ""},
	{"rst_out", "RSTOut", ""},
	{"syn_in", "SYNIn", ""},
	{"est_in", "EstIn", ""},
	{"synack_in", "SYNACKIn", ""},
	{"rst_in", "RSTIn", ""},
	{"raw_syn", "RawSYN", ""},
	{"no_flags", "NoFlags", ""},
}
