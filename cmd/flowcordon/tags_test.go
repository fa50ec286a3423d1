package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/inventory"
)

// TestTagsOf: rules see the tags of who holds the address at that moment.
func TestTagsOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	file := `- {ip: 198.18.0.9, tenant: c-1, vds: v-1, tags: [mail, vip], to: 2026-06-01}
- {ip: 198.18.0.9, tenant: c-2, vds: v-2, from: 2026-06-01}
`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	inv := inventory.New(inventory.Config{Path: path}, inventory.Deps{})
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	tags := tagsOf(inv, func() time.Time { return now })
	if got := tags(netip.MustParseAddr("198.18.0.9")); !slices.Equal(got, []string{"mail", "vip"}) {
		t.Errorf("in May: %v", got)
	}
	if got := tags(netip.MustParseAddr("198.18.0.10")); got != nil {
		t.Errorf("of nobody: %v", got)
	}
	now = now.AddDate(0, 2, 0)
	if got := tags(netip.MustParseAddr("198.18.0.9")); got != nil {
		t.Errorf("of the next holder: %v", got)
	}
}
