package complaint_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// sample is a file of testdata with what is expected of it, written by hand.
// The origin of its form stands in the file beside it.
type sample struct {
	file string
	data []byte

	Origin   string     `json:"origin"`
	Type     string     `json:"type"`
	Received time.Time  `json:"received"`
	Zone     string     `json:"zone"`
	Target   netip.Addr `json:"target"`
	Note     string     `json:"note"` // on one of the lines
	Skew     string     `json:"skew"`
	// What is put into the store beside what the verdicts ask for.
	Seed       string    `json:"seed"`
	SeedDst    string    `json:"seed_dst"`
	SeedProto  uint8     `json:"seed_proto"`
	SeedRate   uint32    `json:"seed_rate"`
	SeedAt     time.Time `json:"seed_at"`
	SeedOffset int       `json:"seed_offset"`
	SeedClass  string    `json:"seed_class"`
	SeedSwap   bool      `json:"seed_swap"`
	SeedOnly   string    `json:"seed_only"`

	Lines  []want   `json:"lines"`
	Unread []string `json:"unread"`
}

type want struct {
	At      string    `json:"at"` // part:line
	Time    time.Time `json:"time"`
	Zone    string    `json:"zone"`
	Src     string    `json:"src"`
	Dst     string    `json:"dst"`
	Proto   uint8     `json:"proto"`
	Shape   string    `json:"shape"`
	Verdict string    `json:"verdict"`
	Why     string    `json:"why"`
}

func samples(t testing.TB) []sample {
	t.Helper()
	files, err := filepath.Glob("testdata/*.want.json")
	if err != nil {
		t.Fatal(err)
	}
	out := make([]sample, 0, len(files))
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s := sample{file: strings.TrimSuffix(f, ".want.json")}
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if s.data, err = os.ReadFile(s.file); err != nil {
			t.Fatal(err)
		}
		if s.Received.IsZero() {
			s.Received = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		}
		if strings.Contains(s.file, "tcpdump.txt") { // whose day is that of the complaint
			s.Received = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
		}
		slices.SortStableFunc(s.Lines, func(a, b want) int { return cmp.Compare(order(a.At), order(b.At)) })
		out = append(out, s)
	}
	return out
}

func order(at string) int {
	var part, line int
	_, _ = fmt.Sscanf(at, "%d:%d", &part, &line) // both 0 when it is not so
	return part*100_000 + line
}

func (s sample) request(t testing.TB) complaint.Request {
	t.Helper()
	r := complaint.Request{Data: s.data, Type: s.Type, Received: s.Received, Target: s.Target}
	if s.Zone != "" {
		z, err := parse.ParseZone(s.Zone)
		if err != nil {
			t.Fatal(err)
		}
		r.Zone = z
	}
	return r
}

// holders: every /24 and /64 of a sample has its own customer; 198.19/16 is
// ours and held by nobody.
const holders = `
- {prefix: 198.18.0.0/17, tenant: c-1, vds: vds-1}
- {prefix: "2001:db8::/40", tenant: c-6, vds: vds-6}
- {ip: 198.18.200.65, tenant: c-nat, vds: gw-1, tags: [nat]}
- {ip: 198.18.200.66, tenant: c-old, vds: vds-old, to: 2026-11-20T12:00:00Z}
- {ip: 198.18.200.66, tenant: c-new, vds: vds-new, from: 2026-11-20T12:00:00Z}
`

var networks = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/40")}

func tenantKey(a netip.Addr) netip.Addr {
	for _, p := range networks {
		if p.Contains(a) {
			if a.Is6() {
				p, _ := a.Prefix(64) // 64 ≤ 128
				return p.Addr()
			}
			return a
		}
	}
	return netip.Addr{}
}

// end splits an expected end into address and port.
func end(s string) (netip.Addr, uint16) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr(), ap.Port()
	}
	a, err := netip.ParseAddr(s)
	if err == nil {
		return a, 0
	}
	var port uint16
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		_, _ = fmt.Sscanf(s[i+1:], "%d", &port) // 0 when it is none
	}
	return netip.Addr{}, port
}

