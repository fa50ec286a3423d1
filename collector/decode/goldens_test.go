package decode_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// lines calls fn for each line of a file; goldens have long ones.
func lines(t *testing.T, path string, fn func(string)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		if s.Text() != "" {
			fn(s.Text())
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}

var protocolNumbers = map[string]uint8{
	"hopopt": 0, "icmp": 1, "igmp": 2, "ipv4": 4, "tcp": 6, "udp": 17, "ipv6": 41, "gre": 47, "esp": 50, "ipv6-icmp": 58, "ipv6icmp": 58, "ospf": 89, "pim": 103, "vrrp": 112, "sctp": 132, "ospfigp": 89,
}

func protocolNumber(t *testing.T, s string) uint8 {
	t.Helper()
	if n, ok := protocolNumbers[strings.ToLower(s)]; ok {
		return n
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		t.Fatalf("protocol %q", s)
	}
	return uint8(n)
}

// bare is our record without what goldens show in other ways: ICMP types stand
// in a port there.
func bare(x tuple) tuple {
	if x.proto == flow.ProtoICMP || x.proto == flow.ProtoICMPv6 {
		x.sport, x.dport = 0, 0
	}
	return x
}

// golden names the captures with an expected file of a source project, and the
// reasons why a comparison is not for plain equality.
func goldenCases(t *testing.T, file string) (map[string]string, map[string]string) {
	t.Helper()
	dir := filepath.Join(shared(t), "corpora", "flow")
	paths, err := filepath.Glob(filepath.Join(dir, "*", "expected", file))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens %s: %v", file, err)
	}
	cases, how := map[string]string{}, map[string]string{}
	for _, p := range paths {
		cases[filepath.Base(filepath.Dir(filepath.Dir(p)))] = p
	}
	for _, r := range tsv(t, "testdata/corpus-reasons.tsv") {
		if strings.HasPrefix(file, r["check"]+"--") {
			how[r["case"]] = r["ours"]
		}
	}
	return cases, how
}

// unquote splits a line of InfluxDB protocol into its fields.
func unquote(line string) map[string]string {
	m := map[string]string{}
	_, rest, _ := strings.Cut(line, " ")
	for rest != "" {
		k, v, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		if strings.HasPrefix(v, `"`) {
			v, rest, _ = strings.Cut(v[1:], `"`)
			rest = strings.TrimPrefix(rest, ",")
		} else {
			i := strings.IndexAny(v, ", ")
			if i < 0 {
				i = len(v)
			}
			v, rest = strings.TrimSuffix(v[:i], "u"), v[min(i+1, len(v)):]
		}
		m[k] = v
	}
	return m
}

func TestGoldenTelegraf(t *testing.T) {
	cases, how := goldenCases(t, "telegraf--expected.out")
	for name, path := range cases {
		t.Run(name, func(t *testing.T) {
			var want []tuple
			lines(t, path, func(line string) {
				m := unquote(line)
				if m["src"] == "" && m["in_packets"] == "" {
					return // options, counters
				}
				n := func(keys ...string) uint64 {
					for _, k := range keys {
						if v := m[k]; v != "" {
							x, err := strconv.ParseUint(v, 0, 64)
							if err != nil {
								t.Fatal(err)
							}
							return x
						}
					}
					return 0
				}
				x := tuple{src: cmp.Or(m["src"], "-"), dst: cmp.Or(m["dst"], "-"), sport: uint16(n("src_port")), dport: uint16(n("dst_port")),
					proto: protocolNumber(t, cmp.Or(m["protocol"], "0")), packets: n("in_packets", "in_total_packets"), bytes: n("in_bytes", "in_total_bytes")}
				if strings.Contains(line, "version=sFlowV5") { // in_total_packets is the sample pool there, and IPv6 has no length
					x.packets, x.bytes = 1, n("ipv4_total_len")
				}
				want = append(want, bare(x))
				if n("type_29305_86") > 0 {
					want = append(want, bare(tuple{x.dst, x.src, x.dport, x.sport, x.proto, n("type_29305_86"), n("type_29305_85")}))
				}
			})
			recs, _ := run(t, decode.Config{}, filepath.Dir(filepath.Dir(path)))
			var got []tuple
			for i := range recs {
				x := bare(tupleOf(&recs[i]))
				if recs[i].Protocol == flow.SFlow5 && recs[i].Src.Is6() {
					x.bytes = 0
				}
				got = append(got, x)
			}
			if how[name] != "" {
				for i := range got {
					got[i] = got[i].less(how[name], false)
				}
				for i := range want {
					want[i] = want[i].less(how[name], false)
				}
			}
			multiset(t, got, want)
		})
	}
}

