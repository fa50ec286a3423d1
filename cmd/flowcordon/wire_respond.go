package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond"
	"github.com/flowcordon/flowcordon/respond/bundle"
	"github.com/flowcordon/flowcordon/store"
)

// wireRespond makes the adapters, the notifiers and the controller over them.
func (s *service) wireRespond() error {
	rc := s.cfg.Respond
	deps := respond.Deps{
		Events: s.store, Flows: s.store, Inventory: s.inventory, Log: s.log, Registerer: s.registry,
		FleetSize: s.inventory.Servers, InventoryAge: s.inventory.Age, PrivateNICs: privateNICs(s.cfg, s.inventory),
	}
	if len(rc.Suspenders) > 0 {
		if err := os.MkdirAll(marksDir(s.cfg), 0o700); err != nil {
			return fmt.Errorf("data_dir: %w", err)
		}
	}
	var errs []error
	for _, c := range rc.Suspenders {
		a, err := s.suspender(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("respond.suspenders %s: %w", c.Name, err))
			continue
		}
		deps.Suspenders = append(deps.Suspenders, a)
	}
	links, err := portalLinks(rc)
	if err != nil {
		return fmt.Errorf("respond.portal: %w", err)
	}
	out, err := notifiers(rc, links, s.log, newDeliveries(s.log, s.registry))
	errs = append(errs, err)
	deps.Notifiers = asNotifiers(out)
	if s.exempt, err = exemptBook(s.cfg, s.store, s.log); err != nil {
		return err
	}
	deps.Exempt = s.exempt.Cover
	pc := respondConfig(s.cfg)
	pc.Exemptions = nil // the book has them
	s.control = respond.New(pc, deps)
	if links != nil {
		if s.portal, err = s.portalPages(links); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func respondConfig(c config.Config) respond.Config {
	rc := c.Respond
	out := respond.Config{
		Modes:           map[flow.Rule]flow.Mode{},
		Protected:       respond.Protected{Prefixes: config.Plain(rc.Protected.Prefixes), Tenants: rc.Protected.Tenants, Tags: rc.Protected.Tags},
		MaxPerHour:      rc.MaxPerHour,
		ApprovalTimeout: rc.ApprovalTimeout,
		CallTimeout:     rc.CallTimeout,
		Settle:          rc.VerifyAfter,
		VerifyFor:       rc.VerifyFor,
		VerifyDeadline:  rc.VerifyDeadline,
		EvidenceRows:    rc.EvidenceRows,
		NotifyAfter:     rc.NotifyAfter,
	}
	if out.NotifyAfter == 0 {
		out.NotifyAfter = -1 // in the file 0 means at once
	}
	if out.MaxPerHour == 0 {
		out.MaxPerHour = -1 // in the file 0 means never
	}
	for rule, r := range c.Detect.Rules {
		out.Modes[rule] = r.Mode
	}
	respondPolicy(&out, rc.Policy)
	if rc.Portal != nil {
		out.ReleaseOnStatement = rc.Portal.ReleaseOffences
		out.RemindAfter, out.AnswerWithin = rc.Portal.RemindAfter, rc.Portal.AnswerWithin
	}
	for i, e := range rc.Exempt {
		x := respond.Exemption{
			Name: fmt.Sprintf("respond.exempt[%d]", i), Holder: e.Tenant, Port: e.Port, Rule: e.Rule,
			RemoteAS: e.RemoteAS, IPProto: e.IPProto,
			Owner: e.Owner, Reason: e.Reason, Expires: e.Expires,
		}
		if e.Prefix != nil {
			x.Tenant = e.Prefix.Prefix
		}
		if e.Remote != nil {
			x.Remote = e.Remote.Prefix
		}
		out.Exemptions = append(out.Exemptions, x)
	}
	return out
}

func apiConfig(c config.Config) (api.Config, error) {
	out := api.Config{Version: version, MetricsOpen: c.API.MetricsOpen == nil || *c.API.MetricsOpen, Rate: apiRate(c.API.Rate)}
	for _, t := range c.API.Tokens {
		role, err := api.ParseRole(t.Role)
		if err != nil {
			return out, fmt.Errorf("api.tokens %s: %w", t.Name, err)
		}
		tok := api.Token{Name: t.Name, Role: role, Hash: sha256.Sum256([]byte(t.Secret)), Expires: t.Expires, Rate: apiRate(t.Rate)}
		if t.TokenSHA256 != "" {
			if _, err := hex.Decode(tok.Hash[:], []byte(t.TokenSHA256)); err != nil {
				return out, fmt.Errorf("api.tokens %s: %w", t.Name, err)
			}
		}
		out.Tokens = append(out.Tokens, tok)
	}
	var err error
	out.OIDC, err = oidcConfig(c.API.OIDC)
	return out, err
}

func (s *service) apiDeps() api.Deps {
	return api.Deps{
		Incidents:     incidents{s.control},
		Control:       control{s.control},
		Pages:         s.pages(),
		Bundle:        s.bundle,
		Feed:          s.control,
		Exemptions:    exemptions{s.exempt},
		Reads:         s.store,
		Searcher:      s.store,
		Cases:         cases{s.cases},
		Holders:       s.inventory.Each,
		Standing:      s.standing,
		Store:         shelf{s.store, s.control},
		StoreNotFound: store.ErrNotFound,
		Inventory:     s.inventory,
		Sources:       s.inventorySources,
		Fleet:         s.store,
		Exporters:     s.collector.Exporters,
		TenantKey:     func(a netip.Addr) netip.Addr { return tenantKey(*s.networks.Load(), a) },
		Ready:         s.notReady,
		Gatherer:      s.registry,
		Registerer:    s.registry,
		Log:           s.log,

		StandingVersion: s.control.StandingVersion,
	}
}

// bundle makes the zip with all that proves an incident.
func (s *service) bundle(ctx context.Context, inc flow.Incident, outside bool) ([]byte, error) {
	in, err := bundle.Collect(ctx, s.store, inc, time.Now())
	if err != nil {
		return nil, err
	}
	in.Exporters, in.Version, in.For = s.collector.Exporters(), version, bundle.Staff
	if outside {
		in.For = bundle.Outside
	}
	if x := s.cfg.Respond.XARF; x != nil {
		in.Reporter = bundle.Reporter{Org: x.Org, Contact: x.Contact, Domain: x.Domain}
	}
	var out bytes.Buffer
	if err := bundle.Zip(&out, in); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// pages are what people reach without a token.
func (s *service) pages() map[string]http.Handler {
	if s.portal == nil {
		return nil
	}
	return map[string]http.Handler{s.portal.Path(): s.portal}
}

// notReady says what the service still waits for.
func (s *service) notReady() []error {
	var errs []error
	select {
	case <-s.collector.Ready():
	default:
		errs = append(errs, errors.New("the UDP sockets are not open yet"))
	}
	select {
	case <-s.ready:
	default:
		errs = append(errs, errors.New("schema and event log are not loaded yet; detection waits, flows are kept in the spool"))
	}
	return errs
}

// shelf shows the store to the API, and of an incident's evidence the latest stage.
type shelf struct {
	*store.Store
	control *respond.Controller
}

// Evidence is Controller.Evidence.
func (s shelf) Evidence(ctx context.Context, incident string) (flow.Evidence, error) {
	return s.control.Evidence(ctx, incident)
}

// incidents shows the controller to the API.
type incidents struct{ *respond.Controller }

// List gives one page of what matches, newest opened first.
func (c incidents) List(_ context.Context, q api.ListQuery) ([]flow.Incident, int, error) {
	f := respond.Filter{States: q.States, Rule: q.Rule}
	if q.Tenant.IsValid() {
		f.Tenant = q.Tenant.String()
	}
	all := slices.DeleteFunc(c.Incidents(f), func(i flow.Incident) bool {
		return !q.Since.IsZero() && i.Opened.Before(q.Since) || !q.Until.IsZero() && !i.Opened.Before(q.Until)
	})
	from := min(q.Offset, len(all))
	return all[from:min(from+q.Limit, len(all))], len(all), nil
}

// Release is Controller.Release with errors that a caller may see.
func (c incidents) Release(ctx context.Context, id, actor, statement string) error {
	return visible(c.Controller.Release(ctx, id, actor, statement))
}

// Approve is Controller.Approve with errors that a caller may see.
func (c incidents) Approve(ctx context.Context, id, actor, reason string) error {
	return visible(c.Controller.Approve(ctx, id, actor, reason))
}

// Close is Controller.Close with errors that a caller may see.
func (c incidents) Close(ctx context.Context, id, actor, reason string) error {
	return visible(c.Controller.Close(ctx, id, actor, reason))
}

func visible(err error) error {
	switch {
	case errors.Is(err, respond.ErrNotFound):
		return api.ErrNotFound(err.Error())
	case errors.Is(err, respond.ErrState), errors.Is(err, respond.ErrProtected), errors.Is(err, respond.ErrRefused), errors.Is(err, respond.ErrDryRun):
		return api.ErrConflict(err.Error())
	case errors.Is(err, respond.ErrStatement), errors.Is(err, respond.ErrReason), errors.Is(err, respond.ErrMeasure):
		return api.ErrInvalid(err.Error())
	}
	return err
}

// control shows what staff may do about the automation to the API.
type control struct{ *respond.Controller }

// Restrict is Controller.Restrict with errors that a caller may see.
func (c control) Restrict(ctx context.Context, id, actor string, m flow.Measure, reason string) error {
	return visible(c.Controller.Restrict(ctx, id, actor, m, reason))
}

// ReleaseMistake is Controller.ReleaseMistake with errors that a caller may see.
func (c control) ReleaseMistake(ctx context.Context, id, actor, reason string) error {
	return visible(c.Controller.ReleaseMistake(ctx, id, actor, reason))
}

// Undo is Controller.Undo with errors that a caller may see.
func (c control) Undo(ctx context.Context, since time.Time, actor, reason string) (flow.Undone, error) {
	u, err := c.Controller.Undo(ctx, since, actor, reason)
	return u, visible(err)
}

// Unfreeze is Controller.Unfreeze with errors that a caller may see.
func (c control) Unfreeze(ctx context.Context, actor, reason string) error {
	return visible(c.Controller.Unfreeze(ctx, actor, reason))
}
