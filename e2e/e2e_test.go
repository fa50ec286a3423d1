package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/libvirt"
)

// limit is what the whole may take, from the empty machine to the network given
// back, the building of the program not counted: a hang guard. What it takes is
// logged; a quiet machine of two cores needs less than two minutes.
const limit = hang

func TestNothingMocked(t *testing.T) {
	lib := findEngine(t)
	w := newWorld(t)
	bin := buildService(w)
	w.step("flowcordon is built")
	w.begin = time.Now()

	s := startService(w, bin, lib)
	stop, err := w.Exporter(9, lab.MgmtIP+":2055")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := lab.Until(hang, func() error { return s.call(http.MethodGet, "/readyz", "", nil) }); err != nil {
		t.Fatal(err)
	}
	w.step("flowcordon is ready")
	w.boot()
	w.wantConsole("before")
	w.wantScan("before")

	inc := s.waitState(hang, flow.StateVerified)
	checkIncident(t, inc)
	w.wantSilence("cut")
	w.wantConsole("cut")
	a := libvirt.New(libvirt.Config{Name: "check", Socket: w.Socket}, libvirt.Deps{})
	defer a.Close()
	st, err := a.Status(t.Context(), w.nic())
	if err != nil || !st.Cut() || st.Mark == nil || st.Mark.Incident != inc.ID {
		t.Errorf("the node says %+v, %v; want it cut and marked for %s", st, err, inc.ID)
	}
	checkEvidence(t, s, inc.ID)

	if err := s.call(http.MethodPost, "/api/v1/incidents/"+inc.ID+"/release", `{"statement": "reinstalled from a backup"}`, nil); err != nil {
		t.Fatal(err)
	}
	w.step("release asked for")
	inc = s.waitState(hang, flow.StateReleased)
	if inc.Statement != "reinstalled from a backup" {
		t.Errorf("statement %q", inc.Statement)
	}
	// TCP's own backoff and ARP take a moment after a link comes up.
	if err := lab.Until(hang, func() error {
		if _, n := w.sniff.Count(500 * time.Millisecond); n == 0 {
			return errors.New("no packet of the guest yet")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	w.wantScan("released")
	if st, err := a.Status(t.Context(), w.nic()); err != nil || st.Live != flow.LinkUp || st.Config != flow.LinkUp || st.Mark != nil {
		t.Errorf("the node says %+v, %v; want it up and unmarked", st, err)
	}
	all, err := s.incidents()
	for _, i := range all {
		if i.Tenant.String() == lab.TenantIP {
			t.Errorf("the honest tenant has an incident: %+v", i)
		}
	}
	if err != nil {
		t.Error(err)
	}
	took := time.Since(w.begin)
	w.step("all of it")
	if took > limit {
		t.Errorf("all of it took %v, want less than %v", took.Round(time.Second), limit)
	}
}

func checkIncident(t *testing.T, inc flow.Incident) {
	t.Helper()
	if inc.Holder.VDS != vds || inc.Action == nil || inc.Action.Adapter != "node1" || len(inc.Action.Receipts) != 1 {
		t.Fatalf("incident %+v", inc)
	}
	r := inc.Action.Receipts[0]
	if r.NIC.MAC != scannerMAC || r.Before.Live != flow.LinkUp || !r.After.Cut() {
		t.Errorf("receipt %+v", r)
	}
	for _, f := range inc.Findings {
		if f.Rule == flow.RuleNetscan && f.Port == 22 && f.Distinct >= 60 {
			return
		}
	}
	t.Errorf("no finding of the scan on port 22: %+v", inc.Findings)
}

func checkEvidence(t *testing.T, s *service, id string) {
	t.Helper()
	var ev flow.Evidence
	if err := s.call(http.MethodGet, "/api/v1/incidents/"+id+"/evidence", "", &ev); err != nil {
		t.Error(err)
		return
	}
	for _, l := range ev.Logs {
		if l.Form == "netscan" && strings.Contains(l.Text, scannerIP) && strings.Contains(l.Text, "93.184.") {
			return
		}
	}
	t.Errorf("the evidence has no list of the scan: %d rows, %d logs", ev.Rows, len(ev.Logs))
}
