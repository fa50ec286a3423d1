package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shell finds a shell. Where there is none the test is skipped, but not in CI.
func shell(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed; .ci/install test installs it", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// completer asks the shell what it would complete a line to.
type completer func(t *testing.T, line ...string) []string

// drivers call the scripts as the shells do, without a terminal.
func drivers(t *testing.T, env []string) map[string]func(t *testing.T) completer {
	ask := func(t *testing.T, sh string, args ...string) []string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), sh, args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", sh, err, out)
		}
		if s := strings.TrimSpace(string(out)); s != "" {
			return strings.Split(s, "\n")
		}
		return nil
	}
	quoted := func(line []string) string {
		q := make([]string, len(line))
		for i, w := range line {
			q[i] = "'" + w + "'"
		}
		return strings.Join(q, " ")
	}
	return map[string]func(t *testing.T) completer{
		"bash": func(t *testing.T) completer {
			sh := shell(t, "bash")
			return func(t *testing.T, line ...string) []string {
				return ask(t, sh, "--norc", "-c", fmt.Sprintf(`source <(flowcordon completion bash); COMP_WORDS=(%s); COMP_CWORD=%d; _flowcordon; printf '%%s\n' "${COMPREPLY[@]}"`, quoted(line), len(line)-1))
			}
		},
		"zsh": func(t *testing.T) completer {
			sh := shell(t, "zsh")
			return func(t *testing.T, line ...string) []string {
				// What compinit would define; the rest of zsh is real.
				stubs := `compdef() { :; }; _files() { print -r -- FILES; }; _describe() { local a; for a in "${(@P)4}"; do a=${a//\\:/$'\001'}; a=${a%%:*}; a=${a//$'\001'/:}; [[ $a == ${words[CURRENT]}* ]] && print -r -- "$a"; done; return 0; }; `
				return ask(t, sh, "-f", "-c", fmt.Sprintf(stubs+`source <(flowcordon completion zsh); words=(%s); CURRENT=%d; _flowcordon`, quoted(line), len(line)))
			}
		},
		"fish": func(t *testing.T) completer {
			sh := shell(t, "fish")
			return func(t *testing.T, line ...string) []string {
				got := ask(t, sh, "--no-config", "-c", `flowcordon completion fish | source; complete -C "`+strings.Join(line, " ")+`"`)
				for i, l := range got {
					got[i], _, _ = strings.Cut(l, "\t")
				}
				return got
			}
		},
	}
}

// completion: the scripts in the shells themselves, against the real service.
func (o *office) completion(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// #nosec: the test binary behaves as flowcordon, see TestMain.
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asCommandEnv, exe)
	if err := os.WriteFile(filepath.Join(dir, "flowcordon"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "FLOWCORDON_URL="+o.base, "FLOWCORDON_TOKEN_FILE="+filepath.Join(o.dir, "token"), "HOME="+dir, "FLOWCORDON_COMPLETE_TIMEOUT=2m", "XDG_CONFIG_HOME="+dir)
	for name, driver := range drivers(t, env) {
		t.Run(name, func(t *testing.T) {
			complete := driver(t)
			for i, tc := range []struct {
				line string // its last word is being written
				want []string
				not  string
			}{
				{"flowcordon incidents show ", []string{o.incident}, "show"},
				{"flowcordon explain 198.18.0.6", []string{scanner.String()}, serverA.String()},
				{"flowcordon top --by o", []string{"out_bytes", "out_packets"}, "syn"},
				{"flowcordon incidents sh", []string{"show"}, "release"},
				// Which words there are is not the shells' doing; one of them asks for the rest.
				{"flowcordon in", []string{"incidents"}, "explain"},
				{"flowcordon incidents --state awaiting", []string{"awaiting_approval"}, "held"},
				{"flowcordon incidents --rule net", []string{"netscan"}, "portscan"},
				{"flowcordon tenants ", []string{"c-" + scanner.String()}, ""},
				{"flowcordon incidents release --st", []string{"--statement"}, "--state"},
				{"flowcordon completion ", []string{"bash", "fish", "zsh"}, ""},
			} {
				if i > 3 && name != "bash" {
					break
				}
				line := strings.Split(tc.line, " ")
				got := complete(t, line...)
				for _, w := range tc.want {
					if !slices.ContainsFunc(got, func(g string) bool { return strings.TrimSpace(g) == w }) {
						t.Errorf("%q: no %q in %q", tc.line, w, got)
					}
				}
				if tc.not != "" && slices.Contains(got, tc.not) {
					t.Errorf("%q: %q in %q", tc.line, tc.not, got)
				}
			}
		})
	}
}

// TestCompletion: what needs no service.
func TestCompletion(t *testing.T) {
	t.Setenv("FLOWCORDON_URL", "http://127.0.0.1:1")
	t.Setenv("FLOWCORDON_TOKEN", "0123456789abcdef")
	for _, tc := range []struct {
		line, want, not string
	}{
		{"", "serve\t", completeWord},
		{"freezes ", "lift\t", ""},
		{"incidents show ", "", "inc"}, // the service is away: nothing, and no error
		{"rules mark netscan/a/b w", "wrong", "right"},
		{"cases --status a", "answered", "active"},
		{"exemptions --status a", "active", "answered"},
		{"top --token-file ", completeFiles, ""},
		{"incidents --state=op", "--state=open", "held"},
		{"serve --config ", completeFiles, ""},
		{"match --reply ", "en", "files"},
		{"nothing ", "", "files"},
		{"--help", "", "serve"},
	} {
		code, out, errs := invoke(t, append([]string{completeWord, "--"}, strings.Split(tc.line, " ")...)...)
		if code != 0 || errs != "" || !strings.Contains(out, tc.want) || tc.want == "" && out != "" || tc.not != "" && strings.Contains(out, tc.not) {
			t.Errorf("%q: exit %d, %q %q; want %q, not %q", tc.line, code, out, errs, tc.want, tc.not)
		}
	}
	if code, _, errs := invoke(t, "completion", "tcsh"); code != exitUsage || !strings.Contains(errs, "bash|zsh|fish") {
		t.Errorf("exit %d, %q", code, errs)
	}
}
