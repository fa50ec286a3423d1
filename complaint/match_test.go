package complaint_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/flow"
)

// ours is a list of incidents by tenant.
type ours map[netip.Addr][]flow.Incident

func (o ours) IncidentsOf(_ context.Context, t netip.Addr) ([]flow.Incident, error) {
	if o == nil {
		return nil, errors.New("the log cannot be read")
	}
	return o[t], nil
}

var (
	day  = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	tidy = netip.MustParseAddr("198.18.0.7")
)

// silent is a store in which nothing is.
type silent struct{ asked int }

func (s *silent) FlowsWith(context.Context, flow.FlowQuery, []netip.Addr) ([]flow.FlowRow, error) {
	s.asked++
	return nil, nil
}
func (s *silent) PairsWith(context.Context, netip.Addr, flow.Range, []netip.Addr) ([]flow.PairWindow, error) {
	s.asked++
	return nil, nil
}
func (s *silent) HostActivity(context.Context, netip.Addr, flow.Range, time.Duration) ([]flow.HostWindow, error) {
	s.asked++
	return nil, nil
}
func (s *silent) FleetActivity(context.Context, flow.Range, time.Duration) ([]flow.HostWindow, error) {
	s.asked++
	return nil, nil
}
func (s *silent) FlowsSince(context.Context) (time.Time, error) {
	s.asked++
	return day.AddDate(-1, 0, 0), nil
}

