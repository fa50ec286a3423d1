package respond

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// maxEvidenceRows bounds the flow rows an incident's texts are made from:
// 10,000 lines are about 0.8 MB of mail attachment.
const maxEvidenceRows = 10_000

// maxEvidenceQueries bounds the questions asked for one incident; the
// strongest findings come first.
const maxEvidenceQueries = 8

// maxEvidenceSpan bounds how far back evidence is read: the longest windows of
// the rules are half an hour.
const maxEvidenceSpan = time.Hour

// emptyRetry is how long evidence without a single row is asked for again:
// flow rows may arrive a little after the windows that a finding was made of.
const emptyRetry = 30 * time.Second

// proof is what the renderers make texts of.
type proof struct {
	Incident  flow.Incident
	Range     flow.Range
	Rows      []flow.FlowRow // by time
	Truncated bool
	Newest    bool // when truncated, the last rows are kept instead of the first
	Frozen    time.Time
}

// evidenceKey names the nth frozen evidence of an incident. What is stored
// never changes, so a later stage (a notice, then a cut) gets a key of its own.
func evidenceKey(inc flow.Incident) string {
	if n := len(inc.Evidence); n > 0 {
		return fmt.Sprintf("%s-%d", inc.ID, n+1)
	}
	return inc.ID
}

// logsDue is when the flows of an incident may be read: earlier, what was
// exported until the act is still on its way.
func (c *Controller) logsDue(r record) time.Time { return r.wantLogs.Add(c.cfg.EvidenceAfter) }

// owesLogs reports whether evidence is wanted that is not frozen.
func (c *Controller) owesLogs(r record) bool {
	return !r.wantLogs.IsZero() && r.evidence.Before(c.logsDue(r))
}

// freeze reads the flows of an incident, renders the texts, stores them and
// then their hashes. It runs beside the act and never delays it.
func (c *Controller) freeze(ctx context.Context, id string) time.Duration {
	r, ok := c.record(id)
	if !ok || !c.owesLogs(r) {
		return 0
	}
	wait := backoff(c.sched.tries(id+"/evidence"), c.cfg.RetryMin, 30*time.Second)
	key := evidenceKey(r.inc)
	e, err := c.keep(ctx, r, key)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, errNoRows) {
			c.m.evidence.WithLabelValues(resultUnavailable).Inc()
			c.log.Warn("evidence will be tried again", zap.String("incident", id), zap.Error(err))
		}
		return wait
	}
	// What counts is when it was read, not when that is stored: an intent that
	// came in between is not proved by it and gets a stage of its own.
	b := body{Key: key, Rows: e.Rows, Truncated: e.Truncated, Frozen: e.Frozen}
	for _, l := range e.Logs {
		b.Logs = append(b.Logs, logSum{l.Form, l.SHA256})
	}
	at := c.now()
	err = c.store(ctx, func(t *txn) error {
		if r, _ := t.st.rec(id); !slices.Contains(r.inc.Evidence, key) {
			t.emit(newEvent(id, EventEvidence, actorController, "", at, b))
		}
		return nil
	})
	if err != nil {
		return wait
	}
	c.m.evidence.WithLabelValues(resultFrozen).Inc()
	return 0
}

// errNoRows: nothing to prove anything by has arrived yet.
var errNoRows = errors.New("no flow rows yet")

// keep returns what is stored under key, and stores it if nothing is. What
// counts is what reads back: the texts may have been stored by a process that
// ended before it could say so, and the first ones stored stay.
func (c *Controller) keep(ctx context.Context, r record, key string) (flow.Evidence, error) {
	read := func() (flow.Evidence, error) {
		qctx, cancel := context.WithTimeout(ctx, c.cfg.QueryTimeout)
		defer cancel()
		return c.deps.Flows.Evidence(qctx, key)
	}
	if e, err := read(); err == nil {
		return e, nil
	}
	now := c.now()
	p, err := c.collect(ctx, r, now)
	if err != nil {
		return flow.Evidence{}, err
	}
	if len(p.Rows) == 0 && now.Before(c.logsDue(r).Add(emptyRetry)) {
		return flow.Evidence{}, errNoRows
	}
	e := render(p)
	e.Incident = key
	sctx, cancel := context.WithTimeout(ctx, c.cfg.AppendTimeout)
	defer cancel()
	if err := c.deps.Flows.SaveEvidence(sctx, e); err != nil {
		return flow.Evidence{}, fmt.Errorf("save evidence: %w", err)
	}
	if e, err = read(); err != nil {
		return flow.Evidence{}, fmt.Errorf("read evidence back: %w", err)
	}
	return e, nil
}

