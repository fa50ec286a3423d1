package complaint_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// exec runs statements on a store's database.
func exec(t *testing.T, cfg store.Config, statements ...string) {
	t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{"engine"}, DialContext: cfg.DialContext,
		Auth: clickhouse.Auth{Database: cfg.Database, Username: cfg.User, Password: cfg.Password}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, s := range statements {
		if err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// past is an hour of long ago, and what a host did in it.
type past struct {
	hour time.Time
	rate uint32
}

// sampledOut is an address that a set of level 3 cannot name.
func sampledOut() netip.Addr {
	for a := netip.MustParseAddr("203.0.113.100"); ; a = a.Next() {
		if flow.RemoteHash(a)&7 != 0 {
			return a
		}
	}
}

// batch: the host tried 203.0.113.9 on tcp/22 and had web traffic; 203.0.113.20
// was a pair that is stored, from the 5th to the 25th minute; of tcp/80 only a
// sample of the destinations is known. Two hours later the fleet is there alone.
func (p past) batch(b *flow.Batch) {
	at := func(d time.Duration) flow.Key { return key(tidy, p.hour.Add(d), p.rate) }
	counts := func(n uint64) flow.Counts { return flow.Counts{OutRecords: n, OutPackets: 2 * n, OutBytes: 100 * n} }
	for _, s := range []flow.ServiceWindow{
		{Key: at(10 * time.Minute), SvcPort: 22, Counts: counts(3), Attempts: 3, Remotes: []uint64{flow.RemoteHash(netip.MustParseAddr("203.0.113.9"))}},
		{Key: at(10 * time.Minute), SvcPort: 443, Counts: counts(50)},
		{Key: at(5 * time.Minute), SvcPort: 23, Counts: counts(4)},
		{Key: at(25 * time.Minute), SvcPort: 23, Counts: counts(4)},
		{Key: at(12 * time.Minute), SvcPort: 80, Counts: counts(4), Attempts: 4000, RemotesLevel: 3},
	} {
		s.IPProto, s.Role = flow.ProtoTCP, flow.RoleClient
		b.Services = append(b.Services, s)
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: s.Key, Counts: s.Counts})
	}
	for _, d := range []time.Duration{5 * time.Minute, 25 * time.Minute} {
		b.Pairs = append(b.Pairs, flow.PairWindow{Key: at(d), Remote: netip.MustParseAddr("203.0.113.20"), IPProto: flow.ProtoTCP, Counts: counts(4), Ports: []uint16{23}})
	}
	other := netip.MustParseAddr("198.18.0.99")
	for _, d := range []time.Duration{10 * time.Minute, 2*time.Hour + 10*time.Minute} {
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: key(other, p.hour.Add(d), p.rate), Counts: counts(9)})
		b.Services = append(b.Services, flow.ServiceWindow{Key: key(other, p.hour.Add(d), p.rate), IPProto: 6, Role: flow.RoleClient, SvcPort: 443, Counts: counts(9)})
	}
}

