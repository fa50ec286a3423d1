package bundle

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// row is a flow row as the files have it. The pointers are left out for
// outsiders: where our routers' cables lead proves nothing.
type row struct {
	Time       string  `json:"time"`
	Start      string  `json:"start"`
	End        string  `json:"end"`
	Exporter   string  `json:"exporter"`
	Host       string  `json:"host"`
	HostPort   uint16  `json:"host_port"`
	Remote     string  `json:"remote"`
	RemotePort uint16  `json:"remote_port"`
	SvcPort    uint16  `json:"svc_port"`
	Dir        string  `json:"dir"`
	IPProto    uint8   `json:"ip_proto"`
	Class      string  `json:"class"`
	TCPFlags   uint8   `json:"tcp_flags"`
	ICMPType   uint8   `json:"icmp_type"`
	ICMPCode   uint8   `json:"icmp_code"`
	Packets    uint64  `json:"packets"`
	Bytes      uint64  `json:"bytes"`
	IPLen      uint16  `json:"ip_len"`
	TTL        uint8   `json:"ttl"`
	Rate       uint32  `json:"sampling_rate"`
	Bogon      bool    `json:"bogon"`
	Spoofed    bool    `json:"spoofed"`
	InIf       *uint32 `json:"in_if,omitempty"`
	OutIf      *uint32 `json:"out_if,omitempty"`
	VLAN       *uint16 `json:"vlan,omitempty"`
}

func rowOf(r flow.FlowRow, names map[netip.Addr]string, staff bool) row {
	dir := "in"
	if r.Dir == flow.Out {
		dir = "out"
	}
	out := row{
		Time: nanos(r.Time), Start: nanos(r.Start), End: nanos(r.End), Exporter: names[r.Exporter], Host: r.Host.String(), HostPort: r.HostPort,
		Remote: r.Remote.String(), RemotePort: r.RemotePort, SvcPort: r.SvcPort, Dir: dir, IPProto: r.IPProto, Class: r.Class.String(),
		TCPFlags: r.TCPFlags, ICMPType: r.ICMPType, ICMPCode: r.ICMPCode, Packets: r.Packets, Bytes: r.Bytes, IPLen: r.IPLen, TTL: r.TTL,
		Rate: r.Rate, Bogon: r.Bogon, Spoofed: r.Spoofed,
	}
	if staff {
		out.InIf, out.OutIf, out.VLAN = &r.InIf, &r.OutIf, &r.VLAN
	}
	return out
}

func nanos(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z") }

var columns = []string{
	"time", "start", "end", "exporter", "host", "host_port", "remote", "remote_port", "svc_port", "dir", "ip_proto", "class",
	"tcp_flags", "icmp_type", "icmp_code", "packets", "bytes", "ip_len", "ttl", "sampling_rate", "bogon", "spoofed",
}

func (r row) fields() []string {
	u := func(n uint64) string { return strconv.FormatUint(n, 10) }
	f := []string{
		r.Time, r.Start, r.End, r.Exporter, r.Host, u(uint64(r.HostPort)), r.Remote, u(uint64(r.RemotePort)), u(uint64(r.SvcPort)), r.Dir,
		u(uint64(r.IPProto)), r.Class, u(uint64(r.TCPFlags)), u(uint64(r.ICMPType)), u(uint64(r.ICMPCode)), u(r.Packets), u(r.Bytes),
		u(uint64(r.IPLen)), u(uint64(r.TTL)), u(uint64(r.Rate)), strconv.FormatBool(r.Bogon), strconv.FormatBool(r.Spoofed),
	}
	if r.InIf != nil {
		f = append(f, u(uint64(*r.InIf)), u(uint64(*r.OutIf)), u(uint64(*r.VLAN)))
	}
	return f
}

// flowParts are the rows as CSV (RFC 4180) and as JSON lines.
func flowParts(in Input, names map[netip.Addr]string) ([]Part, error) {
	staff := in.For == Staff
	var text, lines bytes.Buffer
	w := csv.NewWriter(&text)
	w.UseCRLF = true
	head := columns
	if staff {
		head = append(append([]string{}, columns...), "in_if", "out_if", "vlan")
	}
	if err := w.Write(head); err != nil {
		return nil, fmt.Errorf("write flows.csv: %w", err)
	}
	enc := json.NewEncoder(&lines)
	for _, r := range in.Flows {
		v := rowOf(r, names, staff)
		if err := w.Write(v.fields()); err != nil {
			return nil, fmt.Errorf("write flows.csv: %w", err)
		}
		if err := enc.Encode(v); err != nil {
			return nil, fmt.Errorf("write flows.jsonl: %w", err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return nil, fmt.Errorf("write flows.csv: %w", err)
	}
	return []Part{{"flows.csv", "text/csv; charset=utf-8; header=present", text.Bytes()}, {"flows.jsonl", "application/jsonl", lines.Bytes()}}, nil
}
