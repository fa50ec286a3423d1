package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	tenant   = netip.MustParseAddr("11.2.3.4")
	neighbor = netip.MustParseAddr("11.2.3.5")
	router   = netip.MustParseAddr("10.9.8.7")
	begin    = time.Date(2026, 11, 22, 6, 52, 0, 0, time.UTC)
)

// scanned is an incident of a network scan and a flood that ended with a cut.
func scanned() Input {
	inc := flow.Incident{
		ID: "FC-ABCDEFGHIJ", Tenant: tenant, State: flow.StateVerified, Rules: []flow.Rule{flow.RuleNetscan, flow.RuleUDPFlood}, Prior: 3,
		Holder:  flow.Holder{Tenant: "customer-77", VDS: "vds-1042", Hypervisor: "node7", NICs: []string{"52:54:00:12:34:56"}, Contact: "owner@example.org"},
		Opened:  begin.Add(time.Minute),
		Updated: begin.Add(70 * time.Second),
		Findings: []flow.Finding{{
			Tenant: tenant, Rule: flow.RuleNetscan, Tier: flow.TierSuspend, IPProto: flow.ProtoTCP, Port: 22, WindowS: 60, Samples: 600, Distinct: 600,
			SamplingRate: 1000, Score: 400, Threshold: 30, EstRate: 10_000, Reason: "600 destinations on TCP port 22", From: begin, To: begin.Add(time.Minute), RuleVersion: 2, ConfigHash: "c0ffee",
		}, {
			Tenant: tenant, Rule: flow.RuleUDPFlood, Tier: flow.TierSuspend, IPProto: flow.ProtoUDP, Remote: netip.MustParseAddr("22.0.0.9"), WindowS: 10,
			Samples: 300, SamplingRate: 1000, Score: 90, Threshold: 30, EstRate: 5000, Reason: "a flood", From: begin, To: begin.Add(time.Minute), RuleVersion: 1, ConfigHash: "c0ffee",
		}},
		Action: &flow.Action{
			Key: "FC-ABCDEFGHIJ-suspend-1", Kind: "suspend", Adapter: "node7", Intent: begin.Add(61 * time.Second), Done: begin.Add(62 * time.Second),
			NICs: []flow.NIC{{VDS: "vds-1042", Hypervisor: "node7", MAC: "52:54:00:12:34:56", IP: tenant}},
		},
	}
	in := Input{
		Incident: inc, Version: "1.2.3", Reporter: Reporter{Org: "Example Hosting", Contact: "abuse@example.net"},
		Exporters: []flow.ExporterHealth{
			{Exporter: router, Protocols: []string{"ipfix"}, Records: 900, Lost: 3, Samplers: []flow.SamplerHealth{{Rate: 1000}}, Problems: []string{"10.9.8.7 loses"}},
			{Exporter: netip.MustParseAddr("10.9.8.6"), Records: 5},
		},
	}
	for i := range 600 {
		in.Flows = append(in.Flows, packet(begin.Add(time.Duration(i)*100*time.Millisecond), netip.AddrFrom4([4]byte{22, 1, byte(i >> 8), byte(i)}), 22, flow.ProtoTCP, flow.ClassSYN))
	}
	for i := range 300 {
		in.Flows = append(in.Flows, packet(begin.Add(time.Duration(i)*200*time.Millisecond), netip.MustParseAddr("22.0.0.9"), 80, flow.ProtoUDP, flow.ClassUDP))
	}
	text := "the frozen log\n22.1.0.1\n"
	sum := sha256.Sum256([]byte(text))
	in.Evidence = []flow.Evidence{{
		Incident: inc.ID, Tenant: tenant, Frozen: begin.Add(69 * time.Second), Rows: 900,
		Logs: []flow.EvidenceLog{{Form: "netscan", Name: "FC-ABCDEFGHIJ-netscan.txt", Text: text, SHA256: hex.EncodeToString(sum[:])}, {Form: "summary", Name: "../../etc/x y.txt", Text: "s"}},
	}}
	return in
}

