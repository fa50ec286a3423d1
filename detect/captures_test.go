package detect

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// corpora is where real captures lie, beside the checkout.
const corpora = "../../shared/corpora"

// leastRecords is how many records of a tenant there must be for it to be
// judged on its own: no rule fires on fewer.
const leastRecords = 3

// captureTail is how long the detector goes on after a tenant's last record.
const captureTail = 90 * time.Second

// exportWays are how the packets come to us: three exporters at two rates.
var exportWays = []struct {
	name string
	n    int
}{{"softflowd", 1}, {"softflowd", 10}, {"pmacctd", 1}, {"pmacctd", 10}, {"ovs", 1}, {"ovs", 10}}

// captureRow is what a capture must show of one tenant. Everybody else in it
// must be left alone.
type captureRow struct {
	file   string
	tenant netip.Addr
	rules  []flow.Rule // any of them
	least  [6]flow.Tier
	word   string
	benign bool // at notify at most; no rules
}

// TestCaptures plays every real capture as each tenant in it: through real
// exporters, the decoder, the aggregator and the detector. What is an attack
// must be found where testdata/captures.tsv says that the data can show it; nobody
// else may be acted on. Whatever is found is found in ClickHouse, too.
func TestCaptures(t *testing.T) {
	if os.Getenv("FLOWCORDON_CAPTURES") == "" {
		t.Skip("set FLOWCORDON_CAPTURES=1, or run make captures: it takes minutes and three exporters")
	}
	var files []string
	for _, dir := range []string{"pcap/*/*", "labelled/*conn.log*", "labelled/*.binetflow"} {
		l, err := filepath.Glob(filepath.Join(corpora, dir))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, l...)
	}
	if len(files) == 0 {
		t.Skipf("no captures in %s", corpora)
	}
	for _, bin := range []string{"softflowd", "pmacctd", "ovs-vswitchd"} {
		if _, err := exec.LookPath(bin); err != nil {
			t.Fatalf("%s is not installed: apt-get install --no-install-recommends softflowd pmacct openvswitch-switch", bin)
		}
	}
	want, err := readCaptureRows("testdata/captures.tsv")
	if err != nil {
		t.Fatal(err)
	}
	ovs := startOVS(t)
	var table []string
	judged, few := 0, 0
	for _, path := range files {
		name := strings.TrimPrefix(path, corpora+"/")
		if only := os.Getenv("FLOWCORDON_CAPTURES_ONLY"); !strings.Contains(name, only) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			fs, err := readFrames(path)
			if err != nil {
				t.Fatal(err)
			}
			c := playCapture(t, ovs, fs)
			judged, few = judged+c.judged, few+c.few
			table = append(table, c.check(t, name, want[name])...)
		})
	}
	text := captureTable(table, len(files), judged, few)
	t.Log("\n" + text)
	if path := os.Getenv("FLOWCORDON_CAPTURES_DOC"); path != "" && os.Getenv("FLOWCORDON_CAPTURES_ONLY") == "" {
		if err := replaceBetween(path, "<!-- captures: written by make captures -->\n", "<!-- captures: end -->\n", text); err != nil {
			t.Error(err)
		}
	}
}

// captureTable is the lines as docs/detectors.md has them.
func captureTable(lines []string, files, judged, few int) string {
	var b strings.Builder
	b.WriteString("| capture, tenant |")
	for _, w := range exportWays {
		fmt.Fprintf(&b, " %s 1:%d |", w.name, w.n)
	}
	b.WriteString(" a word |\n|---|" + strings.Repeat("---|", len(exportWays)+1) + "\n")
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	fmt.Fprintf(&b, "\n%d captures; %d runs of a tenant through one exporter at one rate, %d more with fewer than %d records.\n", files, judged, few, leastRecords)
	return b.String()
}

// replaceBetween writes text between two lines of a file.
func replaceBetween(path, begin, end, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, too := strings.Cut(rest, end)
	if !ok || !too {
		return fmt.Errorf("%s: no lines %q and %q", path, begin, end)
	}
	return os.WriteFile(path, []byte(before+begin+text+end+after), 0o644)
}

// captureRun is what the detector said of each tenant by the way of export.
type captureRun struct {
	worst       map[netip.Addr]*[6]flow.Finding
	judged, few int
}