func ask(t *testing.T, m *complaint.Matcher, text string) *complaint.Result {
	t.Helper()
	res, err := m.Match(t.Context(), complaint.Request{Data: []byte(text), Received: day.Add(48 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// Which of our incidents a case belongs to: the same holder, at that time, the
// live one before the closed, the later before the earlier.
func TestJoin(t *testing.T) {
	mine := flow.Holder{Tenant: "c-1", VDS: "vds-1"}
	inc := func(id string, state flow.State, opened, updated time.Duration, h flow.Holder) flow.Incident {
		return flow.Incident{ID: id, Tenant: tidy, Holder: h, State: state, Opened: day.Add(opened), Updated: day.Add(updated), Rules: []flow.Rule{flow.RuleNetscan}}
	}
	for _, tt := range []struct {
		name string
		list []flow.Incident
		want string
	}{
		{"none", nil, ""},
		{"at that time", []flow.Incident{inc("a", flow.StateReleased, 0, time.Hour, mine)}, "a"},
		{"half an hour later", []flow.Incident{inc("a", flow.StateReleased, 30*time.Minute, 2*time.Hour, mine)}, "a"},
		{"two hours later", []flow.Incident{inc("a", flow.StateReleased, 2*time.Hour, 3*time.Hour, mine)}, ""},
		{"whose findings began before", []flow.Incident{func() flow.Incident {
			i := inc("a", flow.StateReleased, 2*time.Hour, 3*time.Hour, mine)
			i.Findings = []flow.Finding{{From: day}}
			return i
		}()}, "a"},
		{"over before", []flow.Incident{inc("a", flow.StateReleased, -5*time.Hour, -2*time.Hour, mine)}, ""},
		{"before, and not over", []flow.Incident{inc("a", flow.StateVerified, -5*time.Hour, -2*time.Hour, mine)}, "a"},
		{"another holder's", []flow.Incident{inc("a", flow.StateVerified, 0, time.Hour, flow.Holder{Tenant: "c-2", VDS: "vds-2"})}, ""},
		{"the live one", []flow.Incident{inc("a", flow.StateVerified, -time.Hour, 0, mine), inc("b", flow.StateReleased, 0, time.Hour, mine)}, "a"},
		{"the later one", []flow.Incident{inc("a", flow.StateReleased, -time.Hour, 0, mine), inc("b", flow.StateReleased, 0, time.Hour, mine)}, "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := ask(t, matcher(t, &silent{}, ours{tidy: tt.list}), "2026-11-20T10:00:00Z 198.18.0.7:40000 -> 203.0.113.9:22 tcp")
			got := ""
			if i := res.Cases[0].Incident; i != nil {
				got = i.ID
			}
			if got != tt.want {
				t.Errorf("joined to %q, want %q", got, tt.want)
			}
		})
	}
	_, err := matcher(t, &silent{}, ours(nil)).Match(t.Context(), complaint.Request{Data: []byte("2026-11-20T10:00:00Z 198.18.0.7:1 -> 203.0.113.9:22"), Received: day.Add(time.Hour)})
	if err == nil {
		t.Error("an unreadable log of incidents was taken for an empty one")
	}
}

// An address that changed hands makes two cases.
func TestCases(t *testing.T) {
	res := ask(t, matcher(t, &silent{}, nil), `2026-11-20T11:00:00Z 198.18.200.66:1000 -> 203.0.113.9:22 tcp
2026-11-20T11:30:00Z 198.18.200.66:1001 -> 203.0.113.10:22 tcp
2026-11-20T12:30:00Z 198.18.200.66:1002 -> 203.0.113.9:23 tcp
2026-11-20T12:30:00Z 198.18.0.7:1002 -> 203.0.113.9:23 tcp
2026-11-20T12:30:00Z 192.0.2.1:1002 -> 203.0.113.9:23 tcp
`)
	var got []string
	for _, c := range res.Cases {
		got = append(got, fmt.Sprintf("%s %s %d %v %d %s", c.Host, c.Holder.Tenant, c.Lines, c.Ports, c.Targets, c.Last.Format("15:04")))
	}
	want := "198.18.200.66 c-old 2 [22] 2 11:30|198.18.200.66 c-new 1 [23] 1 12:30|198.18.0.7 c-1 1 [23] 1 12:30"
	if g := strings.Join(got, "|"); g != want {
		t.Errorf("got  %s\nwant %s", g, want)
	}
	var of []int
	for _, l := range res.Lines {
		of = append(of, l.Case)
	}
	if fmt.Sprint(of) != "[0 0 1 2 -1]" {
		t.Errorf("lines in cases %v", of)
	}
}

// What others' complaints cost is bounded: many hosts, many lines, many moments.
func TestBounds(t *testing.T) {
	var hosts, days strings.Builder
	for i := range 300 {
		fmt.Fprintf(&hosts, "2026-11-20T10:00:00Z 198.18.%d.%d:40000 -> 203.0.113.9:22 tcp\n", i/100, i%100+1)
	}
	for i := range 3000 {
		fmt.Fprintf(&days, "%s 198.18.0.7:40000 -> 203.0.113.%d:22 tcp\n", day.Add(-time.Duration(i)*97*time.Minute).Format(time.RFC3339), i%200+1)
	}
	st := &silent{}
	res := ask(t, matcher(t, st, nil), hosts.String())
	if n := len(res.Lines); n != 300 || st.asked > 100*2+10 || res.Counts[complaint.NotVisible] != 200 || res.Counts[complaint.NoData] != 100 {
		t.Errorf("%d lines, %d questions, %v", n, st.asked, res.Counts)
	}
	st = &silent{}
	if res = ask(t, matcher(t, st, nil), days.String()); len(res.Lines) != 3000 || st.asked > 3*41+40 {
		t.Errorf("%d lines, %d questions", len(res.Lines), st.asked)
	}
	if len(res.Draft.EN) > 40_000 || !strings.Contains(res.Draft.EN, "more lines") {
		t.Errorf("the draft has %d bytes", len(res.Draft.EN))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := matcher(t, st, nil).Match(ctx, complaint.Request{Data: []byte(days.String())}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

// What a reporter writes cannot break the draft's lines.
func TestDraftInjection(t *testing.T) {
	res := ask(t, matcher(t, &silent{}, nil), "From: a@example.org\nTo: b@example.org\nSubject: =?utf-8?q?x=0ABcc:_victim@example.org=E2=80=A8y?=\nMessage-ID: <1@x>\n\n"+
		"Report-ID: 1\r\rBcc: x\n\n2026-11-20T10:00:00Z 198.18.0.7:40000 -> 203.0.113.9:22 tcp\n")
	if strings.ContainsAny(res.Draft.Subject, "\r\n\u2028") {
		t.Errorf("subject %q", res.Draft.Subject)
	}
	for _, d := range []string{res.Draft.EN, res.Draft.RU} {
		for l := range strings.Lines(d) {
			if strings.HasPrefix(l, "Bcc:") {
				t.Errorf("the draft has a line %q", l)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []complaint.Config{{Tolerance: time.Millisecond}, {Tolerance: 2 * time.Hour}, {Certain: 0.3}, {Certain: 1}} {
		if _, err := complaint.New(c, complaint.Deps{Store: &silent{}, Inventory: none{}, TenantKey: tenantKey}); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if _, err := complaint.New(complaint.Config{}, complaint.Deps{}); err == nil {
		t.Error("nothing to ask was taken")
	}
}

type none struct{}

func (none) Holder(netip.Addr, time.Time) (flow.Holder, bool) { return flow.Holder{}, false }
