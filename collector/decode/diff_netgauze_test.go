package decode_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// netgauzeGolden reads NetGauze's JSON, which has the data records field by field.
func netgauzeGolden(t *testing.T, path string) *golden {
	g := &golden{kind: "netgauze"}
	type message struct {
		Uptime   int64  `json:"sys_up_time"`
		UnixTime string `json:"unix_time"`
		Sets     []struct {
			Data *struct {
				Records []struct {
					Scope  []map[string]any `json:"scope_fields"`
					Fields []map[string]any `json:"fields"`
				} `json:"records"`
			} `json:"Data"`
		} `json:"sets"`
	}
	lines(t, path, func(s string) {
		var doc map[string]message
		if err := json.Unmarshal([]byte(s), &doc); err != nil {
			t.Fatal(err)
		}
		for _, m := range doc {
			for _, set := range m.Sets {
				if set.Data == nil {
					continue
				}
				for _, rec := range set.Data.Records {
					if len(rec.Scope) == 0 {
						g.rows = append(g.rows, netgauzeRow(t, rec.Fields, m.UnixTime, m.Uptime))
					}
				}
			}
		}
	})
	g.render = func(r *flow.Record) goldenRow {
		row := renderRecord(r)
		row["ttl"] = fmt.Sprint(r.TTL)
		row["vlan"] = fmt.Sprint(r.VLAN)
		row["start"], row["end"] = fmt.Sprint(r.Start), fmt.Sprint(r.End)
		return row
	}
	return g
}

func netgauzeRow(t *testing.T, list []map[string]any, unix string, uptime int64) goldenRow {
	f := map[string]any{}
	for _, x := range list {
		for k, v := range x {
			f[k] = v // of a repeated field the last
		}
	}
	n := func(k string) string { x, _ := f[k].(float64); return fmt.Sprint(uint64(x)) }
	a := func(v4, v6 string) string {
		s4, _ := f[v4].(string)
		s6, _ := f[v6].(string)
		if s4 != "" && (s4 != "0.0.0.0" || s6 == "" || s6 == "::") {
			return s4
		}
		if s6 == "" {
			return "-"
		}
		return pmacctAddr(s6)
	}
	proto, _ := f["protocolIdentifier"].(string)
	r := goldenRow{
		"src": a("sourceIPv4Address", "sourceIPv6Address"), "dst": a("destinationIPv4Address", "destinationIPv6Address"),
		"proto": fmt.Sprint(protocolNumber(t, cmp.Or(proto, "0"))), "sport": n("sourceTransportPort"), "dport": n("destinationTransportPort"),
		"packets": n("packetDeltaCount"), "bytes": n("octetDeltaCount"), "in": n("ingressInterface"), "out": n("egressInterface"), "ttl": n("minimumTTL"),
	}
	if _, ok := f["vlanId"]; ok {
		r["vlan"] = n("vlanId")
	}
	if isICMP(r["proto"]) {
		delete(r, "sport")
		delete(r, "dport")
	}
	if flags, ok := f["tcpControlBits"].(map[string]any); ok && r["proto"] == "6" {
		var b uint8
		for i, k := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
			if on, _ := flags[k].(bool); on {
				b |= 1 << i
			}
		}
		r["flags"] = fmt.Sprintf("%08b", b)
	}
	for k, name := range map[string]string{"start": "flowStart", "end": "flowEnd"} {
		for _, unit := range []string{"Seconds", "Milliseconds"} {
			if s, ok := f[name+unit].(string); ok {
				r[k] = fmt.Sprint(parseTime(t, s).UnixNano())
			}
		}
		up, ok := f[name+"SysUpTime"].(float64)
		if r[k] == "" && ok && unix != "" {
			r[k] = fmt.Sprint(parseTime(t, unix).Add(time.Duration(int64(up)-uptime) * time.Millisecond).UnixNano())
		}
	}
	return r
}

func parseTime(t *testing.T, s string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
