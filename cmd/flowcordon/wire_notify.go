package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond"
	"github.com/flowcordon/flowcordon/respond/chat"
	"github.com/flowcordon/flowcordon/respond/email"
	"github.com/flowcordon/flowcordon/respond/notice"
	"github.com/flowcordon/flowcordon/respond/portal"
	"github.com/flowcordon/flowcordon/respond/ticket"
)

// channels makes what notices go out by.
type channels struct {
	rc      config.Respond
	texts   *notice.Writer
	log     *zap.Logger
	records notice.DeliveryLog

	out  []notice.Notifier
	errs []error
}

// notifiers makes every channel of the configuration; nothing is connected yet.
// Without links customers get none.
func notifiers(rc config.Respond, links *portal.Links, log *zap.Logger, records notice.DeliveryLog) ([]notice.Notifier, error) {
	texts, err := notice.New(notice.Config{Dir: rc.TemplateDir, Company: rc.Notify.Company, PortalURL: rc.Notify.PortalURL, Details: details(rc, links)})
	if err != nil {
		return nil, fmt.Errorf("respond.template_dir: %w", err)
	}
	c := &channels{rc: rc, texts: texts, log: log, records: records}
	c.email()
	c.tickets()
	c.rooms()
	return c.out, errors.Join(c.errs...)
}

// details adds the signed link to what the customer gets while his network is
// not as it was.
func details(rc config.Respond, links *portal.Links) func(flow.Notice) notice.Details {
	return func(n flow.Notice) notice.Details {
		var d notice.Details
		if links != nil && n.Incident.State.Live() {
			d.Link, d.LinkUntil = links.Statement(n.Incident, n.At), n.At.Add(links.TTL())
		}
		if a := n.Incident.Action; rc.Portal != nil && rc.Portal.AnswerWithin > 0 && a != nil && !a.Done.IsZero() {
			d.Deadline = a.Done.Add(rc.Portal.AnswerWithin)
		}
		if r := n.Incident.Restore; rc.Probation > 0 && r != nil && !r.Done.IsZero() {
			d.Probation = r.Done.Add(rc.Probation)
		}
		return d
	}
}

func (c *channels) add(key string, n notice.Notifier, err error) {
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("respond.notify.%s: %w", key, err))
		return
	}
	c.out = append(c.out, n)
}

// staff puts a digest before a channel for staff.
func (c *channels) staff(key string, n notice.Sender, err error) {
	if d := c.rc.Notify.Digest; err == nil && d.Max > 0 {
		c.add(key, notice.NewDigest(n, notice.DigestConfig{Max: d.Max, Window: d.Window}), nil)
		return
	}
	c.add(key, n, err)
}

func (c *channels) email() {
	m := c.rc.Notify.Email
	if m == nil {
		return
	}
	ec := email.Config{
		Server: m.Address, From: m.From, ReplyTo: m.ReplyTo, Staff: m.Staff, StaffLanguage: m.StaffLanguage,
		TLS: email.TLS(m.TLS), Username: m.User, Password: m.Password, Timeout: m.Timeout,
	}
	if m.CAFile != "" {
		var err error
		if ec.RootCAs, err = os.ReadFile(m.CAFile); err != nil {
			c.errs = append(c.errs, fmt.Errorf("respond.notify.email.ca_file: %w", err))
			return
		}
	}
	deps := email.Deps{Texts: c.texts, Log: c.log, Deliveries: c.records}
	n, err := email.New(ec, notice.Customer, deps)
	c.add("email", n, err)
	if err == nil && len(m.Staff) > 0 {
		s, err := email.New(ec, notice.Staff, deps)
		c.staff("email", s, err)
	}
}

func (c *channels) client(key, caFile string) *http.Client {
	h, err := httpClient(caFile)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("respond.notify.%s.ca_file: %w", key, err))
	}
	return h
}

func (c *channels) tickets() {
	deps := func(key, caFile string) ticket.Deps {
		return ticket.Deps{Texts: c.texts, Client: c.client(key, caFile), Log: c.log, Deliveries: c.records}
	}
	desk := func(d config.Desk) ticket.PanelConfig {
		return ticket.PanelConfig{URL: d.URL, Timeout: d.Timeout, Language: d.Language, ClientPrefix: d.ClientPrefix}
	}
	if t := c.rc.Notify.Ticket; t != nil {
		n, err := ticket.New(ticket.Config{URL: t.URL, Secret: []byte(t.Secret), Timeout: t.Timeout, Language: t.Language}, deps("ticket", t.CAFile))
		c.add("ticket", n, err)
	}
	if p := c.rc.Notify.WHMCS; p != nil {
		n, err := ticket.NewWHMCS(ticket.WHMCS{
			PanelConfig: desk(p.Desk), Identifier: p.Identifier, Secret: p.Secret, AccessKey: p.AccessKey,
			Department: p.Department, Admin: p.Admin, NoEmail: p.NoEmail,
		}, deps("whmcs", p.CAFile))
		c.add("whmcs", n, err)
	}
	if p := c.rc.Notify.BILLmanager; p != nil {
		n, err := ticket.NewBILLmanager(ticket.BILLmanager{
			PanelConfig: desk(p.Desk), User: p.User, Password: p.Password, Department: p.Department, Extra: p.Extra,
		}, deps("billmanager", p.CAFile))
		c.add("billmanager", n, err)
	}
}

