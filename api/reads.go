package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Reads keeps who looked at personal data.
type Reads interface {
	AppendReads(ctx context.Context, reads []flow.Read) error
	// Reads gives those that match, newest first.
	Reads(ctx context.Context, f flow.ReadFilter) ([]flow.Read, error)
}

// personal are the operations that show who somebody is or what he does: holders
// with their contact, a tenant's traffic, evidence, complaints.
var personal = map[string]bool{
	"incidents": true, "incident": true, "evidence": true, "evidence-form": true, "bundle": true, "host": true, "flows": true, "top": true,
	"policy": true, "cases": true, "complaint": true, "audit": true, "reads": true, "events": true, "exemptions": true, "exemption": true,
	"search": true, "flow-search": true, "tenants": true, "tenant": true, "complaints": true, "complaint-case": true, "peers": true,
}

const (
	// readEvery is how often looks are stored; the same look by the same token
	// within it is one row: a dashboard asks every few seconds.
	readEvery = 5 * time.Second
	// maxReadKeys are kept for one such time. Beyond them, a look is a line of the
	// log only, and is counted.
	maxReadKeys = 10_000
	// maxPending bounds what waits for a database that is away.
	maxPending = 50_000
	// maxTarget of what was asked for, in bytes.
	maxTarget = 300
)

type readKey struct{ actor, operation, target string }

// readLog collects looks until Handler.Run stores them.
type readLog struct {
	h       *Handler
	mu      sync.Mutex
	now     map[readKey]*flow.Read
	pending []flow.Read // that the database did not take yet
}

func newReadLog(h *Handler) *readLog { return &readLog{h: h, now: map[readKey]*flow.Read{}} }

// noteRead is the part of every operation that remembers who looked. It does so
// before the answer: what fails half-way may have shown something.
func (h *Handler) noteRead(ctx huma.Context, next func(huma.Context)) {
	if op := ctx.Operation(); personal[op.OperationID] {
		h.reads.note(caller(ctx.Context()), op.OperationID, target(ctx), requestID(ctx.Context()), h.deps.Now())
	}
	next(ctx)
}

// target is what was asked for: the path's parameter, or the query.
func target(ctx huma.Context) string {
	var parts []string
	for _, p := range ctx.Operation().Parameters {
		if p.In == "path" {
			parts = append(parts, ctx.Param(p.Name))
		}
	}
	u := ctx.URL()
	if u.RawQuery != "" {
		parts = append(parts, "?"+u.RawQuery)
	}
	t := strings.Join(parts, " ")
	if len(t) > maxTarget {
		t = strings.ToValidUTF8(t[:maxTarget], "") + "…"
	}
	return strings.ToValidUTF8(t, "")
}

func (l *readLog) note(t Token, operation, target, request string, now time.Time) {
	k := readKey{t.Name, operation, target}
	r := flow.Read{Time: now.UTC(), Last: now.UTC(), Actor: t.Name, Role: t.Role.String(), Operation: operation, Target: target, Count: 1, Request: request}
	l.mu.Lock()
	have := l.now[k]
	room := len(l.now) < maxReadKeys
	switch {
	case have != nil:
		have.Count++
		have.Last = r.Last
	case room && l.h.deps.Reads != nil:
		l.now[k] = &r
	}
	l.mu.Unlock()
	if have == nil && (!room || l.h.deps.Reads == nil) {
		l.inLog(&r)
	}
}

// inLog is where a look goes that the database cannot take.
func (l *readLog) inLog(r *flow.Read) {
	if l.h.deps.Reads != nil {
		l.h.metrics.readsLost.Inc()
	}
	l.h.audit.Info("read", zap.String("actor", r.Actor), zap.String("role", r.Role), zap.String("operation", r.Operation),
		zap.String("target", r.Target), zap.Uint32("count", r.Count), zap.Time("at", r.Time), zap.String("request", r.Request))
}

// store hands over what was collected. What is not taken waits, within a bound.
func (l *readLog) store(ctx context.Context) {
	if l.h.deps.Reads == nil {
		return
	}
	l.mu.Lock()
	for _, r := range l.now {
		l.pending = append(l.pending, *r)
	}
	clear(l.now)
	batch := l.pending
	l.pending = nil
	l.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	slices.SortStableFunc(batch, func(a, b flow.Read) int { return a.Time.Compare(b.Time) })
	err := l.h.deps.Reads.AppendReads(ctx, batch)
	if err == nil {
		return
	}
	l.h.log.Warn("looks at personal data could not be stored; they wait", zap.Int("looks", len(batch)), zap.Error(err))
	over := max(len(batch)-maxPending, 0)
	for i := range batch[:over] {
		l.inLog(&batch[i])
	}
	l.mu.Lock()
	l.pending = append(batch[over:], l.pending...)
	l.mu.Unlock()
}

