package flow_test

import (
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

func TestMeasuresRise(t *testing.T) {
	last := 0
	for _, k := range []flow.MeasureKind{"", flow.MeasureBlockPort, flow.MeasureLimit, flow.MeasureCut} {
		if k != "" && k.Rank() <= last {
			t.Errorf("%s has rank %d after %d", k, k.Rank(), last)
		}
		last = k.Rank()
	}
	if r := flow.MeasureKind("").Rank(); r != 0 {
		t.Errorf("no measure has rank %d, want 0", r)
	}
}

func TestRestricted(t *testing.T) {
	block := flow.Restriction{Measure: flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}}, Mark: flow.Mark{Incident: "i1"}}
	s := flow.NICStatus{Live: flow.LinkUp, Restrictions: []flow.Restriction{block}}
	if r, ok := s.Restricted(flow.MeasureBlockPort); !ok || r.Mark.Incident != "i1" {
		t.Errorf("block_port: %+v, %v", r, ok)
	}
	if _, ok := s.Restricted(flow.MeasureLimit); ok {
		t.Error("a limit that is not there")
	}
	if s.Cut() {
		t.Error("a blocked port is no cut")
	}
}

func TestMarkOf(t *testing.T) {
	s := flow.NICStatus{Mark: &flow.Mark{Incident: "cut"}, Restrictions: []flow.Restriction{{Measure: flow.Measure{Kind: flow.MeasureLimit}, Mark: flow.Mark{Incident: "limit"}}}}
	for k, want := range map[flow.MeasureKind]string{flow.MeasureCut: "cut", flow.MeasureLimit: "limit"} {
		if m := s.MarkOf(k); m == nil || m.Incident != want {
			t.Errorf("%s: %+v", k, m)
		}
	}
	if m := s.MarkOf(flow.MeasureBlockPort); m != nil {
		t.Errorf("a block that is not there: %+v", m)
	}
	if m := (flow.NICStatus{}).MarkOf(flow.MeasureCut); m != nil {
		t.Errorf("no mark: %+v", m)
	}
}

func TestSameMeasure(t *testing.T) {
	block := func(ports ...uint16) flow.Measure {
		m := flow.Measure{Kind: flow.MeasureBlockPort}
		for _, p := range ports {
			m.Ports = append(m.Ports, flow.PortRule{Proto: 6, Port: p})
		}
		return m
	}
	for name, tc := range map[string]struct {
		a, b flow.Measure
		want bool
	}{
		"the same":         {block(22, 23), block(22, 23), true},
		"in another order": {block(22, 23), block(23, 22), true},
		"one port more":    {block(22, 23), block(22), false},
		"another port":     {block(22), block(23), false},
		"another protocol": {block(22), flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 17, Port: 22}}}, false},
		"another kind":     {flow.Measure{Kind: flow.MeasureCut}, flow.Measure{Kind: flow.MeasureLimit}, false},
		"another rate":     {flow.Measure{Kind: flow.MeasureLimit, KbitS: 1}, flow.Measure{Kind: flow.MeasureLimit, KbitS: 2}, false},
		"the same rate":    {flow.Measure{Kind: flow.MeasureLimit, KbitS: 1}, flow.Measure{Kind: flow.MeasureLimit, KbitS: 1}, true},
	} {
		if tc.a.Same(tc.b) != tc.want || tc.b.Same(tc.a) != tc.want {
			t.Errorf("%s: want %t", name, tc.want)
		}
	}
}
