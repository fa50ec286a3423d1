package api

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

func TestIncidentList(t *testing.T) {
	b := newBench(t, nil)
	for _, tc := range []struct {
		query string
		ids   string
		total int
	}{
		{"", "inc-1 inc-2 inc-3 inc-4 inc-5", 5},
		{"?state=live", "inc-1 inc-2 inc-3 inc-4", 4},
		{"?state=held,awaiting_approval", "inc-2 inc-3", 2},
		{"?rule=netscan", "inc-1 inc-3 inc-5", 3},
		{"?rule=spam", "", 0},
		{"?tenant=198.18.0.7", "inc-1", 1},
		{"?tenant=2001:db8:0:7:1:2:3:4", "inc-2", 1},
		{"?since=-1h", "inc-1 inc-2", 2},
		{"?since=2026-11-22T03:59:59Z&until=2026-11-22T04:00:01Z", "inc-3", 1},
		{"?until=2026-11-22T07:00:01%2B03:00", "inc-3 inc-4 inc-5", 3},
		{"?until=2026-11-22T07:00:01+03:00", "inc-3 inc-4 inc-5", 3},
		{"?limit=2", "inc-1 inc-2", 5},
		{"?limit=2&offset=2", "inc-3 inc-4", 5},
		{"?limit=2&offset=4", "inc-5", 5},
		{"?offset=99", "", 5},
	} {
		var got struct {
			Metadata  map[string]int   `json:"_metadata"`
			Incidents *[]flow.Incident `json:"incidents"`
		}
		b.get(t, Prefix+"/incidents"+tc.query).into(t, &got)
		if got.Incidents == nil {
			t.Fatalf("%s: incidents is null", tc.query)
		}
		ids := ""
		for _, i := range *got.Incidents {
			ids += " " + i.ID
			if i.Rules == nil || i.Findings == nil {
				t.Errorf("%s: %s has null lists", tc.query, i.ID)
			}
		}
		if strings.TrimSpace(ids) != tc.ids || got.Metadata["totalCount"] != tc.total {
			t.Errorf("%s: got%s (total %d), want %s (total %d)", tc.query, ids, got.Metadata["totalCount"], tc.ids, tc.total)
		}
	}
	var got struct {
		Metadata map[string]int `json:"_metadata"`
	}
	b.get(t, Prefix+"/incidents?limit=7&offset=3").into(t, &got)
	if diff := cmp.Diff(map[string]int{"totalCount": 5, "limit": 7, "offset": 3}, got.Metadata); diff != "" {
		t.Error(diff)
	}
}