func packet(at time.Time, to netip.Addr, port uint16, proto uint8, class flow.Class) flow.FlowRow {
	ns := at.UnixNano()
	return flow.FlowRow{
		Time: ns, Start: ns, End: ns, Exporter: router, Tenant: tenant, Host: tenant, Remote: to, HostPort: 40000, RemotePort: port, SvcPort: port,
		Dir: flow.Out, IPProto: proto, Role: flow.RoleClient, Class: class, Packets: 1, Bytes: 60, IPLen: 60, TTL: 64, Rate: 1000, InIf: 4711, OutIf: 4712, VLAN: 4093,
	}
}

func unzip(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(f.Name, "FC-ABCDEFGHIJ/")
		if !ok || strings.Contains(name, "..") || out[name] != nil {
			t.Errorf("file %q", f.Name)
		}
		out[name] = data
	}
	return out
}

func zipped(t *testing.T, in Input) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Zip(&b, in); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhole(t *testing.T) {
	files := unzip(t, zipped(t, scanned()))
	var m struct {
		Incident, For, By string
		Made              time.Time
		Parts             []struct {
			Name, Type, SHA256 string
			Bytes              int
		}
	}
	if err := json.Unmarshal(files["manifest.json"], &m); err != nil {
		t.Fatal(err)
	}
	if m.Incident != "FC-ABCDEFGHIJ" || m.For != "staff" || m.By != "flowcordon 1.2.3" || !m.Made.Equal(begin.Add(70*time.Second)) {
		t.Errorf("manifest %+v", m)
	}
	var names []string
	for _, p := range m.Parts {
		names = append(names, p.Name)
		sum := sha256.Sum256(files[p.Name])
		if p.SHA256 != hex.EncodeToString(sum[:]) || p.Bytes != len(files[p.Name]) || p.Type == "" {
			t.Errorf("%s: %+v does not fit its file", p.Name, p)
		}
	}
	want := []string{
		"README.txt", "destinations.svg", "exporters.json", "findings.json", "flows.csv", "flows.jsonl", "incident.json",
		"logs/FC-ABCDEFGHIJ/FC-ABCDEFGHIJ-netscan.txt", "logs/FC-ABCDEFGHIJ/____etc_x_y.txt", "packets.svg", "recompute.sql", "xarf/01-netscan.json", "xarf/02-udp_flood.json",
	}
	if !slices.Equal(names, want) || len(files) != len(want)+1 {
		t.Errorf("parts %q, want %q", names, want)
	}
	if string(files[want[7]]) != "the frozen log\n22.1.0.1\n" {
		t.Error("the log is not what was frozen")
	}
	var fs []flow.Finding
	if err := json.Unmarshal(files["findings.json"], &fs); err != nil || len(fs) != 2 || fs[0].ConfigHash != "c0ffee" || fs[0].RuleVersion != 2 || fs[0].SamplingRate != 1000 || fs[0].Score != 400 {
		t.Errorf("%v %+v", err, fs)
	}
	if s := string(files["exporters.json"]); !strings.Contains(s, "10.9.8.7") || strings.Contains(s, "10.9.8.6") {
		t.Errorf("exporters that saw the tenant: %s", s)
	}
}

// The same facts give the same bytes, in whatever order they come.
func TestDeterministic(t *testing.T) {
	a := zipped(t, scanned())
	for range 3 {
		in := scanned()
		rand.Shuffle(len(in.Flows), func(i, j int) { in.Flows[i], in.Flows[j] = in.Flows[j], in.Flows[i] })
		rand.Shuffle(len(in.Exporters), func(i, j int) { in.Exporters[i], in.Exporters[j] = in.Exporters[j], in.Exporters[i] })
		if !bytes.Equal(a, zipped(t, in)) {
			t.Fatal("other bytes")
		}
	}
	in := scanned()
	in.Flows[0].Packets++
	if bytes.Equal(a, zipped(t, in)) {
		t.Error("another row gives the same bytes")
	}
}

