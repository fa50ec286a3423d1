package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/casebook"
	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/exempt"
	"github.com/flowcordon/flowcordon/flow"
)

// ticker is a log of events that tests add to.
type ticker struct {
	mu   sync.Mutex
	news []flow.News
	wake chan struct{}
}

func newTicker() *ticker {
	t := &ticker{wake: make(chan struct{})}
	t.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0.Add(-5 * time.Minute), Actor: "detector", Kind: "opened", Reason: "enforce", Incident: "inc-1", Tenant: attacker}, Now: sampleIncidents()[0]})
	t.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0.Add(-4 * time.Minute), Actor: "controller", Kind: "action_intent", Incident: "inc-1", Tenant: attacker, Text: hostile}, Now: sampleIncidents()[0]})
	return t
}

func (t *ticker) add(n flow.News) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.Seq = uint64(len(t.news) + 1)
	t.news = append(t.news, n)
	close(t.wake)
	t.wake = make(chan struct{})
}

func (t *ticker) LastSeq() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return uint64(len(t.news))
}

func (t *ticker) After(seq uint64, limit int) ([]flow.News, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := min(int(seq), len(t.news))
	return slices.Clone(t.news[from:min(from+limit, len(t.news))]), t.wake
}

// visitors keeps reads in memory.
type visitors struct {
	mu   sync.Mutex
	list []flow.Read
	fail error
}

func (v *visitors) AppendReads(_ context.Context, r []flow.Read) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fail != nil {
		return v.fail
	}
	v.list = append(v.list, r...)
	return nil
}

func (v *visitors) Reads(_ context.Context, f flow.ReadFilter) ([]flow.Read, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []flow.Read
	for _, r := range slices.Backward(v.list) {
		if (f.Actor == "" || f.Actor == r.Actor) && (f.Operation == "" || f.Operation == r.Operation) && (f.Target == "" || f.Target == r.Target) &&
			!r.Time.Before(f.Since) && (f.Until.IsZero() || r.Time.Before(f.Until)) {
			out = append(out, r)
		}
	}
	out = out[min(f.Skip, len(out)):]
	return out[:min(f.Limit, len(out))], nil
}

// exemptBook shows the real book as the interface wants it.
type exemptBook struct{ *exempt.Book }

func exemptionOf(s exempt.Status) Exemption {
	return Exemption{Exemption: s.Exemption, Source: s.Source, Status: s.Status, Version: s.Version, Created: s.Created, CreatedBy: s.CreatedBy, Updated: s.Updated,
		UpdatedBy: s.UpdatedBy, Removed: s.Removed, Why: s.Why, Hits: ExemptionHits(s.Hits), Warning: s.Warning}
}

func exemptionError(err error) error {
	switch {
	case errors.Is(err, exempt.ErrUnknown):
		return ErrNotFound(err.Error())
	case errors.Is(err, exempt.ErrVersion):
		return &Error{Status: http.StatusPreconditionFailed, Detail: err.Error()}
	case errors.Is(err, exempt.ErrFixed), errors.Is(err, exempt.ErrRemoved), errors.Is(err, exempt.ErrFull):
		return ErrConflict(err.Error())
	case errors.Is(err, exempt.ErrInvalid):
		return ErrInvalid(err.Error())
	}
	return err
}

func (b exemptBook) List(status string, ts time.Time) []Exemption {
	var out []Exemption
	for _, s := range b.Book.List(status, ts) {
		out = append(out, exemptionOf(s))
	}
	return out
}

func (b exemptBook) Get(id string, ts time.Time) (Exemption, bool) {
	s, ok := b.Book.Get(id, ts)
	return exemptionOf(s), ok
}

func (b exemptBook) Create(ctx context.Context, e flow.Exemption, actor string, ts time.Time) (Exemption, error) {
	s, err := b.Book.Create(ctx, e, actor, ts)
	return exemptionOf(s), exemptionError(err)
}

func (b exemptBook) Change(ctx context.Context, id string, version int, e flow.Exemption, actor string, ts time.Time) (Exemption, error) {
	s, err := b.Book.Change(ctx, id, version, e, actor, ts)
	return exemptionOf(s), exemptionError(err)
}

