package decode_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// nfdumpGolden reads what nfcapd or sfcapd 1.7.1 stored. It has no "absent":
// that is 0 there. sfcapd multiplies by the sampling rate.
func nfdumpGolden(t *testing.T, path string, c *corpusCase) *golden {
	sflow := strings.HasPrefix(filepath.Base(path), "sfcapd")
	g := &golden{kind: "nfdump"}
	for _, row := range nfdump(t, path) {
		x := fromNfdump(t, row)
		r := goldenRow{
			"src": x.src, "dst": x.dst, "proto": fmt.Sprint(x.proto), "packets": fmt.Sprint(x.packets), "bytes": fmt.Sprint(x.bytes),
			"sport": fmt.Sprint(x.sport), "dport": fmt.Sprint(x.dport), "icmp": "-",
			"in": row["in"], "out": row["out"], "flags": bits(row["flg"]), "vlan": row["svln"], "mac": row["ismc"],
			"start": row["ts"], "end": row["te"], "duration": row["td"],
		}
		if isICMP(r["proto"]) {
			r["icmp"], r["sport"], r["dport"] = fmt.Sprintf("%d.%d", x.dport>>8, x.dport&255), "0", "0"
		}
		if r["start"] == never {
			r["start"] = "-"
		}
		if r["end"] == never {
			r["end"] = "-"
		}
		if sflow { // the time of receipt, by a clock of its own
			delete(r, "start")
			delete(r, "end")
		}
		g.rows = append(g.rows, r)
	}
	g.render = func(r *flow.Record) goldenRow {
		row := renderRecord(r)
		for _, k := range []string{"src", "dst"} {
			if row[k] == "-" {
				row[k] = "0.0.0.0"
			}
		}
		if row["flags"] == "-" {
			row["flags"] = "00000000"
		}
		if isICMP(row["proto"]) && row["icmp"] == "-" {
			row["icmp"] = "0.0"
		}
		if sflow {
			row["packets"] = fmt.Sprint(r.Packets * uint64(max(r.SamplingRate, 1)))
			row["bytes"] = fmt.Sprint(r.Bytes * uint64(max(r.SamplingRate, 1)))
		}
		row["vlan"] = fmt.Sprint(r.VLAN)
		row["mac"] = mac(r.SrcMAC)
		row["start"], row["end"] = time.Unix(0, r.Start).UTC().Format(time.DateTime), time.Unix(0, r.End).UTC().Format(time.DateTime)
		if r.Has&flow.HasTimes == 0 {
			row["start"], row["end"] = "-", "-"
		}
		row["duration"] = fmt.Sprintf("%.3f", time.Duration(r.End/1e6*1e6-r.Start/1e6*1e6).Seconds())
		return row
	}
	return g
}

// never is nfdump's time where there is none.
const never = "1970-01-01 00:00:00"

