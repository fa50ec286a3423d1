package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// spread moves a generator's rows over some hours.
func spread(g generator, b *flow.Batch, hours int) *flow.Batch {
	over := func(k *flow.Key) { k.Start = epoch.Unix() + int64(g.IntN(hours*360))*flow.WindowSeconds }
	for i := range b.Hosts {
		over(&b.Hosts[i].Key)
	}
	for i := range b.Services {
		over(&b.Services[i].Key)
	}
	for i := range b.Pairs {
		over(&b.Pairs[i].Key)
	}
	b.Flows = nil
	return b
}

func write(t *testing.T, s *store.Store, b *flow.Batch) {
	t.Helper()
	if err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func rollUp(t *testing.T, s *store.Store, now time.Time, want int) {
	t.Helper()
	r, err := s.Rollup(within(t, 5*time.Minute), now)
	if err != nil {
		t.Fatal(err)
	}
	if r.Hours != want {
		t.Fatalf("%d hours were rolled up, want %d", r.Hours, want)
	}
}

// age lets the rolls that are there count as settled, as if a while had passed.
func age(t *testing.T, cfg store.Config, by time.Duration) {
	t.Helper()
	mustExec(t, cfg, fmt.Sprintf("ALTER TABLE rollup UPDATE written = written - toIntervalSecond(%d) WHERE 1 SETTINGS mutations_sync = 2", int(by.Seconds())))
}

// compareSeries asks at every resolution that fits the step and wants the same.
func compareSeries(t *testing.T, s *store.Store, name string, r flow.Range) (points int) {
	t.Helper()
	for _, step := range []time.Duration{time.Minute, 24 * time.Hour} {
		for _, tenant := range []string{"2001:db8:0:2::"} {
			var first flow.Series
			for i, res := range []flow.Resolution{flow.ResolutionWindow, flow.ResolutionMinute, flow.ResolutionHour} {
				if step%res.Length() != 0 {
					continue
				}
				got, err := s.History(within(t, time.Minute), flow.SeriesQuery{Tenant: netip.MustParseAddr(tenant), Range: r, Step: step, Resolution: res})
				if err != nil {
					t.Fatal(err)
				}
				points += len(got.Points)
				if i == 0 {
					first = got
				} else if d := cmp.Diff(first.Points, got.Points); d != "" {
					t.Errorf("%s: %s by %v from %s and %s: -windows +rollup\n%s", name, tenant, step, flow.ResolutionWindow, res, d)
				}
			}
		}
	}
	for _, by := range []string{"out_bytes"} {
		var first flow.TopList
		for i, res := range []flow.Resolution{flow.ResolutionWindow, flow.ResolutionMinute, flow.ResolutionHour} {
			got, err := s.TopList(within(t, time.Minute), flow.TopQuery{Range: r, By: by, Limit: 5, Resolution: res})
			if err != nil {
				t.Fatal(err)
			}
			points += len(got.Rows)
			if i == 0 {
				first = got
			} else if d := cmp.Diff(first.Rows, got.Rows, equate); d != "" {
				t.Errorf("%s: top by %s from %s: -windows +rollup\n%s", name, by, res, d)
			}
		}
	}
	return points
}

// A host's series and the top lists are the same whichever resolution answers:
// before anything is rolled up, with a part of it, with rows that come late and
// when these are taken in.
func TestSeriesAtEveryResolution(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	g := newGenerator(11)
	write(t, s, spread(g, g.batch(3000), 5))
	all := flow.Range{From: epoch, To: epoch.Add(5 * time.Hour)}
	cases := map[string]flow.Range{
		"aligned": all, "odd ends": {From: epoch.Add(95 * time.Second), To: epoch.Add(4*time.Hour + 25*time.Minute + 7*time.Second)},
		"within an hour":     {From: epoch.Add(65 * time.Minute), To: epoch.Add(80 * time.Minute)},
		"within a minute":    {From: epoch.Add(3630 * time.Second), To: epoch.Add(3650 * time.Second)},
		"more than there is": {From: epoch.Add(-30 * time.Hour), To: epoch.Add(50 * time.Hour)}, "empty": {From: epoch, To: epoch},
	}
	compare := func(when string, names ...string) {
		t.Helper()
		points := 0
		for name, r := range cases {
			if len(names) == 0 || slices.Contains(names, name) {
				points += compareSeries(t, s, when+", "+name, r)
			}
		}
		if points < 50 {
			t.Errorf("%s: only %d points were compared", when, points)
		}
	}
	compare("nothing rolled up", "odd ends")
	rollUp(t, s, epoch.Add(2*time.Hour+9*time.Minute), 1) // the second hour has not settled
	rollUp(t, s, epoch.Add(3*time.Hour+10*time.Minute), 2)
	compare("just rolled up", "odd ends")
	age(t, cfg, time.Minute)
	compare("three hours of five", "odd ends", "more than there is")
	rollUp(t, s, epoch.Add(9*time.Hour), 2)
	rollUp(t, s, epoch.Add(9*time.Hour), 0)
	age(t, cfg, time.Minute)
	if n := count(t, cfg, "SELECT count() FROM host_1h"); n == 0 {
		t.Error("host_1h is empty")
	}
	compare("all")

	// Late: seen from the next pass that may look again.
	late := newGenerator(12)
	write(t, s, spread(late, late.batch(200), 2))
	rollUp(t, s, time.Now(), 0)
	age(t, cfg, time.Hour)
	rollUp(t, s, time.Now(), 2)
	age(t, cfg, time.Minute)
	compare("late rows taken in", "aligned")

	// What is out of force goes, some time later, and nothing else does.
	outOfForce := func() uint64 {
		return count(t, cfg, `SELECT count() FROM (SELECT roll FROM host_1m UNION ALL SELECT roll FROM host_1h UNION ALL SELECT roll FROM service_1h
			UNION ALL SELECT roll FROM pair_1h UNION ALL SELECT roll FROM fleet_1m UNION ALL SELECT roll FROM rollup)
			WHERE roll NOT IN (SELECT max(roll) FROM rollup WHERE done GROUP BY slot)`)
	}
	if outOfForce() == 0 {
		t.Error("what was superseded a minute ago is gone: readers may still need it")
	}
	age(t, cfg, 2*time.Hour)
	rollUp(t, s, time.Now(), 0)
	if n := outOfForce(); n != 0 {
		t.Errorf("%d superseded rows are left", n)
	}
	compare("superseded rolls deleted", "aligned")
}

// A roll that was cut off, by a crash for example, is not there for readers and
// is made again.
func TestRollCutOff(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	g := newGenerator(13)
	write(t, s, spread(g, g.batch(500), 2))
	mustExec(t, cfg, "RENAME TABLE pair_1h TO elsewhere")
	r, err := s.Rollup(within(t, time.Minute), epoch.Add(24*time.Hour))
	if err == nil || r.Hours != 0 || r.Waiting != 2 || !r.Oldest.Equal(epoch) {
		t.Fatalf("got %+v and %v, want an error and two hours waiting since %v", r, err, epoch)
	}
	mustExec(t, cfg, "RENAME TABLE elsewhere TO pair_1h")
	half := count(t, cfg, "SELECT count() FROM host_1h")
	if half == 0 {
		t.Fatal("nothing was written before the error; the test shows nothing")
	}
	age(t, cfg, time.Minute)
	all := flow.Range{From: epoch, To: epoch.Add(2 * time.Hour)}
	compareSeries(t, s, "cut off", all)
	age(t, cfg, 2*time.Hour)
	rollUp(t, s, time.Now(), 2)
	age(t, cfg, time.Minute)
	compareSeries(t, s, "made again", all)
	age(t, cfg, 2*time.Hour)
	rollUp(t, s, time.Now(), 0)
	if n := count(t, cfg, "SELECT count() FROM rollup WHERE NOT done AND roll NOT IN (SELECT roll FROM rollup WHERE done)"); n != 0 {
		t.Errorf("%d rolls that were cut off are left", n)
	}
}

// An insert that is sent again under its token counts once in the rollups, also
// when it comes again after the hour was rolled up.
func TestResendCountsOnceInRollups(t *testing.T) {
	cfg := migrated(t)
	insert := func(token string) {
		t.Helper()
		mustExec(t, cfg, `INSERT INTO host_window (start, tenant, rate, out_packets, out_bytes, out_records)
			SELECT toDateTime(`+fmt.Sprint(epoch.Unix())+`) + 10 * number, toIPv6('::ffff:198.18.0.1'), 100, 5, 700, 1 FROM numbers(360)
			SETTINGS insert_deduplicate = 1, insert_deduplication_token = '`+token+`'`)
	}
	s := idle(t, cfg, store.Deps{})
	insert("a")
	insert("a")
	rollUp(t, s, epoch.Add(24*time.Hour), 1)
	insert("a")
	age(t, cfg, time.Hour)
	rollUp(t, s, time.Now(), 0)
	insert("b") // of other rows that happen to be equal
	rollUp(t, s, time.Now(), 1)
	age(t, cfg, time.Minute)
	got, err := s.History(within(t, time.Minute), flow.SeriesQuery{Tenant: netip.MustParseAddr("198.18.0.1"),
		Range: flow.Range{From: epoch, To: epoch.Add(time.Hour)}, Step: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	want := flow.Series{Range: flow.Range{From: epoch, To: epoch.Add(time.Hour)}, Step: time.Hour, Resolution: flow.ResolutionHour,
		Points: []flow.SeriesPoint{{Time: epoch, EstOutPackets: 2 * 360 * 5 * 100, EstOutBytes: 2 * 360 * 700 * 100, OutRecords: 2 * 360}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// A day is shown by the minute, a month by the hour, and where windows or
// minutes have expired by what is left, with the ends moved to where sums begin.
func TestResolutionChosen(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Hour)
	// 400 days ago, and its windows and minutes are gone.
	old := now.Add(-400 * 24 * time.Hour)
	tenant := netip.MustParseAddr("198.18.0.1")
	b := &flow.Batch{}
	for i := range int64(360) {
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: flow.Key{Start: old.Unix() + 10*i, Tenant: tenant, Rate: 10}, Counts: flow.Counts{OutPackets: 2, OutRecords: 1}})
	}
	write(t, s, b)
	rollUp(t, s, now, 1)
	age(t, cfg, time.Minute)
	mustExec(t, cfg, "TRUNCATE TABLE host_window")
	mustExec(t, cfg, "TRUNCATE TABLE host_1m")
	kept := cfg
	kept.WindowTTL, kept.MinuteTTL, kept.HourTTL, kept.SpoolDir = 0, 0, 0, t.TempDir()
	s = idle(t, kept, store.Deps{})
	for _, tt := range []struct {
		name     string
		from, to time.Time
		step     time.Duration
		want     flow.Series
	}{
		{"an hour", now.Add(-time.Hour), now, 0, flow.Series{Step: 10 * time.Second, Resolution: flow.ResolutionWindow}},
		{"a day", now.Add(-24 * time.Hour), now, 0, flow.Series{Step: time.Minute, Resolution: flow.ResolutionMinute}},
		{"a month", now.Add(-30 * 24 * time.Hour), now, 0, flow.Series{Step: time.Hour, Resolution: flow.ResolutionHour}},
		{"a year", old, now, 0, flow.Series{Step: 24 * time.Hour, Resolution: flow.ResolutionHour,
			Points: []flow.SeriesPoint{{Time: old.Truncate(24 * time.Hour), EstOutPackets: 7200, OutRecords: 360}}}},
		{"an hour of a month ago", now.Add(-30 * 24 * time.Hour), now.Add(-30*24*time.Hour + time.Hour), 0, flow.Series{Step: time.Minute, Resolution: flow.ResolutionMinute}},
		{"ten minutes of long ago", old.Add(25 * time.Minute), old.Add(35 * time.Minute), 0, flow.Series{Range: flow.Range{From: old, To: old.Add(time.Hour)},
			Step: time.Hour, Resolution: flow.ResolutionHour, Points: []flow.SeriesPoint{{Time: old, EstOutPackets: 7200, OutRecords: 360}}}},
		{"a day by the hour", now.Add(-24 * time.Hour), now, time.Hour, flow.Series{Step: time.Hour, Resolution: flow.ResolutionHour}},
		{"a day by 20 s", now.Add(-24 * time.Hour), now, 20 * time.Second, flow.Series{Step: 20 * time.Second, Resolution: flow.ResolutionWindow}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want.Range == (flow.Range{}) {
				tt.want.Range = flow.Range{From: tt.from, To: tt.to}
			}
			got, err := s.History(within(t, time.Minute), flow.SeriesQuery{Tenant: tenant, Range: flow.Range{From: tt.from, To: tt.to}, Step: tt.step})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	for _, q := range []flow.SeriesQuery{{Step: 15 * time.Second}, {Step: time.Minute, Resolution: "2m"}, {Step: time.Minute, Resolution: flow.ResolutionHour}} {
		if _, err := s.History(context.Background(), q); err == nil {
			t.Errorf("step %v at %q: no error", q.Step, q.Resolution)
		}
	}
}

// service_1h against the model: counters, and the union of the sets of
// destinations whatever their levels.
func TestServiceHours(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	tenant := netip.MustParseAddr("198.18.0.1")
	rows := func(port uint16, level uint8, from, to uint64) flow.ServiceWindow {
		w := flow.ServiceWindow{Key: flow.Key{Start: epoch.Unix() + int64(from%360)*10, Tenant: tenant, Rate: 10}, IPProto: 6, Role: flow.RoleClient, SvcPort: port,
			Counts: flow.Counts{OutRecords: to - from, OutPackets: 2 * (to - from), OutBytes: 100 * (to - from)}, Attempts: to - from, RemotesLevel: level}
		for h := from; h < to; h++ {
			if x := h * 0x9e3779b97f4a7c15 >> 7 << 3 >> 3; x%(1<<level) == 0 {
				w.Remotes = append(w.Remotes, x)
			}
		}
		slices.Sort(w.Remotes)
		return w
	}
	// 22: few and complete; 23: 1,000 in two pieces that overlap; 25: thinned and
	// complete rows side by side; 80: twice the same.
	write(t, s, &flow.Batch{Services: []flow.ServiceWindow{
		rows(22, 0, 0, 40), rows(22, 0, 30, 60), rows(23, 0, 0, 600), rows(23, 0, 400, 1000),
		rows(25, 3, 0, 40_000), rows(25, 0, 40_000, 41_000), rows(80, 0, 0, 10), rows(80, 0, 0, 10),
	}})
	rollUp(t, s, epoch.Add(24*time.Hour), 1)
	age(t, cfg, time.Minute)
	if n := count(t, cfg, "SELECT max(length(remotes)) FROM service_1h"); n > 600 {
		t.Errorf("%d destinations are kept of one service", n)
	}
	got, err := s.ServiceHours(within(t, time.Minute), tenant, flow.Range{From: epoch, To: epoch.Add(time.Hour)}, 10)
	if err != nil {
		t.Fatal(err)
	}
	byPort := map[uint16]flow.ServiceHours{}
	for _, h := range got {
		byPort[h.SvcPort] = h
	}
	for port, want := range map[uint16]struct{ attempts, distinct, off uint64 }{
		22: {70, 60, 0}, 23: {1200, 1000, 250}, 25: {41_000, 41_000, 10_250}, 80: {20, 10, 0},
	} {
		h := byPort[port]
		if h.Attempts != want.attempts || h.EstOutPackets != 20*want.attempts || h.EstOutBytes != 1000*want.attempts ||
			h.Distinct+want.off < want.distinct || h.Distinct > want.distinct+want.off {
			t.Errorf("port %d: %+v, want %d attempts and %d destinations, give or take %d", port, h, want.attempts, want.distinct, want.off)
		}
	}
}

func TestPairHours(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	tenant, remote, other := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("203.0.113.10")
	at := func(sec int64, to netip.Addr, ports ...uint16) flow.PairWindow {
		return flow.PairWindow{Key: flow.Key{Start: epoch.Unix() + sec, Tenant: tenant, Rate: 10}, Remote: to, IPProto: 6,
			Counts: flow.Counts{OutPackets: 3, OutBytes: 200, OutRecords: 1}, Classes: flow.Classes{SYNOut: 1}, Ports: ports}
	}
	write(t, s, &flow.Batch{Pairs: []flow.PairWindow{at(100, remote, 22), at(100, remote, 23), at(900, remote, 22), at(900, other, 1), at(4000, remote)}})
	rollUp(t, s, epoch.Add(24*time.Hour), 2)
	age(t, cfg, time.Minute)
	pair := func(start, first, last, n int64, ports ...uint16) flow.PairHour {
		return flow.PairHour{First: time.Unix(epoch.Unix()+first, 0).UTC(), Last: time.Unix(epoch.Unix()+last, 0).UTC(), PairWindow: flow.PairWindow{
			Key: flow.Key{Start: epoch.Unix() + start, Tenant: tenant, Rate: 10}, Remote: remote, IPProto: 6, Ports: ports,
			Counts: flow.Counts{OutPackets: uint64(3 * n), OutBytes: uint64(200 * n), OutRecords: uint64(n)}, Classes: flow.Classes{SYNOut: uint64(n)}}}
	}
	for _, tt := range []struct {
		name     string
		from, to int64
		want     []flow.PairHour
	}{
		{"both hours", 0, 7200, []flow.PairHour{pair(0, 100, 900, 3, 22, 23), pair(3600, 4000, 4000, 1)}},
		{"minutes within what was seen", 500, 560, []flow.PairHour{pair(0, 100, 900, 3, 22, 23)}},
		{"up to the first window", 0, 100, nil},
		{"after the last window", 910, 3600, nil},
		{"of the last window", 909, 910, []flow.PairHour{pair(0, 100, 900, 3, 22, 23)}},
	} {
		got, err := s.PairHours(within(t, time.Minute), tenant, flow.Range{From: time.Unix(epoch.Unix()+tt.from, 0), To: time.Unix(epoch.Unix()+tt.to, 0)}, []netip.Addr{remote})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got, equate); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
}

// What complaints ask of a host and of the fleet is the same when the windows
// have expired and only minutes are left.
func TestActivityOfExpiredWindows(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	g := newGenerator(14)
	b := g.batch(1000)
	shift := time.Now().UTC().Truncate(time.Hour).Add(-30*24*time.Hour).Unix() - epoch.Unix()
	for i := range b.Hosts {
		b.Hosts[i].Start += shift
		b.Services[i].Start += shift
	}
	b.Pairs, b.Flows = nil, nil
	write(t, s, b)
	tenant := netip.MustParseAddr("198.18.0.3")
	from := time.Unix(epoch.Unix()+shift, 0).UTC()
	r := flow.Range{From: from.Add(time.Minute), To: from.Add(4 * time.Minute)}
	ask := func(s *store.Store) (host, fleet []flow.HostWindow) {
		t.Helper()
		host, err := s.HostActivity(within(t, time.Minute), tenant, r, time.Minute)
		if err == nil {
			fleet, err = s.FleetActivity(within(t, time.Minute), r, time.Minute)
		}
		if err != nil {
			t.Fatal(err)
		}
		return host, fleet
	}
	host, fleet := ask(s)
	if len(host) < 6 || len(fleet) < 6 {
		t.Fatalf("%d and %d rows of the windows, want some by minute and rate", len(host), len(fleet))
	}
	rollUp(t, s, time.Now(), 1)
	age(t, cfg, time.Minute)
	mustExec(t, cfg, "TRUNCATE TABLE host_window")
	mustExec(t, cfg, "TRUNCATE TABLE service_window")
	cfg.WindowTTL, cfg.MinuteTTL, cfg.SpoolDir = 0, 0, t.TempDir()
	s = idle(t, cfg, store.Deps{})
	gotHost, gotFleet := ask(s)
	if d := cmp.Diff(host, gotHost, equate); d != "" {
		t.Errorf("host: -windows +minutes\n%s", d)
	}
	if d := cmp.Diff(fleet, gotFleet, equate); d != "" {
		t.Errorf("fleet: -windows +minutes\n%s", d)
	}
	for ago, want := range map[time.Duration]time.Duration{time.Hour: 10 * time.Second, 30 * 24 * time.Hour: time.Minute, 300 * 24 * time.Hour: time.Hour} {
		if got := s.Finest(time.Now().Add(-ago)); got != want {
			t.Errorf("%v ago the finest is %v, want %v", ago, got, want)
		}
	}
}

// The storage policy and the moves to a cold volume are set where they differ.
// The engine has one policy, default, with one volume of that name.
func TestStorage(t *testing.T) {
	cfg := migrated(t)
	cfg.FlowTTL, cfg.WindowTTL = 90*time.Minute, 48*time.Hour
	cfg.Storage = store.Storage{Policy: "default", ColdVolume: "default", ColdAfter: map[store.Level]time.Duration{
		store.LevelFlows: 2 * time.Hour /* after the TTL: never */, store.LevelWindows: 24 * time.Hour, store.LevelHours: 100 * time.Hour}}
	want := map[string]string{
		"flows":       "toDateTime(time) + toIntervalSecond(5400)",
		"host_window": "start + toIntervalSecond(86400) TO VOLUME 'default', start + toIntervalSecond(172800)",
		"host_1m":     "",
		"pair_1h":     "start + toIntervalSecond(360000) TO VOLUME 'default'",
	}
	for range 2 {
		before := count(t, cfg, "SELECT count() FROM system.mutations WHERE database = currentDatabase()")
		if err := idle(t, cfg, store.Deps{}).Migrate(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		for table, w := range want {
			_, engine, _ := strings.Cut(schema(t, cfg)[table], " ENGINE = ")
			_, got, _ := strings.Cut(engine, " TTL ")
			got, _, _ = strings.Cut(got, " SETTINGS ")
			if got != w {
				t.Errorf("%s: TTL %q, want %q", table, got, w)
			}
		}
		if after := count(t, cfg, "SELECT count() FROM system.mutations WHERE database = currentDatabase()"); before > 0 && after != before {
			t.Errorf("what was set already was set again: %d mutations, %d before", after, before)
		}
	}
	cfg.Storage.Policy = "elsewhere"
	if err := idle(t, cfg, store.Deps{}).Migrate(within(t, time.Minute)); err == nil || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("a policy that the server lacks: %v", err)
	}
	for _, st := range []store.Storage{{Policy: "a'b"}, {ColdVolume: "x y"}, {ColdAfter: map[store.Level]time.Duration{store.LevelFlows: time.Hour}},
		{ColdVolume: "c", ColdAfter: map[store.Level]time.Duration{"days": time.Hour}}, {ColdVolume: "c", ColdAfter: map[store.Level]time.Duration{store.LevelFlows: 1}}} {
		bad := cfg
		bad.Storage = st
		if _, err := store.New(bad, store.Deps{}); err == nil {
			t.Errorf("%+v was taken", st)
		}
	}
}
