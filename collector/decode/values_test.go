package decode_test

import (
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// tuple is what any two decoders should agree on.
type tuple struct {
	src, dst       string
	sport, dport   uint16
	proto          uint8
	packets, bytes uint64
}

func (t tuple) String() string {
	return fmt.Sprintf("%s:%d > %s:%d proto %d packets %d bytes %d", t.src, t.sport, t.dst, t.dport, t.proto, t.packets, t.bytes)
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

func tupleOf(r *flow.Record) tuple {
	return tuple{addr(r.Src), addr(r.Dst), r.SrcPort, r.DstPort, r.IPProto, r.Packets, r.Bytes}
}

// multiset compares two lists regardless of order and names the differences.
func multiset(t *testing.T, got, want []tuple) {
	t.Helper()
	n := map[tuple]int{}
	for _, x := range got {
		n[x]++
	}
	for _, x := range want {
		n[x]--
	}
	var diff []string
	for x, k := range n {
		switch {
		case k > 0:
			diff = append(diff, fmt.Sprintf("ours only  %dx %v", k, x))
		case k < 0:
			diff = append(diff, fmt.Sprintf("theirs only %dx %v", -k, x))
		}
	}
	if len(diff) > 0 {
		slices.Sort(diff)
		t.Errorf("%d of %d differ:\n%s", len(diff), len(want), strings.Join(diff[:min(len(diff), 12)], "\n"))
	}
}

// common keeps of got what want has too.
func common(got, want []tuple) []tuple {
	n := map[tuple]int{}
	for _, x := range want {
		n[x]++
	}
	return slices.DeleteFunc(slices.Clone(got), func(x tuple) bool {
		n[x]--
		return n[x] < 0
	})
}

var nfProtocols = map[string]uint8{
	"ICMP": 1, "IGMP": 2, "IPIP": 4, "TCP": 6, "EGP": 8, "UDP": 17, "IPv6": 41, "RSVP": 46, "GRE": 47, "ESP": 50, "AH": 51,
	"ICMP6": 58, "OSPF": 89, "PIM": 103, "VRRP": 112, "L2TP": 115, "SCTP": 132, "NET": 63, "0": 0,
}

// nfdump reads a CSV that nfdump 1.7.1 wrote.
func nfdump(t *testing.T, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	c := csv.NewReader(r)
	c.FieldsPerRecord = -1
	all, err := c.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, line := range all[1:] {
		if len(line) < 20 {
			break // the summary
		}
		row := map[string]string{}
		for i, v := range line {
			if i < len(all[0]) {
				row[all[0][i]] = strings.TrimSpace(v)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func num(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fromNfdump brings a row of nfdump's into our form. nfdump has no "absent":
// missing addresses are 0.0.0.0. ICMP types stand in the port column.
func fromNfdump(t *testing.T, row map[string]string) tuple {
	t.Helper()
	proto, ok := nfProtocols[row["pr"]]
	if !ok {
		n, err := strconv.ParseUint(row["pr"], 10, 8)
		if err != nil {
			t.Fatalf("protocol %q", row["pr"])
		}
		proto = uint8(n)
	}
	x := tuple{src: row["sa"], dst: row["da"], proto: proto, packets: num(t, row["ipkt"]), bytes: num(t, row["ibyt"])}
	// An IPv4 address in an IPv6 field is printed as ::192.0.2.1.
	for _, a := range []*string{&x.src, &x.dst} {
		if v4, ok := strings.CutPrefix(*a, "::"); ok && strings.Count(v4, ".") == 3 && !strings.Contains(v4, ":") {
			*a = v4
		}
	}
	x.sport = uint16(num(t, row["sp"]))
	if typ, code, ok := strings.Cut(row["dp"], "."); ok {
		x.sport, x.dport = 0, uint16(num(t, typ)<<8|num(t, code))
	} else {
		x.dport = uint16(num(t, row["dp"]))
	}
	return x
}

// asNfdump brings our record into nfdump's form.
func asNfdump(r *flow.Record, scaled bool) tuple {
	x := tupleOf(r)
	if x.src == "-" {
		x.src = "0.0.0.0"
	}
	if x.dst == "-" {
		x.dst = "0.0.0.0"
	}
	if r.Has&flow.HasICMP != 0 {
		x.sport, x.dport = 0, uint16(r.ICMPType)<<8|uint16(r.ICMPCode)
	}
	if scaled && r.SamplingRate > 1 {
		x.packets *= uint64(r.SamplingRate)
		x.bytes *= uint64(r.SamplingRate)
	}
	return x
}

// less leaves out what a way of comparing says nfdump gets wrong or lacks.
func (t tuple) less(how string, sflow bool) tuple {
	if sflow { // sfcapd counts the frame, we the IP packet
		t.bytes = 0
	}
	if t.proto == flow.ProtoICMPv6 || strings.Contains(how, "icmp") && (t.proto == flow.ProtoICMP || t.proto == 0 && t.sport == 0) {
		t.sport, t.dport = 0, 0
	}
	if strings.Contains(how, "proto") {
		t.proto = 0
	}
	return t
}

// TestCorpusNfdump compares with nfdump's reading of each capture: a second
// opinion. Where we differ for a reason, testdata/corpus-reasons.tsv has it and
// says what to compare instead.
func TestCorpusNfdump(t *testing.T) {
	dir := filepath.Join(shared(t), "corpora")
	reasons := map[string]string{}
	for _, r := range tsv(t, "testdata/corpus-reasons.tsv") {
		if r["check"] == "nfdump" {
			reasons[r["case"]] = r["ours"]
		}
	}
	n := 0
	for _, row := range tsv(t, filepath.Join(dir, "index.tsv")) {
		if row["section"] != "flow" {
			continue
		}
		name := filepath.Base(row["file"])
		paths, err := filepath.Glob(filepath.Join(dir, row["file"], "expected", "*fcapd-*.csv*"))
		if err != nil || len(paths) == 0 {
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			how := cmp.Or(reasons[name], "equal")
			sflow := strings.HasPrefix(filepath.Base(paths[0]), "sfcapd")
			scaled := sflow || strings.Contains(how, "scaled")
			recs, _ := run(t, decode.Config{}, filepath.Join(dir, row["file"]))
			var got, want []tuple
			for i := range recs {
				got = append(got, asNfdump(&recs[i], scaled).less(how, sflow))
			}
			for _, line := range nfdump(t, paths[0]) {
				want = append(want, fromNfdump(t, line).less(how, sflow))
			}
			if strings.Contains(how, "superset") {
				got = common(got, want)
			}
			multiset(t, got, want)
		})
	}
	if n < 50 {
		t.Errorf("%d captures with a reading by nfdump, expected over 50", n)
	}
}
