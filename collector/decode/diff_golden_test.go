package decode_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// goldenRow is a record in another program's words: field name → value. Only
// the fields that the golden has are compared.
type goldenRow map[string]string

// golden is one expected file of a capture, or what its row in the index says.
type golden struct {
	kind   string // nfdump, telegraf, pmacct, netgauze, tcpdump, index
	rows   []goldenRow
	render func(*flow.Record) goldenRow  // our record in the golden's words
	fold   func([]goldenRow) []goldenRow // our rows into what the golden adds up; nil: nothing
}

// diffReason is a line of testdata/diff-reasons.tsv.
type diffReason struct {
	rows   int // that differ
	reason string
	used   int
}

func readDiffReasons(t *testing.T) map[string]*diffReason {
	m := map[string]*diffReason{}
	for _, row := range tsv(t, "testdata/diff-reasons.tsv") {
		k := row["case"] + "\t" + row["golden"] + "\t" + row["field"]
		n, err := strconv.Atoi(row["rows"])
		if err != nil || m[k] != nil || len(row["reason"]) < 20 {
			t.Fatalf("testdata/diff-reasons.tsv: %v", row)
		}
		m[k] = &diffReason{rows: n, reason: row["reason"]}
	}
	return m
}

// compare holds that ours and the golden's rows have the same values, but where
// a reason is written down. It returns how many fields were compared.
func (g *golden) compare(t *testing.T, c *corpusCase, reasons map[string]*diffReason) int {
	t.Helper()
	var mine []goldenRow
	for i := range c.records {
		mine = append(mine, g.render(&c.records[i]))
	}
	if g.fold != nil {
		mine = g.fold(mine)
	}
	differ := map[string]int{}
	example := map[string]string{}
	compared := 0
	pairs, ours, theirs := pairRows(mine, g.rows)
	for _, p := range pairs {
		for k, want := range p[1] {
			compared++
			if got := p[0][k]; got != want {
				differ[k]++
				example[k] = fmt.Sprintf("ours %q, golden %q in %v", got, want, p[1])
			}
		}
	}
	if len(ours) > 0 {
		differ["+row"], example["+row"] = len(ours), fmt.Sprint(ours[0])
	}
	if len(theirs) > 0 {
		differ["-row"], example["-row"] = len(theirs), fmt.Sprint(theirs[0])
	}
	for field, n := range differ {
		k := c.name + "\t" + g.kind + "\t" + field
		r := reasons[k]
		if r == nil {
			t.Errorf("%s\t%d\t(no reason): %s", k, n, example[field])
			continue
		}
		r.used++
		if r.rows != n {
			t.Errorf("%s: %d rows differ, the reason is for %d", k, n, r.rows)
		}
	}
	return compared
}

// pairRows finds for each of our rows the golden's: first the equal ones, then
// those that share ever less.
func pairRows(mine, want []goldenRow) (pairs [][2]goldenRow, ours, theirs []goldenRow) {
	ours, theirs = mine, want
	var all []string
	if len(want) > 0 {
		for k := range want[0] {
			all = append(all, k)
		}
	}
	slices.Sort(all)
	for _, keys := range [][]string{
		all,
		{"src", "dst", "sport", "dport", "proto", "packets", "bytes", "in", "out", "start"},
		{"src", "dst", "sport", "dport", "proto", "packets", "bytes", "in", "out", "end"},
		{"src", "dst", "sport", "dport", "proto", "packets", "bytes", "in", "out", "mac"},
		{"src", "dst", "sport", "dport", "proto", "packets", "bytes", "mac"},
		{"src", "dst", "sport", "dport", "proto", "packets", "bytes"},
		{"src", "dst", "sport", "dport", "proto", "in", "out"},
		{"src", "dst", "sport", "dport", "proto"},
		{"src", "dst", "packets", "bytes", "mac", "vlan"},
		{"src", "dst", "packets", "bytes"},
		{"src", "dst", "packets", "mac"},
		{"src", "dst", "packets"},
		{"src", "dst"},
		{"packets", "bytes"},
	} {
		key := func(r goldenRow) string {
			var s strings.Builder
			for _, k := range keys {
				s.WriteString(r[k] + "\x00")
			}
			return s.String()
		}
		waiting := map[string][]goldenRow{}
		for _, r := range ours {
			waiting[key(r)] = append(waiting[key(r)], r)
		}
		var left []goldenRow
		for _, r := range theirs {
			k := key(r)
			if w := waiting[k]; len(w) > 0 {
				pairs = append(pairs, [2]goldenRow{w[0], r})
				waiting[k] = w[1:]
			} else {
				left = append(left, r)
			}
		}
		theirs = left
		ours = nil
		for _, w := range waiting {
			ours = append(ours, w...)
		}
	}
	return pairs, ours, theirs
}