// oldStore is a store with hours of long ago, of which only what its retention
// leaves is there: sums by the hour.
func oldStore(t *testing.T, hours ...past) *store.Store {
	t.Helper()
	cfg := storetest.Config(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	st, stop := storetest.Start(t, cfg, store.Deps{})
	b := &flow.Batch{}
	for _, p := range hours {
		p.batch(b)
	}
	if err := st.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := st.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := st.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if r, err := st.Rollup(ctx, time.Now()); err != nil || r.Hours == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	exec(t, cfg, "ALTER TABLE rollup UPDATE written = written - toIntervalSecond(60) WHERE 1 SETTINGS mutations_sync = 2",
		"TRUNCATE TABLE flows", "TRUNCATE TABLE host_window", "TRUNCATE TABLE service_window", "TRUNCATE TABLE pair_window", "TRUNCATE TABLE host_1m")
	cfg.FlowTTL, cfg.WindowTTL, cfg.MinuteTTL, cfg.HourTTL = 0, 0, 0, 0 // as installed
	st, _ = storetest.Start(t, cfg, store.Deps{})
	if err := st.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return st
}

func oldMatcher(t *testing.T, st complaint.Store, changed time.Time) *complaint.Matcher {
	t.Helper()
	inv, err := inventory.Parse("holders.yaml", strings.NewReader(fmt.Sprintf(`
- {ip: 198.18.0.7, tenant: c-then, vds: vds-then, to: %[1]s}
- {ip: 198.18.0.7, tenant: c-now, vds: vds-now, from: %[1]s}
- {ip: 198.18.0.8, tenant: c-ever, vds: vds-ever}
`, changed.UTC().Format(time.RFC3339))))
	if err != nil {
		t.Fatal(err)
	}
	m, err := complaint.New(complaint.Config{}, complaint.Deps{Store: st, Inventory: inv, TenantKey: tenantKey})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Of 7 and of 20 months ago only sums by the hour are left: what they show is
// confirmed and said to be of that resolution, what they do not show is said with
// the chance that they would, and a service that the host did not use at all is a
// contradiction where every packet was counted. The holder is the one of then.
func TestComplaintsOfLongAgo(t *testing.T) {
	now := time.Now().UTC()
	ago := func(months int) time.Time { return now.AddDate(0, -months, 0).Truncate(time.Hour) }
	ages := map[string]past{"7 months, every packet": {ago(7), 1}, "20 months, one packet in 1000": {ago(20), 1000}}
	st := oldStore(t, ages["7 months, every packet"], ages["20 months, one packet in 1000"])
	m := oldMatcher(t, st, now.AddDate(0, -3, 0))
	thin := sampledOut().String()
	for name, p := range ages {
		for _, tt := range []struct {
			name    string
			at      time.Duration
			line    string
			verdict complaint.Verdict
			why     complaint.Why
			res     complaint.Resolution
			chance  float64 // of every packet; of one in 1000 a thousandth
			text    string
		}{
			{"tried", 12 * time.Minute, "198.18.0.7:40000 -> 203.0.113.9:22 tcp", complaint.Confirmed, complaint.WhyTried, complaint.ResolutionHour, 1, "our sums by the hour show that the host tried this address on this service, " + p.hour.Format("2006-01-02 15:00:00") + " – " + p.hour.Add(time.Hour).Format("2006-01-02 15:00:00")},
			{"a pair", 15 * time.Minute, "198.18.0.7:40000 -> 203.0.113.20:23 tcp", complaint.Confirmed, complaint.WhyPair, complaint.ResolutionHour, 1, "show traffic between the two addresses, " + p.hour.Add(5*time.Minute).Format(time.DateTime)},
			{"after the pair", 50 * time.Minute, "198.18.0.7:40000 -> 203.0.113.20:23 tcp", complaint.NotVisible, complaint.WhyCoarse, complaint.ResolutionHour, 1, "name whom the host tried"},
			{"another target", 12 * time.Minute, "198.18.0.7:40000 -> 203.0.113.77:22 tcp", complaint.NotVisible, complaint.WhyCoarse, complaint.ResolutionHour, 1, "seen at 1:"},
			{"not in the sample of targets", 12 * time.Minute, "198.18.0.7:40000 -> " + thin + ":80 tcp", complaint.NotVisible, complaint.WhyCoarse, complaint.ResolutionHour, 0, "a sample of the destinations"},
			{"a service without a target", 12 * time.Minute, "host sshd[1]: Failed password for root from 198.18.0.7 port 40000 ssh2", complaint.Confirmed, complaint.WhyService, complaint.ResolutionHour, 1, "as a client of such a service between"},
			{"silent, while others were not", 2*time.Hour + 12*time.Minute, "198.18.0.7:40000 -> 203.0.113.9:22 tcp", complaint.NotVisible, complaint.WhySilent, complaint.ResolutionHour, 1, "no traffic of this host"},
			{"nothing collected", 30 * time.Hour, "198.18.0.7:40000 -> 203.0.113.9:22 tcp", complaint.NoData, complaint.WhyNone, "", 0, "no flow data is stored"},
		} {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				l := askOne(t, m, now, p.hour.Add(tt.at), tt.line)
				tr := l.Traffic
				chance := tt.chance
				if p.rate > 1 {
					chance /= float64(p.rate)
				}
				if tr.Verdict != tt.verdict || tr.Why != tt.why || tr.Resolution != tt.res || !strings.Contains(l.Text, tt.text) || !strings.ContainsAny(l.TextRU, "абвгдежз") {
					t.Errorf("%s/%s at %q, want %s/%s at %q: %s | %s", tr.Verdict, tr.Why, tr.Resolution, tt.verdict, tt.why, tt.res, l.Text, l.TextRU)
				}
				if tt.verdict == complaint.NotVisible && (tr.Chance < chance*0.99 || tr.Chance > chance*1.01) {
					t.Errorf("chance %v, want %v: %s", tr.Chance, chance, l.Text)
				}
			})
		}
		// Nothing to tcp/3389 at all, in sums that account for every record.
		want := complaint.Contradicted
		if p.rate > 1 {
			want = complaint.NotVisible
		}
		l := askOne(t, m, now, p.hour.Add(12*time.Minute), "198.18.0.7:40000 -> 203.0.113.9:3389 tcp")
		if l.Verdict != want || l.Traffic.Resolution != complaint.ResolutionHour {
			t.Errorf("%s: %s/%s at %s, want %s: %s", name, l.Verdict, l.Traffic.Why, l.Traffic.Resolution, want, l.Text)
		}
	}
}

