package detect

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

func TestExplain(t *testing.T) {
	cfg := Defaults()
	cfg.Thresholds.Netscan.PortRate = 70
	cfg.Rules[flow.RuleNetscan] = RuleConfig{Mode: flow.ModeEnforce}
	cfg.Overrides = []Override{
		{Match: Match{Tag: "busy"}, Rules: netscanOf("suspend_score", "44", "persist_score", "11")},
		{Match: prefix("198.18.0.0/15"), Rules: netscanOf("suspend_score", "55", "mode", "notify")},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	health := healthFunc(func() []flow.ExporterHealth {
		return []flow.ExporterHealth{{Exporter: exporter, Samplers: []flow.SamplerHealth{{Rate: 1000, LastSeen: epoch}}}}
	})
	d := New(cfg, Deps{Windows: newMemWindows(), Health: health, Holder: func(a netip.Addr) (flow.Holder, bool) {
		return flow.Holder{Tenant: "c-7", Tags: []string{"busy", TagScanner}}, a == tenant4
	}})
	e := d.Explain(tenant4, epoch)
	if e.Holder != "c-7" || !slices.Equal(e.Overrides, []string{"detect.overrides[0] (tag busy)", "detect.overrides[1] (prefix 198.18.0.0/15)"}) || len(e.Rules) != len(rules) || len(e.Exporters) != 1 {
		t.Errorf("%+v", e)
	}
	r := e.Rules[0]
	if r.Rule != flow.RuleNetscan || r.Mode != flow.ModeNotify || r.ModeFrom != "detect.overrides[1] (prefix 198.18.0.0/15)" || len(r.Held) != 1 || r.ConfigHash == d.hashes[flow.RuleNetscan] {
		t.Errorf("%+v", r)
	}
	got := map[string]string{}
	for _, v := range r.Values {
		got[v.Key] = v.Value + " " + v.From
	}
	for key, want := range map[string]string{
		"suspend_score": "55 detect.overrides[1] (prefix 198.18.0.0/15)", "persist_score": "11 detect.overrides[0] (tag busy)",
		"port_rate": "70 detect.thresholds", "notify_score": "14 default", "windows_s": "[60,300,1800] default",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	var b bytes.Buffer
	if err := e.WriteText(&b, flow.RuleNetscan); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"held by c-7", "matches detect.overrides[0] (tag busy)", "suspend_score", "55", "flow_policy: all", "exporter " + exporter.String(), "in 30 min"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "blocked_port, version") {
		t.Error("a rule that was not asked for is printed")
	}
	for _, r := range rules {
		if versions[r] == 0 {
			t.Errorf("%s has no version", r)
		}
	}
	// A finding under this policy carries the hash that is explained.
	other := d.Explain(netip.MustParseAddr("203.0.113.1"), epoch)
	if other.Rules[0].ConfigHash != d.hashes[flow.RuleNetscan] || other.Rules[0].Mode != flow.ModeEnforce || len(other.Overrides) != 0 {
		t.Errorf("%+v", other.Rules[0])
	}
}

func TestExplainWhileTicking(t *testing.T) {
	cfg := onlyNetscan()
	cfg.Overrides = []Override{{Match: prefix("198.18.0.0/15"), Rules: netscanOf("suspend_score", "55")}}
	m := newMemWindows()
	rowsOf(m, tenant4, 22, 1, 500, 0, 10, 20)
	d := New(cfg, Deps{Windows: m})
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 50 {
			d.Explain(tenant4, epoch)
		}
	})
	for range 50 {
		tickAt(t, d, 30)
	}
	wg.Wait()
}
