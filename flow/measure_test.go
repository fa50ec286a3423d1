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