func mac(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// telegrafGolden reads InfluxDB lines.
func telegrafGolden(t *testing.T, path string) *golden {
	g := &golden{kind: "telegraf"}
	lines(t, path, func(line string) {
		m := unquote(line)
		if m["src"] == "" && m["in_packets"] == "" || strings.HasPrefix(line, "netflow_options") {
			return
		}
		r := goldenRow{"src": cmp.Or(m["src"], "-"), "dst": cmp.Or(m["dst"], "-")}
		set := func(k string, from ...string) {
			for _, f := range from {
				if v := m[f]; v != "" {
					n, err := strconv.ParseUint(v, 0, 64)
					if err != nil {
						t.Fatal(err)
					}
					r[k] = fmt.Sprint(n)
					return
				}
			}
		}
		set("sport", "src_port")
		set("dport", "dst_port")
		set("in", "in_snmp")
		set("out", "out_snmp")
		set("vlan", "vlan_src")
		set("start", "flow_start_ms")
		set("end", "flow_end_ms")
		r["proto"] = fmt.Sprint(protocolNumber(t, cmp.Or(m["protocol"], "0")))
		if f := m["tcp_flags"]; f != "" && r["proto"] == "6" {
			r["flags"] = bits(f)
		}
		if m["in_src_mac"] != "" {
			r["mac"] = m["in_src_mac"]
		}
		if strings.Contains(line, "version=sFlowV5") { // in_total_packets is the sample pool there
			r["packets"] = "1"
			set("bytes", "ipv4_total_len")
			set("ttl", "ttl", "ipv4_ttl")
		} else {
			set("packets", "in_packets", "in_total_packets")
			set("bytes", "in_bytes", "in_total_bytes")
		}
		if isICMP(r["proto"]) {
			delete(r, "sport")
			delete(r, "dport")
		}
		g.rows = append(g.rows, r)
	})
	g.render = func(r *flow.Record) goldenRow {
		row := renderRecord(r)
		row["vlan"], row["mac"], row["ttl"] = fmt.Sprint(r.VLAN), mac(r.SrcMAC), fmt.Sprint(r.TTL)
		row["start"], row["end"] = fmt.Sprint(r.Start/1e6), fmt.Sprint(r.End/1e6)
		return row
	}
	return g
}

// pmacctGolden reads pmacct's JSON. It adds up what has one key.
func pmacctGolden(t *testing.T, path string) *golden {
	g := &golden{kind: "pmacct"}
	flagBits := map[string]uint8{"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}
	lines(t, path, func(s string) {
		var l struct {
			Src     string   `json:"ip_src"`
			Dst     string   `json:"ip_dst"`
			SPort   uint16   `json:"port_src"`
			DPort   uint16   `json:"port_dst"`
			Proto   string   `json:"ip_proto"`
			Flags   []string `json:"tcp_flags"`
			Packets uint64   `json:"packets"`
			Bytes   uint64   `json:"bytes"`
			In      uint32   `json:"iface_in"`
			Out     uint32   `json:"iface_out"`
			Start   string   `json:"timestamp_start"`
			End     string   `json:"timestamp_end"`
		}
		if err := json.Unmarshal([]byte(s), &l); err != nil {
			t.Fatal(err)
		}
		r := goldenRow{
			"src": pmacctAddr(l.Src), "dst": pmacctAddr(l.Dst), "proto": fmt.Sprint(protocolNumber(t, l.Proto)),
			"sport": fmt.Sprint(l.SPort), "dport": fmt.Sprint(l.DPort), "in": fmt.Sprint(l.In), "out": fmt.Sprint(l.Out),
			"packets": fmt.Sprint(l.Packets), "bytes": fmt.Sprint(l.Bytes),
		}
		if isICMP(r["proto"]) {
			r["sport"], r["dport"] = "0", "0"
		}
		var flags uint8
		for _, f := range l.Flags {
			flags |= flagBits[f]
		}
		if r["proto"] == "6" {
			r["flags"] = fmt.Sprintf("%08b", flags)
		}
		if l.Start != "" {
			r["start"], r["end"] = l.Start, l.End
		}
		g.rows = append(g.rows, r)
	})
	g.render = func(r *flow.Record) goldenRow {
		row := renderRecord(r)
		up := int64(0)
		if r.Protocol == flow.NetFlow9 { // whole seconds of uptime are taken off the header's clock
			up = 1e9 - 1
		}
		row["start"], row["end"] = fmt.Sprintf("%d.000000", (r.Start+up)/1e9), fmt.Sprintf("%d.000000", (r.End+up)/1e9)
		return row
	}
	fold := func(rows []goldenRow) []goldenRow { return foldRows(t, rows) }
	g.rows, g.fold = fold(g.rows), fold
	return g
}

func pmacctAddr(s string) string {
	if s == "" {
		return "-"
	}
	return netip.MustParseAddr(s).Unmap().String()
}

// foldRows adds up packets and bytes of rows that are equal otherwise.
func foldRows(t *testing.T, rows []goldenRow) []goldenRow {
	var out []goldenRow
	at := map[string]goldenRow{}
	for _, r := range rows {
		k := fmt.Sprint(r["src"], r["dst"], r["sport"], r["dport"], r["proto"], r["in"], r["out"], r["flags"], r["start"], r["end"])
		if x := at[k]; x != nil {
			x["packets"] = fmt.Sprint(num(t, x["packets"]) + num(t, r["packets"]))
			x["bytes"] = fmt.Sprint(num(t, x["bytes"]) + num(t, r["bytes"]))
			continue
		}
		at[k] = r
		out = append(out, r)
	}
	return out
}
