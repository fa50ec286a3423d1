package complaint

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// hourly is a store that has only sums of hours.
type hourly struct {
	Store
	pairs    []flow.PairWindow
	services flow.ServiceSums
	asked    int
}

func (h *hourly) PairsWith(context.Context, netip.Addr, flow.Range, []netip.Addr) ([]flow.PairWindow, error) {
	return h.pairs, nil
}

func (h *hourly) Finest(time.Time) time.Duration { return time.Hour }

func (h *hourly) ServicesWith(context.Context, netip.Addr, flow.Range, flow.Resolution, []netip.Addr) (flow.ServiceSums, error) {
	return h.services, nil
}

func (h *hourly) PairHours(_ context.Context, _ netip.Addr, _ flow.Range, _ []netip.Addr) ([]flow.PairHour, error) {
	h.asked++
	return []flow.PairHour{{PairWindow: flow.PairWindow{Remote: remote}, First: at, Last: at}}, nil
}

// Hours are asked for only where no windows are stored.
func TestHoursAsked(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []flow.PairWindow
		want  int
	}{{"windows are there", []flow.PairWindow{{Remote: remote}}, 0}, {"windows are gone", nil, 1}} {
		s := &hourly{pairs: tt.pairs}
		m := &Matcher{cfg: Config{Tolerance: DefaultTolerance}, deps: Deps{Store: s}}
		ev := &evidence{}
		if err := m.sums(t.Context(), ev, host, []*claim{aClaim()}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if s.asked != tt.want || len(ev.hours) != tt.want || len(ev.pairs) != len(tt.pairs) {
			t.Errorf("%s: asked %d times, %d hours and %d windows", tt.name, s.asked, len(ev.hours), len(ev.pairs))
		}
	}
}

// An hour shows a claim whose time lies between the pair's first and last window
// in it, give or take the tolerance; what is told are these two.
func TestHourShows(t *testing.T) {
	const tolerance = 2 * time.Minute
	hour := func(first, last time.Duration, change func(*flow.PairHour)) flow.PairHour {
		h := flow.PairHour{First: at.Add(first), Last: at.Add(last), PairWindow: flow.PairWindow{Key: flow.Key{Tenant: host, Rate: 100},
			Remote: remote, IPProto: 6, Counts: flow.Counts{OutPackets: 7}, Ports: []uint16{22}}}
		if change != nil {
			change(&h)
		}
		return h
	}
	for _, tt := range []struct {
		name string
		h    flow.PairHour
		want bool
	}{
		{"around", hour(-10*time.Minute, 10*time.Minute, nil), true},
		{"just before", hour(-30*time.Minute, -tolerance-10*time.Second, nil), true},
		{"too early", hour(-30*time.Minute, -tolerance-11*time.Second, nil), false},
		{"just after", hour(tolerance, 30*time.Minute, nil), true},
		{"too late", hour(tolerance+time.Second, 30*time.Minute, nil), false},
		{"another remote", hour(0, 0, func(h *flow.PairHour) { h.Remote = host }), false},
		{"another protocol", hour(0, 0, func(h *flow.PairHour) { h.IPProto = 17 }), false},
		{"another port", hour(0, 0, func(h *flow.PairHour) { h.Ports = []uint16{23} }), false},
		{"no port is known", hour(0, 0, func(h *flow.PairHour) { h.Ports = nil }), true},
		{"no packets", hour(0, 0, func(h *flow.PairHour) { h.Counts = flow.Counts{} }), false},
	} {
		ev := &evidence{hours: []flow.PairHour{tt.h}}
		s := ev.sum(aClaim(), tolerance)
		if (s.rows > 0) != tt.want {
			t.Errorf("%s: %d rows", tt.name, s.rows)
		}
		if s.rows > 0 && (!s.first.Equal(tt.h.First) || !s.last.Equal(tt.h.Last.Add(10*time.Second)) || s.packets != 700) {
			t.Errorf("%s: %+v", tt.name, s)
		}
	}
	// A window is better than its hour.
	ev := &evidence{hours: []flow.PairHour{hour(-10*time.Minute, 10*time.Minute, nil)},
		pairs: []flow.PairWindow{{Key: flow.Key{Start: at.Unix(), Rate: 1}, Remote: remote, IPProto: 6, Counts: flow.Counts{OutPackets: 1}}}}
	if s := ev.sum(aClaim(), tolerance); s.rows != 1 || !s.first.Equal(at) {
		t.Errorf("with a window: %+v", s)
	}
}