func TestIncidentAndEvidence(t *testing.T) {
	b := newBench(t, nil)
	var got struct {
		Incident flow.Incident
		Events   []flow.Event
	}
	b.get(t, Prefix+"/incidents/inc-1").into(t, &got)
	want, events, _ := b.desk.Incident("inc-1")
	want.Action.NICs = []flow.NIC{}
	if diff := cmp.Diff(want, got.Incident, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("incident (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(events, got.Events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	var ev flow.Evidence
	b.get(t, Prefix+"/incidents/inc-1/evidence").into(t, &ev)
	if len(ev.Logs) != 3 || ev.Rows != 1204 || ev.Logs[0].Text != sampleEvidence().Logs[0].Text {
		t.Errorf("evidence: %+v", ev)
	}
	for _, l := range sampleEvidence().Logs {
		a := b.get(t, Prefix+"/incidents/inc-1/evidence/"+l.Form, "Accept", "text/html,*/*")
		if a.code != 200 || a.body != l.Text || a.head.Get("Content-Type") != "text/plain; charset=utf-8" || a.head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v %q", l.Form, a.code, a.head, a.body)
		}
		if want := "inline; filename=" + l.Name; a.head.Get("Content-Disposition") != want {
			t.Errorf("Content-Disposition %q, want %q", a.head.Get("Content-Disposition"), want)
		}
	}
	for path, want := range map[string]string{
		"/incidents/none":                   `there is no incident "none"; GET /api/v1/incidents lists them`,
		"/incidents/none/evidence":          `there is no incident "none"`,
		"/incidents/none/evidence/netscan":  `there is no incident "none"`,
		"/incidents/inc-2/evidence":         "no evidence yet",
		"/incidents/inc-2/evidence/netscan": "no evidence yet",
		"/incidents/inc-1/evidence/pcap":    `no form "pcap"; it has netscan, summary, packets`,
		"/incidents/..%2f..%2fetc/evidence": `there is no incident "../../etc"`,
	} {
		if p := b.get(t, Prefix+path).problem(t, 404); !strings.Contains(p.Detail, want) {
			t.Errorf("%s: detail %q, want %q", path, p.Detail, want)
		}
	}
}

func TestActs(t *testing.T) {
	for _, tc := range []struct {
		name, path, body string
		role             Role
		code             int
		detail           string // of a problem
		state            flow.State
	}{
		{"release", "/incidents/inc-1/release", `{"statement":" cleaned "}`, RoleAbuse, 200, "", flow.StateReleasing},
		{"release without statement", "/incidents/inc-1/release", `{}`, RoleAbuse, 422, `statement to be present; send {"statement": "what the customer says`, flow.StateVerified},
		{"release with empty statement", "/incidents/inc-1/release", `{"statement":""}`, RoleAbuse, 422, `body.statement: expected length >= 1; send {"statement":`, flow.StateVerified},
		{"release with blank statement", "/incidents/inc-1/release", `{"statement":" \n "}`, RoleAbuse, 422, "statement is empty; write a sentence", flow.StateVerified},
		{"release without body", "/incidents/inc-1/release", ``, RoleAbuse, 400, `request body is required; send {"statement":`, flow.StateVerified},
		{"release with a long statement", "/incidents/inc-1/release", `{"statement":"` + strings.Repeat("x", 4001) + `"}`, RoleAbuse, 422, "expected length <= 4000", flow.StateVerified},
		{"release with another field", "/incidents/inc-1/release", `{"statement":"x","actor":"root"}`, RoleAbuse, 422, "body.actor: unexpected property", flow.StateVerified},
		{"release with broken JSON", "/incidents/inc-1/release", `{"statement`, RoleAbuse, 400, `send {"statement":`, flow.StateVerified},
		{"release of one that is not cut", "/incidents/inc-3/release", `{"statement":"x"}`, RoleAbuse, 409, "incident inc-3 is held; it cannot be released", flow.StateHeld},
		{"release of none", "/incidents/inc-9/release", `{"statement":"x"}`, RoleAbuse, 404, "there is no incident", ""},
		{"approve", "/incidents/inc-2/approve", `{"reason":"flood"}`, RoleOperator, 200, "", flow.StateSuspending},
		{"approve without reason", "/incidents/inc-2/approve", `{}`, RoleOperator, 422, `send {"reason": "why the network`, flow.StateApproval},
		{"approve of one that does not wait", "/incidents/inc-1/approve", `{"reason":"x"}`, RoleOperator, 409, "cannot be approved", flow.StateVerified},
		{"close", "/incidents/inc-3/close", `{"reason":"own scanner"}`, RoleAbuse, 200, "", flow.StateClosed},
		{"close of a cut one", "/incidents/inc-1/close", `{"reason":"x"}`, RoleAbuse, 409, "cannot be closed", flow.StateVerified},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, nil)
			a := b.do(t, tc.role, http.MethodPost, Prefix+tc.path, tc.body)
			if tc.code != 200 {
				if p := a.problem(t, tc.code); !strings.Contains(p.Detail, tc.detail) {
					t.Errorf("detail %q, want %q", p.Detail, tc.detail)
				}
			}
			id := strings.Split(tc.path, "/")[2]
			inc, events, _ := b.desk.Incident(id)
			if inc.State != tc.state {
				t.Errorf("state %s, want %s", inc.State, tc.state)
			}
			if tc.code != 200 {
				return
			}
			var got struct{ Incident flow.Incident }
			a.into(t, &got)
			last := events[len(events)-1]
			if got.Incident.State != tc.state || last.Actor != "test-"+tc.role.String() || last.Reason != strings.TrimSpace(last.Reason) {
				t.Errorf("answer %s, last event %+v", got.Incident.State, last)
			}
			lines := b.logs.FilterMessage("write").FilterField(zapString("actor", "test-"+tc.role.String())).All()
			if len(lines) != 1 || lines[0].LoggerName != "audit" || lines[0].ContextMap()["done"] != true || lines[0].ContextMap()["incident"] != id {
				t.Errorf("audit: %v", lines)
			}
		})
	}
}
