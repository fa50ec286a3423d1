package detect

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

var _ Windows = (*store.Store)(nil)

// The same rows through ClickHouse and through the model give the same
// findings: what the scenarios prove of the model holds for the store.
func TestStoreAgreesWithTheModel(t *testing.T) {
	const length = 5 * time.Minute
	ctx := context.Background()
	s, mem := storetest.New(t), newMemWindows()
	tenant := tenant4
	for _, run := range []struct {
		name    string
		n       uint32
		netflow bool
	}{
		{"a02", 256, false}, {"a02", 1000, true}, {"a09", 1000, false}, {"a11", 256, false}, {"a14", 256, true}, {"a33", 1, true},
		{"b04", 256, true}, {"b10", 256, true}, {"b30", 256, false}, {"b36", 1000, false}, {"c06", 256, false},
		{"a08", 256, true}, {"a13", 256, false}, {"a16", 256, true}, {"a19", 1000, false}, {"a21", 1, true}, {"a23", 256, false},
		{"a25", 1000, true}, {"a27", 1, true}, {"a34", 256, false}, {"a35", 256, false}, {"a39", 1000, false}, {"d04", 1000, true}, {"d26", 1000, false},
	} {
		sc, err := scenario.Read("testdata/" + run.name + ".scenario")
		if err != nil {
			t.Fatal(err)
		}
		g := scenario.NewGenerator(1, run.n, run.netflow)
		var b flow.Batch
		agg := aggregate.NewLocal(aggregate.Config{Internal: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}, FlowPolicy: aggregate.FlowAll}, collect(&b))
		for e := time.Duration(0); e < length; e += step {
			for i := range sc.Sources {
				g.Run(&sc.Sources[i], epoch, e)
			}
			ts := epoch.Add(e + step)
			for _, r := range g.Take(ts) {
				agg.Add(&r)
			}
			agg.Flush(ts.UnixNano(), e+step >= length)
			for i := range b.Hosts {
				b.Hosts[i].Tenant = tenant
			}
			for i := range b.Services {
				b.Services[i].Tenant = tenant
			}
			for i := range b.Pairs {
				b.Pairs[i].Tenant = tenant
			}
			for i := range b.Flows { // known peers are told from them
				b.Flows[i].Tenant = tenant
			}
			mem.add(&b)
			if err := s.Write(&b); err != nil {
				t.Fatal(err)
			}
			b = flow.Batch{}
		}
		tenant = tenant.Next()
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	inModel, inStore := New(Config{}, Deps{Windows: mem}), New(Config{}, Deps{Windows: s})
	seen := map[flow.Rule]int{}
	for _, at := range []time.Duration{30 * time.Second, 45 * time.Second, 2 * time.Minute, 4 * time.Minute, length} {
		want, err := inModel.Tick(ctx, epoch.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		got, err := inStore.Tick(ctx, epoch.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("at %v (-model +store):\n%s", at, diff)
		}
		for _, f := range got {
			seen[f.Rule]++
		}
	}
	for _, r := range rules {
		if seen[r] == 0 && r != flow.RuleSpoofed { // asks for owners of ports, see TestSpoofedSource

			t.Errorf("no finding of %s: the comparison says nothing about it", r)
		}
	}
}
