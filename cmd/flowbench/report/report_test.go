package report

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/cmd/flowbench/measure"
)

func cell(collector, protocol string, round int, quiet, rate, cpu float64, generator bool) Cell {
	return Cell{Collector: collector, Protocol: protocol, Round: round, Quiet: &measure.Figures{CPU: quiet, Engine: quiet / 4, Memory: int64(round) << 20},
		Highest: &measure.Highest{Figures: measure.Figures{Rate: rate, CPU: cpu}, Generator: generator}}
}

func TestCompareTable(t *testing.T) {
	c := Comparison{
		Collectors: []Collector{{"ours", "counts"}, {"theirs", "writes"}, {"broken", "nothing"}},
		Cells: []Cell{
			cell("ours", "v9", 1, 0.5, 3e6, 0.25, false), cell("ours", "v9", 2, 0.4, 4e6, 0.2, true), cell("ours", "v9", 3, 0.9, 2e6, 0.3, false),
			cell("theirs", "v9", 1, 1.0, 1.5e6, 0.5, false),
			{Collector: "broken", Protocol: "v9", Round: 1, Error: "it saw 0 of 100 records"},
		},
	}
	_, table, _ := strings.Cut(Compare(c), "\n\n")
	want := `| collector | NetFlow v9 |
|---|---|
| ours (counts) | 0.50 · ≥ 3.00 M/s at 0.25 |
| theirs (writes) | 1.00 (2.0×) · 1.50 M/s (0.5×) at 0.50 (2.0×) |
| broken (nothing) | failed |

Database of ours, apart, per million at the quiet rate: NetFlow v9 0.12 s.
Database of theirs, apart, per million at the quiet rate: NetFlow v9 0.25 s.
Most resident memory, databases apart: ours 3 MB, theirs 1 MB, broken 0 MB.`
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestScaleTable(t *testing.T) {
	s := Scaling{
		Protocol: "v9", Rate: 500_000, Backlog: 6_000_000,
		Points: []Point{
			{What: "usual", Figures: measure.Figures{CPU: 0.2, Engine: 0.1, Memory: 100 << 20}, Disk: 2e6},
			{What: "more", Figures: measure.Figures{CPU: 0.3, Engine: 0.1, Memory: 200 << 20, Lost: 7}, Disk: 3e6},
			{What: "too much", Error: "no"},
		},
		Drains: []Drain{{Cores: 1, Rate: 2e6, CPU: 0.5}, {Cores: 2, Rate: 3.8e6, CPU: 0.52}, {Cores: 2, Error: "no"}},
	}
	_, table, _ := strings.Cut(Scale(s), "\n\n")
	want := `NetFlow v9 at 500000 records/s.

| varied | CPU s per million | database, apart | memory | disk per million | lost datagrams |
|---|---|---|---|---|---|
| usual | 0.200 | 0.10 | 100 MB | 2.0 MB | 0 |
| more | 0.300 (1.50×) | 0.10 | 200 MB | 3.0 MB | 7 |
| too much | failed | | | | |

From the first line, with cores 60 % busy, and buffers for a pause of 0.5 s:

| records/s | collector cores | database cores | memory of the collector | disk a day, at most | receive buffers |
|---|---|---|---|---|---|
| 10,000 | 0.00 | 0.00 | 100 MB | 2 GB | 1 MB |
| 100,000 | 0.03 | 0.02 | 100 MB | 18 GB | 5 MB |
| 1,000,000 | 0.33 | 0.17 | 100 MB | 173 GB | 47 MB |
| 10,000,000 | 4 | 2 | 200 MB | 1.7 TB | 461 MB |

A backlog of 6 M records taken from the sockets, without a generator beside it:

| cores | records/s | CPU s per million |
|---|---|---|
| 1 | 2.00 M | 0.500 |
| 2 | 3.80 M (1.90×) | 0.520 |`
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestWriteBetween(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nafter\n")
	for range 2 {
		if err := WriteBetween(path, "x", "new"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nafter\n"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	write("no marks\n")
	if err := WriteBetween(path, "x", "new"); !errors.Is(err, errNoMarks) {
		t.Errorf("err = %v", err)
	}
}

func TestMarksOfTheDocument(t *testing.T) {
	b, err := os.ReadFile("../../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"compare", "scale"} {
		begin, end := strings.Index(string(b), "<!-- bench:"+name+" -->\n"), strings.Index(string(b), "<!-- /bench:"+name+" -->")
		if begin < 0 || end < begin {
			t.Errorf("docs/performance.md has no marks for %s", name)
		}
	}
}
