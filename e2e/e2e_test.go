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

// limit is what a story may take, from the empty machine to the network given
// back, the building of the program not counted: a hang guard. What it takes is
// logged; a quiet machine of two cores needs some 80 s and 230 s.
const limit = 30 * time.Minute

// story is a running flowcordon with a guest that scans, and one that only talks.
type story struct {
	*world
	s *service
	a *libvirt.Adapter // looks at the node beside flowcordon
}

// begin starts both. prepare, which may be nil, makes what the policy needs and
// completes it; args are more of the guest's.
func begin(t *testing.T, policy string, prepare func(*world) *strings.Replacer, args ...string) *story {
	lib := findEngine(t)
	w := newWorld(t)
	if prepare != nil {
		policy = prepare(w).Replace(policy)
	}
	bin := buildService(w)
	w.step("flowcordon is built")
	w.begin = time.Now()
	st := &story{w, startService(w, bin, lib, policy), libvirt.New(libvirt.Config{Name: "check", Socket: w.Socket}, libvirt.Deps{})}
	t.Cleanup(st.a.Close)
	stop, err := w.Exporter(9, lab.MgmtIP+":2055")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	if err := lab.Until(hang, func() error { return st.s.call(http.MethodGet, "/readyz", "", nil) }); err != nil {
		t.Fatal(err)
	}
	w.step("flowcordon is ready")
	w.boot(append(args, lab.TalkArgs())...)
	w.wantConsole("before")
	w.waitTalk("before", 22)
	return st
}

// end holds what is so in the end: the guest talks again, nothing of ours is
// left at the node, nobody else has an incident.
func (st *story) end(scanned ...int) {
	t := st.t
	st.waitTalk("released", scanned...)
	if got, err := st.a.Status(t.Context(), st.nic()); err != nil || got.Live != flow.LinkUp || got.Config != flow.LinkUp || got.Mark != nil || len(got.Restrictions) != 0 {
		t.Errorf("the node says %+v, %v; want it up and unmarked", got, err)
	}
	all, err := st.s.incidents()
	for _, i := range all {
		if i.Tenant.String() == lab.TenantIP {
			t.Errorf("the honest tenant has an incident: %+v", i)
		}
	}
	if err != nil {
		t.Error(err)
	}
	took := time.Since(st.begin)
	st.step("all of it")
	if took > limit {
		t.Errorf("all of it took %v, want less than %v", took.Round(time.Second), limit)
	}
}

// wantCut checks the cut of an incident.
func (st *story) wantCut(inc flow.Incident) {
	t := st.t
	checkIncident(t, inc)
	st.wantSilence("cut")
	st.wantConsole("cut")
	st.wantMarked(inc.ID)
	checkEvidence(t, st.s, inc.ID)
}

// wantMarked fails unless the node says that the guest is cut for an incident.
func (st *story) wantMarked(id string) {
	got, err := st.a.Status(st.t.Context(), st.nic())
	if err != nil || !got.Cut() || got.Mark == nil || got.Mark.Incident != id || len(got.Restrictions) != 0 {
		st.t.Errorf("the node says %+v, %v; want it cut and marked for %s", got, err, id)
	}
}

// TestNothingMocked: a guest scans, and its network is cut.
func TestNothingMocked(t *testing.T) {
	st := begin(t, cutPolicy, nil)
	inc := st.s.waitState(flow.StateVerified, func(flow.Incident) bool { return true })
	st.wantCut(inc)
	st.s.release(inc.ID, "reinstalled from a backup")
	// It scans on, but more acts a day are not what may happen without a human.
	inc = st.s.waitState(flow.StateReleased, func(i flow.Incident) bool { return i.ID == inc.ID })
	if inc.Statement != "reinstalled from a backup" {
		t.Errorf("statement %q", inc.Statement)
	}
	st.end(22)
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
