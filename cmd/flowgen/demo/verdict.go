package demo

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/cmd/flowgen/sim"
	"github.com/flowcordon/flowcordon/flow"
)

// quiet is for how long the simulator must have counted no packet of a cut
// tenant before we say that its traffic has stopped.
const quiet = 5 * time.Second

// verdict is what the demo has shown by a moment.
type verdict struct {
	attackers []attacker
	honest    []string // what the honest host still lacks
	wrong     []string // what must never happen, and did
}

// attacker is one of the two, with what is still missing.
type attacker struct {
	tenant  sim.Tenant
	rule    flow.Rule
	inc     *flow.Incident
	cutAt   time.Time // by the panel's clock; zero: not cut
	missing []string
}

func (a *attacker) ok() bool { return len(a.missing) == 0 }

func (v *verdict) shown() bool {
	for i := range v.attackers {
		if !v.attackers[i].ok() {
			return false
		}
	}
	return len(v.honest) == 0 && len(v.wrong) == 0
}

// missing is what is not shown yet, in one line.
func (v *verdict) missing() string {
	all := slices.Concat(v.wrong, v.honest)
	for _, a := range v.attackers {
		if !a.ok() {
			all = append(all, fmt.Sprintf("%s (%s): %s", a.tenant.Addr, a.rule, strings.Join(a.missing, ", ")))
		}
	}
	return strings.Join(all, "; ")
}

// facts is everything that a verdict is made of.
type facts struct {
	now       time.Time
	view      view
	incidents []flow.Incident
	changes   []panel.Change
	states    map[string]panel.State // of the attackers, by MAC
	tickets   []ticketFile
	mails     []mailFile
}

func (d *demo) facts(now time.Time) facts {
	f := facts{now: now, view: d.routers.snapshot(), changes: d.outside.panel.Changes(), states: map[string]panel.State{}}
	for _, mac := range []string{d.routers.world.Scanner.MAC, d.routers.world.Flooder.MAC} {
		f.states[mac], _ = d.outside.panel.State(mac)
	}
	f.tickets, f.mails = d.outside.written()
	d.mu.Lock()
	f.incidents = d.incidents
	d.mu.Unlock()
	return f
}

func (d *demo) verdict(now time.Time) verdict { return judge(d.facts(now)) }

// judge decides from the facts alone.
func judge(f facts) verdict {
	v := verdict{attackers: []attacker{
		judgeAttacker(f, f.view.scanner, flow.RuleNetscan, f.view.lastScan),
		judgeAttacker(f, f.view.flooder, flow.RuleUDPFlood, f.view.lastFlood),
	}}
	guilty := func(mac string) bool { return mac == f.view.scanner.MAC || mac == f.view.flooder.MAC }
	for _, c := range f.changes {
		if !guilty(c.MAC) {
			v.wrong = append(v.wrong, fmt.Sprintf("%s (%s) was cut or restored, and is innocent: %s", c.VDS, c.MAC, c.Reason))
		}
	}
	for _, i := range f.incidents {
		if i.Tenant == f.view.scanner.Addr || i.Tenant == f.view.flooder.Addr {
			continue
		}
		if i.Tier > flow.TierLog || i.State.Cut() {
			v.wrong = append(v.wrong, fmt.Sprintf("an innocent tenant, %s, has incident %s (%s, tier %s)", i.Tenant, i.ID, i.State, i.Tier))
		}
	}
	if f.view.backgroundDown > 0 {
		v.wrong = append(v.wrong, fmt.Sprintf("%d innocent tenants are without network", f.view.backgroundDown))
	}
	if f.view.honest.Sent == 0 || f.now.Sub(f.view.honest.LastSent) > quiet {
		v.honest = append(v.honest, "the BitTorrent host does not send")
	}
	return v
}