func (c *channels) rooms() {
	deps := chat.Deps{Texts: c.texts, Log: c.log, Deliveries: c.records}
	kinds := func(k []string) []string { // none are all
		if len(k) == 0 {
			return nil
		}
		return k
	}
	if r := c.rc.Notify.Slack; r != nil {
		n, err := chat.NewSlack(chat.Config{Language: r.Language, Kinds: kinds(r.Kinds)}, r.Webhook, deps)
		c.staff("slack", n, err)
	}
	if r := c.rc.Notify.Telegram; r != nil {
		n, err := chat.NewTelegram(chat.Config{Language: r.Language, Kinds: kinds(r.Kinds)},
			chat.Telegram{Token: r.Token, ChatID: r.ChatID, Topic: r.Topic, Silent: r.Silent}, deps)
		c.staff("telegram", n, err)
	}
	if r := c.rc.Notify.Room; r != nil {
		body := r.Body
		switch body {
		case "mattermost":
			body = chat.BodyMattermost
		case "discord":
			body = chat.BodyDiscord
		}
		n, err := chat.NewGeneric(chat.Config{Name: "room", Language: r.Language, Kinds: kinds(r.Kinds)},
			chat.Generic{URL: r.URL, Body: body, Secret: []byte(r.Secret)}, deps)
		c.staff("room", n, err)
	}
}

// deliveries is the delivery log: a line for each try, and a counter.
type deliveries struct {
	log   *zap.Logger
	tries *prometheus.CounterVec
}

func newDeliveries(log *zap.Logger, reg prometheus.Registerer) *deliveries {
	d := &deliveries{log: log.Named("delivery"), tries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "flowcordon_notice_deliveries_total",
		Help: "Tries to deliver a notice, by channel and outcome: delivered, retry or refused.",
	}, []string{"notifier", "outcome"})}
	reg.MustRegister(d.tries)
	return d
}

// Delivered writes one try down.
func (d *deliveries) Delivered(_ context.Context, v notice.Delivery) {
	outcome := "delivered"
	switch {
	case v.Permanent:
		outcome = "refused"
	case v.Error != "":
		outcome = "retry"
	}
	d.tries.WithLabelValues(v.Notifier, outcome).Inc()
	d.log.Info("notice", zap.String("outcome", outcome), zap.String("notice", v.Notice), zap.String("incident", v.Incident), zap.String("kind", v.Kind),
		zap.String("notifier", v.Notifier), zap.Strings("to", v.To), zap.Strings("refused", v.Refused), zap.String("server", v.Server),
		zap.String("id", v.ID), zap.String("response", v.Response), zap.String("error", v.Error))
}

// portalLinks are nil without a portal.
func portalLinks(rc config.Respond) (*portal.Links, error) {
	if rc.Portal == nil {
		return nil, nil
	}
	lc := portal.LinkConfig{BaseURL: rc.Portal.URL, TTL: rc.Portal.LinkTTL}
	for _, k := range rc.Portal.Keys {
		lc.Secrets = append(lc.Secrets, []byte(k))
	}
	return portal.NewLinks(lc)
}

// portalPages are the pages that the links lead to.
func (s *service) portalPages(links *portal.Links) (*portal.Handler, error) {
	path := filepath.Join(s.cfg.DataDir, "portal-used")
	if err := os.MkdirAll(s.cfg.DataDir, 0o750); err != nil {
		return nil, err
	}
	nonces, err := portal.OpenFileNonces(path, time.Now())
	if err != nil {
		return nil, fmt.Errorf("respond.portal: %w", err)
	}
	return portal.New(portal.Config{Company: s.cfg.Respond.Notify.Company, Contact: s.cfg.Respond.Portal.Contact},
		portal.Deps{Links: links, Incidents: answers{s.control}, Nonces: nonces, Log: s.log, Registerer: s.registry})
}

// answers shows the controller to the portal.
type answers struct{ c *respond.Controller }

// Incident is Controller.Incident without the timeline.
func (a answers) Incident(id string) (flow.Incident, bool) {
	inc, _, ok := a.c.Incident(id)
	return inc, ok
}

// Evidence is Controller.Evidence.
func (a answers) Evidence(ctx context.Context, id string) (flow.Evidence, error) {
	return a.c.Evidence(ctx, id)
}

// Statement is Controller.Statement in the portal's words.
func (a answers) Statement(ctx context.Context, id, actor string, st portal.Statement) (portal.Outcome, error) {
	out, err := a.c.Statement(ctx, id, actor, st.Key, st.Text())
	switch {
	case errors.Is(err, respond.ErrUsed):
		return "", portal.ErrUsed
	case errors.Is(err, respond.ErrClosed):
		return "", portal.ErrClosed
	}
	return portal.Outcome(out), err
}

// asNotifiers: the controller has an interface of its own for the same.
func asNotifiers(in []notice.Notifier) []respond.Notifier {
	out := make([]respond.Notifier, 0, len(in))
	for _, n := range in {
		out = append(out, n)
	}
	return out
}
