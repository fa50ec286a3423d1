package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// The fleet's series is the same before anything is rolled up, with a part of it
// and with all, and it is what the tenants sum up to.
func TestFleetSeries(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := &flow.Batch{}
	want := map[int64]*flow.SeriesPoint{}
	for at := epoch; at.Before(epoch.Add(3 * time.Hour)); at = at.Add(7 * time.Minute) {
		for i := range uint64(3) {
			rate := []uint32{1, 1000, 4096}[i]
			k := flow.Key{Start: at.Unix() - at.Unix()%flow.WindowSeconds, Tenant: netip.AddrFrom4([4]byte{11, 0, 0, byte(i + 1)}), Rate: rate}
			c := flow.Counts{OutRecords: 1 + i, InRecords: 2, OutPackets: 10 * (i + 1), InPackets: 7, OutBytes: 1500 * (i + 1), InBytes: 60}
			b.Hosts = append(b.Hosts, flow.HostWindow{Key: k, Counts: c, Classes: flow.Classes{SYNOut: 1}})
			b.Services = append(b.Services, flow.ServiceWindow{Key: k, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: 443, Counts: c, Classes: flow.Classes{SYNOut: 1}})
			slot := k.Start - k.Start%900
			p := want[slot]
			if p == nil {
				p = &flow.SeriesPoint{Time: time.Unix(slot, 0).UTC()}
				want[slot] = p
			}
			n := uint64(rate)
			p.EstOutPackets += c.OutPackets * n
			p.EstInPackets += c.InPackets * n
			p.EstOutBytes += c.OutBytes * n
			p.EstInBytes += c.InBytes * n
			p.OutRecords += c.OutRecords
			p.InRecords += c.InRecords
			p.SYNOut++
		}
	}
	write(t, s, b)
	r := flow.Range{From: epoch, To: epoch.Add(3 * time.Hour)}
	compare := func(when string) {
		t.Helper()
		got, err := s.FleetSeries(within(t, time.Minute), r, 15*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 12 {
			t.Fatalf("%s: %d points", when, len(got))
		}
		for _, p := range got {
			if diff := cmp.Diff(*want[p.Time.Unix()], p); diff != "" {
				t.Errorf("%s: -want +got\n%s", when, diff)
			}
		}
	}
	compare("windows")
	rollUp(t, s, epoch.Add(time.Hour+15*time.Minute), 1)
	age(t, cfg, time.Minute)
	compare("an hour rolled up")
	rollUp(t, s, epoch.Add(9*time.Hour), 2)
	age(t, cfg, time.Minute)
	compare("all rolled up")
	mustExec(t, cfg, "TRUNCATE TABLE host_window")
	compare("without windows") // so it was read from the minutes
	if n, err := s.FleetSeries(within(t, time.Minute), flow.Range{From: epoch.Add(-5 * time.Hour), To: epoch.Add(-2 * time.Hour)}, time.Hour); err != nil || len(n) != 0 {
		t.Errorf("before there was anything: %v, %v", n, err)
	}
	for _, step := range []time.Duration{0, 10 * time.Second, 90 * time.Second, -time.Minute} {
		if _, err := s.FleetSeries(within(t, time.Minute), r, step); err == nil {
			t.Errorf("step %v is accepted", step)
		}
	}
}
