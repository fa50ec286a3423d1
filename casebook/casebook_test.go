package casebook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
)

var t0 = time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)

// memory is a log. fail is what appending answers; lost says that it is stored all the same.
type memory struct {
	evs  []flow.Event
	fail error
	lost bool
}

func (m *memory) AppendCases(_ context.Context, ev []flow.Event) error {
	if m.fail == nil || m.lost {
		m.evs = append(m.evs, ev...)
	}
	return m.fail
}

func (m *memory) CaseEvents(_ context.Context, fn func(flow.Event) error) error {
	for _, e := range m.evs {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func mail(id string, at time.Time) Mail {
	a := netip.MustParseAddr("198.18.0.7")
	return Mail{Received: at, Reporter: "noc@victim.example", Subject: "abuse", MessageID: id, Host: a, Tenant: a, Customer: "c-42", VDS: "vds-1",
		First: at.Add(-time.Hour), Last: at, Lines: 3, Verdicts: map[string]int{"confirmed": 2, "no_data": 1}, Reply: Reply{"Re: abuse", "en", "ru"}}
}

func take(t *testing.T, b *Book, m Mail, ts time.Time) Took {
	t.Helper()
	took, err := b.Take(t.Context(), []Mail{m}, "abuse", ts)
	if err != nil || len(took) != 1 {
		t.Fatalf("%v, %v", took, err)
	}
	return took[0]
}

func TestJoin(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Mail)
		joined bool
	}{
		"the same matter":          {func(*Mail) {}, true},
		"another reporter":         {func(m *Mail) { m.Reporter = "x@other.example" }, true},
		"another server":           {func(m *Mail) { m.VDS = "vds-2" }, false},
		"another customer":         {func(m *Mail) { m.Customer = "c-43" }, false},
		"another address":          {func(m *Mail) { m.Tenant = netip.MustParseAddr("198.18.0.8") }, false},
		"exactly a week later":     {func(m *Mail) { m.First = t0.Add(joinWithin); m.Last = m.First }, true},
		"more than a week later":   {func(m *Mail) { m.First = t0.Add(joinWithin + 1); m.Last = m.First }, false},
		"exactly a week earlier":   {func(m *Mail) { m.Last = t0.Add(-time.Hour - joinWithin); m.First = m.Last }, true},
		"more than a week earlier": {func(m *Mail) { m.Last = t0.Add(-time.Hour - joinWithin - 1); m.First = m.Last }, false},
	} {
		b := New(nil)
		first := take(t, b, mail("1", t0), t0)
		m := mail("2", t0)
		tc.change(&m)
		got := take(t, b, m, t0.Add(time.Minute))
		if got.Joined != tc.joined || (got.ID == first.ID) != tc.joined || got.Duplicate {
			t.Errorf("%s: %+v after %+v", name, got, first)
		}
	}
}