func TestGoldenPmacct(t *testing.T) {
	type line struct {
		Src     string `json:"ip_src"`
		Dst     string `json:"ip_dst"`
		SPort   uint16 `json:"port_src"`
		DPort   uint16 `json:"port_dst"`
		Proto   string `json:"ip_proto"`
		Packets uint64 `json:"packets"`
		Bytes   uint64 `json:"bytes"`
		In      uint32 `json:"iface_in"`
		Out     uint32 `json:"iface_out"`
		Peer    string `json:"peer_ip_src"`
	}
	cases, how := goldenCases(t, "pmacct--output-flow-00.json")
	for name, path := range cases {
		t.Run(name, func(t *testing.T) {
			type key struct {
				t       tuple
				in, out uint32
			}
			sums := map[key][4]uint64{} // pmacct adds up what has one key
			add := func(x tuple, in, out uint32, at int) {
				k := key{bare(tuple{x.src, x.dst, x.sport, x.dport, x.proto, 0, 0}), in, out}
				s := sums[k]
				s[at] += x.packets
				s[at+1] += x.bytes
				sums[k] = s
			}
			lines(t, path, func(s string) {
				var l line
				if err := json.Unmarshal([]byte(s), &l); err != nil {
					t.Fatal(err)
				}
				src, dst := netip.MustParseAddr(cmp.Or(l.Src, "::")).Unmap(), netip.MustParseAddr(cmp.Or(l.Dst, "::")).Unmap()
				add(tuple{src.String(), dst.String(), l.SPort, l.DPort, protocolNumber(t, l.Proto), l.Packets, l.Bytes}, l.In, l.Out, 2)
			})
			recs, _ := run(t, decode.Config{}, filepath.Dir(filepath.Dir(path)))
			for i := range recs {
				x := tupleOf(&recs[i])
				if strings.Contains(how[name], "scaled") && recs[i].SamplingRate > 0 {
					x.packets *= uint64(recs[i].SamplingRate)
					x.bytes *= uint64(recs[i].SamplingRate)
				}
				add(x, recs[i].InIf, recs[i].OutIf, 0)
			}
			for k, s := range sums {
				if s[0] != s[2] || s[1] != s[3] {
					t.Errorf("%v in %d out %d: ours %d packets %d bytes, theirs %d and %d", k.t, k.in, k.out, s[0], s[1], s[2], s[3])
				}
			}
		})
	}
}

// TestGoldenNetGauze compares every field that NetGauze's golden and our record
// share, times included.
func TestGoldenNetGauze(t *testing.T) {
	cases, how := goldenCases(t, "NetGauze--*.json")
	for name, path := range cases {
		t.Run(name, func(t *testing.T) {
			var want []string
			lines(t, path, func(s string) {
				want = append(want, netgauzeRecords(t, s)...)
			})
			recs, _ := run(t, decode.Config{TrustClock: true}, filepath.Dir(filepath.Dir(path)))
			var got []string
			for i := range recs {
				r := &recs[i]
				x := bare(tupleOf(r))
				when := ""
				if r.Has&flow.HasTimes != 0 && how[name] != "notimes" {
					when = time.Unix(0, r.Start).UTC().Format(time.RFC3339Nano) + " " + time.Unix(0, r.End).UTC().Format(time.RFC3339Nano)
				}
				got = append(got, fmt.Sprintf("%v in %d out %d ttl %d %s", x, r.InIf, r.OutIf, r.TTL, when))
			}
			n := map[string]int{}
			for _, s := range got {
				n[s]++
			}
			for _, s := range want {
				n[s]--
			}
			bad := 0
			for s, k := range n {
				if k != 0 {
					if bad++; bad < 6 {
						t.Errorf("%+d %s", k, s)
					}
				}
			}
			if len(want) == 0 || bad > 0 {
				t.Errorf("%d of %d records differ", bad, len(want))
			}
		})
	}
}