// seed writes what the expected verdicts need: it goes by the times and
// addresses that stand in the expectations, never by what the parser says.
func (s sample) seed(b *flow.Batch) {
	for _, w := range s.Lines {
		host, hostPort := end(w.Src)
		remote, port := end(w.Dst)
		if s.SeedSwap {
			host, hostPort, remote, port = remote, port, host, hostPort
		}
		rate := s.SeedRate
		if rate == 0 {
			rate = map[bool]uint32{true: 1, false: 1000}[w.Verdict == "contradicted"]
		}
		if w.Verdict == "not_ours" || w.Verdict == "no_data" || s.Seed == "fleet" {
			continue
		}
		at := w.Time.Add(time.Duration(s.SeedOffset) * time.Second)
		if !s.SeedAt.IsZero() {
			at = s.SeedAt
		}
		for _, when := range []time.Time{w.Time, at} {
			if s.Seed != "shed" {
				active(b, host, when, rate)
				continue
			}
			b.Hosts = append(b.Hosts, flow.HostWindow{Key: key(host, when, rate), Counts: flow.Counts{OutRecords: 9, OutPackets: 9}})
		}
		if s.Seed == "shed" {
			continue
		}
		if s.Seed != "forged" && s.Seed != "elsewhere" && (w.Verdict == "contradicted" || w.Verdict == "not_visible") || s.SeedOnly != "" && s.SeedOnly != w.At {
			continue
		}
		if s.SeedDst != "" {
			d, p := end(s.SeedDst)
			if !remote.IsValid() {
				remote = d
			}
			if port == 0 {
				port = p
			}
		}
		proto := cmp.Or(w.Proto, s.SeedProto, 6)
		if w.Why == "pair" {
			b.Pairs = append(b.Pairs, flow.PairWindow{Key: key(host, at, rate), Remote: remote, IPProto: proto,
				Counts: flow.Counts{OutRecords: 1, OutPackets: 3, OutBytes: 180}, Ports: []uint16{port}})
			continue
		}
		row := flow.FlowRow{Time: at.UnixNano(), Start: at.UnixNano(), End: at.UnixNano(), Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: tenantKey(host), Host: host,
			Remote: remote, HostPort: cmp.Or(hostPort, 45000), RemotePort: port, SvcPort: port, Dir: flow.Out, IPProto: proto, Role: flow.RoleClient,
			Class: flow.ClassSYN, TCPFlags: flow.SYN, Packets: 1, Bytes: 60, Rate: rate}
		switch {
		case proto == flow.ProtoUDP:
			row.Class = flow.ClassUDP
		case proto == flow.ProtoICMP:
			row.Class, row.HostPort, row.RemotePort, row.SvcPort = flow.ClassEcho, 0, 0, 0
		case s.SeedClass == "synack":
			row.Class, row.Role, row.SvcPort = flow.ClassSYNACK, flow.RoleServer, row.HostPort
		}
		row.Spoofed = s.Seed == "forged"
		b.Flows = append(b.Flows, row)
	}
}

func key(host netip.Addr, at time.Time, rate uint32) flow.Key {
	return flow.Key{Start: at.Unix() / flow.WindowSeconds * flow.WindowSeconds, Tenant: tenantKey(host), Rate: rate}
}

func active(b *flow.Batch, host netip.Addr, at time.Time, rate uint32) {
	c := flow.Counts{OutRecords: 50, OutPackets: 50, OutBytes: 5000, InPackets: 40, InRecords: 40, InBytes: 4000}
	b.Hosts = append(b.Hosts, flow.HostWindow{Key: key(host, at, rate), Counts: c})
	t := at.Add(10 * time.Second).UnixNano() // what the host did besides
	b.Flows = append(b.Flows, flow.FlowRow{Time: t, Start: t, End: t, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: tenantKey(host), Host: host,
		Remote: netip.MustParseAddr("203.0.113.200"), HostPort: 40000, RemotePort: 5222, SvcPort: 5222, Dir: flow.Out, IPProto: 6, Role: flow.RoleClient, Class: flow.ClassEst, Packets: 1, Rate: rate})
	b.Services = append(b.Services, flow.ServiceWindow{Key: key(host, at, rate), IPProto: 6, Role: flow.RoleClient, SvcPort: 443, Counts: c})
}

