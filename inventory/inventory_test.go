package inventory

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestReloadKeepsTheOldOnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clock := at("2026-03-01T00:00:00Z")
	reg := prometheus.NewRegistry()
	inv := New(Config{Path: path}, Deps{Registerer: reg, Now: func() time.Time { return clock }})
	ip := netip.MustParseAddr("198.18.0.7")
	if _, ok := inv.Holder(ip, clock); ok || !inv.LoadedAt().IsZero() {
		t.Fatal("a new inventory knows something")
	}
	if err := inv.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Reload without a file: %v", err)
	}
	expect := func(success, entries float64, tenant string, loaded time.Time) {
		t.Helper()
		if got := gauge(t, reg, "flowcordon_inventory_last_reload_success"); got != success {
			t.Errorf("last_reload_success = %v, want %v", got, success)
		}
		if got := gauge(t, reg, "flowcordon_inventory_entries"); got != entries {
			t.Errorf("entries = %v, want %v", got, entries)
		}
		if h, _ := inv.Holder(ip, clock); h.Tenant != tenant {
			t.Errorf("tenant = %q, want %q", h.Tenant, tenant)
		}
		if !inv.LoadedAt().Equal(loaded) {
			t.Errorf("LoadedAt = %v, want %v", inv.LoadedAt(), loaded)
		}
	}
	write("- {ip: 198.18.0.7, tenant: a}\n- {ip: 198.18.0.8, tenant: b}\n")
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	first := clock
	expect(1, 2, "a", first)

	clock = clock.Add(time.Hour)
	for _, broken := range []string{"- {ip: 198.18.0.7}\n", "", "- {"} {
		write(broken)
		var is Issues
		if err := inv.Reload(); !errors.As(err, &is) {
			t.Fatalf("Reload of %q: %v", broken, err)
		}
		expect(0, 2, "a", first)
	}
	write("- {ip: 198.18.0.7, tenant: c}\n")
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	expect(1, 1, "c", clock)
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestWithoutFile(t *testing.T) {
	inv := New(Config{}, Deps{})
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, ok := inv.Holder(netip.MustParseAddr("198.18.0.7"), time.Now()); ok || inv.Len() != 0 || inv.Warnings() != nil {
		t.Error("an inventory without a file knows something")
	}
}

// Readers see the old file or the new one, never a mixture.
func TestReloadWhileReading(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.csv")
	inv := New(Config{Path: path}, Deps{})
	file := func(tenant string) {
		t.Helper()
		text := "ip,tenant\n198.18.0.1," + tenant + "\n198.18.0.2," + tenant + "\n"
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		if err := inv.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	file("a")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, ok := inv.Holder(netip.MustParseAddr("198.18.0.2"), time.Now())
				if !ok || (h.Tenant != "a" && h.Tenant != "b") {
					t.Errorf("Holder = %q, %v", h.Tenant, ok)
					return
				}
			}
		})
	}
	for range 20 {
		file("b")
		file("a")
	}
	close(stop)
	wg.Wait()
}
