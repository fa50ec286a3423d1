package detect

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
)

// A scenario is a file testdata/<name>.scenario that says what one tenant does
// and what the detector must say about it, one statement a line:
//
//	title TEXT
//	length 600s                what is simulated; at 1:1 less, see budget
//	max none|notify            benign: no finding above that at any rate
//	by 1:256 suspend 90s RULE  abusive: this tier at this rate within this time
//	                           of the first packet; a rate without a line is
//	                           simulated and reported, but nothing is asked;
//	                           of this rule, or without one of any
//	tag mail                   the tenant's role tags
//	known 0.9                  share of the destinations that are known peers
//	rates 1:1 1:256            only these; the default is all four
//	export sflow|netflow       only this; the default is NetFlow at 1:1, and
//	                           sFlow and NetFlow by turns elsewhere
//	phase 3s                   when in a window it begins; the default is random
//	outonly                    what the tenant receives is not exported
//	tcp|udp|icmp|stream KEY=VALUE…  a source of traffic
//
// Keys of every source: rate (conversations/s; packets/s of a stream), from, to,
// port (22 or 80,443 or random or 1-65535, one after the other), dst (any,
// bogon, v6, or the size of a pool, of which the first ok·size are up),
// server (the remote opens), own (the tenant's port), v6 (the tenant is, and a
// pool), noflags, spoofed (comes in from outside with the tenant's address).
// tcp: ok, rst, half (answered and reset by the kernel, as raw SYNs are),
// silent (answered, nothing follows), scatter (SYN-ACKs for nobody, reset);
// the rest gets no answer and is tried syn times. out and in are the packets
// of a whole conversation, len and ttl those of the SYN, size and insize of
// data packets, dur its seconds.
// udp: ok (share answered), out and in packets of an exchange, size, insize,
// icmp (the tenant answers by ICMP unreachable).
// icmp: as udp; the packets are echo requests and replies.
// stream: proto (udp, tcp, icmp or an IP protocol number), dst (number of flows), ok (packets back per
// packet sent), size, insize, active (the exporter's active timeout).
type scenario struct {
	name, title string
	length      time.Duration
	max         flow.Tier
	benign      bool
	by          map[uint32]expectation
	rates       []uint32
	export      string
	outOnly     bool
	tags        []string
	known       float64
	phase       time.Duration // of the first packet within a window; -1: random
	sources     []source
}

type expectation struct {
	tier   flow.Tier
	within time.Duration
	rule   flow.Rule // empty: any
}

var allRates = []uint32{1, 256, 1000, 4096}

func readScenario(path string) (*scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &scenario{name: strings.TrimSuffix(filepath.Base(path), ".scenario"), by: map[uint32]expectation{}, rates: allRates, length: 10 * time.Minute, phase: -1}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := s.statement(words); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	if !s.benign && len(s.by) == 0 {
		return nil, fmt.Errorf("%s: neither max nor by", path)
	}
	for i := range s.sources {
		if s.sources[i].to == 0 {
			s.sources[i].to = s.length
		}
	}
	return s, sc.Err()
}

func (s *scenario) statement(w []string) (err error) {
	switch w[0] {
	case "title":
		s.title = strings.Join(w[1:], " ")
	case "length":
		s.length, err = time.ParseDuration(w[1])
	case "max":
		s.benign = true
		err = parseTier(w[1], &s.max)
	case "by":
		var e expectation
		var n uint32
		if n, err = parseRate(w[1]); err != nil {
			return err
		}
		if err = parseTier(w[2], &e.tier); err != nil {
			return err
		}
		if e.within, err = time.ParseDuration(w[3]); len(w) > 4 {
			e.rule = flow.Rule(w[4])
		}
		s.by[n] = e
	case "rates":
		s.rates = nil
		for _, x := range w[1:] {
			n, err := parseRate(x)
			if err != nil {
				return err
			}
			s.rates = append(s.rates, n)
		}
	case "export":
		s.export = w[1]
	case "phase":
		s.phase, err = time.ParseDuration(w[1])
	case "outonly":
		s.outOnly = true
	case "tag":
		s.tags = w[1:]
	case "known":
		s.known, err = strconv.ParseFloat(w[1], 64)
	case "tcp", "udp", "icmp", "stream":
		var src source
		if src, err = parseSource(w); err == nil {
			s.sources = append(s.sources, src)
		}
	default:
		err = fmt.Errorf("unknown statement %q", w[0])
	}
	return err
}