// askOne matches a line that stands behind its time.
func askOne(t *testing.T, m *complaint.Matcher, received, at time.Time, line string) complaint.Line {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	res, err := m.Match(ctx, complaint.Request{Data: []byte(at.Format(time.RFC3339) + " " + line), Received: received})
	if err != nil || len(res.Lines) != 1 {
		t.Fatalf("%v: %+v", err, res)
	}
	l := res.Lines[0]
	if c := res.Cases; len(c) == 1 && l.Host == tidy && (c[0].Holder == nil || c[0].Holder.Tenant != "c-then") {
		t.Errorf("the holder of then is %+v", c[0].Holder)
	}
	if coarse := strings.Contains(res.Draft.EN, "compared with sums") && strings.Contains(res.Draft.RU, "сверены с суммами"); coarse != (l.Traffic.Resolution == complaint.ResolutionHour) {
		t.Errorf("the draft does not say what was compared:\n%s\n%s", res.Draft.EN, res.Draft.RU)
	}
	return l
}

// Sums that lost rows contradict nothing, nor does a line whose zone is a guess;
// whose address has no date in the inventory is told of.
func TestOldDoubts(t *testing.T) {
	now := time.Now().UTC()
	hour := now.AddDate(0, -7, 0).Truncate(time.Hour)
	const line = "198.18.0.7:40000 -> 203.0.113.9:3389 tcp"
	st := oldStore(t, past{hour, 1})
	m := oldMatcher(t, st, now.AddDate(0, -3, 0))
	if l := askOne(t, m, now, hour.Add(12*time.Minute), line); l.Verdict != complaint.Contradicted {
		t.Fatalf("%s: %s", l.Verdict, l.Text)
	}
	res, err := m.Match(t.Context(), complaint.Request{Data: []byte(hour.Add(12*time.Minute).Format("2006-01-02 15:04:05") + " " + line), Received: now})
	if err != nil || res.Lines[0].Verdict != complaint.NotVisible || res.Lines[0].Traffic.Why != complaint.WhyZone {
		t.Errorf("without a zone: %+v, %v", res.Lines[0].Traffic, err)
	}
	m = oldMatcher(t, lossy{st}, now.AddDate(0, -3, 0))
	if l := askOne(t, m, now, hour.Add(12*time.Minute), line); l.Verdict != complaint.NotVisible || l.Traffic.Why != complaint.WhyCoarse {
		t.Errorf("of sums that are not whole: %s/%s", l.Verdict, l.Traffic.Why)
	}
	res, err = m.Match(t.Context(), complaint.Request{Data: []byte(hour.Format(time.RFC3339) + " 198.18.0.8:1 -> 203.0.113.9:22 tcp"), Received: now})
	if err != nil || len(res.Lines[0].Notes) != 1 || res.Lines[0].Notes[0].Code != "holder_undated" {
		t.Errorf("%+v, %v", res.Lines[0].Notes, err)
	}
}

