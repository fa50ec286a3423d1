package inventory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory/discover"
)

// TestVersion: whenever what the inventory tells is another, so is the version; and
// while nothing happens it stays.
func TestVersion(t *testing.T) {
	clock := at("2026-03-01T00:00:00Z")
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var broken error
	source := listerFunc(func(context.Context) ([]discover.Entry, error) {
		return []discover.Entry{{Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.1.1/32")}, VDS: "vm9", Tenant: "z", Hypervisor: "n", MAC: "02:00:00:00:00:09", Source: "s"}}, broken
	})
	inv := New(Config{Path: path, Sources: []SourceConfig{{Name: "s", Lister: source, Every: time.Minute, MaxAge: 10 * time.Minute}}},
		Deps{Now: func() time.Time { return clock }})
	told := func() string {
		now := slices.Collect(inv.At(clock))
		var all []flow.Holder
		inv.Each(func(h flow.Holder) bool { all = append(all, h); return true })
		held := 0
		for _, h := range all {
			if !clock.Before(h.From) && (h.To.IsZero() || clock.Before(h.To)) {
				held++
			}
		}
		return fmt.Sprintf("%d %d %+v", len(now), held, all)
	}
	was, text := inv.Version(clock), told()
	changes := 0
	look := func(name string, changed bool) {
		t.Helper()
		v, now := inv.Version(clock), told()
		if changed != (now != text) {
			t.Errorf("%s: told another thing: %v", name, now != text)
		}
		if now != text && v == was {
			t.Errorf("%s: another answer under the same version", name)
		}
		if v != was {
			changes++
		}
		was, text = v, now
	}
	write("- {ip: 198.18.0.7, tenant: a, to: 2026-03-01T01:00:00Z}\n- {ip: 198.18.0.7, tenant: b, from: 2026-03-01T02:00:00Z}\n")
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	look("a file", true)
	if err := inv.ReadSource(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	look("a source", true)
	look("nothing", false)
	clock = clock.Add(10 * time.Minute)
	look("just before the source is stale", false)
	changes = 0
	look("nothing", false)
	if changes != 0 {
		t.Error("the version changes by itself")
	}
	clock = clock.Add(1)
	look("the source is stale", true)
	broken = errors.New("away")
	_ = inv.ReadSource(t.Context(), "s") // it fails
	look("and stays so", false)
	clock = at("2026-03-01T01:00:00Z").Add(-1)
	look("just before a's end", false)
	clock = clock.Add(1)
	look("a's end", true)
	clock = at("2026-03-01T02:00:00Z").Add(-1)
	look("just before b's beginning", false)
	clock = clock.Add(1)
	look("b's beginning", true)
	write("- {ip: 198.18.0.7, tenant: c}\n")
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	look("another file", true)
}

type listerFunc func(context.Context) ([]discover.Entry, error)

func (f listerFunc) Discover(ctx context.Context) ([]discover.Entry, error) { return f(ctx) }
