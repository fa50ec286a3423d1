package detect

import (
	"bytes"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// floorOf finds one floor.
func floorOf(t *testing.T, fs []Floor, r flow.Rule, what string) Floor {
	t.Helper()
	for _, f := range fs {
		if f.Rule == r && f.What == what {
			return f
		}
	}
	t.Fatalf("no floor of %s %q", r, what)
	return Floor{}
}

// detection.md §3.1 simulated some of the cells: a suspension within 60 and 300 s
// with 95 %, whose rules differ from ours by what docs/detectors.md says.
func TestFloorsAgreeWithTheStudy(t *testing.T) {
	th := Defaults().Thresholds
	for _, c := range []struct {
		rule    flow.Rule
		what    string
		n       float64
		at      int // index into FloorSeconds
		want    float64
		percent float64
	}{
		{flow.RuleNetscan, "raw SYNs, abuse-prone port", 1000, 0, 659, 3}, {flow.RuleNetscan, "raw SYNs, abuse-prone port", 4096, 1, 540, 3},
		{flow.RuleNetscan, "kernel SYNs, abuse-prone port", 1000, 0, 1220, 3}, {flow.RuleNetscan, "kernel SYNs, abuse-prone port", 1000, 1, 244, 3},
		{flow.RulePortscan, "", 1000, 0, 563, 3}, {flow.RulePortscan, "", 4096, 1, 461, 3},
		{flow.RuleUDPSweep, "", 1000, 0, 1900, 3}, {flow.RuleUDPSweep, "", 1000, 1, 379, 3},
		{flow.RuleSYNFlood, "one address", 1, 0, 523, 2}, {flow.RuleSYNFlood, "one address", 1000, 0, 1620, 3}, {flow.RuleSYNFlood, "one address", 4096, 1, 1490, 4},
		{flow.RuleICMPFlood, "one address, echo requests", 1000, 0, 1220, 4}, {flow.RuleICMPFlood, "one address, echo requests", 1, 1, 308, 2},
		{flow.RuleReflector, "DNS", 1000, 0, 2490, 4}, {flow.RuleReflector, "other amplifiers", 1000, 1, 222, 6},
	} {
		got := floorOf(t, Floors(&th, c.n), c.rule, c.what).Act[c.at]
		if math.Abs(got-c.want) > c.percent/100*c.want {
			t.Errorf("%s %s at 1:%.0f within %d s: %.4g, the study has %g", c.rule, c.what, c.n, FloorSeconds[c.at], got, c.want)
		}
	}
}

func TestFloorsFollowTheThresholds(t *testing.T) {
	th := Defaults().Thresholds
	before := floorOf(t, Floors(&th, 1000), flow.RuleNetscan, "raw SYNs, web port")
	th.PortClasses.Web.Rate, th.Netscan.SuspendScore = 50, 60
	after := floorOf(t, Floors(&th, 1000), flow.RuleNetscan, "raw SYNs, web port")
	if !(after.Act[0] > 1.2*before.Act[0]) || !(after.Notify[0] > before.Notify[0]) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	for _, n := range []float64{0, 1, 100, 4096, 1 << 20} {
		for _, f := range Floors(&th, n) {
			if len(f.Notify) != len(FloorSeconds) || len(f.Act) != len(FloorSeconds) {
				t.Fatalf("%+v", f)
			}
			for i := range f.Notify {
				if !(f.Notify[i] > 0) || f.Tier > flow.TierNotify && f.Act[i] < f.Notify[i] || i > 0 && f.Notify[i] > f.Notify[i-1]*1.0001 {
					t.Errorf("1:%g: %+v", n, f)
				}
			}
		}
	}
	seen := map[flow.Rule]bool{}
	for _, f := range Floors(&th, 1000) {
		seen[f.Rule] = true
	}
	for _, r := range rules {
		if !seen[r] {
			t.Errorf("no floor of %s", r)
		}
	}
}

func TestMeanFor(t *testing.T) {
	// χ²₀.₉₅(2c)/2: 2.996, 4.744, 29.06 (c = 20: 55.758/2 = 27.88), tables of χ².
	for c, want := range map[uint64]float64{1: 2.9957, 2: 4.7439, 20: 27.879, 50: 62.171} {
		if got := meanFor(c); math.Abs(got-want) > 0.002*want {
			t.Errorf("meanFor(%d) = %g, want %g", c, got, want)
		}
	}
	if a, b := meanFor(1000), meanFor(1001); math.Abs(b-a-1) > 1.5 {
		t.Errorf("the normal bound does not join the exact one: %g, %g", a, b)
	}
}

func TestFloorsOf(t *testing.T) {
	th := Defaults().Thresholds
	ts := epoch.Add(time.Hour)
	got := (&policy{th: th}).floorsOf([]flow.ExporterHealth{
		{Exporter: exporter, Samplers: []flow.SamplerHealth{{Rate: 2000, LastSeen: ts}, {Rate: 0, LastSeen: ts}, {Rate: 100, LastSeen: epoch}, {Rate: 1000, LastSeen: ts}, {Rate: 1000, Domain: 2, LastSeen: ts}}},
		{Exporter: exporterB, Samplers: []flow.SamplerHealth{{Rate: 1000, LastSeen: ts}}},
		{Exporter: netip.MustParseAddr("192.0.2.3")},
	}, ts)
	if len(got) != 3 || got[0].Rate != 1000 || got[1].Rate != 2000 || got[2].Exporter != exporterB || len(got[2].Floors) == 0 {
		t.Errorf("%d entries: %+v", len(got), got)
	}
	var b bytes.Buffer
	if err := WriteFloors(&b, 1000, got[0].Floors); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1:1000", "netscan", "destinations, raw SYNs, abuse-prone port", "suspend", "block_port", "in 30 min"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	t.Log("\n" + b.String())
}