// Nobody learns of a neighbour; outsiders do not learn who the customer is, how
// our routers are called, nor how and where we act.
func TestMinimised(t *testing.T) {
	in := scanned()
	for i := range 50 {
		r := packet(begin.Add(time.Duration(i)*time.Second), netip.MustParseAddr("22.99.99.99"), 443, flow.ProtoTCP, flow.ClassEst)
		r.Tenant, r.Host = neighbor, neighbor
		in.Flows = append(in.Flows, r)
	}
	for _, to := range []Audience{Staff, Outside} {
		in.For = to
		files := unzip(t, zipped(t, in))
		all := string(bytes.Join(slices.Collect(func(yield func([]byte) bool) {
			for _, f := range files {
				if !yield(f) {
					return
				}
			}
		}), nil))
		for _, s := range []string{neighbor.String(), "22.99.99.99"} {
			if strings.Contains(all, s) {
				t.Errorf("%s: %s of a neighbour is in the bundle", to, s)
			}
		}
		for _, s := range []string{"10.9.8.7", "customer-77", "owner@example.org", "vds-1042", "node7", "52:54:00:12:34:56", "4711", "4712", "4093"} {
			if strings.Contains(all, s) != (to == Staff) {
				t.Errorf("%s: %s is in the bundle: %t", to, s, to != Staff)
			}
		}
		if n := strings.Count(string(files["flows.csv"]), "\r\n"); n != 901 {
			t.Errorf("%s: %d lines of rows", to, n)
		}
		if to == Outside && (!strings.Contains(string(files["flows.csv"]), "exporter-1") || !strings.Contains(string(files["exporters.json"]), `"lost": 3`)) {
			t.Error("what the exporter lost is part of the proof")
		}
	}
}

func TestRows(t *testing.T) {
	for _, to := range []Audience{Staff, Outside} {
		in := scanned()
		in.For = to
		files := unzip(t, zipped(t, in))
		table, err := csv.NewReader(bytes.NewReader(files["flows.csv"])).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(files["flows.jsonl"])), "\n")
		if len(table) != len(lines)+1 || len(lines) != 900 {
			t.Fatalf("%d and %d lines", len(table), len(lines))
		}
		for i, l := range lines {
			var v map[string]any
			d := json.NewDecoder(strings.NewReader(l))
			d.UseNumber()
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			if len(v) != len(table[0]) {
				t.Fatalf("line %d has %d fields, the table %d columns", i, len(v), len(table[0]))
			}
			for c, name := range table[0] {
				if got := fmt.Sprint(v[name]); got != table[i+1][c] {
					t.Fatalf("line %d: %s is %s and %s", i, name, got, table[i+1][c])
				}
			}
		}
		if table[1][0] != "2026-11-22T06:52:00.000000000Z" || !slices.Contains(table[1], "syn") && !slices.Contains(table[2], "syn") {
			t.Errorf("first row %v", table[1])
		}
	}
}

func TestChangedLog(t *testing.T) {
	in := scanned()
	in.Evidence[0].Logs[0].Text += "x"
	if _, err := Parts(in); err == nil || !strings.Contains(err.Error(), "the stored text has changed") {
		t.Errorf("a log that is not what was frozen: %v", err)
	}
	in = scanned()
	in.Evidence = append(in.Evidence, in.Evidence[0])
	if _, err := Parts(in); err == nil {
		t.Error("two logs of one name")
	}
	in.Evidence[1].Incident += "-2"
	if parts, err := Parts(in); err != nil || len(parts) != 16 {
		t.Errorf("two stages: %v", err)
	}
	if _, err := Parts(Input{For: "press", Incident: in.Incident}); err == nil {
		t.Error("an audience that nobody knows")
	}
	if _, err := Parts(Input{}); err == nil {
		t.Error("no incident at all")
	}
}