// collect asks for the rows behind the strongest findings. When there are more
// than can be kept, the first stage shows how it began and a later one what
// went on until then.
func (c *Controller) collect(ctx context.Context, r record, now time.Time) (proof, error) {
	inc := r.inc
	p := proof{Incident: inc, Range: spanOf(r, now), Frozen: now, Newest: len(inc.Evidence) > 0}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.QueryTimeout)
	defer cancel()
	var asked []flow.FlowQuery
	for _, f := range inc.Findings {
		q := queryOf(inc, f, p.Range)
		if slices.Contains(asked, q) {
			continue
		}
		if len(asked) == maxEvidenceQueries {
			p.Truncated = true
			break
		}
		q.Limit, q.Newest = c.cfg.EvidenceRows+1, p.Newest
		rows, err := c.deps.Flows.Flows(ctx, q)
		if err != nil {
			return p, fmt.Errorf("read flows of %s: %w", inc.Tenant, err)
		}
		for _, row := range rows {
			if !slices.ContainsFunc(asked, func(o flow.FlowQuery) bool { return selects(o, row) }) {
				p.Rows = append(p.Rows, row)
			}
		}
		q.Limit, q.Newest = 0, false
		asked = append(asked, q)
	}
	slices.SortStableFunc(p.Rows, func(a, b flow.FlowRow) int {
		return cmp.Compare(a.Time, b.Time)
	})
	if over := len(p.Rows) - c.cfg.EvidenceRows; over > 0 {
		p.Truncated = true
		if p.Newest {
			p.Rows = p.Rows[over:]
		} else {
			p.Rows = p.Rows[:c.cfg.EvidenceRows]
		}
	}
	return p, nil
}

// spanOf is the event time from the first window that any finding counted
// until now; maxEvidenceSpan is counted back from the last one, which may be
// long ago when the process was down in between.
func spanOf(r record, now time.Time) flow.Range {
	span := flow.Range{From: now, To: now}
	if !r.first.IsZero() && r.first.Before(now) {
		span.From = r.first
	}
	last := now
	if !r.last.IsZero() && r.last.Before(now) {
		last = r.last
	}
	if from := last.Add(-maxEvidenceSpan); span.From.Before(from) {
		span.From = from
	}
	return span
}

// Evidence returns the latest frozen stage of an incident, with the incident's
// id in it; flow.Incident.Evidence lists the keys of all. An incident that has
// none, or is not known, is asked for by its id, which gives the store's error
// when there is none.
func (c *Controller) Evidence(ctx context.Context, id string) (flow.Evidence, error) {
	key := id
	if r, ok := c.record(id); ok && len(r.inc.Evidence) > 0 {
		key = r.inc.Evidence[len(r.inc.Evidence)-1]
	}
	e, err := c.deps.Flows.Evidence(ctx, key)
	if err != nil {
		return flow.Evidence{}, fmt.Errorf("read evidence of %s: %w", id, err)
	}
	e.Incident = id
	return e, nil
}

// scans are the rules whose proof is a list of attempts.
func scans(r flow.Rule) bool {
	switch r {
	case flow.RuleNetscan, flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep,
		flow.RuleSpam, flow.RuleBruteforce, flow.RuleBlockedPort:
		return true
	}
	return false
}

// queryOf selects the outgoing rows that a finding counted.
func queryOf(inc flow.Incident, f flow.Finding, r flow.Range) flow.FlowQuery {
	q := flow.FlowQuery{Tenant: inc.Tenant, Range: r, Dir: flow.Out, Remote: f.Remote, IPProto: f.IPProto, SvcPort: -1}
	if f.Port != 0 {
		q.SvcPort = int(f.Port)
	}
	if !scans(f.Rule) {
		return q
	}
	switch f.IPProto {
	case flow.ProtoTCP:
		q.Class, q.HasClass = flow.ClassSYN, true
	case flow.ProtoUDP:
		q.Class, q.HasClass = flow.ClassUDP, true
	case flow.ProtoICMP, flow.ProtoICMPv6:
		q.Class, q.HasClass = flow.ClassEcho, true
	}
	return q
}

// selects reports whether a query of this file selects the row, so that a row
// behind two findings is proof once.
func selects(q flow.FlowQuery, row flow.FlowRow) bool {
	return (!q.Remote.IsValid() || q.Remote == row.Remote) && (q.IPProto == 0 || q.IPProto == row.IPProto) &&
		(q.SvcPort < 0 || q.SvcPort == int(row.SvcPort)) && (!q.HasClass || q.Class == row.Class)
}

// render makes the frozen texts: a summary and a packet excerpt always, the
// list of attempts when a scan is among the findings.
func render(p proof) flow.Evidence {
	e := flow.Evidence{
		Incident: p.Incident.ID, Tenant: p.Incident.Tenant, Frozen: p.Frozen, From: p.Range.From, To: p.Range.To,
		Rows: len(p.Rows), Truncated: p.Truncated,
	}
	add := func(form, text string) {
		sum := sha256.Sum256([]byte(text))
		e.Logs = append(e.Logs, flow.EvidenceLog{
			Form: form, Name: p.Incident.ID + "-" + form + ".txt", Text: text, SHA256: hex.EncodeToString(sum[:]),
		})
	}
	if slices.ContainsFunc(p.Incident.Rules, scans) {
		add("netscan", renderNetscan(p))
	}
	add("summary", renderSummary(p))
	add("packets", renderPackets(p))
	return e
}
