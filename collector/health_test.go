package collector

import (
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
)

// TestTimingProblems: each limit, just at it and just over.
func TestTimingProblems(t *testing.T) {
	cfg := testConfig()
	offset := func(s float64) *float64 { return &s }
	late := lateAfter.Seconds()
	for _, c := range []struct {
		name   string
		health flow.ExporterHealth
		agg    aggregate.ExporterStats
		want   []string
	}{
		{name: "clock within tolerance", health: flow.ExporterHealth{ClockOffsetS: offset(5)}},
		{name: "clock ahead", health: flow.ExporterHealth{ClockOffsetS: offset(5.1)}, want: []string{"5.1 s ahead of ours: set it by NTP"}},
		{name: "clock behind, at the tolerance", health: flow.ExporterHealth{ClockOffsetS: offset(-5)}},
		{name: "clock behind: that explains why records are late", health: flow.ExporterHealth{ClockOffsetS: offset(-3600), MaxDelayS: 3610}, want: []string{"3600.0 s behind ours"}},
		{
			name: "clock ahead and records refused for it: one line", health: flow.ExporterHealth{ClockOffsetS: offset(100)},
			agg: aggregate.ExporterStats{ClockAhead: 3}, want: []string{"3 records ended over 60 s after they arrived"},
		},
		{
			name: "clock behind and records dropped for it: one line", health: flow.ExporterHealth{ClockOffsetS: offset(-7200)},
			agg: aggregate.ExporterStats{TooLate: 4}, want: []string{"4 records ended over"},
		},
		{name: "held back no longer than the timeouts", health: flow.ExporterHealth{ExportDelayS: &flow.Spread{P99: 100, Max: late}, MaxDelayS: late}},
		{
			name: "held back", health: flow.ExporterHealth{ExportDelayS: &flow.Spread{P99: 100, Max: late + 1}, MaxDelayS: late + 1},
			want: []string{"records wait up to 121 s in it before they are exported (99 % of them up to 100 s)"},
		},
		{
			name: "late, though not by the exporter's own clock", health: flow.ExporterHealth{ExportDelayS: &flow.Spread{Max: 60}, MaxDelayS: 400},
			want: []string{"records arrive up to 400 s after they ended"},
		},
		{name: "durations within the timeout", health: flow.ExporterHealth{FlowDurationS: &flow.Spread{P99: 60, Max: late}}},
		{
			name: "durations over it", health: flow.ExporterHealth{FlowDurationS: &flow.Spread{P99: 300, Max: 1800}},
			want: []string{"records span up to 1800 s (99 % of them up to 300 s)"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tellTiming(&c.health, c.agg, &cfg)
			got := c.health.Problems
			if len(got) != len(c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			for i := range got {
				if !strings.Contains(got[i], c.want[i]) {
					t.Errorf("%q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}

// TestExporterMetrics: what the API says of an exporter is in the metrics too.
func TestExporterMetrics(t *testing.T) {
	h := start(t)
	h.send(0, "127.0.0.1", v9(0, 2, v9Template(), v9Data("198.18.0.1")), v9(1, 1, v9Template()), v5(0, "198.18.0.1", 3))
	h.Flush()
	e := h.Exporters()[0]
	if e.Exporter.String() != "127.0.0.1" || e.ClockOffsetS == nil || e.ExportDelayS == nil || e.FlowDurationS == nil || len(e.TemplateList) != 1 {
		t.Fatalf("%+v", e)
	}
	if l := e.TemplateList[0]; l.Protocol != "netflow9" || l.ID != 300 || l.Fields == 0 || l.Learned.IsZero() || l.Refreshed.Before(l.Learned) || time.Since(l.Refreshed) > time.Minute {
		t.Errorf("template %+v", l)
	}
	if len(e.Samplers) != 2 || e.Samplers[0].LastSeen.Before(e.Samplers[0].FirstSeen) || e.Samplers[0].FirstSeen.IsZero() {
		t.Errorf("samplers %+v", e.Samplers)
	}
	for _, m := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"exporter_records_total", nil, float64(e.Records)},
		{"exporter_clock_offset_seconds", nil, *e.ClockOffsetS},
		{"exporter_export_delay_seconds", []string{"quantile", "0.99"}, e.ExportDelayS.P99},
		{"exporter_flow_duration_seconds", []string{"quantile", "1"}, e.FlowDurationS.Max},
		{"exporter_sampling_rate", []string{"bound", "min"}, float64(e.Samplers[0].Rate)},
		{"exporter_sampling_rate", []string{"bound", "max"}, float64(e.Samplers[0].Rate)},
		{"exporter_templates", nil, 1},
	} {
		if got := h.metric(m.name, append([]string{"exporter", "127.0.0.1"}, m.labels...)...); got != m.want {
			t.Errorf("%s%v is %g, want %g", m.name, m.labels, got, m.want)
		}
	}
	if e.Records != 4 || e.FlowDurationS.Records != 3 {
		t.Errorf("%d records, %d durations; the template has no times", e.Records, e.FlowDurationS.Records)
	}
}