// As little as there can be.
func TestBare(t *testing.T) {
	parts, err := Parts(Input{Incident: flow.Incident{ID: "x", Tenant: netip.MustParseAddr("2608::")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if p.Name == "packets.svg" && !strings.Contains(string(p.Data), "No flow rows are stored") {
			t.Error("a picture of nothing does not say so")
		}
		if strings.HasPrefix(p.Name, "xarf/") {
			t.Error("a report of nobody")
		}
	}
	in := scanned()
	in.Reporter.Contact = "nobody"
	if _, err := Parts(in); err == nil {
		t.Error("a reporter without an address")
	}
}

// tree reads a picture as XML and counts what it is drawn with.
func tree(t *testing.T, text string) map[string]int {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	n := map[string]int{}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, text[:min(len(text), 2000)])
		}
		if e, ok := tok.(xml.StartElement); ok {
			n[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("attribute %s=%q", a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestPictures(t *testing.T) {
	known := strings.Fields("svg title desc style rect text line polyline circle")
	hostile := scanned()
	hostile.Incident.ID = `</title><script>alert(1)</script>&"'` + "\x00\u2028"
	series := scanned()
	series.Step = 10 * time.Second
	for i := range 30 {
		if i < 16 { // the store leaves out steps in which nothing was seen
			series.Series = append(series.Series, flow.SeriesPoint{Time: begin.Add(time.Duration(i-10) * series.Step), EstOutPackets: 123_456})
		}
	}
	series.Shown = flow.Range{From: begin.Add(-100 * time.Second), To: begin.Add(200 * time.Second)}
	many := scanned()
	for i := range 60_000 {
		many.Flows = append(many.Flows, packet(begin.Add(time.Duration(i)*time.Minute), netip.AddrFrom4([4]byte{33, byte(i >> 16), byte(i >> 8), byte(i)}), 22, flow.ProtoTCP, flow.ClassSYN))
	}
	one := scanned()
	one.Flows = one.Flows[:1]
	for name, in := range map[string]Input{"as it is": scanned(), "hostile": hostile, "series": series, "many": many, "one": one, "none": {Incident: scanned().Incident}} {
		in.Flows = own(in)
		for _, text := range []string{packetsSVG(in), destinationsSVG(in)} {
			n := tree(t, text)
			for e := range n {
				if !slices.Contains(known, e) {
					t.Errorf("%s: element <%s>", name, e)
				}
			}
			if len(text) > 600_000 || n["circle"] > maxDots || n["rect"] > maxPoints+1 {
				t.Errorf("%s: %d bytes, %v", name, len(text), n)
			}
		}
	}
	text := packetsSVG(scanned())
	if !strings.Contains(text, ">cut 06:53:02</text>") || tree(t, text)["rect"] < 7 {
		t.Errorf("the cut is not marked, or nothing is drawn before it:\n%s", text)
	}
	if text := packetsSVG(series); strings.Count(text, `class="v"`) != 16 || !strings.Contains(text, "highest 12.3k/s") || !strings.Contains(text, "cut") || !strings.Contains(text, ">06:55:00<") {
		t.Errorf("before and after:\n%s", text)
	}
	series.Shown = flow.Range{}
	if points, step, _ := drawn(series); len(points) != 6+16+7 || step != 10*time.Second || points[5].v != 0 || points[6].v == 0 || points[21].v == 0 || points[22].v != 0 {
		t.Errorf("%d points of %s: want a minute before, and until a minute after the act", len(points), step)
	}
	in := scanned()
	in.Incident.Action.Measure = flow.Measure{Kind: flow.MeasureBlockPort}
	in.Incident.Restore = &flow.Action{Done: begin.Add(65 * time.Second)}
	if text := destinationsSVG(in); !strings.Contains(text, "port blocked 06:53:02") || !strings.Contains(text, "given back 06:53:05") || strings.Count(text, "<circle") != 900 || !strings.Contains(text, "900 flow rows to 601 addresses") {
		t.Errorf("marks or dots are missing:\n%s", text[:3000])
	}
}

// drawn is series, which a variable of the test above hides.
func drawn(in Input) ([]point, time.Duration, string) { return series(in) }

func TestRound(t *testing.T) {
	for in, want := range map[float64]float64{0: 1, -1: 1, 0.3: 0.5, 1: 1, 1.1: 2, 4.9: 5, 5.1: 10, 12_345: 20_000, 1e9: 1e9} {
		if got := round(in); got != want {
			t.Errorf("round(%g) = %g, want %g", in, got, want)
		}
	}
}

func TestCeiling(t *testing.T) {
	for in, want := range map[float64]float64{0: 1, 1: 1, 4: 4, 5: 5, 6: 6, 11: 15, 601: 800, 14_400: 15_000, 250_000: 250_000} {
		if got := ceiling(in); got != want {
			t.Errorf("ceiling(%g) = %g, want %g", in, got, want)
		}
	}
}

func BenchmarkZip(b *testing.B) {
	in := scanned()
	for i := range 10_000 {
		in.Flows = append(in.Flows, packet(begin.Add(time.Duration(i)*time.Millisecond), netip.AddrFrom4([4]byte{33, 0, byte(i >> 8), byte(i)}), 22, flow.ProtoTCP, flow.ClassSYN))
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := Zip(io.Discard, in); err != nil {
			b.Fatal(err)
		}
	}
}
