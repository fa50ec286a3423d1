package detect

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/flow"
)

// Environment of TestScenarios.
const (
	envSeeds  = "FLOWCORDON_SCENARIO_SEEDS"  // runs for each scenario, rate and protocol, default 1
	envBudget = "FLOWCORDON_SCENARIO_BUDGET" // records of a benign run, default 60000
	envDeep   = "FLOWCORDON_SCENARIO_DEEP"   // records of the first run of each cell, default the budget
	envOnly   = "FLOWCORDON_SCENARIO_ONLY"   // a pattern of names, as a*
	envTable  = "FLOWCORDON_SCENARIO_TABLE"  // file that the table is written to
)

const defaultBudget = 60_000

func envInt(t *testing.T, name string, def int) int {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q; write a whole number above 0", name, v)
	}
	return n
}

// heavy is how many records of one run make its cell one of heavySeeds seeds:
// what a seed could change is then small, and a run takes many seconds.
const (
	heavy      = 2_000_000
	heavySeeds = 3
)

// cell is one scenario at one rate by one protocol, over all seeds.
type cell struct {
	s        *scenario.Scenario
	n        uint32
	protocol flow.Protocol
	rs       []result
}

type protocolRate struct {
	protocol flow.Protocol
	n        uint32
}

// TestScenarios runs every scenario at every rate by every protocol with every
// seed, and prints the table of docs/detectors.md. No benign run may say more
// than its file allows; of the abusive ones 95 % of a cell's seeds must be found
// in time (detection.md §10).
func TestScenarios(t *testing.T) {
	only := os.Getenv(envOnly)
	if only == "" {
		only = "*"
	}
	files, err := filepath.Glob("testdata/" + only + ".scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	// The model keeps all rows of a run: a collector that runs less often takes
	// memory (3 GB instead of 1) for a quarter of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	seeds, budget := envInt(t, envSeeds, 1), envInt(t, envBudget, defaultBudget)
	deep := max(budget, envInt(t, envDeep, budget))
	rows := make([]map[protocolRate]*cell, len(files))
	list := make([]*scenario.Scenario, len(files))
	t.Run("all", func(t *testing.T) {
		for i, file := range files {
			s, err := scenario.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			list[i], rows[i] = s, map[protocolRate]*cell{}
			var mu sync.Mutex
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				for _, n := range s.Rates {
					for _, protocol := range s.Exports() {
						c := &cell{s: s, n: n, protocol: protocol}
						c.run(t, seeds, budget, deep)
						mu.Lock()
						rows[i][protocolRate{protocol, n}] = c
						mu.Unlock()
					}
				}
			})
		}
	})
	table := tableOf(list, rows)
	t.Log("\n" + table)
	if path := os.Getenv(envTable); path != "" {
		if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cell) run(t *testing.T, seeds, budget, deep int) {
	var late []string
	for i := range seeds {
		if i >= heavySeeds && c.rs[0].records > heavy {
			break
		}
		b := budget
		if i == 0 {
			b = deep
		}
		r := play(t, c.s, c.n, uint64(i+1), c.protocol, b)
		if r.tooMany {
			return
		}
		c.rs = append(c.rs, r)
		what := fmt.Sprintf("1:%d by %s, seed %d", c.n, c.protocol, i+1)
		if c.s.Benign && r.tier > c.s.Max {
			t.Errorf("%s: %s, want %s at most: %s (score %.1f of %.0f)", what, r.tier, c.s.Max, r.worst.Reason, r.worst.Score, r.worst.Threshold)
		}
		for _, f := range r.innocent {
			t.Errorf("%s: %s: %s of %s, who is somebody else: %s", what, f.Rule, f.Tier, f.Tenant, f.Reason)
		}
		if e, ok := c.s.Expects(c.n, c.protocol); ok && r.reached(e.Tier) > e.Within {
			got := "never"
			if r.reached(e.Tier) != never {
				got = "after " + r.reached(e.Tier).String()
			}
			late = append(late, fmt.Sprintf("%s: %s %s, want within %s; got to %s: %s %v", what, e.Tier, got, e.Within, r.tier, r.worst.Reason, r.worst.Gates))
		}
	}
	if len(late) > len(c.rs)/20 {
		t.Errorf("late in %d of %d:\n%s", len(late), len(c.rs), strings.Join(late, "\n"))
	}
}

