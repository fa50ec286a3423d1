package store_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

var equate = cmp.Options{
	cmpopts.EquateApprox(1e-12, 0),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

// filled returns a store with some thousand rows of each kind, written in many
// pieces, and the same rows in Go.
func filled(t *testing.T) (*store.Store, *model) {
	t.Helper()
	s := storetest.New(t)
	g := newGenerator(42)
	m := &model{}
	for range 20 {
		b := g.batch(100)
		m.add(b)
		if err := s.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	return s, m
}

var ranges = []struct {
	name string
	r    flow.Range
}{
	{"all", flow.Range{From: epoch, To: epoch.Add(time.Hour)}},
	{"a minute", flow.Range{From: epoch.Add(100 * time.Second), To: epoch.Add(160 * time.Second)}},
	{"between windows", flow.Range{From: epoch.Add(95 * time.Second), To: epoch.Add(163 * time.Second)}},
	{"ends within a second", flow.Range{From: epoch.Add(10*time.Second + 1), To: epoch.Add(50*time.Second + 1)}},
	{"nothing", flow.Range{From: epoch.Add(-time.Hour), To: epoch}},
	{"empty", flow.Range{From: epoch.Add(time.Minute), To: epoch.Add(time.Minute)}},
}

func TestServiceStats(t *testing.T) {
	s, m := filled(t)
	some := 0
	for _, tt := range ranges {
		for _, proto := range []uint8{flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP} {
			all := m.services(tt.r, proto, 0)
			mins := []uint64{0, 1}
			if len(all) > 0 { // just at, and just above, a key's own number
				mins = append(mins, all[len(all)/2].Attempts, all[len(all)/2].Attempts+1)
			}
			for _, min := range mins {
				t.Run(fmt.Sprintf("%s/proto %d/min %d", tt.name, proto, min), func(t *testing.T) {
					got, err := s.ServiceStats(within(t, 2*time.Minute), tt.r, proto, min)
					if err != nil {
						t.Fatal(err)
					}
					slices.SortFunc(got, byService)
					want := m.services(tt.r, proto, min)
					some += len(want)
					if d := cmp.Diff(want, got, equate); d != "" {
						t.Errorf("-want +got\n%s", d)
					}
				})
			}
		}
	}
	if some < 100 {
		t.Errorf("only %d rows were compared", some)
	}
}

func TestPairStats(t *testing.T) {
	s, m := filled(t)
	some := 0
	for _, tt := range ranges {
		all := m.pairs(tt.r, flow.ProtoTCP, 0, 0)
		cases := [][2]uint64{{0, 0}, {1, 0}, {0, 1}}
		if len(all) > 0 {
			p := all[len(all)/2]
			cases = append(cases, [2]uint64{p.OutPackets, 0}, [2]uint64{p.OutPackets + 1, 0},
				[2]uint64{0, p.Ports}, [2]uint64{0, p.Ports + 1}, [2]uint64{p.OutPackets + 1, p.Ports + 1})
		}
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s/packets %d/ports %d", tt.name, c[0], c[1]), func(t *testing.T) {
				got, err := s.PairStats(within(t, 2*time.Minute), tt.r, flow.ProtoTCP, c[0], c[1])
				if err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(got, byPair)
				want := m.pairs(tt.r, flow.ProtoTCP, c[0], c[1])
				some += len(want)
				if d := cmp.Diff(want, got, equate); d != "" {
					t.Errorf("-want +got\n%s", d)
				}
			})
		}
	}
	if some < 100 {
		t.Errorf("only %d rows were compared", some)
	}
}

func TestHostStats(t *testing.T) {
	s, m := filled(t)
	v4, v6 := netip.MustParseAddr("198.18.0.3"), netip.MustParseAddr("2001:db8:0:2::")
	absent := netip.MustParseAddr("198.18.9.9")
	for _, tt := range ranges {
		for name, tenants := range map[string][]netip.Addr{"all": nil, "two": {v4, v6}, "absent": {absent}, "none": {}} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				got, err := s.HostStats(within(t, 2*time.Minute), tt.r, tenants)
				if err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(got, byHost)
				want := m.hosts(tt.r, func(a netip.Addr) bool { return tenants == nil || slices.Contains(tenants, a) })
				if d := cmp.Diff(want, got, equate); d != "" {
					t.Errorf("-want +got\n%s", d)
				}
			})
		}
	}
}
