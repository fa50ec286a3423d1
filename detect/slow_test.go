package detect

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

var _ HourlyWindows = (*store.Store)(nil)

// hourly counts the questions to a store's hours.
type hourly struct {
	*store.Store
	asked int
}

func (h *hourly) SlowScans(ctx context.Context, r flow.Range, least uint64, shows float64) ([]flow.ServiceStat, error) {
	h.asked++
	return h.Store.SlowScans(ctx, r, least, shows)
}

// hoursOf are the windows of a client of one TCP port over hours: a SYN each
// interval, to one of pool destinations in turn (0: always a new one), of which
// each answeredth is answered (0: none).
func hoursOf(b *flow.Batch, tenant netip.Addr, port uint16, hours int, every time.Duration, pool, answered int) {
	end := epoch.Add(time.Duration(hours) * time.Hour)
	n := uint64(0)
	rows := map[int64]*flow.ServiceWindow{}
	for at := epoch; at.Before(end); at = at.Add(every) {
		start := at.Unix() / flow.WindowSeconds * flow.WindowSeconds
		w := rows[start]
		if w == nil {
			w = &flow.ServiceWindow{Key: flow.Key{Start: start, Tenant: tenant, Rate: 1}, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: port}
			rows[start] = w
		}
		to := n
		if pool > 0 {
			to %= uint64(pool)
		}
		w.OutRecords, w.OutPackets, w.OutBytes, w.SYNOut, w.Attempts = w.OutRecords+1, w.OutPackets+1, w.OutBytes+60, w.SYNOut+1, w.Attempts+1
		w.Remotes = append(w.Remotes, (to+1)*0x9e3779b97f4a7c15)
		if answered > 0 && n%uint64(answered) == 0 {
			w.InRecords, w.SYNACKIn, w.EstOut, w.EstIn = w.InRecords+3, w.SYNACKIn+1, w.EstOut+2, w.EstIn+2
		}
		n++
	}
	for _, w := range rows {
		b.Services = append(b.Services, *w)
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: w.Key, Counts: w.Counts, Classes: w.Classes})
	}
}

