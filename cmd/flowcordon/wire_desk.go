package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/exempt"
	"github.com/flowcordon/flowcordon/flow"
)

// exemptBook holds the exemptions of the configuration and those made since.
func exemptBook(c config.Config, log exempt.Log, zl *zap.Logger) (*exempt.Book, error) {
	ec := exempt.Config{Since: time.Now().UTC(), Log: zl.Named("exempt")}
	for _, e := range respondConfig(c).Exemptions {
		e.Name = "" // by what it covers, so that its hits stay when lines move
		ec.Fixed = append(ec.Fixed, e)
	}
	if c.Respond.ASTable != "" {
		var err error
		if ec.ASOf, err = exempt.LoadAS(c.Respond.ASTable); err != nil {
			return nil, fmt.Errorf("respond.as_table: %w", err)
		}
	}
	return exempt.New(ec, log)
}

// exemptions shows the book to the API.
type exemptions struct{ book *exempt.Book }

func exemptionOf(s exempt.Status) api.Exemption {
	return api.Exemption{
		Exemption: s.Exemption, Source: s.Source, Status: s.Status, Version: s.Version, Created: s.Created, CreatedBy: s.CreatedBy,
		Updated: s.Updated, UpdatedBy: s.UpdatedBy, Removed: s.Removed, Why: s.Why, Hits: api.ExemptionHits(s.Hits), Warning: s.Warning,
	}
}

// List is Book.List.
func (e exemptions) List(status string, ts time.Time) []api.Exemption {
	l := e.book.List(status, ts)
	out := make([]api.Exemption, len(l))
	for i := range l {
		out[i] = exemptionOf(l[i])
	}
	return out
}

// Version is Book.Version.
func (e exemptions) Version(ts time.Time) uint64 { return e.book.Version(ts) }

// Get is Book.Get.
func (e exemptions) Get(id string, ts time.Time) (api.Exemption, bool) {
	s, ok := e.book.Get(id, ts)
	return exemptionOf(s), ok
}

// Create is Book.Create with errors that a caller may see.
func (e exemptions) Create(ctx context.Context, x flow.Exemption, actor string, ts time.Time) (api.Exemption, error) {
	s, err := e.book.Create(ctx, x, actor, ts)
	return exemptionOf(s), exemptError(err)
}

// Change is Book.Change with errors that a caller may see.
func (e exemptions) Change(ctx context.Context, id string, version int, x flow.Exemption, actor string, ts time.Time) (api.Exemption, error) {
	s, err := e.book.Change(ctx, id, version, x, actor, ts)
	return exemptionOf(s), exemptError(err)
}

// Remove is Book.Remove with errors that a caller may see.
func (e exemptions) Remove(ctx context.Context, id string, version int, actor, reason string, ts time.Time) (api.Exemption, error) {
	s, err := e.book.Remove(ctx, id, version, actor, reason, ts)
	return exemptionOf(s), exemptError(err)
}

func exemptError(err error) error {
	switch {
	case errors.Is(err, exempt.ErrUnknown):
		return api.ErrNotFound(err.Error())
	case errors.Is(err, exempt.ErrVersion):
		return &api.Error{Status: http.StatusPreconditionFailed, Detail: err.Error() + "; read it again and send the new ETag"}
	case errors.Is(err, exempt.ErrFixed), errors.Is(err, exempt.ErrRemoved), errors.Is(err, exempt.ErrFull):
		return api.ErrConflict(err.Error())
	case errors.Is(err, exempt.ErrInvalid):
		return api.ErrInvalid(err.Error())
	case errors.Is(err, exempt.ErrLog):
		return &api.Error{Status: http.StatusServiceUnavailable, Detail: exempt.ErrLog.Error() + "; nothing is known to be changed, read it again and retry"}
	}
	return err
}

func apiRate(r *config.Rate) api.Rate {
	if r == nil {
		return api.Rate{}
	}
	if r.PerSecond == 0 { // written, and not the default
		return api.Rate{PerSecond: api.Unbounded}
	}
	return api.Rate{PerSecond: r.PerSecond, Burst: r.Burst}
}
