package store_test

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestFlowsWith(t *testing.T) {
	s, m := filled(t)
	tenant := netip.MustParseAddr("198.18.0.3")
	some := 0
	for _, tt := range ranges {
		var all []flow.FlowRow
		for _, f := range m.Flows {
			at := time.Unix(0, f.Time)
			if f.Tenant == tenant && !at.Before(tt.r.From) && at.Before(tt.r.To) {
				all = append(all, f)
			}
		}
		remotes := []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("2a00:0:0:5::1")}
		for name, with := range map[string][]netip.Addr{"any": nil, "some": remotes, "none": {}} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				want := 0
				for _, f := range all {
					if name == "any" || slices.Contains(with, f.Remote) {
						want++
					}
				}
				got, err := s.FlowsWith(within(t, 2*time.Minute), flow.FlowQuery{Tenant: tenant, Range: tt.r, SvcPort: -1, Limit: 100_000}, with)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range got {
					if f.Tenant != tenant || name == "some" && !slices.Contains(with, f.Remote) {
						t.Fatalf("row of %s with %s", f.Tenant, f.Remote)
					}
				}
				if len(got) != want || !slices.IsSortedFunc(got, func(a, b flow.FlowRow) int { return cmp.Compare(a.Time, b.Time) }) {
					t.Errorf("%d rows, want %d in order of time", len(got), want)
				}
				some += len(got)
			})
		}
	}
	if some < 20 {
		t.Errorf("only %d rows were compared", some)
	}
}

func TestActivity(t *testing.T) {
	s, m := filled(t)
	tenant := netip.MustParseAddr("198.18.0.3")
	const step = time.Minute
	type key struct {
		at   int64
		rate uint32
	}
	sum := func(into map[key]flow.Counts, k flow.Key, c flow.Counts, r flow.Range) {
		if at := time.Unix(k.Start, 0); at.Before(r.From) || !at.Before(r.To) {
			return
		}
		at := key{k.Start / 60 * 60, k.Rate}
		v := into[at]
		v.Add(c)
		into[at] = v
	}
	for _, tt := range ranges {
		host, fleet := map[key]flow.Counts{}, map[key]flow.Counts{}
		for _, w := range m.Hosts {
			if w.Tenant == tenant {
				sum(host, w.Key, w.Counts, tt.r)
			}
		}
		for _, w := range m.Services {
			sum(fleet, w.Key, w.Counts, tt.r)
		}
		check := func(name string, got []flow.HostWindow, err error, want map[key]flow.Counts) {
			t.Helper()
			have := map[key]flow.Counts{}
			for _, w := range got {
				have[key{w.Start, w.Rate}] = w.Counts
			}
			if d := gocmp.Diff(want, have, gocmp.AllowUnexported(key{})); err != nil || d != "" || len(have) != len(got) {
				t.Errorf("%s, %s: %v\n%s", tt.name, name, err, d)
			}
		}
		got, err := s.HostActivity(within(t, 2*time.Minute), tenant, tt.r, step)
		check("host", got, err, host)
		got, err = s.FleetActivity(within(t, 2*time.Minute), tt.r, step)
		check("fleet", got, err, fleet)
	}
	if _, err := s.HostActivity(t.Context(), tenant, ranges[0].r, 15*time.Second); err == nil {
		t.Error("a step that is no multiple of a window was taken")
	}
}

func TestPairsWith(t *testing.T) {
	s, m := filled(t)
	tenant, remote := netip.MustParseAddr("198.18.0.3"), netip.MustParseAddr("203.0.113.7")
	r := ranges[0].r
	type key struct {
		flow.Key
		proto uint8
	}
	want := map[key]flow.Counts{}
	for _, w := range m.Pairs {
		if w.Tenant == tenant && w.Remote == remote {
			v := want[key{w.Key, w.IPProto}]
			v.Add(w.Counts)
			want[key{w.Key, w.IPProto}] = v
		}
	}
	got, err := s.PairsWith(within(t, 2*time.Minute), tenant, r, []netip.Addr{remote})
	if err != nil {
		t.Fatal(err)
	}
	have := map[key]flow.Counts{}
	for _, w := range got {
		have[key{w.Key, w.IPProto}] = w.Counts
	}
	if d := gocmp.Diff(want, have, gocmp.AllowUnexported(key{}), equate); d != "" || len(want) == 0 || len(got) != len(have) {
		t.Errorf("%d keys wanted\n%s", len(want), d)
	}
	if got, err := s.PairsWith(within(t, 2*time.Minute), tenant, r, nil); err != nil || got != nil {
		t.Errorf("without remotes: %d rows, %v", len(got), err)
	}
}

func TestFlowsSince(t *testing.T) {
	empty := storetest.New(t)
	if at, err := empty.FlowsSince(within(t, 2*time.Minute)); err != nil || !at.IsZero() {
		t.Errorf("an empty store: %v, %v", at, err)
	}
	s, m := filled(t)
	want := m.Flows[0].Time
	for _, f := range m.Flows {
		want = min(want, f.Time)
	}
	if at, err := s.FlowsSince(within(t, 2*time.Minute)); err != nil || at.UnixNano() != want {
		t.Errorf("%v, %v, want %v", at, err, time.Unix(0, want).UTC())
	}
}