func parseTier(s string, t *flow.Tier) error {
	_ = t.UnmarshalText([]byte(s))
	if t.String() != s {
		return fmt.Errorf("unknown tier %q", s)
	}
	return nil
}

func parseRate(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "1:"), 10, 32)
	return uint32(n), err
}

func parseSource(w []string) (source, error) {
	s := source{proto: flow.ProtoTCP, dst: "any", active: activeTimeout, randomPort: true,
		tcp: shape{syn: 1, out: 6, in: 5, length: 60, ttl: 64, size: 100, insize: 600, dur: 0.5},
		udp: udpShape{out: 1, in: 1, size: 80, insize: 120}}
	switch w[0] {
	case "udp":
		s.proto = flow.ProtoUDP
	case "icmp":
		s.proto, s.udp.size, s.udp.insize = flow.ProtoICMP, 84, 84
	}
	if w[0] == "stream" {
		s.proto, s.stream, s.dst = flow.ProtoUDP, true, "1"
		s.udp.size, s.udp.insize = 1400, 80
	}
	for _, kv := range w[1:] {
		k, v, _ := strings.Cut(kv, "=")
		if err := s.set(k, v); err != nil {
			return s, fmt.Errorf("%s: %w", kv, err)
		}
	}
	if s.proto == flow.ProtoICMP && s.v6 {
		s.proto = flow.ProtoICMPv6
	}
	if s.dst != "any" && s.dst != "bogon" && s.dst != "v6" {
		n, err := strconv.Atoi(s.dst)
		if err != nil {
			return s, err
		}
		s.pool = n
	}
	return s, nil
}

func (s *source) set(k, v string) (err error) {
	var f float64
	switch k {
	case "port", "dst", "proto", "server", "v6", "noflags", "spoofed", "icmp", "from", "to", "active":
	default:
		if f, err = strconv.ParseFloat(v, 64); err != nil {
			return err
		}
	}
	switch k {
	case "rate":
		s.rate = f
	case "from":
		s.from, err = time.ParseDuration(v)
	case "to":
		s.to, err = time.ParseDuration(v)
	case "active":
		s.active, err = time.ParseDuration(v)
	case "port":
		err = s.setPorts(v)
	case "dst":
		s.dst = v
	case "own":
		s.own = uint16(f)
	case "proto":
		switch v {
		case "tcp":
			s.proto = flow.ProtoTCP
		case "udp":
		case "icmp":
			s.proto = flow.ProtoICMP
		default:
			var p uint64
			p, err = strconv.ParseUint(v, 10, 8)
			s.proto = uint8(p)
		}
	case "server":
		s.server = true
	case "v6":
		s.v6 = true
	case "noflags":
		s.noFlags = true
	case "spoofed":
		s.spoofed = true
	case "icmp":
		s.udp.icmp = true
	case "ok":
		s.tcp.ok, s.udp.ok = f, f
	case "rst":
		s.tcp.rst = f
	case "half":
		s.tcp.half = f
	case "silent":
		s.tcp.silent = f
	case "scatter":
		s.tcp.scatter = f
	case "syn":
		s.tcp.syn = int(f)
	case "out":
		s.tcp.out, s.udp.out = int(f), int(f)
	case "in":
		s.tcp.in, s.udp.in = int(f), int(f)
	case "len":
		s.tcp.length = uint16(f)
	case "ttl":
		s.tcp.ttl = uint8(f)
	case "size":
		s.tcp.size, s.udp.size = uint16(f), int(f)
	case "insize":
		s.tcp.insize, s.udp.insize = uint16(f), int(f)
	case "dur":
		s.tcp.dur = f
	default:
		return fmt.Errorf("unknown key")
	}
	return err
}

func (s *source) setPorts(v string) error {
	if v == "random" {
		return nil
	}
	s.randomPort = false
	sep := ","
	if strings.Contains(v, "-") {
		s.sequential, sep = true, "-"
	}
	for _, x := range strings.Split(v, sep) {
		p, err := strconv.ParseUint(x, 10, 16)
		if err != nil {
			return err
		}
		s.ports = append(s.ports, uint16(p))
	}
	return nil
}