func judgeAttacker(f facts, t sim.Tenant, rule flow.Rule, lastMoved time.Time) attacker {
	a := attacker{tenant: t, rule: rule}
	miss := func(ok bool, format string, args ...any) {
		if !ok {
			a.missing = append(a.missing, fmt.Sprintf(format, args...))
		}
	}
	for n := range f.incidents {
		if i := &f.incidents[n]; i.Tenant == t.Addr && slices.Contains(i.Rules, rule) {
			a.inc = i
		}
	}
	if a.inc == nil {
		a.missing = append(a.missing, fmt.Sprintf("no incident by rule %s", rule))
		return a
	}
	miss(a.inc.State == flow.StateVerified, "incident is %s, not verified (%s)", a.inc.State, a.inc.Reason)
	cuts := 0
	for _, c := range f.changes {
		if c.MAC == t.MAC && c.Action == "suspend" {
			cuts++
			a.cutAt = c.At
		}
	}
	miss(cuts == 1, "the panel cut it %d times, want once", cuts)
	st := f.states[t.MAC]
	miss(st.Live == panel.Down && st.Config == panel.Down, "link is live %s, config %s", st.Live, st.Config)
	miss(st.Running, "the VM does not run")
	miss(!t.FirstExport.IsZero(), "it has not attacked")
	miss(t.Down() && f.now.Sub(lastMoved) >= quiet, "its packets have not stopped")
	miss(slices.ContainsFunc(f.tickets, func(x ticketFile) bool {
		return x.ticket.Incident.Tenant == t.Addr && x.ticket.Event == "suspended" && len(x.ticket.Logs) > 0
	}), "no ticket with logs")
	miss(slices.ContainsFunc(f.mails, func(m mailFile) bool { return slices.Contains(m.to, t.Contact) }), "no mail to its owner")
	return a
}

// Summary is the last line of stdout. Times are in seconds.
type Summary struct {
	OK      bool    `json:"ok"`
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds"` // from the start to the verdict
	Ready   float64 `json:"ready_seconds"`
	// DetectSeconds is the longest of the cuts' detect_seconds,
	// FirstDatagramToCall the longest of theirs.
	DetectSeconds       float64 `json:"detect_seconds"`
	FirstDatagramToCall float64 `json:"first_datagram_to_call_seconds"`
	Cut                 []Cut   `json:"cut"`
	HonestUntouched     bool    `json:"honest_untouched"`
	BackgroundUntouched bool    `json:"background_untouched"`
	Tenants             int     `json:"tenants"`
	Tickets             int     `json:"tickets"`
	Mails               int     `json:"mails"`
	NetFlowRecords      uint64  `json:"netflow_records"`
	SFlowSamples        uint64  `json:"sflow_samples"`
	Incidents           int     `json:"incidents"`
}

// Cut is one attacker that lost its network.
type Cut struct {
	Tenant   string `json:"tenant"`
	VDS      string `json:"vds"`
	Rule     string `json:"rule"`
	State    string `json:"state"`
	Incident string `json:"incident"`
	// DetectSeconds is from the first datagram that reported the attack to the
	// incident.
	DetectSeconds float64 `json:"detect_seconds"`
	// FirstDatagramToCall is from that datagram to the change at the
	// hypervisor, AttackToCall from the attack's begin.
	FirstDatagramToCall float64 `json:"first_datagram_to_call_seconds"`
	AttackToCall        float64 `json:"attack_to_call_seconds"`
	CallToVerified      float64 `json:"call_to_verified_seconds"`
	PacketsSent         uint64  `json:"packets_sent"`
	VMRunning           bool    `json:"vm_running"`
}

func (d *demo) summary() Summary {
	now := time.Now()
	f := d.facts(now)
	v := judge(f)
	s := Summary{
		OK: v.shown(), Reason: v.missing(), Seconds: round(now.Sub(d.started)), Tenants: f.view.tenants,
		Tickets: len(f.tickets), Mails: len(f.mails), NetFlowRecords: f.view.records, SFlowSamples: f.view.samples,
		Incidents: len(f.incidents), BackgroundUntouched: len(v.wrong) == 0, Cut: []Cut{},
	}
	d.mu.Lock()
	ready, attack := d.readyAt, d.attack
	d.mu.Unlock()
	if !ready.IsZero() {
		s.Ready = round(ready.Sub(d.started))
	}
	s.HonestUntouched = len(v.wrong) == 0 && len(v.honest) == 0
	for _, a := range v.attackers {
		if a.cutAt.IsZero() || a.inc == nil {
			continue
		}
		c := Cut{
			Tenant: a.tenant.Addr.String(), VDS: a.tenant.VDS, Rule: string(a.rule), State: string(a.inc.State), Incident: a.inc.ID,
			DetectSeconds: round(a.inc.Opened.Sub(a.tenant.FirstExport)), FirstDatagramToCall: round(a.cutAt.Sub(a.tenant.FirstExport)),
			AttackToCall: round(a.cutAt.Sub(attack)), PacketsSent: a.tenant.Sent, VMRunning: f.states[a.tenant.MAC].Running,
		}
		if act := a.inc.Action; act != nil && !act.Verified.IsZero() {
			c.CallToVerified = round(act.Verified.Sub(a.cutAt))
		}
		s.DetectSeconds = max(s.DetectSeconds, c.DetectSeconds)
		s.FirstDatagramToCall = max(s.FirstDatagramToCall, c.FirstDatagramToCall)
		s.Cut = append(s.Cut, c)
	}
	return s
}

func round(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }
