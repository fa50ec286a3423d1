package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/libvirt"
)

// limit is what the whole may take, from the empty machine to the network given
// back, the building of the program not counted: a hang guard. What it takes is
// logged; a quiet machine of two cores needs some two minutes.
const limit = 15 * time.Minute

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
	w.boot(lab.TalkArgs())
	w.wantConsole("before")
	w.waitTalk("before")
	a := libvirt.New(libvirt.Config{Name: "check", Socket: w.Socket}, libvirt.Deps{})
	defer a.Close()

	blocked := s.waitState(flow.StateVerified, func(flow.Incident) bool { return true })
	w.checkBlocked(a, s, blocked)
	s.release(blocked.ID, "the scanner is removed")
	// It scans on, on probation now: the network is cut without a second block.
	inc := s.waitState(flow.StateVerified, func(i flow.Incident) bool { return i.ID != blocked.ID })
	checkIncident(t, inc)
	w.wantSilence("cut")
	w.wantConsole("cut")
	st, err := a.Status(t.Context(), w.nic())
	if err != nil || !st.Cut() || st.Mark == nil || st.Mark.Incident != inc.ID || len(st.Restrictions) != 0 {
		t.Errorf("the node says %+v, %v; want it cut and marked for %s", st, err, inc.ID)
	}
	checkEvidence(t, s, inc.ID)

	s.release(inc.ID, "reinstalled from a backup")
	// It scans on once more, but twice a day is what may happen without a human.
	inc = s.waitState(flow.StateReleased, func(i flow.Incident) bool { return i.ID == inc.ID })
	if inc.Statement != "reinstalled from a backup" {
		t.Errorf("statement %q", inc.Statement)
	}
	w.waitTalk("released")
	if st, err := a.Status(t.Context(), w.nic()); err != nil || st.Live != flow.LinkUp || st.Config != flow.LinkUp || st.Mark != nil || len(st.Restrictions) != 0 {
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

// checkBlocked checks the milder answer: the scan is stopped, nothing else is.
func (w *world) checkBlocked(a *libvirt.Adapter, s *service, inc flow.Incident) {
	w.t.Helper()
	if inc.Action == nil || inc.Action.Taken() != flow.MeasureBlockPort {
		w.t.Fatalf("the first answer is %+v, want a port block", inc.Action)
	}
	w.wantBlocked("blocked")
	w.wantConsole("blocked")
	st, err := a.Status(w.t.Context(), w.nic())
	r, ok := st.Restricted(flow.MeasureBlockPort)
	if err != nil || !ok || st.Cut() || r.Mark.Incident != inc.ID || !slices.Equal(r.Measure.Ports, []flow.PortRule{{Proto: 6, Port: 22}}) {
		w.t.Errorf("the node says %+v, %v; want TCP 22 blocked and marked for %s", st, err, inc.ID)
	}
	checkEvidence(w.t, s, inc.ID)
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