func playCapture(t *testing.T, ovs *ovs, fs []frame) *captureRun {
	c := &captureRun{worst: map[netip.Addr]*[6]flow.Finding{}}
	tenants := addresses(fs)
	for i, way := range exportWays {
		var sent []datagram
		switch way.name {
		case "softflowd":
			sent = softflowd(t, fs, way.n)
		case "pmacctd":
			sent = pmacctd(t, fs, way.n)
		default:
			sent = ovs.export(t, fs, way.n)
		}
		records := decodeAll(t, sent)
		if len(records) == 0 && way.n == 1 && len(fs) > 8 {
			t.Logf("%s at 1:%d: %d datagrams, no record", way.name, way.n, len(sent))
		}
		for _, tenant := range tenants {
			own := recordsOf(records, tenant)
			if len(own) < leastRecords {
				c.few++
				continue
			}
			c.judged++
			worst := judgeTenant(t, newMemWindows(), tenant, own)
			if worst.Tier == flow.TierNone {
				continue
			}
			if c.worst[tenant] == nil {
				c.worst[tenant] = new([6]flow.Finding)
			}
			c.worst[tenant][i] = worst
			if worst.Tier > flow.TierNotify {
				if got := judgeStored(t, tenant, own); got.Tier != worst.Tier || got.Rule != worst.Rule {
					t.Errorf("%s through %s at 1:%d: %s %s in the model, %s %s in ClickHouse", tenant, way.name, way.n, worst.Rule, worst.Tier, got.Rule, got.Tier)
				}
			}
		}
	}
	return c
}

// addresses are those of the frames that can be a tenant's, in order.
func addresses(fs []frame) []netip.Addr {
	seen := map[netip.Addr]bool{}
	for i := range fs {
		p := gopacket.NewPacket(fs[i].data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		var ends []netip.Addr
		if ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok {
			a, _ := netip.AddrFromSlice(ip.SrcIP.To4())
			b, _ := netip.AddrFromSlice(ip.DstIP.To4())
			ends = []netip.Addr{a, b}
		} else if ip, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ok {
			a, _ := netip.AddrFromSlice(ip.SrcIP)
			b, _ := netip.AddrFromSlice(ip.DstIP)
			ends = []netip.Addr{a, b}
		}
		for _, a := range ends {
			if a.IsValid() && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
				seen[a] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), netip.Addr.Compare)
}

func decodeAll(t *testing.T, sent []datagram) []flow.Record {
	t.Helper()
	dec := decode.New(decode.Config{}, decode.Deps{})
	var out []flow.Record
	for _, d := range sent {
		dec.Decode(decode.Datagram{Exporter: exporterAddr, Received: d.at.UnixNano(), Payload: d.payload}, func(rs []flow.Record) {
			out = append(out, rs...)
		})
	}
	slices.SortStableFunc(out, func(a, b flow.Record) int { return cmp.Compare(a.Received, b.Received) })
	return out
}

func recordsOf(rs []flow.Record, a netip.Addr) (own []flow.Record) {
	for i := range rs {
		if rs[i].Src.Unmap() == a || rs[i].Dst.Unmap() == a {
			own = append(own, rs[i])
		}
	}
	return own
}

// rowsTo takes the rows of a run and makes them answers of Windows.
type rowsTo func(*flow.Batch) error

func judgeTenant(t *testing.T, mem *memWindows, tenant netip.Addr, rs []flow.Record) flow.Finding {
	t.Helper()
	return judgeRecords(t, New(Config{}, Deps{Windows: mem}), tenant, rs, func(b *flow.Batch) error { mem.add(b); return nil })
}

func judgeStored(t *testing.T, tenant netip.Addr, rs []flow.Record) flow.Finding {
	t.Helper()
	s := storetest.New(t)
	return judgeRecords(t, New(Config{}, Deps{Windows: s}), tenant, rs, func(b *flow.Batch) error {
		if b.Rows() == 0 {
			return nil
		}
		if err := s.Write(b); err != nil {
			return err
		}
		return s.Sync(context.Background())
	})
}

// judgeRecords lets the records arrive and ticks while something can be new. The
// site of the tenant has no bogons: many captures are of private networks.
func judgeRecords(t *testing.T, d *Detector, tenant netip.Addr, rs []flow.Record, to rowsTo) (worst flow.Finding) {
	t.Helper()
	var b flow.Batch
	agg := aggregate.NewLocal(aggregate.Config{
		Internal: []netip.Prefix{netip.PrefixFrom(tenant, tenant.BitLen())}, Bogons: []netip.Prefix{}, FlowPolicy: aggregate.FlowAll,
	}, collect(&b))
	const interval = 5 * time.Second
	for i := 0; i < len(rs); {
		ts := time.Unix(0, rs[i].Received).UTC().Truncate(interval).Add(interval)
		for busy := ts; ts.Sub(busy) <= captureTail; ts = ts.Add(interval) {
			for ; i < len(rs) && rs[i].Received <= ts.UnixNano(); i++ {
				agg.Add(&rs[i])
				busy = ts
			}
			agg.Flush(ts.UnixNano(), false)
			if err := to(&b); err != nil {
				t.Fatal(err)
			}
			b = flow.Batch{}
			found, err := d.Tick(context.Background(), ts)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if cmp.Or(cmp.Compare(f.Tier, worst.Tier), cmp.Compare(f.Score, worst.Score)) > 0 {
					worst = f
				}
			}
		}
	}
	return worst
}

