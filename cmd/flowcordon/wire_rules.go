package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/ledger"
)

// rules shows the detector's policy and the ledger to the API.
type rules struct {
	detector *detect.Detector
	ledger   *ledger.Ledger
}

// Shapes are empty answers.
func (rules) Shapes() api.RuleShapes {
	return api.RuleShapes{Policy: detect.Explanation{}, Precision: ledger.Precision{}, Proposal: ledger.Proposal{}, Case: ledger.Case{}}
}

// Version is Ledger.Version.
func (r rules) Version() uint64 { return r.ledger.Version() }

// PolicyVersion is Detector.ExplainVersion.
func (r rules) PolicyVersion(ip netip.Addr, ts time.Time) uint64 {
	return r.detector.ExplainVersion(ip, ts)
}

// Explain is Detector.Explain.
func (r rules) Explain(ip netip.Addr, ts time.Time) any { return r.detector.Explain(ip, ts) }

// Precisions is Ledger.Precisions.
func (r rules) Precisions(from, to string) any {
	return map[string]any{"precision": list(r.ledger.Precisions(from, to))}
}

// Proposals is Ledger.Proposals.
func (r rules) Proposals(ts time.Time) any {
	return map[string]any{"proposals": list(r.ledger.Proposals(ts))}
}

// Cases is Ledger.Cases.
func (r rules) Cases(q api.CaseQuery) any {
	return map[string]any{"cases": list(r.ledger.Cases(ledger.Query{
		Rule: q.Rule, Tenant: q.Tenant, From: q.From, To: q.To, MinTier: q.MinTier, Verdict: (*ledger.Verdict)(q.Verdict), Limit: q.Limit,
	}))}
}

// SetMark is Ledger.SetMark with errors that a caller may see.
func (r rules) SetMark(ctx context.Context, id, verdict, by, reason string, ts time.Time) (any, error) {
	c, err := r.ledger.SetMark(ctx, id, ledger.Verdict(verdict), by, reason, ts)
	switch {
	case errors.Is(err, ledger.ErrUnknown):
		return nil, api.ErrNotFound(err.Error())
	case errors.Is(err, ledger.ErrInvalid):
		return nil, api.ErrInvalid(err.Error())
	}
	return c, err
}

// list is never null in JSON.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
