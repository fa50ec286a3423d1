package report

import (
	"fmt"
	"strings"

	"github.com/flowcordon/flowcordon/cmd/flowbench/measure"
)

// Scaling is how flowcordon's cost grows.
type Scaling struct {
	Head     Head    `json:"head"`
	Protocol string  `json:"protocol"`
	Rate     float64 `json:"records_per_second"`
	Points   []Point `json:"points"` // the first is what the others vary
	Backlog  uint64  `json:"backlog_records"`
	Drains   []Drain `json:"drains"`
}

// Point is one variation.
type Point struct {
	What string `json:"what"`
	measure.Figures
	// Disk is what ClickHouse holds for a million records, in bytes, after it
	// was stopped: merges, which make it less, have hardly begun.
	Disk  float64 `json:"disk_bytes_per_million"`
	Error string  `json:"error,omitempty"`
}

func (p Point) String() string {
	if p.Error != "" {
		return p.What + " FAILED: " + p.Error
	}
	return fmt.Sprintf("%-40s %.3f s/M (engine %.2f), %d MB, %.0f MB on disk per M, %d lost at %.0f/s", p.What, p.CPU, p.Engine, p.Memory>>20, p.Disk/1e6, p.Lost, p.Rate)
}

// Drain is how fast a backlog was taken from the sockets.
type Drain struct {
	Cores int     `json:"cores"`
	Rate  float64 `json:"records_per_second"`
	CPU   float64 `json:"cpu_seconds_per_million"`
	Error string  `json:"error,omitempty"`
}

func (d Drain) String() string {
	if d.Error != "" {
		return fmt.Sprintf("%d cores FAILED: %s", d.Cores, d.Error)
	}
	return fmt.Sprintf("%d cores: %.2f M/s at %.3f s/M", d.Cores, d.Rate/1e6, d.CPU)
}

// Scale is the tables.
func Scale(s Scaling) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", s.Head)
	if len(s.Points) > 0 {
		fmt.Fprintf(&b, "\n%s at %.0f records/s.\n\n| varied | CPU s per million | database, apart | memory | disk per million | lost datagrams |\n|---|---|---|---|---|---|\n", titles[s.Protocol], s.Rate)
	}
	for i, p := range s.Points {
		if p.Error != "" {
			fmt.Fprintf(&b, "| %s | failed | | | | |\n", p.What)
			continue
		}
		ratio := ""
		if i > 0 && s.Points[0].CPU > 0 {
			ratio = fmt.Sprintf(" (%.2f×)", p.CPU/s.Points[0].CPU)
		}
		fmt.Fprintf(&b, "| %s | %.3f%s | %.2f | %d MB | %.1f MB | %d |\n", p.What, p.CPU, ratio, p.Engine, p.Memory>>20, p.Disk/1e6, p.Lost)
	}
	if len(s.Points) > 0 && s.Points[0].Error == "" {
		fmt.Fprintf(&b, "\nFrom the first line, with cores %.0f %% busy, and buffers for a pause of %.1f s:\n\n%s", 100*busy, bridge, Sizing(s.Points[0]))
	}
	rates, cpus := map[int][]float64{}, map[int][]float64{}
	for _, d := range s.Drains {
		if d.Error == "" {
			rates[d.Cores], cpus[d.Cores] = append(rates[d.Cores], d.Rate), append(cpus[d.Cores], d.CPU)
		}
	}
	if len(rates) > 0 {
		fmt.Fprintf(&b, "\nA backlog of %.0f M records taken from the sockets, without a generator beside it:\n\n| cores | records/s | CPU s per million |\n|---|---|---|\n", float64(s.Backlog)/1e6)
	}
	for _, n := range []int{1, 2} {
		if r := median(rates[n]); r > 0 {
			ratio := ""
			if one := median(rates[1]); n > 1 && one > 0 {
				ratio = fmt.Sprintf(" (%.2f×)", r/one)
			}
			fmt.Fprintf(&b, "| %d | %.2f M%s | %.3f |\n", n, r/1e6, ratio, median(cpus[n]))
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
