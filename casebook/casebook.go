// Package casebook keeps the cases of the abuse desk: what complaints were matched
// with comes in (Mail), one for each server of ours that a complaint is about; a
// case is opened, or one that is about the same server and time is joined. Out go
// the cases with their history and the drafts of replies. Everything that is known
// is the fold of an append-only log.
//
// The package starts no goroutine and imports flow and internal/journal.
package casebook

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/journal"
)

// Log is the append-only log (store). Of an event, Incident is the case's id.
// AppendCases returns when the events are stored for good; CaseEvents calls fn with
// all of them in the order of Seq.
type Log interface {
	AppendCases(ctx context.Context, ev []flow.Event) error
	CaseEvents(ctx context.Context, fn func(flow.Event) error) error
}

// The kinds of events. Body of the first two is a Mail, of the last a Status.
const (
	KindOpened = "case_opened"
	KindJoined = "case_joined"
	KindStatus = "case_status"
)

// Status is where a case stands.
type Status string

// The states: somebody has to look; the reporter was answered; nothing is left to do.
const (
	Open     Status = "open"
	Answered Status = "answered"
	Closed   Status = "closed"
)

// Reply is the draft of an answer to the reporter, who learns no customer's name.
type Reply struct {
	Subject string `json:"subject"`
	EN      string `json:"en"`
	RU      string `json:"ru"`
}

// Mail is what one complaint says about one server of ours.
type Mail struct {
	Received  time.Time      `json:"received"`
	Reporter  string         `json:"reporter,omitempty"`
	Subject   string         `json:"subject,omitempty"`
	MessageID string         `json:"message_id,omitempty"`
	ReportID  string         `json:"report_id,omitempty"`
	Host      netip.Addr     `json:"host"`
	Tenant    netip.Addr     `json:"tenant"`
	Customer  string         `json:"customer,omitempty"`
	VDS       string         `json:"vds,omitempty"`
	First     time.Time      `json:"first"` // that a line is about
	Last      time.Time      `json:"last"`
	Lines     int            `json:"lines"`
	Ports     []uint16       `json:"ports,omitempty"`
	Verdicts  map[string]int `json:"verdicts,omitempty"` // lines by verdict
	Incident  string         `json:"incident,omitempty"` // ours about the same holder at that time
	Reply     Reply          `json:"reply"`
}

// Step is one thing that happened to a case.
type Step struct {
	Time  time.Time `json:"time"`
	Actor string    `json:"actor"`
	Kind  string    `json:"kind"`
	Note  string    `json:"note,omitempty"`
}

// Case is what complaints say about one server at one time.
type Case struct {
	ID       string
	Status   Status
	Opened   time.Time
	Updated  time.Time
	By       string // who opened it
	First    time.Time
	Last     time.Time
	Verdicts map[string]int // of all mails
	Mails    []Mail         // oldest first
	History  []Step         // oldest first
}

// head is the mail that a list shows: the latest.
func (c *Case) head() *Mail { return &c.Mails[len(c.Mails)-1] }

// Latest is the latest mail; a case has at least one.
func (c *Case) Latest() Mail { return *c.head() }

const (
	// joinWithin: abuse of one server that is complained about within a week is one matter.
	joinWithin = 7 * 24 * time.Hour
	// maxCases are kept in memory; beyond, the oldest closed ones are forgotten (the log keeps them).
	maxCases = 20_000
	// maxMails of one case are kept with their replies.
	maxMails = 100
	// maxText of a mail's texts, and of a reply, in bytes.
	maxText, maxReply = 400, 64 << 10
	// maxNote in characters.
	maxNote = 4000
)

// Errors that callers branch on.
var (
	ErrUnknown = errors.New("no such case")
	ErrInvalid = errors.New("invalid")
	ErrLog     = errors.New("the log of cases cannot be written")
)

// Book holds the cases. Its methods may be called from any goroutine.
type Book struct {
	log *journal.Journal

	mu      sync.RWMutex
	cases   map[string]*Case
	version uint64 // rises with each change
}