func TestLife(t *testing.T) {
	log := &memory{}
	b := New(log)
	id := take(t, b, mail("1", t0), t0).ID
	if d := take(t, b, mail("1", t0), t0.Add(time.Minute)); d != (Took{id, true, true}) || len(log.evs) != 1 {
		t.Errorf("the same mail again: %+v, %d events", d, len(log.evs))
	}
	c, err := b.SetStatus(t.Context(), id, Answered, "eva", " told them ", t0.Add(time.Hour))
	if err != nil || c.Status != Answered || c.History[1] != (Step{t0.Add(time.Hour), "eva", KindStatus, "told them"}) {
		t.Fatalf("%+v, %v", c, err)
	}
	take(t, b, mail("2", t0), t0.Add(2*time.Hour))
	c, _ = b.Get(id)
	if c.Status != Open || len(c.Mails) != 2 || c.Verdicts["confirmed"] != 4 || c.By != "abuse" {
		t.Errorf("a second mail opens it again: %+v", c)
	}
	if _, err := b.SetStatus(t.Context(), id, Closed, "eva", "", t0.Add(3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if again := take(t, b, mail("3", t0), t0.Add(4*time.Hour)); again.Joined {
		t.Error("a closed case was joined")
	}
	other := New(log)
	if err := other.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.List(Query{}), other.List(Query{}), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("after a restart (-want +got):\n%s", d)
	}
	for name, tc := range map[string]struct {
		q    Query
		want int
	}{
		"all": {Query{}, 2}, "open": {Query{Status: Open}, 1}, "closed": {Query{Status: Closed}, 1}, "answered": {Query{Status: Answered}, 0},
		"customer": {Query{Customer: "c-42"}, 2}, "none": {Query{Customer: "c-4"}, 0}, "text": {Query{Text: "VICTIM"}, 2}, "id": {Query{Text: id}, 1},
		"tenant": {Query{Tenant: netip.MustParseAddr("198.18.0.7")}, 2}, "other tenant": {Query{Tenant: netip.MustParseAddr("198.18.0.8")}, 0},
	} {
		if got := b.List(tc.q); len(got) != tc.want {
			t.Errorf("%s: %d cases, want %d", name, len(got), tc.want)
		}
	}
	c.Mails[0].Subject, c.Verdicts["confirmed"] = "changed", 99
	if now, _ := b.Get(id); now.Mails[0].Subject != "abuse" || now.Verdicts["confirmed"] != 4 {
		t.Error("what was given away is the book's own")
	}
}

func TestRefused(t *testing.T) {
	b := New(nil)
	id := take(t, b, mail("1", t0), t0).ID
	for name, tc := range map[string]struct {
		id   string
		s    Status
		note string
		want error
	}{
		"unknown": {"cc-none", Closed, "", ErrUnknown}, "status": {id, "gone", "", ErrInvalid},
		"note": {id, Closed, strings.Repeat("я", maxNote+1), ErrInvalid}, "longest note": {id, Closed, strings.Repeat("я", maxNote), nil},
	} {
		if _, err := b.SetStatus(t.Context(), tc.id, tc.s, "eva", tc.note, t0); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLogFails(t *testing.T) {
	for _, lost := range []bool{false, true} {
		log := &memory{fail: errors.New("timeout"), lost: lost}
		b := New(log)
		if took, err := b.Take(t.Context(), []Mail{mail("1", t0)}, "abuse", t0); !errors.Is(err, ErrLog) || len(took) != 0 {
			t.Fatalf("%v, %v", took, err)
		}
		log.fail = nil
		if got := take(t, b, mail("1", t0), t0); got.Duplicate != lost {
			t.Errorf("stored nevertheless %v: %+v", lost, got)
		}
		if len(log.evs) != 1 || len(b.List(Query{})) != 1 {
			t.Errorf("stored nevertheless %v: %d events", lost, len(log.evs))
		}
	}
}

func TestBounds(t *testing.T) {
	b := New(nil)
	m := mail("1", t0)
	m.Subject, m.Reply.EN = strings.Repeat("я", maxText), strings.Repeat("x", maxReply+1)
	id := take(t, b, m, t0).ID
	for i := range maxMails + 5 {
		take(t, b, mail(fmt.Sprint("m", i), t0), t0)
	}
	c, _ := b.Get(id)
	if len(c.Mails) != maxMails || len(c.Mails[0].Subject) != maxText || len(c.Mails[0].Reply.EN) != maxReply || c.Verdicts["confirmed"] != 2*(maxMails+6) {
		t.Errorf("%d mails, subject %d, reply %d bytes, %v", len(c.Mails), len(c.Mails[0].Subject), len(c.Mails[0].Reply.EN), c.Verdicts)
	}
}

// TestVersion: it is another after each change, and the same while nothing changes.
func TestVersion(t *testing.T) {
	b := New(&memory{})
	at := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	last := b.Version()
	step := func(name string, changed bool) {
		t.Helper()
		if v := b.Version(); (v != last) != changed {
			t.Errorf("%s: %d after %d", name, v, last)
		}
		last = b.Version()
	}
	step("empty", false)
	took := take(t, b, mail("<1@x>", at), at)
	step("opened", true)
	b.List(Query{})
	step("listed", false)
	take(t, b, mail("<2@x>", at), at)
	step("joined", true)
	if _, err := b.SetStatus(t.Context(), took.ID, Answered, "anna", "told them", at); err != nil {
		t.Fatal(err)
	}
	step("answered", true)
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	step("read again", true)
}