// result is what the detector said of one run.
type result struct {
	tier flow.Tier // the highest
	// When each tier or a higher was reached.
	notify, block, suspend time.Duration
	length                 time.Duration // that was simulated
	worst                  flow.Finding
}

const never = time.Duration(1<<63 - 1)

// play runs the scenario through the aggregator, the rows' model and the
// detector. An abusive one ends when the expected tier is reached; traffic ends
// when budget records were made and nothing more is expected.
func (s *scenario) play(t testing.TB, n uint32, seed uint64, netflow bool, budget int) result {
	g := newGenerator(seed, n, netflow)
	g.outOnly = s.outOnly
	var b flow.Batch
	agg := aggregate.NewLocal(aggregate.Config{
		Internal:   []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")},
		External:   []aggregate.Interface{{Exporter: exporter, IfIndex: 99}},
		FlowPolicy: aggregate.FlowAll,
	}, collect(&b))
	mem := newMemWindows()
	mem.known = s.known
	d := New(Config{}, Deps{Windows: mem, Tags: func(netip.Addr) []string { return s.tags }})
	sources := slices.Clone(s.sources)
	start := epoch.Add(time.Duration(g.rng.Int64N(int64(10 * time.Second)))) // no attack begins on a window's edge
	if s.phase >= 0 {
		start = epoch.Add(s.phase)
	}
	res := result{notify: never, block: never, suspend: never}
	end, want := s.length+activeTimeout+2*inactiveTimeout, s.by[n]
	for e := time.Duration(0); e < end; e += step {
		if g.records < budget || res.tier < want.tier {
			for i := range sources {
				g.run(&sources[i], start, e)
			}
			res.length = min(e+step, s.length)
		}
		ts := epoch.Add(e + step) // all that is received before was made
		for _, r := range g.take(ts) {
			agg.Add(&r)
		}
		agg.Flush(ts.UnixNano(), false)
		mem.add(&b)
		b = flow.Batch{}
		found, err := d.Tick(context.Background(), ts)
		if err != nil {
			t.Fatal(err)
		}
		res.see(found, ts.Sub(start.Add(s.begin())), want.rule)
		if !s.benign && want.tier > flow.TierNone && res.tier >= want.tier {
			break
		}
	}
	return res
}

// begin is when the first source starts.
func (s *scenario) begin() time.Duration {
	d := s.length
	for i := range s.sources {
		d = min(d, s.sources[i].from)
	}
	return d
}

func (r *result) see(found []flow.Finding, after time.Duration, only flow.Rule) {
	for _, f := range found {
		if only != "" && f.Rule != only {
			continue
		}
		if f.Tier > r.tier {
			r.tier, r.worst = f.Tier, f
		}
		if f.Tier >= flow.TierNotify {
			r.notify = min(r.notify, after)
		}
		if f.Tier >= flow.TierBlockPort {
			r.block = min(r.block, after)
		}
		if f.Tier >= flow.TierSuspend {
			r.suspend = min(r.suspend, after)
		}
	}
}

func (r *result) reached(t flow.Tier) time.Duration {
	switch t {
	case flow.TierSuspend:
		return r.suspend
	case flow.TierBlockPort:
		return r.block
	}
	return r.notify
}

// Environment of TestScenarios.
const (
	envSeeds  = "FLOWCORDON_SCENARIO_SEEDS"  // runs for each scenario and rate, default 3
	envBudget = "FLOWCORDON_SCENARIO_BUDGET" // records of a benign run, default 60000
	envTable  = "FLOWCORDON_SCENARIO_TABLE"  // file that the table is written to
)