// New returns an empty book; Load fills it. log may be nil: nothing is kept over a
// restart then.
func New(log Log) *Book {
	b := &Book{cases: map[string]*Case{}}
	var kept journal.Log
	if log != nil {
		kept = journal.Log{Append: log.AppendCases, Read: log.CaseEvents}
	}
	b.log = journal.New("case", ErrLog, kept, journal.State{Anew: b.anew, Stored: b.stored})
	return b
}

// Load reads the log.
func (b *Book) Load(ctx context.Context) error { return b.log.Load(ctx) }

func (b *Book) anew() (fold func(flow.Event) error, replace func()) {
	next := &Book{cases: map[string]*Case{}}
	return next.fold, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.cases = next.cases
		b.version++
	}
}

// Version is another number after each change of the cases.
func (b *Book) Version() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.version
}

func (b *Book) stored(evs []flow.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version++
	for _, ev := range evs {
		if err := b.fold(ev); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) fold(ev flow.Event) error {
	c := b.cases[ev.Incident]
	switch ev.Kind {
	case KindOpened, KindJoined:
		var m Mail
		if err := json.Unmarshal(ev.Body, &m); err != nil {
			return err
		}
		if c == nil {
			b.forget()
			c = &Case{ID: ev.Incident, Opened: ev.Time, By: ev.Actor, First: m.First, Last: m.Last, Verdicts: map[string]int{}}
			b.cases[c.ID] = c
		}
		c.take(m)
		c.Status = Open // a reporter who writes again waits again
	case KindStatus:
		var s struct{ Status Status }
		if err := json.Unmarshal(ev.Body, &s); err != nil {
			return err
		}
		if c == nil {
			return nil // its first rows have expired
		}
		c.Status = s.Status
	default:
		return nil // of a later release
	}
	c.Updated = ev.Time
	c.History = append(c.History, Step{ev.Time, ev.Actor, ev.Kind, ev.Reason})
	return nil
}

func (c *Case) take(m Mail) {
	if c.Mails = append(c.Mails, m); len(c.Mails) > maxMails {
		c.Mails = slices.Delete(c.Mails, 1, 2) // the first says what it was about
	}
	if m.First.Before(c.First) {
		c.First = m.First
	}
	if m.Last.After(c.Last) {
		c.Last = m.Last
	}
	for v, n := range m.Verdicts {
		c.Verdicts[v] += n
	}
}

// forget makes room for one more.
func (b *Book) forget() {
	if len(b.cases) < maxCases {
		return
	}
	var old *Case
	for _, c := range b.cases {
		if old == nil || c.Status == Closed && old.Status != Closed || (c.Status == Closed) == (old.Status == Closed) && c.Updated.Before(old.Updated) {
			old = c
		}
	}
	delete(b.cases, old.ID)
}

// Took says where a mail went.
type Took struct {
	ID        string `json:"id"`
	Joined    bool   `json:"joined"`
	Duplicate bool   `json:"duplicate" doc:"the same mail is in the case already; nothing was added"`
}

// Take opens a case for each mail, or joins the one that is about the same server
// and time and is not closed.
func (b *Book) Take(ctx context.Context, mails []Mail, actor string, ts time.Time) ([]Took, error) {
	if err := b.log.Begin(ctx); err != nil {
		return nil, err
	}
	defer b.log.End()
	var out []Took
	for _, m := range mails {
		m.clip()
		t := Took{}
		c := b.same(&m)
		switch {
		case c == nil:
			t.ID = newID()
		case m.MessageID != "" && slices.ContainsFunc(c.Mails, func(o Mail) bool { return o.MessageID == m.MessageID && o.Host == m.Host }):
			t = Took{c.ID, true, true}
		default:
			t = Took{c.ID, true, false}
		}
		out = append(out, t)
		if t.Duplicate {
			continue
		}
		kind := KindOpened
		if t.Joined {
			kind = KindJoined
		}
		if err := b.append(ctx, kind, t.ID, actor, m.Subject, ts, m); err != nil {
			return out[:len(out)-1], err
		}
	}
	return out, nil
}

// same is the case that a mail belongs to.
func (b *Book) same(m *Mail) *Case {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var best *Case
	for _, c := range b.cases {
		h := c.head()
		if c.Status == Closed || h.Tenant != m.Tenant || h.Customer != m.Customer || h.VDS != m.VDS ||
			m.First.After(c.Last.Add(joinWithin)) || m.Last.Before(c.First.Add(-joinWithin)) {
			continue
		}
		if best == nil || c.Opened.After(best.Opened) || c.Opened.Equal(best.Opened) && c.ID < best.ID {
			best = c
		}
	}
	return best
}

// SetStatus says where a case stands, with a note for colleagues.
func (b *Book) SetStatus(ctx context.Context, id string, s Status, actor, note string, ts time.Time) (Case, error) {
	if err := b.log.Begin(ctx); err != nil {
		return Case{}, err
	}
	defer b.log.End()
	switch note = strings.TrimSpace(note); {
	case s != Open && s != Answered && s != Closed:
		return Case{}, fmt.Errorf("%w: status is %.40q: write open, answered or closed", ErrInvalid, s)
	case utf8.RuneCountInString(note) > maxNote:
		return Case{}, fmt.Errorf("%w: note is longer than %d characters: shorten it", ErrInvalid, maxNote)
	}
	if _, ok := b.Get(id); !ok {
		return Case{}, fmt.Errorf("%w: %.60q", ErrUnknown, id)
	}
	if err := b.append(ctx, KindStatus, id, actor, note, ts, struct{ Status Status }{s}); err != nil {
		return Case{}, err
	}
	c, _ := b.Get(id)
	return c, nil
}

// append stores one event and folds it.
func (b *Book) append(ctx context.Context, kind, id, actor, note string, ts time.Time, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	return b.log.Append(ctx, flow.Event{Time: ts.UTC(), Incident: id, Kind: kind, Actor: actor, Reason: note, Body: text})
}

// clip bounds what a stranger wrote.
func (m *Mail) clip() {
	for _, s := range []*string{&m.Reporter, &m.Subject, &m.MessageID, &m.ReportID} {
		*s = clip(*s, maxText)
	}
	m.Reply = Reply{clip(m.Reply.Subject, maxText), clip(m.Reply.EN, maxReply), clip(m.Reply.RU, maxReply)}
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "cc-" + hex.EncodeToString(b[:])
}

// Query selects cases; zero fields select all.
type Query struct {
	Status   Status
	Tenant   netip.Addr
	Customer string
	Text     string // in id, subject, reporter or report id, whatever the case
}

// List gives the cases that match, those that changed last first.
func (b *Book) List(q Query) []Case {
	text := strings.ToLower(q.Text)
	b.mu.RLock()
	out := []Case{}
	for _, c := range b.cases {
		h := c.head()
		if q.Status != "" && q.Status != c.Status || q.Tenant.IsValid() && q.Tenant != h.Tenant || q.Customer != "" && q.Customer != h.Customer ||
			text != "" && !c.has(text) {
			continue
		}
		out = append(out, c.clone())
	}
	b.mu.RUnlock()
	slices.SortFunc(out, func(a, c Case) int { return cmp.Or(c.Updated.Compare(a.Updated), cmp.Compare(a.ID, c.ID)) })
	return out
}

func (c *Case) has(text string) bool {
	if strings.Contains(c.ID, text) {
		return true
	}
	return slices.ContainsFunc(c.Mails, func(m Mail) bool {
		return strings.Contains(strings.ToLower(m.Subject+"\n"+m.Reporter+"\n"+m.ReportID), text)
	})
}

// clone: what is given away does not change any more.
func (c *Case) clone() Case {
	out := *c
	out.Mails, out.History = slices.Clone(c.Mails), slices.Clone(c.History)
	out.Verdicts = map[string]int{}
	for k, v := range c.Verdicts {
		out.Verdicts[k] = v
	}
	return out
}

// Get returns one case.
func (b *Book) Get(id string) (Case, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if c := b.cases[id]; c != nil {
		return c.clone(), true
	}
	return Case{}, false
}
