package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/store/embedded"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// asCommandEnv makes the test binary behave as flowcordon, so that tests can
// run, signal and kill the real thing as a process of its own. The engine's
// child inherits no environment, so it is not misled by it.
const asCommandEnv = "FLOWCORDON_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	embedded.RunIfChild()
	if os.Getenv(asCommandEnv) != "" {
		main() // does not return
	}
	os.Exit(storetest.Main(m))
}

// invoke runs flowcordon's entry in this process.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsageAndExitCodes(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.yaml")
	unreadable := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(unreadable, []byte("listen: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name           string
		args           string
		code           int
		stdout, stderr string // must be part of it; empty: that stream is silent
	}{
		{"no command", "", 2, "", "usage: flowcordon COMMAND"},
		{"unknown command", "servce", 2, "", `unknown command "servce"`},
		{"help", "help", 0, "usage: flowcordon COMMAND", ""},
		{"-h", "-h", 0, "check-config", ""},
		{"--help", "--help", 0, "replay", ""},
		{"version", "version", 0, "flowcordon ", ""},
		{"check-config without a file", "check-config", 2, "", "usage: flowcordon check-config FILE"},
		{"check-config with two files", "check-config a b", 2, "", "usage: flowcordon check-config FILE"},
		{"check-config, no such file", "check-config " + missing, 1, "", "missing.yaml: no such file"},
		{"check-config, no YAML", "check-config " + unreadable, 1, "", "no YAML"},
		{"serve, unknown flag", "serve --confg x", 2, "", "flag provided but not defined"},
		{"serve, an argument too many", "serve --config x y", 2, "", `unexpected argument "y"`},
		{"serve -h", "serve -h", 0, "", "configuration file"},
		{"serve, no such file", "serve --config " + missing, 1, "", "missing.yaml: no such file"},
		{"serve, no YAML", "serve --config " + unreadable, 1, "", "1 problem(s)"},
		{"migrate, unknown flag", "migrate -x", 2, "", "flag provided but not defined"},
		{"migrate, no such file", "migrate --config " + missing, 1, "", "missing.yaml: no such file"},
		{"decode without a file", "decode", 2, "", "usage"},
		{"decode, no such file", "decode --json " + missing, 1, `"type":"summary"`, "missing.yaml"},
		{"replay without a file", "replay --config " + missing, 2, "", "usage: flowcordon replay"},
		{"replay -h", "replay -h", 0, "", "No action is taken"},
		{"replay, no such configuration", "replay --config " + missing + " x.pcap", 1, "", "missing.yaml: no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := invoke(t, strings.Fields(tc.args)...)
			if code != tc.code {
				t.Errorf("exit %d, want %d", code, tc.code)
			}
			for stream, p := range map[string]struct{ got, want string }{"stdout": {out, tc.stdout}, "stderr": {errs, tc.stderr}} {
				if !strings.Contains(p.got, p.want) || (p.want == "") != (p.got == "") {
					t.Errorf("%s: %q, want %q", stream, p.got, p.want)
				}
			}
		})
	}
}

// TestUsageNamesEveryCommand: what run knows and what it tells must not part.
func TestUsageNamesEveryCommand(t *testing.T) {
	_, out, _ := invoke(t, "help")
	for _, name := range []string{"serve", "check-config", "migrate", "decode", "replay", "version"} {
		if !strings.Contains(out, "\n  "+name+" ") {
			t.Errorf("%s is not in the usage:\n%s", name, out)
		}
	}
}

// TestMigrateTwice: from nothing, and again over what is there.
func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{})
	for range 2 {
		code, out, errs := invoke(t, "migrate", "--config", s.config)
		if code != 0 || out != "the schema is up to date\n" || errs != "" {
			t.Fatalf("exit %d, stdout %q, stderr %q", code, out, errs)
		}
	}
	conn := s.openDatabase(t)
	for _, table := range []string{"host_window", "service_window", "pair_window", "flows", "finding", "event", "evidence"} {
		if n := scalar(t, conn, "SELECT count() FROM flowcordon."+table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
}
