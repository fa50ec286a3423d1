package api

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// flowView is a flow row in the shapes of the contract: times as text, names
// for the closed sets.
type flowView struct {
	Time  time.Time `json:"time" doc:"when it counts: the record's end"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	flow.FlowRow
	Dir    string `json:"dir" enum:"out,in,unknown"`
	Role   string `json:"role" enum:"client,server,unknown"`
	Class  string `json:"class" enum:"other,syn,synack,rst,est,udp,echo,icmp_err,noflags"`
	SrcMAC string `json:"src_mac,omitempty"`
}

func flowViews(rows []flow.FlowRow) []flowView {
	out := make([]flowView, len(rows))
	for i, r := range rows {
		out[i] = flowView{Time: time.Unix(0, r.Time).UTC(), Start: time.Unix(0, r.Start).UTC(), End: time.Unix(0, r.End).UTC(),
			FlowRow: r, Dir: r.Dir.String(), Role: r.Role.String(), Class: r.Class.String()}
		if r.SrcMAC != [6]byte{} {
			out[i].SrcMAC = net.HardwareAddr(r.SrcMAC[:]).String()
		}
	}
	return out
}

type flowsBody struct {
	IP        netip.Addr `json:"ip"`
	Tenant    netip.Addr `json:"tenant"`
	From      time.Time  `json:"from"`
	To        time.Time  `json:"to"`
	Truncated bool       `json:"truncated" doc:"more rows matched than limit"`
	Flows     []flowView `json:"flows"`
}

type rowsOutput struct {
	ContentType string `header:"Content-Type"`
	Truncated   string `header:"X-Flowcordon-Truncated"`
	Body        []byte
}

func flowsResponse(reg huma.Registry) *huma.Response {
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	return &huma.Response{Description: "The rows in the form asked for.", Content: map[string]*huma.MediaType{
		"application/json":     {Schema: reg.Schema(reflect.TypeFor[flowsBody](), true, "Flows")},
		"text/csv":             text,
		"application/x-ndjson": text,
	}}
}

// rowsForm chooses how rows are written. Without a wish that can be met it is
// JSON: a browser's Accept header names types that no API has.
func rowsForm(format, accept string) (func(flowsBody) (*rowsOutput, error), error) {
	if format == "" {
		for part := range strings.SplitSeq(accept, ",") {
			mt, _, _ := strings.Cut(part, ";")
			switch strings.TrimSpace(strings.ToLower(mt)) {
			case "application/json":
				return rowsJSON, nil
			case "text/csv":
				return rowsCSV, nil
			case "application/x-ndjson", "application/jsonl":
				return rowsLines, nil
			}
		}
		return rowsJSON, nil
	}
	switch format {
	case "json":
		return rowsJSON, nil
	case "csv":
		return rowsCSV, nil
	case "jsonl":
		return rowsLines, nil
	}
	return nil, errParam("format", format, "json, csv or jsonl")
}

func rowsJSON(b flowsBody) (*rowsOutput, error) {
	out, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("write flows: %w", err)
	}
	return &rowsOutput{"application/json", strconv.FormatBool(b.Truncated), out}, nil
}

func rowsLines(b flowsBody) (*rowsOutput, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for i := range b.Flows {
		if err := enc.Encode(&b.Flows[i]); err != nil {
			return nil, fmt.Errorf("write flows: %w", err)
		}
	}
	return &rowsOutput{"application/x-ndjson", strconv.FormatBool(b.Truncated), buf.Bytes()}, nil
}

var csvHead = []string{"time", "start", "end", "exporter", "tenant", "host", "host_port", "dir", "remote", "remote_port", "svc_port", "ip_proto", "role", "class",
	"tcp_flags", "icmp_type", "icmp_code", "packets", "bytes", "ip_len", "ttl", "sampling_rate", "in_if", "out_if", "src_mac", "vlan", "bogon", "spoofed"}

func rowsCSV(b flowsBody) (*rowsOutput, error) {
	var buf bytes.Buffer
	w := csv.NewWriter(&buf)
	_ = w.Write(csvHead) // kept by the writer, and asked for below
	num := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for i := range b.Flows {
		f := &b.Flows[i]
		_ = w.Write([]string{
			f.Time.Format(time.RFC3339Nano), f.Start.Format(time.RFC3339Nano), f.End.Format(time.RFC3339Nano),
			f.Exporter.String(), f.Tenant.String(), f.Host.String(), num(uint64(f.HostPort)), f.Dir, f.Remote.String(), num(uint64(f.RemotePort)),
			num(uint64(f.SvcPort)), num(uint64(f.IPProto)), f.Role, f.Class, num(uint64(f.TCPFlags)), num(uint64(f.ICMPType)), num(uint64(f.ICMPCode)),
			num(f.Packets), num(f.Bytes), num(uint64(f.IPLen)), num(uint64(f.TTL)), num(uint64(f.Rate)), num(uint64(f.InIf)), num(uint64(f.OutIf)),
			f.SrcMAC, num(uint64(f.VLAN)), strconv.FormatBool(f.Bogon), strconv.FormatBool(f.Spoofed),
		})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return nil, fmt.Errorf("write flows: %w", err)
	}
	return &rowsOutput{"text/csv; charset=utf-8; header=present", strconv.FormatBool(b.Truncated), buf.Bytes()}, nil
}
