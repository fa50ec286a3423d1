package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const good = `
listen:
  - {protocol: netflow, address: "0.0.0.0:2055"}
exporters:
  allow: [192.0.2.0/24, 2001:db8::1]
  sampling:
    - {exporter: 192.0.2.1, default: 1000}
networks:
  internal: [198.18.0.0/15, "2001:db8::/32"]
data_dir: /tmp/x
`

func TestParseGood(t *testing.T) {
	c, err := Parse("f.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Exporters.Allow[1].String(); got != "2001:db8::1/128" {
		t.Errorf("a bare address became %s", got)
	}
	if c.Detect.Interval != 5*time.Second || c.Networks.IPv6TenantPrefix != 64 || c.Respond.MaxPerHour != 10 {
		t.Errorf("defaults: %v %v %v", c.Detect.Interval, c.Networks.IPv6TenantPrefix, c.Respond.MaxPerHour)
	}
}

// Every problem of a file is reported at once, with its line and what to write.
func TestParseAllProblemsAtOnce(t *testing.T) {
	text := `listen:
  - {protocol: netfow, address: "0.0.0.0"}
exporters:
  alow: [192.0.2.0/24]
  sampling:
    - {exporter: 192.0.2.1}
networks:
  internal: [0.0.0.0/0, nonsense]
detect: {interval: 5}
respond:
  suspenders:
    - {name: p, type: webhook, url: "panel"}
    - {name: p, type: libvirt}
`
	_, err := Parse("f.yaml", []byte(text))
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`f.yaml:2: listen[0].protocol: "netfow" is none of ["netflow" "sflow"]`,
		`f.yaml:2: listen[0].address: "0.0.0.0" is no host:port; write for example`,
		`f.yaml:4: exporters.alow: unknown key; did you mean "allow"?`,
		`exporters.allow: is empty, so every datagram would be refused`,
		`f.yaml:6: exporters.sampling[0]: has neither default nor override`,
		`f.yaml:8: networks.internal[0]: 0.0.0.0/0 is the whole Internet`,
		`f.yaml:8: networks.internal[1]: "nonsense" is no prefix; write for example`,
		`f.yaml:9: detect.interval: "5" is no duration; write for example 5s`,
		`f.yaml:12: respond.suspenders[0].url: "panel" is no URL`,
		`f.yaml:12: respond.suspenders[0].secret_file: is missing`,
		`f.yaml:13: respond.suspenders[1].name: "p" is used twice`,
		`f.yaml:13: respond.suspenders[1]: needs either socket:`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in\n%v", want, err)
		}
	}
}

func TestParseBadShapes(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no yaml":        {"listen: [", "no YAML"},
		"scalar as list": {"exporters: {allow: 192.0.2.1}", `expected a list, found "192.0.2.1"; write it as [192.0.2.1]`},
		"list as map":    {"exporters: [a]", "expected keys and values, found a list"},
		"twice":          {"data_dir: a\ndata_dir: b\n", "is written twice, first in line 1"},
		"range":          {"exporters: {sampling: [{exporter: 192.0.2.1, default: -1}]}", `"-1" is no whole number in its range`},
		"token":          {"api: {tokens: [{name: a, role: root, token_sha256: zz}]}", `"root" is none of`},
		"secret missing": {"clickhouse: {password_file: /nonexistent/x}", "no such file or directory; write the secret into that file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	t.Setenv("FLOWCORDON_HTTP_ADDRESS", "127.0.0.1:9999")
	t.Setenv("FLOWCORDON_NETWORKS_INTERNAL", "203.0.113.0/24, 2001:db8:1::/48")
	t.Setenv("FLOWCORDON_RESPOND_MAX_PER_HOUR", "3")
	c, err := Parse("f.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Address != "127.0.0.1:9999" || len(c.Networks.Internal) != 2 || c.Respond.MaxPerHour != 3 {
		t.Errorf("got %v %v %v", c.HTTP.Address, c.Networks.Internal, c.Respond.MaxPerHour)
	}
	t.Setenv("FLOWCORDON_RESPOND_MAX_PER_HOUR", "many")
	if _, err := Parse("f.yaml", []byte(good)); err == nil || !strings.Contains(err.Error(), "environment variable FLOWCORDON_RESPOND_MAX_PER_HOUR") {
		t.Errorf("got %v", err)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	f := filepath.Join(t.TempDir(), "tok")
	if err := os.WriteFile(f, []byte("0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse("f.yaml", []byte(good+"api: {tokens: [{name: noc, role: viewer, token_file: "+f+"}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.API.Tokens[0].Secret != "0123456789abcdef0123" {
		t.Errorf("got %q", c.API.Tokens[0].Secret)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = Parse("f.yaml", b)
	})
}