// netgauzeRecords brings the data records of one message into one line each.
func netgauzeRecords(t *testing.T, s string) []string {
	t.Helper()
	type message struct {
		ExportTime string `json:"export_time"`
		UnixTime   string `json:"unix_time"`
		Uptime     int64  `json:"sys_up_time"`
		Sets       []struct {
			Data *struct {
				Records []struct {
					Scope  []map[string]any `json:"scope_fields"`
					Fields []map[string]any `json:"fields"`
				} `json:"records"`
			} `json:"Data"`
		} `json:"sets"`
	}
	var doc map[string]message
	if err := json.Unmarshal([]byte(s), &doc); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range doc {
		for _, set := range m.Sets {
			if set.Data == nil {
				continue
			}
			for _, rec := range set.Data.Records {
				if len(rec.Scope) > 0 {
					continue // options
				}
				f := map[string]any{}
				for _, x := range rec.Fields {
					for k, v := range x {
						f[k] = v // the last of a repeated field is the innermost header's
					}
				}
				out = append(out, netgauzeLine(t, f, m.UnixTime, m.Uptime))
			}
		}
	}
	return out
}

func netgauzeLine(t *testing.T, f map[string]any, unix string, uptime int64) string {
	t.Helper()
	n := func(k string) uint64 { x, _ := f[k].(float64); return uint64(x) }
	a := func(v4, v6 string) string {
		s4, _ := f[v4].(string)
		s6, _ := f[v6].(string)
		if s4 != "" && (s4 != "0.0.0.0" || s6 == "" || s6 == "::") {
			return s4
		}
		if s6 == "" {
			return "-"
		}
		return netip.MustParseAddr(s6).Unmap().String()
	}
	proto, _ := f["protocolIdentifier"].(string)
	x := bare(tuple{a("sourceIPv4Address", "sourceIPv6Address"), a("destinationIPv4Address", "destinationIPv6Address"),
		uint16(n("sourceTransportPort")), uint16(n("destinationTransportPort")), protocolNumber(t, cmp.Or(proto, "0")), n("packetDeltaCount"), n("octetDeltaCount")})
	when := ""
	if s, e := netgauzeTime(t, f, "flowStart"), netgauzeTime(t, f, "flowEnd"); s != "" {
		when = s + " " + e
	} else if _, ok := f["flowStartSysUpTime"]; ok && unix != "" {
		at, err := time.Parse(time.RFC3339Nano, unix)
		if err != nil {
			t.Fatal(err)
		}
		boot := at.Add(-time.Duration(uptime) * time.Millisecond)
		when = boot.Add(time.Duration(n("flowStartSysUpTime"))*time.Millisecond).Format(time.RFC3339Nano) + " " +
			boot.Add(time.Duration(n("flowEndSysUpTime"))*time.Millisecond).Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("%v in %d out %d ttl %d %s", x, n("ingressInterface"), n("egressInterface"), n("minimumTTL"), when)
}

func netgauzeTime(t *testing.T, f map[string]any, prefix string) string {
	t.Helper()
	for _, unit := range []string{"Seconds", "Milliseconds"} {
		if s, ok := f[prefix+unit].(string); ok {
			at, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				t.Fatal(err)
			}
			return at.Format(time.RFC3339Nano)
		}
	}
	return ""
}