var protocolTitles = []struct {
	protocol flow.Protocol
	title    string
}{{flow.SFlow5, "sFlow"}, {flow.NetFlow9, "v9"}}

func tableOf(list []*scenario.Scenario, rows []map[protocolRate]*cell) string {
	var b strings.Builder
	b.WriteString("| scenario |")
	for _, n := range scenario.AllRates {
		for _, p := range protocolTitles {
			fmt.Fprintf(&b, " 1:%d %s |", n, p.title)
		}
	}
	b.WriteString("\n|---" + strings.Repeat("|---", 2*len(scenario.AllRates)) + "|\n")
	var sum totals
	for i, s := range list {
		fmt.Fprintf(&b, "| %s %s |", strings.ToUpper(s.Name[:1])+s.Name[1:], s.Title)
		for _, n := range scenario.AllRates {
			for _, p := range protocolTitles {
				text := ""
				if c := rows[i][protocolRate{p.protocol, n}]; c != nil {
					text = c.text()
					sum.add(c)
				}
				fmt.Fprintf(&b, " %s |", text)
			}
		}
		b.WriteByte('\n')
	}
	return b.String() + "\n" + sum.String() + "\n"
}

// totals sum up the cells.
type totals struct {
	runs, records, benign, wrong, asked, inTime, found, expected int
	cut                                                          int // benign first runs that were cut by the budget
}

func (s *totals) add(c *cell) {
	e, asked := c.s.Expects(c.n, c.protocol)
	in := 0
	for _, r := range c.rs {
		s.runs++
		s.records += r.records
		switch {
		case c.s.Benign:
			s.benign++
			if r.tier > flow.TierNotify {
				s.wrong++
			}
		case asked:
			s.expected++
			if r.reached(e.Tier) <= e.Within {
				in++
			}
		}
	}
	s.found += in
	if asked && !c.s.Benign && len(c.rs) > 0 {
		s.asked++
		if 20*in >= 19*len(c.rs) {
			s.inTime++
		}
	}
	if c.s.Benign && len(c.rs) > 0 && c.rs[0].length < c.s.Length {
		s.cut++
	}
}

func (s *totals) String() string {
	return fmt.Sprintf("%d runs, %d records. Abusive: %d of %d cells in time in 95 %% of the seeds (%d of %d runs). Benign: %d suspend or block verdicts in %d runs; %d cells are cut short of their length by the budget.",
		s.runs, s.records, s.inTime, s.asked, s.found, s.expected, s.wrong, s.benign, s.cut)
}

var tierLetter = map[flow.Tier]string{flow.TierNotify: "n", flow.TierBlockPort: "B", flow.TierSuspend: "S"}

// text is one cell of the table. Asked for: the tier, the share of the seeds in
// time, and the median, longest and allowed seconds. Else how many seeds got to
// what; 0 and – are none.
func (c *cell) text() string {
	if len(c.rs) == 0 {
		return "×"
	}
	if e, ok := c.s.Expects(c.n, c.protocol); ok {
		in := 0
		var took []time.Duration
		for _, r := range c.rs {
			if d := r.reached(e.Tier); d != never {
				took = append(took, d)
				if d <= e.Within {
					in++
				}
			}
		}
		if len(took) == 0 {
			return "**never**"
		}
		slices.Sort(took)
		text := fmt.Sprintf("%s %d %% %.0f/%.0f/%.0f s", tierLetter[e.Tier], 100*in/len(c.rs), took[len(took)/2].Seconds(), took[len(took)-1].Seconds(), e.Within.Seconds())
		if 20*in < 19*len(c.rs) {
			return "**" + text + "**"
		}
		return text
	}
	count := map[flow.Tier]int{}
	for _, r := range c.rs {
		count[r.tier]++
	}
	text := "–"
	if c.s.Benign {
		text = "0"
		if n := count[flow.TierSuspend] + count[flow.TierBlockPort]; n > 0 {
			text = fmt.Sprintf("**%d of %d**", n, len(c.rs))
		}
	}
	for _, tier := range []flow.Tier{flow.TierSuspend, flow.TierBlockPort, flow.TierNotify} {
		if n := count[tier]; n > 0 {
			text += fmt.Sprintf(", %s %d/%d", tierLetter[tier], n, len(c.rs))
		}
	}
	if l := c.rs[0].length; l < c.s.Length {
		text += fmt.Sprintf(" (%.0f s)", l.Seconds())
	}
	return text
}