// goldensOf finds what a capture is expected to give.
func goldensOf(t *testing.T, c *corpusCase) []*golden {
	t.Helper()
	out := []*golden{indexGolden(t, c)}
	paths, err := filepath.Glob(filepath.Join(c.dir, "expected", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		switch {
		case strings.Contains(name, "fcapd-"):
			out = append(out, nfdumpGolden(t, path, c))
		case strings.HasPrefix(name, "telegraf--"):
			out = append(out, telegrafGolden(t, path))
		case strings.HasPrefix(name, "pmacct--"):
			out = append(out, pmacctGolden(t, path))
		case strings.HasPrefix(name, "NetGauze--"):
			out = append(out, netgauzeGolden(t, path))
		case strings.HasPrefix(name, "tcpdump--"):
			out = append(out, tcpdumpGolden(t, path))
		default:
			t.Errorf("%s: a golden that nothing reads", path)
		}
	}
	return out
}

// indexGolden is what the index says: records, and the packets that nfdump
// counted times the sampling rate.
func indexGolden(t *testing.T, c *corpusCase) *golden {
	want := goldenRow{"records": c.row["records_expected"]}
	if _, after, ok := strings.Cut(c.row["second_decoder"], "packets(scaled)="); ok {
		want["scaled"], _, _ = strings.Cut(after, ";")
	}
	return &golden{
		kind: "index", rows: []goldenRow{want},
		render: func(r *flow.Record) goldenRow {
			n := uint64(max(r.SamplingRate, 1)) * r.Packets
			return goldenRow{"records": "1", "scaled": strconv.FormatUint(n, 10)}
		},
		fold: func(rows []goldenRow) []goldenRow {
			var scaled uint64
			for _, r := range rows {
				scaled += num(t, r["scaled"])
			}
			return []goldenRow{{"records": strconv.Itoa(len(rows)), "scaled": strconv.FormatUint(scaled, 10)}}
		},
	}
}

// tcpdumpGolden: tcpdump prints sFlow only, and those at hand have counter
// samples, or nothing valid.
func tcpdumpGolden(t *testing.T, path string) *golden {
	samples := 0
	lines(t, path, func(s string) {
		if s = strings.TrimSpace(s); strings.HasPrefix(s, "flow sample") || strings.HasPrefix(s, "expanded flow sample") {
			samples++
		}
	})
	return &golden{
		kind: "tcpdump", rows: []goldenRow{{"samples": strconv.Itoa(samples)}},
		render: func(r *flow.Record) goldenRow { return goldenRow{"samples": r.Protocol.String()} },
		fold: func(rows []goldenRow) []goldenRow {
			n := 0
			for _, r := range rows {
				if r["samples"] == flow.SFlow5.String() {
					n++
				}
			}
			return []goldenRow{{"samples": strconv.Itoa(n)}}
		},
	}
}

// renderRecord has the fields that goldens share.
func renderRecord(r *flow.Record) goldenRow {
	row := goldenRow{
		"src": addr(r.Src), "dst": addr(r.Dst), "proto": fmt.Sprint(r.IPProto),
		"sport": fmt.Sprint(r.SrcPort), "dport": fmt.Sprint(r.DstPort), "icmp": "-",
		"packets": fmt.Sprint(r.Packets), "bytes": fmt.Sprint(r.Bytes),
		"in": fmt.Sprint(r.InIf), "out": fmt.Sprint(r.OutIf), "flags": "-",
	}
	if r.Has&flow.HasICMP != 0 {
		row["icmp"] = fmt.Sprintf("%d.%d", r.ICMPType, r.ICMPCode)
	}
	if r.Has&flow.HasTCPFlags != 0 {
		row["flags"] = fmt.Sprintf("%08b", r.TCPFlags)
	}
	return row
}

// isICMP: goldens show ICMP types where ports stand else.
func isICMP(proto string) bool { return proto == "1" || proto == "58" }

// bits reads flags as "...AP.SF".
func bits(s string) string {
	var b strings.Builder
	for _, c := range s {
		b.WriteByte(cmp.Or(map[bool]byte{c == '.': '0'}[true], '1'))
	}
	return b.String()
}
