package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestDisk(t *testing.T) {
	cfg := storetest.Config(t)
	cfg.FlowTTL, cfg.HourTTL = 0, 0
	now := time.Now().UTC().Truncate(10 * time.Second)
	reg := prometheus.NewRegistry()
	s, _ := storetest.Start(t, cfg, store.Deps{Registerer: reg})
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := &flow.Batch{}
	for i := range int64(3000) { // 50 hours, to now
		b.Hosts = append(b.Hosts, flow.HostWindow{Key: flow.Key{Start: now.Unix() - 60*i, Tenant: netip.MustParseAddr("198.18.0.1"), Rate: 1}, Counts: flow.Counts{OutBytes: uint64(i)}})
	}
	write(t, s, b)
	r, err := s.Disk(within(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, d := range r.Tables {
		if d.Table != "host_window" {
			continue
		}
		found = true
		if d.Rows != 3000 || d.Bytes == 0 || d.Raw < d.Bytes || d.Level != store.LevelWindows || d.TTL != -1 ||
			!d.Newest.Equal(now) || !d.Oldest.Equal(now.Add(-2999*time.Minute)) {
			t.Errorf("%+v", d)
		}
		// The newest partitions that cover a day: not the last one, whatever the hour.
		if whole := float64(d.Bytes) * 24 / 50; d.PerDay < whole/3 || d.PerDay > 3*whole {
			t.Errorf("%.0f bytes a day, of %d in 50 hours", d.PerDay, d.Bytes)
		}
	}
	if !found {
		t.Errorf("host_window is not among %+v", r.Tables)
	}
	if len(r.Disks) == 0 || r.Disks[0].Total < r.Disks[0].Free || r.Disks[0].Free == 0 {
		t.Errorf("disks: %+v", r.Disks)
	}
}

func TestStatus(t *testing.T) {
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	mustExec(t, storeWithout(cfg), "CREATE DATABASE "+cfg.Database)
	st, err := s.Status(within(t, time.Minute))
	if err != nil || len(st.Missing) == 0 || st.Missing[0] != "0001_host_window" || st.Version == "" {
		t.Fatalf("an empty database: %+v, %v", st, err)
	}
	if err := s.Migrate(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	st, err = s.Status(within(t, time.Minute))
	if err != nil || len(st.Missing)+len(st.Foreign) > 0 || st.Behind != 0 || st.Skew.Abs() > 10*time.Second {
		t.Errorf("a migrated database: %+v, %v", st, err)
	}
	mustExec(t, cfg, "INSERT INTO migration (version, name, sha256) VALUES (999, 'future', 'x')")
	write(t, s, &flow.Batch{Hosts: []flow.HostWindow{{Key: flow.Key{Start: epoch.Unix(), Tenant: netip.MustParseAddr("198.18.0.1"), Rate: 1}}}})
	st, err = s.Status(within(t, time.Minute))
	if err != nil || len(st.Foreign) != 1 || st.Foreign[0] != "0999" || st.Behind < time.Hour {
		t.Errorf("a newer database, with an hour that is not rolled up: %+v, %v", st, err)
	}
	rollUp(t, s, time.Now(), 1)
	if st, err = s.Status(within(t, time.Minute)); err != nil || st.Behind != 0 {
		t.Errorf("rolled up: %+v, %v", st, err)
	}
}

// storeWithout connects to no database of its own.
func storeWithout(cfg store.Config) store.Config {
	cfg.Database = ""
	return cfg
}
