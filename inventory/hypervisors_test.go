package inventory

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestHypervisorsAndFiner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "i.yaml")
	text := `- {prefix: 198.51.100.7/32, tenant: a, vds: v1, hypervisor: node2, macs: ["52:54:00:00:00:01"]}
- {prefix: 198.51.100.8/32, tenant: b, vds: v2, hypervisor: node1, macs: ["52:54:00:00:00:02"]}
- {prefix: "2001:db8:1::/64", tenant: a, vds: v1, hypervisor: node2, macs: ["52:54:00:00:00:01"]}
- {prefix: "2001:db8:2::5/128", tenant: b, vds: v2, hypervisor: node1, macs: ["52:54:00:00:00:02"]}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	i := New(Config{Path: path}, Deps{})
	if err := i.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := i.Hypervisors(); !slices.Equal(got, []string{"node1", "node2"}) {
		t.Errorf("hypervisors %v", got)
	}
	if got := i.Finer(64); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("2001:db8:2::5/128")}) {
		t.Errorf("longer than /64: %v", got)
	}
	if got := i.Finer(128); len(got) != 0 {
		t.Errorf("longer than /128: %v", got)
	}
}