func (b exemptBook) Remove(ctx context.Context, id string, version int, actor, reason string, ts time.Time) (Exemption, error) {
	s, err := b.Book.Remove(ctx, id, version, actor, reason, ts)
	return exemptionOf(s), exemptionError(err)
}

// fixedID is of the exemption of the configuration.
const fixedID = "cfg-scanners"

// sampleExemptions has one of the configuration and, as ids, those made since.
func sampleExemptions(t testing.TB) (b exemptBook, made []string) {
	t.Helper()
	book, err := exempt.New(exempt.Config{Since: t0.Add(-time.Hour), Fixed: []flow.Exemption{{Name: fixedID, Tenant: netip.MustParsePrefix("198.19.0.0/16"), Owner: "noc", Reason: "our own scanners", Expires: t0.AddDate(0, 6, 0)}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []flow.Exemption{
		{Holder: "c-42", Port: 22, IPProto: flow.ProtoTCP, Rule: flow.RuleNetscan, Owner: "anna", Reason: "penetration test, ticket 4711", Expires: t0.Add(72 * time.Hour)},
		{Holder: hostile, Owner: hostile, Reason: hostile, Expires: t0.AddDate(0, 1, 0)},
	} {
		s, err := book.Create(t.Context(), e, "test-operator", t0.Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, s.Name)
	}
	return exemptBook{book}, made
}

// sampleMatcher answers every complaint alike: one line about the attacker.
type sampleMatcher struct{}

func (sampleMatcher) Match(_ context.Context, req ComplaintRequest) (any, error) {
	if len(req.Data) == 0 {
		return nil, ErrInvalid("the complaint is empty")
	}
	c := complaint.Case{Host: attacker, Tenant: attacker, Holder: &flow.Holder{Tenant: "c-42", VDS: "vds-1001"}, First: t0.Add(-time.Hour), Last: t0.Add(-time.Hour), Lines: 1,
		Counts: map[complaint.Verdict]int{complaint.Confirmed: 1}, Ports: []uint16{22}, Notes: []complaint.Note{}, Incident: &complaint.IncidentRef{ID: "inc-1", State: flow.StateVerified, Rules: []flow.Rule{flow.RuleNetscan}, Opened: t0}}
	return &complaint.Result{From: "noc@victim.example", Subject: hostile, MessageID: "<1@victim.example>", Received: req.Received, Counts: map[complaint.Verdict]int{complaint.Confirmed: 1},
		Lines: []complaint.Line{}, Unread: []parse.Unread{}, Parts: []parse.Part{}, Cases: []complaint.Case{c}, Notes: []string{},
		Draft: complaint.Draft{Subject: "Re: " + hostile, EN: "We saw it.", RU: "Мы это видели."}}, nil
}

func (sampleMatcher) Shape() any { return complaint.Result{} }

// sampleBook is the real casebook as the interface wants it.
type sampleBook struct{ *casebook.Book }

func sampleCase(c casebook.Case) AbuseCase {
	m := c.Latest()
	mails := []CaseMail{}
	for _, m := range c.Mails {
		mails = append(mails, CaseMail{Time: m.Received, Reporter: m.Reporter, Subject: m.Subject, MessageID: m.MessageID, Lines: m.Lines, Ports: notNil(m.Ports), Verdicts: m.Verdicts})
	}
	history := []CaseStep{}
	for _, s := range c.History {
		history = append(history, CaseStep(s))
	}
	return NewCase(CaseRow{ID: c.ID, Status: string(c.Status), Opened: c.Opened, Updated: c.Updated, By: c.By, Reporter: m.Reporter, Subject: m.Subject, Host: m.Host, Tenant: m.Tenant,
		Customer: m.Customer, VDS: m.VDS, First: c.First, Last: c.Last, Verdicts: c.Verdicts, Incident: m.Incident, Mails: len(c.Mails)}, mails, history, CaseReply(m.Reply))
}

func (b sampleBook) List(f CaseFilter) []AbuseCase {
	var out []AbuseCase
	for _, c := range b.Book.List(casebook.Query{Status: casebook.Status(f.Status), Tenant: f.Tenant, Customer: f.Customer, Text: f.Text}) {
		out = append(out, sampleCase(c))
	}
	return out
}

func (b sampleBook) Get(id string) (AbuseCase, bool) {
	c, ok := b.Book.Get(id)
	if !ok {
		return AbuseCase{}, false
	}
	return sampleCase(c), true
}

func (b sampleBook) SetStatus(ctx context.Context, id, status, actor, note string, ts time.Time) (AbuseCase, error) {
	c, err := b.Book.SetStatus(ctx, id, casebook.Status(status), actor, note, ts)
	switch {
	case errors.Is(err, casebook.ErrUnknown):
		return AbuseCase{}, ErrNotFound(err.Error())
	case err != nil:
		return AbuseCase{}, err
	}
	return sampleCase(c), nil
}

func (b sampleBook) Take(ctx context.Context, answer any, actor string, ts time.Time) ([]CaseOpened, error) {
	res := answer.(*complaint.Result)
	var mails []casebook.Mail
	for _, k := range res.Cases {
		mails = append(mails, casebook.Mail{Received: res.Received, Reporter: res.From, Subject: res.Subject, MessageID: res.MessageID, Host: k.Host, Tenant: k.Tenant, Customer: k.Holder.Tenant,
			VDS: k.Holder.VDS, First: k.First, Last: k.Last, Lines: k.Lines, Ports: k.Ports, Verdicts: map[string]int{"confirmed": 1}, Incident: k.Incident.ID, Reply: casebook.Reply(res.Draft)})
	}
	took, err := b.Book.Take(ctx, mails, actor, ts)
	out := []CaseOpened{}
	for _, t := range took {
		out = append(out, CaseOpened(t))
	}
	return out, err
}

// sampleCases has one case, whose id it gives.
func sampleCases(t testing.TB) (sampleBook, string) {
	t.Helper()
	b := sampleBook{casebook.New(nil)}
	res, err := sampleMatcher{}.Match(t.Context(), ComplaintRequest{Data: []byte("x"), Received: t0.Add(-30 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	res.(*complaint.Result).MessageID = "<0@victim.example>"
	opened, err := b.Take(t.Context(), res, "test-abuse", t0.Add(-20*time.Minute))
	if err != nil || len(opened) != 1 {
		t.Fatalf("%v, %v", opened, err)
	}
	return b, opened[0].ID
}

func (s *shelf) SearchFlows(ctx context.Context, q flow.FlowSearch) ([]flow.FlowRow, error) {
	if err := s.trouble(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.search = q
	s.mu.Unlock()
	var all []flow.FlowRow
	for i := range 40 { // two rows for each of 20 seconds
		at := t0.Add(-time.Duration(40-i/2) * time.Second).UnixNano()
		all = append(all, flow.FlowRow{Time: at, Start: at - 5, End: at, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: attacker, Host: attacker,
			Remote: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), HostPort: uint16(40000 + i), RemotePort: 22, SvcPort: 22, Dir: flow.Out, IPProto: flow.ProtoTCP,
			Role: flow.RoleClient, Class: flow.ClassSYN, TCPFlags: flow.SYN, Packets: 1, Bytes: 60, Rate: 1000})
	}
	if q.Newest {
		slices.Reverse(all)
	}
	all = slices.DeleteFunc(all, func(r flow.FlowRow) bool { return r.Time < q.Range.From.UnixNano() || r.Time >= q.Range.To.UnixNano() })
	all = all[min(q.Skip, len(all)):]
	return all[:min(q.Limit, len(all))], nil
}

func (s *shelf) RemotePeers(ctx context.Context, _ netip.Addr, _ flow.Range, _ int) ([]flow.RemotePeer, error) {
	return []flow.RemotePeer{{Tenant: attacker, Records: 12, Last: t0.Add(-time.Minute)}}, s.trouble(ctx)
}

// holdings are the entries of the sample inventory, with one of the past.
func holdings(yield func(flow.Holder) bool) {
	for _, h := range []flow.Holder{
		{Prefix: netip.MustParsePrefix("198.18.0.7/32"), Tenant: "c-41", VDS: "vds-900", To: t0.AddDate(0, -1, 0)},
		{Prefix: netip.MustParsePrefix("198.18.0.7/32"), Tenant: "c-42", VDS: "vds-1001", Hypervisor: "node1", Contact: "customer@example.net", From: t0.AddDate(0, -1, 0)},
		{Prefix: netip.MustParsePrefix("2001:db8:0:7::/64"), Tenant: "c-77", VDS: hostile},
	} {
		if !yield(h) {
			return
		}
	}
}