// check compares with what must be seen and returns the table's lines.
func (c *captureRun) check(t *testing.T, name string, want []captureRow) []string {
	t.Helper()
	var out []string
	known := map[netip.Addr]captureRow{}
	for _, w := range want {
		known[w.tenant] = w
		got := c.worst[w.tenant]
		if got == nil {
			got = new([6]flow.Finding)
			c.worst[w.tenant] = got
		}
		for i, least := range w.least {
			if got[i].Tier < least || least > flow.TierNone && !slices.Contains(w.rules, got[i].Rule) {
				t.Errorf("%s through %s at 1:%d: %s %s, want %s by one of %s", w.tenant, exportWays[i].name, exportWays[i].n, got[i].Rule, got[i].Tier, least, w.rules)
			}
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(c.worst), netip.Addr.Compare) {
		w, said := known[a]
		attack := said && !w.benign
		cells := make([]string, len(exportWays))
		for i, f := range c.worst[a] {
			switch {
			case f.Tier == flow.TierNone:
				cells[i] = "–"
			default:
				cells[i] = fmt.Sprintf("%s: %s", f.Tier, f.Rule)
				if len(f.Gates) > 0 {
					cells[i] += " (" + strings.Join(f.Gates, ", ") + ")"
				}
			}
			if f.Tier > flow.TierNotify && !attack {
				t.Errorf("%s, who does nothing wrong, through %s at 1:%d: %s %s: %s", a, exportWays[i].name, exportWays[i].n, f.Rule, f.Tier, f.Reason)
			}
		}
		word := w.word
		if !attack {
			word = strings.TrimSuffix("no attacker: "+word, ": ")
		}
		out = append(out, fmt.Sprintf("| %s, %s | %s | %s |", name, a, strings.Join(cells, " | "), word))
	}
	return out
}

// readCaptureRows reads tab-separated lines: file, tenant, rules with commas (-:
// no attacker), the least tier by way of export, a word on it. Lines with # are comments.
func readCaptureRows(path string) (map[string][]captureRow, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	tiers := map[string]flow.Tier{"-": flow.TierNone, "notify": flow.TierNotify, "block": flow.TierBlockPort, "suspend": flow.TierSuspend}
	out := map[string][]captureRow{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("%s: %d columns, want 5: %s", path, len(f), line)
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		r := captureRow{file: f[0], tenant: a, word: f[4], benign: f[2] == "-"}
		for s := range strings.SplitSeq(f[2], ",") {
			r.rules = append(r.rules, flow.Rule(s))
		}
		cells := strings.Fields(f[3])
		if len(cells) != len(exportWays) {
			return nil, fmt.Errorf("%s: %d tiers, want %d: %s", path, len(cells), len(exportWays), line)
		}
		for i, s := range cells {
			tier, ok := tiers[s]
			if !ok {
				return nil, fmt.Errorf("%s: tier %q: write -, notify, block or suspend", path, s)
			}
			r.least[i] = tier
		}
		out[r.file] = append(out[r.file], r)
	}
	return out, nil
}
