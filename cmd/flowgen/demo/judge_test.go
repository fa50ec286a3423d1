package demo

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/cmd/flowgen/sim"
	"github.com/flowcordon/flowcordon/flow"
)

var at = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// downTenants are a scanner and a flooder whose links are down, as the
// simulator leaves them, and the honest host.
var downTenants = sync.OnceValues(func() (tenants [3]sim.Tenant, err error) {
	cut := false
	drop := func([]byte, int) error { return nil }
	w, err := sim.New(sim.Config{
		Tenants: 2, Start: at.Add(-time.Minute), A: drop, B: drop, AgentB: routerB, Cut: func(mac string) bool {
			return cut && (strings.HasSuffix(mac, ":02") || strings.HasSuffix(mac, ":03"))
		},
	})
	if err != nil {
		return tenants, err
	}
	w.StartAttacks(at.Add(-50 * time.Second))
	for s := -59; s <= 0; s++ {
		cut = s > -10
		if err := w.Tick(at.Add(time.Duration(s) * time.Second)); err != nil {
			return tenants, err
		}
	}
	return [3]sim.Tenant{*w.Scanner, *w.Flooder, *w.Honest}, nil
})

// good are facts with which the demo is over.
func good(t *testing.T) facts {
	t.Helper()
	tenants, err := downTenants()
	if err != nil {
		t.Fatal(err)
	}
	s, f, h := tenants[0], tenants[1], tenants[2]
	incident := func(tn sim.Tenant, r flow.Rule) flow.Incident {
		return flow.Incident{ID: "i-" + tn.VDS, Tenant: tn.Addr, Rules: []flow.Rule{r}, Tier: flow.TierSuspend, State: flow.StateVerified}
	}
	down := panel.State{Live: panel.Down, Config: panel.Down, Running: true}
	ticket := func(tn sim.Tenant) ticketFile {
		return ticketFile{ticket: panel.Ticket{Event: "suspended", Incident: flow.Incident{Tenant: tn.Addr}, Logs: []flow.EvidenceLog{{}}}}
	}
	return facts{
		now:       at,
		view:      view{scanner: s, flooder: f, honest: h, lastScan: at.Add(-9 * time.Second), lastFlood: at.Add(-quiet)},
		incidents: []flow.Incident{incident(s, flow.RuleNetscan), incident(f, flow.RuleUDPFlood)},
		changes:   []panel.Change{{Action: "suspend", MAC: s.MAC, At: at.Add(-9 * time.Second)}, {Action: "suspend", MAC: f.MAC, At: at.Add(-9 * time.Second)}},
		states:    map[string]panel.State{s.MAC: down, f.MAC: down},
		tickets:   []ticketFile{ticket(s), ticket(f)},
		mails:     []mailFile{{to: []string{s.Contact}}, {to: []string{"noc@hoster.example", f.Contact}}},
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edit  func(*facts)
		shown bool
		wrong bool
		want  string // in the text of what is missing
	}{
		{"all shown", func(*facts) {}, true, false, ""},
		{"no incident", func(f *facts) { f.incidents = f.incidents[1:] }, false, false, "no incident by rule netscan"},
		{"by another rule", func(f *facts) { f.incidents[0].Rules[0] = flow.RulePortscan }, false, false, "no incident by rule netscan"},
		{"not verified", func(f *facts) { f.incidents[1].State = flow.StateSuspended }, false, false, "suspended, not verified"},
		{"verified but the panel did nothing", func(f *facts) { f.changes = f.changes[:1] }, false, false, "cut it 0 times"},
		{"cut twice", func(f *facts) { f.changes = append(f.changes, f.changes[0]) }, false, false, "cut it 2 times"},
		{"up again after a reboot", func(f *facts) {
			f.states[f.view.scanner.MAC] = panel.State{Live: panel.Down, Config: panel.Up, Running: true}
		}, false, false, "config up"},
		{"VM powered off", func(f *facts) { f.states[f.view.flooder.MAC] = panel.State{Live: panel.Down, Config: panel.Down} }, false, false, "does not run"},
		{"packets a moment ago", func(f *facts) { f.view.lastFlood = at.Add(-quiet + 1) }, false, false, "have not stopped"},
		{"never attacked", func(f *facts) { f.view.scanner.FirstExport = time.Time{} }, false, false, "not attacked"},
		{"no ticket", func(f *facts) { f.tickets = f.tickets[:1] }, false, false, "no ticket"},
		{"ticket without logs", func(f *facts) { f.tickets[0].ticket.Logs = nil }, false, false, "no ticket"},
		{"ticket of another kind", func(f *facts) { f.tickets[0].ticket.Event = "failed" }, false, false, "no ticket"},
		{"mail to staff only", func(f *facts) { f.mails[1].to = f.mails[1].to[:1] }, false, false, "no mail"},
		{"innocent cut", func(f *facts) { f.changes = append(f.changes, panel.Change{Action: "suspend", MAC: f.view.honest.MAC}) }, false, true, "innocent"},
		{"innocent without network", func(f *facts) { f.view.backgroundDown = 1 }, false, true, "without network"},
		{"innocent written to", func(f *facts) {
			f.incidents = append(f.incidents, flow.Incident{Tenant: f.view.honest.Addr, Tier: flow.TierNotify, State: flow.StateNotified})
		}, false, true, "innocent tenant"},
		{"innocent only logged", func(f *facts) {
			f.incidents = append(f.incidents, flow.Incident{Tenant: netip.MustParseAddr("198.18.1.1"), Tier: flow.TierLog, State: flow.StateOpen})
		}, true, false, ""},
		{"honest host silent", func(f *facts) { f.view.honest.LastSent = at.Add(-time.Minute) }, false, false, "does not send"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := good(t)
			tc.edit(&f)
			v := judge(f)
			if v.shown() != tc.shown || (len(v.wrong) > 0) != tc.wrong || !strings.Contains(v.missing(), tc.want) || tc.shown && v.missing() != "" {
				t.Errorf("shown %v, wrong %q, missing %q", v.shown(), v.wrong, v.missing())
			}
		})
	}
}