// A scan that no half hour can show is found by the sums of six hours, from the
// store, and who calls as many that answer, or few that do not, is not. Nothing is
// asked twice of hours that have not changed.
func TestSlowScan(t *testing.T) {
	ctx := context.Background()
	s := storetest.New(t)
	var b flow.Batch
	slow, fast, crawler, poller, peers := address(1), address(2), address(3), address(4), address(5)
	hoursOf(&b, slow, 22, 6, 40*time.Second, 0, 0)
	hoursOf(&b, fast, 23, 6, 1600*time.Millisecond, 0, 0) // 0.625/s: nothing to act on within half an hour
	hoursOf(&b, crawler, 22, 6, 40*time.Second, 0, 4)     // three of four are dead
	hoursOf(&b, poller, 22, 6, 40*time.Second, 40, 0)     // of 40 dead hosts
	hoursOf(&b, peers, 6881, 6, 40*time.Second, 0, 0)     // a port of peer-to-peer programs
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	cfg := onlyNetscan()
	cfg.Thresholds.Netscan.WindowsS = []int{60, 300, 1800, 6 * 3600}
	w := &hourly{Store: s}
	d := New(cfg, Deps{Windows: w})
	ts := epoch.Add(6*time.Hour + 12*time.Minute)
	tick := func(ts time.Time) map[netip.Addr]flow.Finding {
		t.Helper()
		fs, err := d.Tick(ctx, ts)
		if err != nil {
			t.Fatal(err)
		}
		out := map[netip.Addr]flow.Finding{}
		for _, f := range fs {
			out[f.Tenant] = f
		}
		return out
	}
	if got := tick(ts); len(got) != 0 || w.asked != 0 {
		t.Errorf("before any hour is summed: %+v", got)
	}
	if r, err := s.Rollup(ctx, ts); err != nil || r.Hours != 6 {
		t.Fatalf("%d hours are rolled up: %v", r.Hours, err)
	}
	hours := flow.Range{From: epoch, To: ts}
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) { // until a roll is settled
		end, err := s.LastHour(ctx, hours)
		if err != nil {
			t.Fatal(err)
		}
		if end.Equal(epoch.Add(6 * time.Hour)) {
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("the last hour ends at %v", end)
		}
	}
	if err := d.Ahead(ctx, ts.Add(12*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if w.asked != 1 {
		t.Errorf("asked %d times before the slot", w.asked)
	}
	for i := range 2 {
		got := tick(ts.Add(time.Duration(1+i) * 12 * time.Minute))
		f := got[slow]
		if f.Tier != flow.TierNotify || len(f.Gates) != 0 || f.WindowS != 6*3600 || f.Distinct < 500 || f.Distinct > 540 || !f.From.Equal(epoch) || !f.To.Equal(epoch.Add(6*time.Hour)) {
			t.Errorf("one destination in 40 s: %+v", f)
		}
		// No flow rows are stored here: whom it knows is all that holds it.
		if f := got[fast]; f.Tier != flow.TierNotify || !slices.Equal(f.Gates, []string{GatePeersUnknown}) {
			t.Errorf("0.625 destinations/s: %+v", f)
		}
		if len(got) != 2 {
			t.Errorf("found besides: %+v", got)
		}
	}
	if w.asked != 1 {
		t.Errorf("asked %d times, want once", w.asked)
	}
	if got := tick(ts.Add(29 * time.Minute)); len(got) != 0 {
		t.Errorf("between two slots of the length: %+v", got)
	}
	// When summing is hours behind, what it says is not of now.
	if got := tick(epoch.Add(10*time.Hour + 12*time.Minute)); len(got) != 0 {
		t.Errorf("hours later: %+v", got)
	}
}

// What the hours must show is just what an unsampled scan of this rate shows.
func TestSlowNetscan(t *testing.T) {
	classes := defaultPortClasses()
	cfg, ports := defaultNetscan(), classes.table()
	r := flow.Range{From: epoch, To: epoch.Add(6 * time.Hour)}
	least := minExcessCount(0.02*0.5*r.Seconds(), cfg.NotifyScore)
	for _, c := range []struct {
		name            string
		distinct, calls uint64
		answered        uint64
		port            uint16
		rate            float64
		want            flow.Tier
	}{
		{"just enough", least, least, 0, 22, 1, flow.TierNotify},
		{"one less", least - 1, least - 1, 0, 22, 1, flow.TierNone},
		{"as many, on a web port, which may have ten times as many", least, least, 0, 443, 1, flow.TierNone},
		{"one in five answers", 540, 540, 108, 22, 1, flow.TierNone},
		{"always the same fifty", 50, 5000, 0, 22, 1, flow.TierNone},
		{"1/s at 1:1000", 21, 21, 0, 22, 1000, flow.TierNotify},
		{"0.5/s at 1:1000", 10, 10, 0, 22, 1000, flow.TierNone},
		{"enough to act on", 13_500, 13_500, 0, 22, 1, flow.TierSuspend},
	} {
		s := flow.ServiceStat{Tenant: tenant4, IPProto: flow.ProtoTCP, SvcPort: c.port, Attempts: c.calls, Distinct: c.distinct, Rate: c.rate}
		s.SYNOut, s.SYNACKIn, s.EstOut, s.EstIn = c.calls, c.answered, 2*c.answered, 2*c.answered
		if f, _ := slowNetscan(&cfg, ports, &s, r); f.Tier != c.want {
			t.Errorf("%s: %s, want %s", c.name, f.Tier, c.want)
		}
	}
}

func TestLengthsOfHours(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*Thresholds)
		want string // "" : valid
	}{
		{"six hours of netscan", func(t *Thresholds) { t.Netscan.WindowsS = []int{60, 1800, 21600} }, ""},
		{"one hour", func(t *Thresholds) { t.Netscan.WindowsS = []int{60, 3600} }, ""},
		{"an hour and a half", func(t *Thresholds) { t.Netscan.WindowsS = []int{60, 5400} }, "holds 5400"},
		{"40 minutes", func(t *Thresholds) { t.Netscan.WindowsS = []int{60, 2400} }, "holds 2400"},
		{"seven hours", func(t *Thresholds) { t.Netscan.WindowsS = []int{60, 25200} }, "holds 25200"},
		{"hours alone", func(t *Thresholds) { t.Netscan.WindowsS = []int{3600} }, "no length of 1800"},
		{"an hour of another rule", func(t *Thresholds) { t.UDPSweep.WindowsS = []int{60, 3600} }, "only netscan is judged over hours"},
		{"half an hour of another rule", func(t *Thresholds) { t.UDPSweep.WindowsS = []int{60, 1800} }, ""},
	} {
		cfg := Defaults()
		c.set(&cfg.Thresholds)
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if got := longest(&cfg.Thresholds); got != 30*time.Minute {
			t.Errorf("%s: windows of %v are read", c.name, got)
		}
	}
}
