package demo

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/cmd/flowgen/sim"
	"github.com/flowcordon/flowcordon/flow"
)

// story tells what happens, one line a step, with the seconds since the start.
// It is safe for concurrent use.
type story struct {
	out     io.Writer
	started time.Time

	mu     sync.Mutex
	states map[string]flow.State // by incident
	tiers  map[string]flow.Tier
}

func newStory(out io.Writer, started time.Time) *story {
	return &story{out: out, started: started, states: map[string]flow.State{}, tiers: map[string]flow.Tier{}}
}

func (s *story) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(format, args...)
}

// line writes with the lock held.
func (s *story) line(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n           ")
	_, _ = fmt.Fprintf(s.out, "[%6.1f s] %s\n", time.Since(s.started).Seconds(), text) // a closed terminal stops nothing
}

func (s *story) intro(d *demo) {
	s.say("A hoster with %d VMs behind two border routers, all simulated on this machine; only flowcordon is real.\nWork directory: %s",
		len(d.routers.world.Tenants()), d.work.dir)
	s.say("flowcordon starts, and ClickHouse inside it …")
}

func (s *story) ready(d *demo) {
	s.say("flowcordon is ready. Dashboard: http://%s/   token to log in: %s\n"+
		"In another terminal: export FLOWCORDON_URL=http://%s FLOWCORDON_TOKEN=%s; bin/flowcordon incidents", d.work.http, d.work.token, d.work.http, d.work.token)
	s.say("Router A (%s) exports NetFlow v9 of every packet, router B (%s) samples 1 in %d by sFlow.\nOrdinary traffic of %d tenants: web, mail, DNS, ssh, games, backups, and one BitTorrent host, %s (%s).",
		routerA, routerB, d.cfg.SampleRate, d.cfg.Tenants, d.routers.world.Honest.Addr, d.routers.world.Honest.VDS)
}

func (s *story) attackAt(t time.Time) {
	s.say("In %.0f s two broken-into web servers will begin to attack.", time.Until(t).Seconds())
}

func (s *story) attackBegan(w *sim.World) {
	s.say("ATTACK    %s (%s) scans the Internet for open TCP/22, seen by router A.", w.Scanner.Addr, w.Scanner.VDS)
	s.say("ATTACK    %s (%s) floods %s by UDP, seen by router B.", w.Flooder.Addr, w.Flooder.VDS, sim.FloodVictim)
}

// incident tells what is new about an incident: that it is there, that the
// evidence now carries more, and each state it goes through.
func (s *story) incident(i flow.Incident, who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.states[i.ID]
	if tier := s.tiers[i.ID]; !known || i.Tier > tier {
		s.tiers[i.ID] = i.Tier
		verb := "NOTICED"
		if known {
			verb = "STRONGER"
		}
		s.line("%-9s %s (%s), incident %s%s", verb, i.Tenant, who, i.ID, evidence(i))
	}
	if known && before == i.State {
		return
	}
	s.states[i.ID] = i.State
	text, ok := stateTexts[i.State]
	if !ok {
		text = "%s: " + string(i.State)
	}
	why := ""
	if i.Reason != "" && needsReason[i.State] {
		why = ": " + i.Reason
	}
	s.line("%-9s %s%s", strings.ToUpper(string(i.State)), fmt.Sprintf(text, i.Tenant), why)
}

// evidence is the sentence of each finding of the incident's tier.
func evidence(i flow.Incident) (text string) {
	for _, f := range i.Findings {
		if f.Tier == i.Tier {
			text += fmt.Sprintf("\n%s, good for %q: it %s", f.Rule, f.Tier, f.Reason)
		}
	}
	return text
}

// needsReason are the states that do not explain themselves.
var needsReason = map[flow.State]bool{
	flow.StateHeld: true, flow.StateApproval: true, flow.StateUnverified: true, flow.StateFailed: true, flow.StateClosed: true,
}

// stateTexts say what a state means; each takes the tenant's address.
var stateTexts = map[flow.State]string{
	flow.StateOpen:       "%s is watched, nothing is done yet",
	flow.StateNotified:   "%s: owner and staff were written to, nothing was cut",
	flow.StateHeld:       "%s would be cut, but a safety holds it back",
	flow.StateApproval:   "%s would be cut; a human must approve",
	flow.StateSuspending: "%s: the hypervisor is told to cut its network",
	flow.StateSuspended:  "%s: the hypervisor reads back as cut; now its traffic must end",
	flow.StateVerified:   "%s: the routers see nothing from it any more",
	flow.StateUnverified: "%s is cut by the hypervisor's word, but its traffic goes on",
	flow.StateFailed:     "%s could not be cut",
	flow.StateReleasing:  "%s: the hypervisor is told to give its network back",
	flow.StateReleased:   "%s has its network back",
	flow.StateClosed:     "%s: closed without an act",
}

func (s *story) changed(c panel.Change) {
	switch c.Action {
	case "suspend":
		s.say("CUT       the panel set the link of %s (%s) down; the VM runs on, its console too", c.VDS, c.MAC)
	default:
		s.say("RESTORED  the panel set the link of %s (%s) up again", c.VDS, c.MAC)
	}
}

func (s *story) ticket(t panel.Ticket, file string) {
	s.say("TICKET    %q, %d logs attached → %s", t.Subject, len(t.Logs), file)
}

func (s *story) mail(m mailFile) {
	s.say("MAIL      to %s: %q → %s", strings.Join(m.to, ", "), m.subject, m.file)
}

func (s *story) silent(t netip.Addr, vds string, console string) {
	s.say("SILENT    %s: by the simulator's own counter no packet has left it since the cut. The console of %s still answers: %s", t, vds, console)
}

// failed says why the demo failed, with what flowcordon said last.
func (s *story) failed(err error, c *child) {
	tail := c.tail()
	s.say("FAILED    %v\nThe last %d lines of flowcordon (%s):\n%s", err, len(tail), c.log, strings.Join(tail, "\n"))
}

func (s *story) all(d *demo, sum Summary) {
	v := d.routers.snapshot()
	s.say("Both attackers are off the network and verified. Untouched: the BitTorrent host (%d packets sent, still sending) and all %d other tenants.",
		v.honest.Sent, v.tenants-1)
	for _, c := range sum.Cut {
		s.say("%-10s %s: first datagram of the attack → hypervisor call %.1f s, cut → verified %.1f s", c.Rule, c.Tenant, c.FirstDatagramToCall, c.CallToVerified)
	}
	if !d.cfg.Once {
		s.say("Everything goes on until Ctrl-C. Look around: http://%s/   token: %s\nRelease a tenant there, with a statement, and its network comes back (its owner will have cleaned it).", d.work.http, d.work.token)
	}
}