// flush writes what cannot be stored any more to the log.
func (l *readLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.pending {
		l.inLog(&l.pending[i])
	}
	l.pending = nil
}

// Run stores who looked at personal data until ctx ends, and what is left then.
func (h *Handler) Run(ctx context.Context) error {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
			defer cancel()
			h.reads.store(last)
			h.reads.flush()
			return nil
		case <-tick.C:
			h.reads.store(ctx)
		}
	}
}

type readsInput struct {
	Actor     string `query:"actor" maxLength:"200" doc:"name of a token" example:"noc"`
	Operation string `query:"operation" maxLength:"60" doc:"operation id of this document" example:"host"`
	Target    string `query:"target" maxLength:"400" doc:"exactly what was asked for" example:"198.18.0.7"`
	Since     string `query:"since" doc:"at or after: RFC 3339, or relative such as -24h" example:"-24h"`
	Until     string `query:"until" doc:"before: RFC 3339, or relative such as -1h"`
	Before    string `query:"before" maxLength:"80" doc:"next of the page before"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type readsOutput struct {
	Body struct {
		Reads []flow.Read `json:"reads" doc:"newest first; the last few seconds are not there yet"`
		Next  string      `json:"next,omitempty" doc:"before of the next page; absent on the last one"`
	}
}

func (h *Handler) registerReads() {
	if h.deps.Reads == nil {
		return
	}
	register(h, RoleAdmin, huma.Operation{OperationID: "reads", Method: http.MethodGet, Path: "/audit/reads", Tags: []string{"automation"},
		Summary:     "Who looked at personal data",
		Description: "Looks at incidents, hosts, flows, evidence, tenants and complaints, by token. The same look within a few seconds is one entry with a count. Kept for 400 days."}, h.listReads)
}

func (h *Handler) listReads(ctx context.Context, in *readsInput) (*readsOutput, error) {
	f := flow.ReadFilter{Actor: in.Actor, Operation: in.Operation, Target: in.Target, Limit: in.Limit + 1}
	now := h.deps.Now()
	var err error
	if f.Since, err = parseTime("since", in.Since, now, f.Since); err != nil {
		return nil, err
	}
	if f.Until, err = parseTime("until", in.Until, now, f.Until); err != nil {
		return nil, err
	}
	if in.Before != "" {
		if f.Until, f.Skip, err = parseCursor("before", in.Before); err != nil {
			return nil, err
		}
	}
	reads, err := h.deps.Reads.Reads(ctx, f)
	if err != nil {
		return nil, h.unavailable(ctx, "list the reads", err)
	}
	out := &readsOutput{}
	if len(reads) > in.Limit {
		reads = reads[:in.Limit]
		times := make([]time.Time, len(reads))
		for i := range reads {
			times[i] = reads[i].Time
		}
		// One millisecond on, since Until is exclusive.
		out.Body.Next = nextCursor(times, f.Until, f.Skip, time.Millisecond)
	}
	out.Body.Reads = notNil(reads)
	return out, nil
}

// A cursor is a moment and how many rows before it were given already of those
// at the instant that it bounds.

func makeCursor(at time.Time, skip int) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", at.UnixNano(), skip))
}

// nextCursor goes on after rows with these times, in order, of a page that was
// asked for with the bound and skip of the page before; grain is what times are
// multiples of.
func nextCursor(times []time.Time, bound time.Time, skip int, grain time.Duration) string {
	last := times[len(times)-1]
	n := 0
	for i := len(times) - 1; i >= 0 && times[i].Equal(last); i-- {
		n++
	}
	next := last.Add(grain)
	if next.Equal(bound) { // the whole page was of that instant
		n += skip
	}
	return makeCursor(next, n)
}

func parseCursor(name, s string) (time.Time, int, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	ns, skip, ok := strings.Cut(string(b), ".")
	at, err2 := strconv.ParseInt(ns, 10, 64)
	n, err3 := strconv.Atoi(skip)
	if cmp.Or(err, err2, err3) != nil || !ok || at < 0 || n < 0 || n > maxSkip {
		return time.Time{}, 0, errParam(name, s, "next of the page before, as it came")
	}
	return time.Unix(0, at).UTC(), n, nil
}

// maxSkip: rows of one instant that a cursor may pass over.
const maxSkip = 10_000_000
