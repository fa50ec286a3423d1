package exempt

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadAS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "as")
	text := "# made for the test\n\n203.0.113.0/24 64500\n203.0.113.128/25\tAS64501\n2001:db8::/32,64502\n198.51.100.0\t24\t64503_64504\n192.0.2.1/24 4294967295\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	of, err := LoadAS(path)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]uint32{"203.0.113.1": 64500, "203.0.113.200": 64501, "2001:db8::1": 64502, "198.51.100.9": 64503, "::ffff:203.0.113.1": 64500, "192.0.2.200": 4294967295, "8.8.8.8": 0} {
		if as, ok := of(netip.MustParseAddr(addr)); as != want || ok != (want != 0) {
			t.Errorf("%s: %d %v, want %d", addr, as, ok, want)
		}
	}
	for name, bad := range map[string]string{"no AS": "203.0.113.0/24", "no prefix": "x 1", "too large": "203.0.113.0/24 4294967296", "negative": "203.0.113.0/24 -1", "empty": "# nothing\n", "long length": "203.0.113.0 33 1", "an endless line": strings.Repeat("x", 1<<20)} {
		if _, err := readAS(strings.NewReader(bad)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if _, err := LoadAS(path + "-none"); err == nil {
		t.Error("a file that is not there")
	}
}

func FuzzAS(f *testing.F) {
	f.Add("203.0.113.0/24 64500\n198.51.100.0\t24\t64503_64504\n")
	f.Fuzz(func(t *testing.T, text string) {
		if of, err := readAS(strings.NewReader(text)); err == nil {
			of(netip.MustParseAddr("203.0.113.1"))
		}
	})
}
