package respond

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
)

// The names and labels that dashboards rely on.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld()
	p := &proc{w: w, die: func() {}}
	c := New(enforce(), Deps{Events: p, Flows: p, Inventory: p, Suspenders: []Suspender{hyper{p, "hv"}}, Notifiers: []Notifier{box{p, "staff", nil}}, Registerer: reg})
	if err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := c.Handle(t.Context(), now, []flow.Finding{scan(tenantA, now), scan(tenantX, now)}); err != nil {
		t.Fatal(err)
	}
	inc := c.Incidents(Filter{States: []flow.State{flow.StateSuspending}})[0]
	if wait := c.act(t.Context(), inc.ID, inc.Action.Key); wait != 0 {
		t.Fatalf("the act is to be repeated in %s", wait)
	}
	r, _ := c.record(inc.ID)
	c.sched.tasks[r.notices[0].Key+"/staff"] = &task{}
	if wait := c.notify(t.Context(), inc.ID, r.notices[0], "staff"); wait != 0 {
		t.Fatalf("the notice is to be repeated in %s", wait)
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"flowcordon_actions_total adapter=hv result=done":     1,
		"flowcordon_notices_total notifier=staff result=sent": 1,
		"flowcordon_incidents state=suspended":                1,
		"flowcordon_incidents state=held":                     1,
		"flowcordon_incidents state=suspending":               0,
		"flowcordon_respond_hung_calls":                       0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v (%t), want %v", name, v, ok, want)
		}
	}
	for _, st := range allStates {
		if _, ok := got["flowcordon_incidents state="+string(st)]; !ok {
			t.Errorf("no gauge for state %s", st)
		}
	}
}
