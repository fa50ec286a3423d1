package complaint

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

type caseKey struct {
	host     netip.Addr
	known    bool
	tenant   string
	vds      string
	from, to int64 // of the holder's validity, UnixNano of the zero time for none
}

// cases sums up the lines by our address and who held it.
func (r *run) cases(ctx context.Context) error {
	index := map[caseKey]int{}
	targets := map[int]map[netip.Addr]bool{}
	for _, c := range r.claims {
		l := &r.res.Lines[c.line]
		h, ok := r.holderAt(c, l.Time)
		k := caseKey{c.host, ok, h.Tenant, h.VDS, h.From.Unix(), h.To.Unix()}
		i, have := index[k]
		if !have {
			i = len(r.res.Cases)
			index[k] = i
			r.res.Cases = append(r.res.Cases, newCase(c, l, h, ok, r.shared(h)))
			targets[i] = map[netip.Addr]bool{}
		}
		l.Case = i
		r.res.Cases[i].take(c, l)
		if c.remote.IsValid() {
			targets[i][c.remote] = true
		}
	}
	for i := range r.res.Cases {
		r.res.Cases[i].Targets = len(targets[i])
		slices.Sort(r.res.Cases[i].Ports)
		if err := r.join(ctx, &r.res.Cases[i]); err != nil {
			return err
		}
	}
	return nil
}

func newCase(c *claim, l *Line, h flow.Holder, ok, shared bool) Case {
	k := Case{Host: c.host, Tenant: c.tenant, First: l.Time, Last: l.Time, Counts: map[Verdict]int{}, Ports: []uint16{}, Notes: []Note{}}
	if ok {
		k.Holder, k.Shared = &h, shared
	}
	return k
}

// maxCasePorts listed of one case; a scan of all ports has thousands.
const maxCasePorts = 50

func (k *Case) take(c *claim, l *Line) {
	k.Lines++
	k.Counts[l.Traffic.Verdict]++
	if l.Time.Before(k.First) {
		k.First = l.Time
	}
	if end := l.Time; end.After(k.Last) {
		k.Last = end
	}
	if l.End.After(k.Last) {
		k.Last = l.End
	}
	if c.remotePort > 0 && len(k.Ports) < maxCasePorts && !slices.Contains(k.Ports, c.remotePort) {
		k.Ports = append(k.Ports, c.remotePort)
	}
	for _, n := range l.Notes {
		if !slices.ContainsFunc(k.Notes, func(o Note) bool { return o.Code == n.Code }) {
			k.Notes = append(k.Notes, n)
		}
	}
}

// joinSlack: a complaint's lines may begin before our rules had enough, and end
// after the cut.
const joinSlack = time.Hour

// join finds our own incident of the same holder at that time: the live one, or
// else the latest.
func (r *run) join(ctx context.Context, k *Case) error {
	if r.m.deps.Incidents == nil || k.Holder == nil {
		return nil
	}
	list, err := r.m.deps.Incidents.IncidentsOf(ctx, k.Tenant)
	if err != nil {
		return fmt.Errorf("ask for the incidents of %s: %w", k.Tenant, err)
	}
	var best *flow.Incident
	for i := range list {
		inc := &list[i]
		if inc.Tenant != k.Tenant || !sameHolder(inc.Holder, *k.Holder) {
			continue
		}
		first, last := began(inc), inc.Updated
		if inc.State.Live() {
			last = r.req.Received
		}
		if k.Last.Add(joinSlack).Before(first) || k.First.Add(-joinSlack).After(last) {
			continue
		}
		if best == nil || inc.State.Live() && !best.State.Live() || inc.State.Live() == best.State.Live() && inc.Opened.After(best.Opened) {
			best = inc
		}
	}
	if best != nil {
		k.Incident = &IncidentRef{ID: best.ID, State: best.State, Rules: best.Rules, Opened: best.Opened}
	}
	return nil
}

// began is the first moment that the incident's findings are about.
func began(inc *flow.Incident) time.Time {
	at := inc.Opened
	for _, f := range inc.Findings {
		if !f.From.IsZero() && f.From.Before(at) {
			at = f.From
		}
	}
	return at
}
