package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/cmd/flowbench/measure"
)

// Comparison is a side-by-side run.
type Comparison struct {
	Head       Head        `json:"head"`
	Collectors []Collector `json:"collectors"` // the first is what the others are compared with
	Cells      []Cell      `json:"cells"`
}

// Collector is a row of the table.
type Collector struct {
	Name string `json:"name"`
	Does string `json:"does"`
}

// Cell is one collector with one protocol in one round.
type Cell struct {
	Collector string `json:"collector"`
	Protocol  string `json:"protocol"`
	Round     int    `json:"round"`
	// Sent and Seen are the records of the check that it counts at all.
	Sent    uint64           `json:"sent,omitempty"`
	Seen    uint64           `json:"seen,omitempty"`
	Quiet   *measure.Figures `json:"quiet,omitempty"`
	Highest *measure.Highest `json:"highest,omitempty"`
	Error   string           `json:"error,omitempty"`
}

// String is one line for who watches the run.
func (c Cell) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %-6s %-22s", c.Round, c.Protocol, c.Collector)
	if c.Quiet != nil {
		fmt.Fprintf(&b, " quiet %.2f s/M (engine %.2f, %d MB)", c.Quiet.CPU, c.Quiet.Engine, c.Quiet.Memory>>20)
		if c.Quiet.Lost > 0 {
			fmt.Fprintf(&b, ", %d datagrams lost", c.Quiet.Lost)
		}
	}
	if h := c.Highest; h != nil {
		fmt.Fprintf(&b, ", highest %s at %.2f s/M (engine %.2f, %d MB)", millions(h), h.CPU, h.Engine, h.Memory>>20)
	}
	if c.Error != "" {
		fmt.Fprintf(&b, " FAILED: %s", c.Error)
	}
	return b.String()
}

// millions is a rate, marked if the collector could take more.
func millions(h *measure.Highest) string {
	more := ""
	if h.Generator {
		more = "≥ "
	}
	return fmt.Sprintf("%s%.2f M/s", more, h.Rate/1e6)
}

var titles = map[string]string{"v5": "NetFlow v5", "v9": "NetFlow v9", "ipfix": "IPFIX", "sflow": "sFlow"}

// Compare is the table: per protocol the CPU seconds per million records at the
// quiet rate · the highest rate without loss at CPU seconds per million; each
// with its ratio to the first collector's.
func Compare(c Comparison) string {
	var protocols []string
	for _, cell := range c.Cells {
		if !slices.Contains(protocols, cell.Protocol) {
			protocols = append(protocols, cell.Protocol)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| collector |", c.Head)
	for _, p := range protocols {
		fmt.Fprintf(&b, " %s |", titles[p])
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(protocols)) + "\n")
	for i, k := range c.Collectors {
		fmt.Fprintf(&b, "| %s (%s) |", k.Name, k.Does)
		for _, p := range protocols {
			var first *summary
			if i > 0 {
				first = c.summary(c.Collectors[0].Name, p)
			}
			b.WriteString(" " + c.summary(k.Name, p).against(first) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString(c.engine(protocols))
	return strings.TrimRight(b.String(), "\n")
}

// engine is a line on what flowcordon's database used, and memory.
func (c Comparison) engine(protocols []string) string {
	var b strings.Builder
	for _, k := range c.Collectors {
		var parts []string
		for _, p := range protocols {
			if s := c.summary(k.Name, p); s.engine > 0 {
				parts = append(parts, fmt.Sprintf("%s %.2f s", titles[p], s.engine))
			}
		}
		if len(parts) > 0 {
			fmt.Fprintf(&b, "\nDatabase of %s, apart, per million at the quiet rate: %s.", k.Name, strings.Join(parts, ", "))
		}
	}
	var memory []string
	for _, k := range c.Collectors {
		most := int64(0)
		for _, p := range protocols {
			most = max(most, c.summary(k.Name, p).memory)
		}
		memory = append(memory, fmt.Sprintf("%s %d MB", k.Name, most>>20))
	}
	if len(memory) > 0 {
		fmt.Fprintf(&b, "\nMost resident memory, databases apart: %s.", strings.Join(memory, ", "))
	}
	return b.String()
}

// summary has medians over the rounds.
type summary struct {
	quiet, rate, cpu float64 // 0: not measured
	engine           float64
	memory           int64 // most
	generator        bool
	failed           bool
}

func (c Comparison) summary(collector, protocol string) *summary {
	var quiet, rates, cpus, engines []float64
	var s summary
	for _, cell := range c.Cells {
		if cell.Collector != collector || cell.Protocol != protocol {
			continue
		}
		s.failed = s.failed || cell.Error != ""
		if q := cell.Quiet; q != nil {
			quiet, engines = append(quiet, q.CPU), append(engines, q.Engine)
			s.memory = max(s.memory, q.Memory)
		}
		if h := cell.Highest; h != nil {
			rates, cpus = append(rates, h.Rate), append(cpus, h.CPU)
			s.memory = max(s.memory, h.Memory)
			s.generator = s.generator || h.Generator
		}
	}
	s.quiet, s.rate, s.cpu, s.engine = median(quiet), median(rates), median(cpus), median(engines)
	return &s
}

// against writes s with ratios to first, which may be nil.
func (s *summary) against(first *summary) string {
	if s.quiet == 0 || s.failed {
		return "failed"
	}
	ratio := func(v, of float64) string {
		if first == nil || of == 0 {
			return ""
		}
		return fmt.Sprintf(" (%.1f×)", v/of)
	}
	var q, r, c float64
	if first != nil {
		q, r, c = first.quiet, first.rate, first.cpu
	}
	out := fmt.Sprintf("%.2f%s", s.quiet, ratio(s.quiet, q))
	if s.rate == 0 {
		return out
	}
	more := ""
	if s.generator {
		more = "≥ "
	}
	return out + fmt.Sprintf(" · %s%.2f M/s%s at %.2f%s", more, s.rate/1e6, ratio(s.rate, r), s.cpu, ratio(s.cpu, c))
}

// median of nothing is 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
