package flow

import (
	"net/netip"
	"time"
)

// ExporterHealth is what the collector knows of one exporter. Counts are since
// the start of the service, times of the last 5 to 10 minutes.
type ExporterHealth struct {
	Exporter  netip.Addr        `json:"exporter"`
	Protocols []string          `json:"protocols"`
	FirstSeen time.Time         `json:"first_seen"`
	LastSeen  time.Time         `json:"last_seen"`
	Datagrams uint64            `json:"datagrams"`
	Records   uint64            `json:"records"`
	Lost      uint64            `json:"lost"` // datagrams or records missing by sequence number
	Templates uint64            `json:"templates"`
	Dropped   map[string]uint64 `json:"dropped"` // reason → count
	Samplers  []SamplerHealth   `json:"samplers"`
	MaxDelayS float64           `json:"max_delay_s"` // longest of received − end over the last minutes
	Problems  []string          `json:"problems"`    // one line each, with what to do
	// ProblemsWhy are the same in the same order, by code and values.
	ProblemsWhy []Told `json:"problems_why"`

	Duplicates uint64 `json:"duplicates"` // datagrams that came twice or after their successors
	Restarts   uint64 `json:"restarts"`   // jumps of the sequence numbers that are no loss

	// ClockOffsetS is the exporter's clock minus ours: the greatest difference
	// between a header's time and its receipt, since the way here and the cut
	// to whole seconds only make it smaller. Absent with sFlow.
	ClockOffsetS *float64 `json:"clock_offset_s,omitempty"`
	// ExportDelayS is how long records waited in the exporter: its header's
	// clock minus a record's end. Absent where records have no times.
	ExportDelayS *Spread `json:"export_delay_s,omitempty"`
	// FlowDurationS is the end of records minus their start, which the active
	// timeout bounds. Absent where records have no times.
	FlowDurationS *Spread `json:"flow_duration_s,omitempty"`

	TemplatesKnown int              `json:"templates_known"`         // kept now
	TemplateList   []TemplateHealth `json:"template_list,omitempty"` // at most 256, by domain and id

	// SamplesDropped is what an sFlow agent says that it left out for want of
	// resources.
	SamplesDropped uint64 `json:"samples_dropped"`

	// Denser is how many times more often than it is taken to an sFlow agent
	// samples, by its own count of packets; of its sources the one that is furthest
	// off. 0: none is by twice and more, or nothing is known. Among Problems in words.
	Denser float64 `json:"-"`
}

// Tell adds a problem.
func (h *ExporterHealth) Tell(f Forms, code string, values ...any) {
	text, why := f.Say(code, values...)
	h.Problems, h.ProblemsWhy = append(h.Problems, text), append(h.ProblemsWhy, why)
}

// Spread sums up a distribution over the last 5 to 10 minutes. Quantiles are
// exact to a quarter upwards, the maximum is exact.
type Spread struct {
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
	Records uint64  `json:"records"` // that it is taken from
}

// SamplerHealth is a sampling rate in force.
type SamplerHealth struct {
	Domain    uint32    `json:"domain"`
	Rate      uint32    `json:"rate"` // 0: unknown
	Source    string    `json:"source"`
	Records   uint64    `json:"records"`
	FirstSeen time.Time `json:"first_seen"` // of the records with it
	LastSeen  time.Time `json:"last_seen"`
}

// TemplateHealth is a template that the collector keeps.
type TemplateHealth struct {
	Protocol string `json:"protocol"` // netflow9 or ipfix
	Domain   uint32 `json:"domain"`
	ID       uint16 `json:"id"`
	Options  bool   `json:"options"`
	Fields   int    `json:"fields"`
	// Learned is when its contents came first, Refreshed when they came last.
	// Both are absent while it is known from a state file only.
	Learned   time.Time `json:"learned,omitzero"`
	Refreshed time.Time `json:"refreshed,omitzero"`
}