// seeded returns a store with what the samples need, and a first row of 2020, so
// that flow rows of all later times count as kept.
func seeded(t testing.TB, all []sample) *store.Store {
	t.Helper()
	st := storetest.New(t)
	b := &flow.Batch{}
	for _, s := range all {
		s.seed(b)
	}
	first := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	b.Flows = append(b.Flows, flow.FlowRow{Time: first, Start: first, End: first, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: netip.MustParseAddr("198.18.255.1"),
		Host: netip.MustParseAddr("198.18.255.1"), Remote: netip.MustParseAddr("203.0.113.1"), Dir: flow.Out, IPProto: 6, Rate: 1, Packets: 1})
	if err := st.Write(b); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := st.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	return st
}

func matcher(t testing.TB, st complaint.Store, incidents complaint.Incidents) *complaint.Matcher {
	t.Helper()
	inv, err := inventory.Parse("holders.yaml", strings.NewReader(holders))
	if err != nil {
		t.Fatal(err)
	}
	m, err := complaint.New(complaint.Config{}, complaint.Deps{Store: st, Inventory: inv, Incidents: incidents, TenantKey: tenantKey})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSamples(t *testing.T) {
	all := samples(t)
	shapes := map[string]bool{}
	for _, s := range all {
		for _, l := range s.Lines {
			shapes[l.Shape] = true
		}
	}
	if len(all) < 60 || len(shapes) < 12 {
		t.Errorf("%d samples of %d shapes", len(all), len(shapes))
	}
	m := matcher(t, seeded(t, all), nil)
	for _, s := range all {
		t.Run(filepath.Base(s.file), func(t *testing.T) {
			if s.Origin == "" {
				t.Error("the origin of its form is not named")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			res, err := m.Match(ctx, s.request(t))
			if err != nil {
				t.Fatal(err)
			}
			s.check(t, res)
		})
	}
}

func (s sample) check(t *testing.T, res *complaint.Result) {
	t.Helper()
	var got []want
	noted := false
	for _, l := range res.Lines {
		got = append(got, want{At: fmt.Sprintf("%d:%d", l.Part, l.Line), Time: l.Time, Zone: string(l.Zone.Source), Src: endText(l.Src), Dst: endText(l.Dst),
			Proto: l.IPProto, Shape: string(l.Shape), Verdict: string(l.Verdict), Why: string(l.Traffic.Why)})
		for _, n := range l.Notes {
			noted = noted || n.Code == s.Note
		}
		if l.Text == "" || l.TextRU == "" {
			t.Errorf("line %d has no words", l.Line)
		}
	}
	if d := gocmp.Diff(s.Lines, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("lines -want +got\n%s", d)
	}
	var unread []string
	for _, u := range res.Unread {
		unread = append(unread, fmt.Sprintf("%d:%d %s", u.Part, u.Line, u.Reason))
		if u.Detail == "" {
			t.Errorf("line %d: no detail", u.Line)
		}
	}
	if d := gocmp.Diff(s.Unread, unread); d != "" && len(s.Unread)+len(unread) > 0 {
		t.Errorf("not understood -want +got\n%s", d)
	}
	if s.Note != "" && !noted {
		t.Errorf("no line has the note %s: %+v", s.Note, res.Lines)
	}
	for _, customer := range []string{"c-1", "vds-", "c-6", "c-nat", "gw-1", "c-old", "c-new"} {
		if strings.Contains(res.Draft.EN+res.Draft.RU, customer) {
			t.Errorf("the draft names the customer %s", customer)
		}
	}
	if !strings.Contains(res.Draft.RU, "Здравствуйте") || !strings.Contains(res.Draft.EN, "Hello") {
		t.Errorf("the draft:\n%s\n%s", res.Draft.EN, res.Draft.RU)
	}
	switch {
	case s.Skew == "" && res.Skew != nil && res.Skew.Significant:
		t.Errorf("an offset of the clock where there is none: %+v", res.Skew)
	case s.Skew != "" && (res.Skew == nil || res.Skew.Name != s.Skew || !res.Skew.Significant):
		t.Errorf("offset of the clock %+v, want %s", res.Skew, s.Skew)
	}
}

func endText(e parse.Endpoint) string {
	s := ""
	switch {
	case e.Addr.IsValid() && e.Port > 0:
		return netip.AddrPortFrom(e.Addr, e.Port).String()
	case e.Addr.IsValid():
		s = e.Addr.String()
	case e.Prefix.IsValid():
		s = e.Prefix.String()
	}
	if e.Port > 0 {
		s += fmt.Sprintf(":%d", e.Port)
	}
	return cmp.Or(s, "-")
}