func envInt(t *testing.T, name string, def int) int {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// exportsNetFlow says how run number i is exported.
func (s *scenario) exportsNetFlow(n uint32, i int) bool {
	switch s.export {
	case "sflow":
		return false
	case "netflow":
		return true
	}
	return n == 1 || i%2 == 1
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	seeds, budget := envInt(t, envSeeds, 3), envInt(t, envBudget, 60_000)
	var table strings.Builder
	table.WriteString("| scenario | 1:1 | 1:256 | 1:1000 | 1:4096 |\n|---|---|---|---|---|\n")
	for _, file := range files {
		s, err := readScenario(file)
		if err != nil {
			t.Fatal(err)
		}
		cells := map[uint32]string{}
		t.Run(s.name, func(t *testing.T) {
			for _, n := range s.rates {
				var rs []result
				var late []string
				for i := range seeds {
					r := s.play(t, n, uint64(i+1), s.exportsNetFlow(n, i), budget)
					rs = append(rs, r)
					late = append(late, s.check(t, n, i, r)...)
				}
				// detection.md §10: in time with at least 95 % of the seeds.
				if len(late) > seeds/20 {
					t.Errorf("late in %d of %d:\n%s", len(late), seeds, strings.Join(late, "\n"))
				}
				cells[n] = cell(rs, s.by[n].tier)
			}
		})
		fmt.Fprintf(&table, "| %s %s |", strings.ToUpper(s.name[:1])+s.name[1:], s.title)
		for _, n := range allRates {
			fmt.Fprintf(&table, " %s |", cmp.Or(cells[n], " "))
		}
		table.WriteByte('\n')
	}
	t.Log("\n" + table.String())
	if path := os.Getenv(envTable); path != "" {
		if err := os.WriteFile(path, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// check fails a benign run that says too much, and returns what is late.
func (s *scenario) check(t *testing.T, n uint32, i int, r result) (late []string) {
	t.Helper()
	what := fmt.Sprintf("1:%d, seed %d, NetFlow %t", n, i+1, s.exportsNetFlow(n, i))
	if s.benign && r.tier > s.max {
		t.Errorf("%s: %s, want %s at most: %s (score %.1f of %.0f)", what, r.tier, s.max, r.worst.Reason, r.worst.Score, r.worst.Threshold)
	}
	if e, ok := s.by[n]; ok && r.reached(e.tier) > e.within {
		got := "never"
		if r.reached(e.tier) != never {
			got = "after " + r.reached(e.tier).String()
		}
		late = append(late, fmt.Sprintf("%s: %s %s, want within %s; got to %s: %s %v", what, e.tier, got, e.within, r.tier, r.worst.Reason, r.worst.Gates))
	}
	return late
}

// cell is one cell of the table: S and the median seconds to it, n, or –. A run
// ends when it has reached what is asked of it, so that a cell that asks for
// notify says no more. Benign runs that were cut by the budget say their length.
func cell(rs []result, want flow.Tier) string {
	slices.SortFunc(rs, func(a, b result) int { return cmp.Compare(a.suspend, b.suspend) })
	count := map[flow.Tier]int{}
	for _, r := range rs {
		count[r.tier]++
	}
	m := rs[len(rs)/2]
	switch {
	case count[flow.TierSuspend] == len(rs):
		return fmt.Sprintf("S %.0f s, ≤ %.0f s", m.suspend.Seconds(), rs[len(rs)-1].suspend.Seconds())
	case count[flow.TierSuspend] > 0:
		return fmt.Sprintf("S %d, n %d of %d", count[flow.TierSuspend], count[flow.TierNotify], len(rs))
	case count[flow.TierBlockPort] == len(rs):
		slices.SortFunc(rs, func(a, b result) int { return cmp.Compare(a.block, b.block) })
		return fmt.Sprintf("B %.0f s, ≤ %.0f s", rs[len(rs)/2].block.Seconds(), rs[len(rs)-1].block.Seconds())
	case count[flow.TierBlockPort] > 0:
		return fmt.Sprintf("B %d, n %d of %d", count[flow.TierBlockPort], count[flow.TierNotify], len(rs))
	case count[flow.TierNotify] > 0:
		slices.SortFunc(rs, func(a, b result) int { return cmp.Compare(a.notify, b.notify) })
		if c := count[flow.TierNotify]; c < len(rs) {
			return fmt.Sprintf("n %d of %d", c, len(rs))
		}
		return fmt.Sprintf("n %.0f s", rs[len(rs)/2].notify.Seconds())
	case want == flow.TierNone && m.length < 10*time.Minute:
		return fmt.Sprintf("– (%.0f s)", m.length.Seconds())
	}
	return "–"
}
