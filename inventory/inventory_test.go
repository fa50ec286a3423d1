package inventory

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
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
				h, ok := inv.Holder(netip.MustParseAddr("198.18.0.2"), time.Now().Add(time.Hour)) // after any reload: the entry changes hands
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

// The address changed hands while abuse of the old holder is still in the
// windows: it must not become the new holder's.
func TestReloadDoesNotRewriteThePast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	clock := at("2026-03-01T00:00:00Z")
	inv := New(Config{Path: path}, Deps{Now: func() time.Time { return clock }})
	load := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := inv.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(ip string, at time.Time, want string) {
		t.Helper()
		if h, _ := inv.Holder(netip.MustParseAddr(ip), at); h.Tenant != want {
			t.Errorf("%s at %s is held by %q, want %q", ip, at.Format(time.TimeOnly), h.Tenant, want)
		}
	}
	start := clock
	load("- {ip: 198.18.0.7, tenant: a}\n- {prefix: 198.18.1.0/24, tenant: a}\n- {ip: 198.18.0.8, tenant: a}\n")
	expect("198.18.0.7", start.Add(-time.Hour), "a") // the first file says all there is to know

	clock = clock.Add(time.Hour)
	moved := clock
	next := "- {ip: 198.18.0.7, tenant: b}\n- {prefix: 198.18.1.0/24, tenant: a}\n- {ip: 198.18.1.9, tenant: b}\n" +
		"- {ip: 198.18.0.8, tenant: b, from: 2026-03-01T00:30:00Z}\n- {ip: 198.18.0.9, tenant: b}\n"
	for range 2 { // a second reload of the same file does not forget
		load(next)
		expect("198.18.0.7", moved, "b")
		expect("198.18.0.7", moved.Add(-time.Second), "")
		expect("198.18.1.9", moved.Add(-time.Second), "a") // out of the prefix that a still has
		expect("198.18.1.8", start, "a")
		expect("198.18.0.8", moved.Add(-time.Second), "b") // the file knows better
		expect("198.18.0.9", start, "b")                   // nobody's before
		clock = clock.Add(10 * time.Minute)
	}
}

// TestServers counts each VDS once, however many addresses it has.
func TestServers(t *testing.T) {
	tab, err := Parse("x.csv", strings.NewReader("prefix,tenant,vds,hypervisor\n11.0.0.1,a,v1,n1\n11.0.0.2,a,v1,n1\n2608::/64,a,v1,n1\n11.0.0.3,b,v1,n2\n11.0.1.0/24,c,,\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := tab.Servers(); n != 2 || tab.Len() != 5 {
		t.Errorf("%d servers of %d entries, want 2 of 5", n, tab.Len())
	}
}