// lossy is a store that lost a part of its services.
type lossy struct{ *store.Store }

func (l lossy) ServicesWith(ctx context.Context, tenant netip.Addr, r flow.Range, res flow.Resolution, remotes []netip.Addr) (flow.ServiceSums, error) {
	s, err := l.Store.ServicesWith(ctx, tenant, r, res, remotes)
	s.Whole = false
	return s, err
}

// TestOldSkew: a reporter whose zone is wrong by three hours, seven months ago: the
// sums by the hour tell it, and say that they tell whole hours only.
func TestOldSkew(t *testing.T) {
	now := time.Now().UTC()
	day := now.AddDate(0, -7, 0).Truncate(24 * time.Hour)
	var hours []past
	var written strings.Builder
	for _, h := range []int{0, 5, 11, 26, 35, 47, 60} {
		hours = append(hours, past{day.Add(time.Duration(h) * time.Hour), 1})
		fmt.Fprintf(&written, "%s 198.18.0.7:40000 -> 203.0.113.9:22 tcp\n", day.Add(time.Duration(h)*time.Hour+12*time.Minute-3*time.Hour).Format(time.RFC3339))
	}
	m := oldMatcher(t, oldStore(t, hours...), now.AddDate(0, -3, 0))
	match := func(text string) *complaint.Result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		res, err := m.Match(ctx, complaint.Request{Data: []byte(text), Received: now})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	res := match(written.String())
	s := res.Skew
	if s == nil || s.Name != "+03:00" || !s.Significant || s.Explained != 7 || s.Of != 7 || s.AtZero != 0 || s.Resolution != complaint.ResolutionHour ||
		!strings.Contains(s.Text, "only whole hours can be told") || !strings.Contains(s.TextRU, "только целые часы") {
		t.Fatalf("%+v", s)
	}
	for _, l := range res.Lines {
		if l.Verdict != complaint.Shifted || l.Traffic.Why != complaint.WhyOffset || l.Traffic.Resolution != complaint.ResolutionHour || !strings.Contains(l.Text, "with the offset of the clock named above: Single flows of that time are no longer stored") {
			t.Errorf("%s/%s at %s: %s", l.Verdict, l.Traffic.Why, l.Traffic.Resolution, l.Text)
		}
	}
	if !strings.Contains(res.Draft.EN, "only whole hours can be told") {
		t.Errorf("the draft does not say it:\n%s", res.Draft.EN)
	}
	// The same with the right zone is confirmed, and no clock is blamed; nor is it
	// for what the host did not do at all, or for one line.
	right := strings.ReplaceAll(written.String(), "Z ", "-03:00 ")
	if res := match(right); res.Skew != nil || res.Counts[complaint.Confirmed] != 7 {
		t.Errorf("%+v, %v", res.Skew, res.Counts)
	}
	if res := match(strings.ReplaceAll(written.String(), "203.0.113.9:22", "203.0.113.77:22")); res.Skew != nil {
		t.Errorf("%+v", res.Skew)
	}
	if res := match(strings.SplitAfterN(written.String(), "\n", 2)[0]); res.Skew != nil {
		t.Errorf("%+v", res.Skew)
	}
}
