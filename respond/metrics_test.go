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
	got := gathered(t, reg)
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

// gathered is every counter and gauge, by name and labels.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
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
	return got
}

// What the ladder, the safeties and the reconciling count.
func TestMetricsOfTheLadder(t *testing.T) {
	want := func(s *stage, name string, n float64) {
		t.Helper()
		if got, ok := gathered(t, s.w.reg)[name]; !ok || got != n {
			t.Errorf("%s: %v (%t), want %v", name, got, ok, n)
		}
	}
	play(t, climbing(), nil, func(s *stage) {
		s.attack(3*time.Minute, onPort(22))
		want(s, "flowcordon_measures_total kind=suspend measure=block_port result=done", 1)
		want(s, "flowcordon_measures_total kind=suspend measure=cut result=done", 1)
		want(s, "flowcordon_measures_total kind=restore measure=block_port result=replaced", 1)
		s.change(func(w *world) { w.nics[macA].configUp = true })
		s.pass(time.Minute + time.Second)
		want(s, "flowcordon_respond_reasserted_total reason=not_in_force", 1)
		s.change(func(w *world) { w.nics["52:54:00:00:00:0b"].mark = &flow.Mark{Incident: "FC-OLD", By: "flowcordon"} })
		s.pass(2 * time.Minute)
		want(s, "flowcordon_respond_orphans adapter=hv", 1)
		if _, err := s.c.Statement(s.Context(), s.of(tenantA).ID, "customer", "k", "fixed"); err != nil {
			t.Fatal(err)
		}
		want(s, "flowcordon_respond_statements_total outcome=queued", 1)
		if _, err := s.c.Undo(s.Context(), time.Time{}, "anna", "wrong"); err != nil {
			t.Fatal(err)
		}
		want(s, "flowcordon_respond_undone_total", 1)
		want(s, "flowcordon_respond_freezes_total rule=all", 1)
		if err := s.c.Unfreeze(s.Context(), "anna", "right now"); err != nil {
			t.Fatal(err)
		}
		s.find(s.w.crowd(12)...)
		want(s, "flowcordon_respond_freezes_total rule=netscan", 1)
		want(s, "flowcordon_respond_held_total reason=freeze", 12)
	})
	cfg := enforce()
	cfg.Fallback, cfg.RefuseAfter = "edge", 1
	cfg.Ladders = map[flow.Rule][]Step{flow.RuleNetscan: {{Measure: flow.MeasureCut, For: time.Hour}}}
	play(t, cfg, func(w *world) { w.cutErr = func(int) error { return act(flow.ErrTransient, "no route") } }, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Minute)
		want(s, "flowcordon_respond_node_left_alone node=hv", 1)
		want(s, "flowcordon_respond_fallbacks_total", 1)
		want(s, "flowcordon_respond_refused_total", 1)
		s.change(func(w *world) { w.cutErr = nil })
		s.pass(5 * time.Minute)
		want(s, "flowcordon_respond_node_left_alone node=hv", 0)
	})
	cfg.Fallback, cfg.RefuseAfter = "", 0
	play(t, cfg, nil, func(s *stage) {
		s.find(tenantA)
		s.pass(time.Hour + time.Minute)
		want(s, "flowcordon_respond_expired_total", 1)
	})
}
