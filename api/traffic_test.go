package api

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// FleetSeries is the sum of ten such as HostSeries has.
func (s *shelf) FleetSeries(ctx context.Context, r flow.Range, step time.Duration) ([]flow.SeriesPoint, error) {
	l, err := s.HostSeries(ctx, attacker, r, step)
	for i := range l {
		l[i].EstOutPackets, l[i].EstInPackets, l[i].EstOutBytes, l[i].EstInBytes = 10*l[i].EstOutPackets, 10*l[i].EstInPackets, 10*l[i].EstOutBytes, 10*l[i].EstInBytes
	}
	return l, err
}

func sampleSources() []InventorySource {
	return []InventorySource{
		{Name: "pve", Entries: 4201, Seen: t0.Add(-2 * time.Minute)},
		{Name: "ipam", Entries: 9000, Seen: t0.Add(-5 * time.Hour), Stale: true, Problem: "unreachable", Error: "https://netbox.example: " + hostile},
		{Name: "billing", Stale: true, Problem: "auth", Error: "status 401"},
	}
}

func TestTraffic(t *testing.T) {
	b := newBench(t, nil)
	for query, want := range map[string]struct {
		step  time.Duration
		hours float64
	}{
		"":                         {5 * time.Minute, 24},
		"?from=-1h":                {time.Minute, 1}, // 10 s would fit, but sums are of a minute
		"?from=-720h":              {6 * time.Hour, 720},
		"?from=-2h&step=1m":        {time.Minute, 2},
		"?from=-5h&to=-3h&step=1h": {time.Hour, 2},
	} {
		var out struct {
			From, To time.Time
			StepS    int `json:"step_s"`
			Series   []trafficPoint
		}
		b.get(t, Prefix+"/traffic"+query).into(t, &out)
		if out.StepS != int(want.step.Seconds()) || b.shelf.step != want.step || out.To.Sub(out.From).Hours() != want.hours || len(out.Series) == 0 || out.Series[0].EstOutBytes == 0 {
			t.Errorf("%q: step %d s, %v to %v, %d points", query, out.StepS, out.From, out.To, len(out.Series))
		}
	}
	for query, want := range map[string]string{"?step=90s": "a multiple of 1m", "?step=10s&from=-1h": "a multiple of 1m", "?step=x": "is not understood", "?from=-1000h&step=1m": "points; write", "?from=x": "is not understood"} {
		if p := b.get(t, Prefix+"/traffic"+query).problem(t, 422); !strings.Contains(p.Detail, want) {
			t.Errorf("%q: %s", query, p.Detail)
		}
	}
	b.shelf.fail = context.DeadlineExceeded
	b.get(t, Prefix+"/traffic").problem(t, 503)
	none := newBench(t, func(_ *Config, d *Deps) { d.Fleet, d.Sources = nil, nil })
	if a := none.get(t, Prefix+"/traffic"); a.code != 200 || !strings.Contains(a.body, `"series":[]`) {
		t.Errorf("%d %s", a.code, a.body)
	}
	if a := none.get(t, Prefix+"/inventory/sources"); a.code != 200 || a.body != "{\"sources\":[]}\n" {
		t.Errorf("%d %s", a.code, a.body)
	}
}

func TestInventorySources(t *testing.T) {
	b := newBench(t, nil)
	var out struct{ Sources []InventorySource }
	a := b.get(t, Prefix+"/inventory/sources")
	a.into(t, &out)
	if len(out.Sources) != 3 || out.Sources[1].Name != "ipam" || !out.Sources[1].Stale || !out.Sources[2].Seen.IsZero() || strings.Contains(a.body, "<img") {
		t.Errorf("%s", a.body)
	}
}

// TestTopOfTheMonth: the largest of a month are a question of the top list.
func TestTopOfTheMonth(t *testing.T) {
	b := newBench(t, nil)
	var out struct {
		Top []struct{ Tenant netip.Addr }
	}
	b.get(t, Prefix+"/top?window=744h&limit=3").into(t, &out)
	if len(out.Top) != 3 || b.shelf.asked.To.Sub(b.shelf.asked.From) != 744*time.Hour {
		t.Errorf("%+v of %+v", out, b.shelf.asked)
	}
	if p := b.get(t, Prefix+"/top?window=745h").problem(t, 422); !strings.Contains(p.Detail, "744h") {
		t.Error(p.Detail)
	}
}
