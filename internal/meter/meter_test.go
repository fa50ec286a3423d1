package meter

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestAgainGoesOn(t *testing.T) {
	reg := prometheus.NewRegistry()
	New(reg, "x", "Operations on an x", "a").Observe("cut", "ok", time.Second)
	New(reg, "x", "Operations on an x", "a").Observe("cut", "ok", 2*time.Second)
	New(reg, "x", "Operations on an x", "b").Observe("cut", "locked", time.Second)
	New(nil, "x", "Operations on an x", "a").Observe("cut", "ok", time.Second)
	fs, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(fs) != 1 || fs[0].GetName() != "flowcordon_x_operation_seconds" || fs[0].GetHelp() != "Operations on an x by result: ok or the class of the error." {
		t.Fatalf("families %v", fs)
	}
	for _, m := range fs[0].GetMetric() {
		want := map[string]uint64{"a": 2, "b": 1}[m.GetLabel()[0].GetValue()]
		if n := m.GetHistogram().GetSampleCount(); n != want {
			t.Errorf("%v: %d operations, want %d", m.GetLabel(), n, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("another metric of the same name was taken")
		}
	}()
	other := prometheus.NewRegistry()
	other.MustRegister(prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "flowcordon_x_operation_seconds", Help: "x", ConstLabels: prometheus.Labels{"adapter": "a"}}, []string{"op"}))
	New(other, "x", "y", "a")
}
