package store_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// TestFewTenants holds the questions for few tenants against the same rows as
// those for all are held against: the answers must be the same, of these tenants.
func TestFewTenants(t *testing.T) {
	s, m := filledForRules(t)
	few := []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.7"), netip.MustParseAddr("198.18.9.9"), netip.MustParseAddr("2001:db8:0:2::")}
	ctx := flow.Among(within(t, 5*time.Minute), few)
	some := map[string]int{}
	compare := func(what string, want, got any, n int, err error) {
		t.Helper()
		some[what] += n
		if d := gocmp.Diff(want, got, equate); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", what, err, d)
		}
	}
	for _, tt := range ranges[:3] {
		for _, least := range []uint64{0, 40} {
			services, err := s.ServiceStats(ctx, tt.r, flow.ProtoTCP, least)
			slices.SortFunc(services, byService)
			want := ofTenants(few, m.services(tt.r, flow.ProtoTCP, least), func(v flow.ServiceStat) netip.Addr { return v.Tenant })
			compare("service statistics", want, services, len(want), err)

			q := flow.ServiceQuery{IPProto: flow.ProtoUDP, Role: flow.RoleServer, MinOutPackets: least}
			totals, err := s.ServiceTotals(ctx, tt.r, q)
			slices.SortFunc(totals, byService)
			want = ofTenants(few, m.serviceTotals(tt.r, q), func(v flow.ServiceStat) netip.Addr { return v.Tenant })
			compare("service totals", want, totals, len(want), err)

			for _, ports := range []uint64{0, 2} {
				pairs, err := s.PairStats(ctx, tt.r, flow.ProtoTCP, least, ports)
				slices.SortFunc(pairs, byPair)
				want := ofTenants(few, m.pairs(tt.r, flow.ProtoTCP, least, ports), func(v flow.PairStat) netip.Addr { return v.Tenant })
				compare("pair statistics", want, pairs, len(want), err)
			}

			for _, scaled := range []uint64{0, 20_000} {
				attempts, err := s.AttemptStats(ctx, tt.r, flow.ProtoTCP, least, scaled)
				byTenant := func(a, b flow.AttemptStat) int { return a.Tenant.Compare(b.Tenant) }
				slices.SortFunc(attempts, byTenant)
				want := ofTenants(few, m.attempts(tt.r, flow.ProtoTCP, least, scaled), func(v flow.AttemptStat) netip.Addr { return v.Tenant })
				slices.SortFunc(want, byTenant)
				compare("attempt statistics", want, attempts, len(want), err)
			}
		}
	}
	for _, what := range []string{"service statistics", "service totals", "pair statistics", "attempt statistics"} {
		if some[what] < 10 {
			t.Errorf("%s: only %d rows were compared", what, some[what])
		}
	}
}

func ofTenants[T any](l []netip.Addr, all []T, of func(T) netip.Addr) []T {
	return slices.DeleteFunc(all, func(v T) bool { return !slices.Contains(l, of(v)) })
}
