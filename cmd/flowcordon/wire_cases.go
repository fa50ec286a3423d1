package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/casebook"
	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/flow"
)

// cases shows the casebook to the API.
type cases struct{ book *casebook.Book }

func caseOf(c casebook.Case) api.AbuseCase {
	m := c.Latest()
	row := api.CaseRow{
		ID: c.ID, Status: string(c.Status), Opened: c.Opened, Updated: c.Updated, By: c.By, Reporter: m.Reporter, Subject: m.Subject,
		Host: m.Host, Tenant: m.Tenant, Customer: m.Customer, VDS: m.VDS, First: c.First, Last: c.Last, Verdicts: c.Verdicts, Mails: len(c.Mails),
	}
	mails := make([]api.CaseMail, len(c.Mails))
	for i, m := range c.Mails {
		if m.Incident != "" {
			row.Incident = m.Incident
		}
		mails[i] = api.CaseMail{
			Time: m.Received, Reporter: m.Reporter, Subject: m.Subject, MessageID: m.MessageID, ReportID: m.ReportID,
			Lines: m.Lines, Ports: list(m.Ports), Verdicts: m.Verdicts,
		}
	}
	history := make([]api.CaseStep, len(c.History))
	for i, s := range c.History {
		history[i] = api.CaseStep(s)
	}
	return api.NewCase(row, mails, history, api.CaseReply(m.Reply))
}

// List is Book.List.
func (c cases) List(f api.CaseFilter) []api.AbuseCase {
	l := c.book.List(casebook.Query{Status: casebook.Status(f.Status), Tenant: f.Tenant, Customer: f.Customer, Text: f.Text})
	out := make([]api.AbuseCase, len(l))
	for i := range l {
		out[i] = caseOf(l[i])
	}
	return out
}

// Version is Book.Version.
func (c cases) Version() uint64 { return c.book.Version() }

// Get is Book.Get.
func (c cases) Get(id string) (api.AbuseCase, bool) {
	v, ok := c.book.Get(id)
	if !ok {
		return api.AbuseCase{}, false
	}
	return caseOf(v), true
}

// SetStatus is Book.SetStatus with errors that a caller may see.
func (c cases) SetStatus(ctx context.Context, id, status, actor, note string, ts time.Time) (api.AbuseCase, error) {
	v, err := c.book.SetStatus(ctx, id, casebook.Status(status), actor, note, ts)
	if err != nil {
		return api.AbuseCase{}, caseError(err)
	}
	return caseOf(v), nil
}

// Take keeps what a complaint says about each server of ours.
func (c cases) Take(ctx context.Context, answer any, actor string, ts time.Time) ([]api.CaseOpened, error) {
	res, ok := answer.(*complaint.Result)
	if !ok {
		return nil, fmt.Errorf("cases of an answer of type %T", answer)
	}
	took, err := c.book.Take(ctx, mailsOf(res), actor, ts)
	out := make([]api.CaseOpened, len(took))
	for i, t := range took {
		out[i] = api.CaseOpened(t)
	}
	return out, caseError(err)
}

func mailsOf(res *complaint.Result) []casebook.Mail {
	var out []casebook.Mail
	for _, k := range res.Cases {
		m := casebook.Mail{
			Received: res.Received, Reporter: res.From, Subject: res.Subject, MessageID: res.MessageID, ReportID: res.ReportID,
			Host: k.Host, Tenant: k.Tenant, First: k.First, Last: k.Last, Lines: k.Lines, Ports: k.Ports, Verdicts: map[string]int{},
			Reply: casebook.Reply(res.Draft),
		}
		if k.Holder != nil {
			m.Customer, m.VDS = k.Holder.Tenant, k.Holder.VDS
		}
		for v, n := range k.Counts {
			m.Verdicts[string(v)] = n
		}
		if k.Incident != nil {
			m.Incident = k.Incident.ID
		}
		out = append(out, m)
	}
	return out
}

func caseError(err error) error {
	switch {
	case errors.Is(err, casebook.ErrUnknown):
		return api.ErrNotFound(err.Error())
	case errors.Is(err, casebook.ErrInvalid):
		return api.ErrInvalid(err.Error())
	case errors.Is(err, casebook.ErrLog):
		return &api.Error{Status: http.StatusServiceUnavailable, Detail: casebook.ErrLog.Error() + "; look at the case again and retry"}
	}
	return err
}

// standing is Controller.Standing in the API's words.
func (s *service) standing(addr netip.Addr, h flow.Holder) api.Standing {
	n, probation := s.control.Standing(addr, h)
	return api.Standing{Offences: n, Probation: probation}
}
