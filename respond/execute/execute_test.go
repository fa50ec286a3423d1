package execute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

var (
	testNIC  = flow.NIC{VDS: "vds-1001", Hypervisor: "panel", MAC: "52:54:00:aa:10:01", IP: netip.MustParseAddr("11.20.0.10")}
	otherNIC = flow.NIC{VDS: "vds-1001", Hypervisor: "panel", MAC: "52:54:00:ff:ff:ff", IP: netip.MustParseAddr("11.20.0.11")}
	both     = []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}
)

// patience is a hang guard.
const patience = 2 * time.Minute

func wantClass(t *testing.T, err error, class flow.ErrClass, says ...string) {
	t.Helper()
	if suspendertest.Class(err) != class {
		t.Fatalf("err = %v, want class %q", err, class)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("err = %v, want it to say %q", err, s)
		}
	}
}

// example is an adapter over the shipped example with one NIC that is up.
func example(t *testing.T) (*Adapter, string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 is not installed: apt-get install python3")
		}
		t.Skip("python3 is not installed: apt-get install python3")
	}
	panel := filepath.Join(t.TempDir(), "panel.json")
	text := `{"52:54:00:aa:10:01": {"live": "up", "config": "up", "running": true, "vds": "vds-1001", "ip": "11.20.0.10", "bandwidth": 1000}}`
	if err := os.WriteFile(panel, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/panel.py")
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{
		Name: "panel", Command: []string{python, "-S", script}, Measures: both, Timeout: patience,
		Env: map[string]string{"PANEL": panel}, SecretEnv: map[string]string{"TOKEN": "hush-hush"},
	}, Deps{}), panel
}

func TestConformance(t *testing.T) {
	fresh := func(t *testing.T) suspendertest.Fixture {
		a, panel := example(t)
		return suspendertest.Fixture{
			S: a, NIC: testNIC, Missing: otherNIC, Secrets: []string{"hush-hush", "panel.py"},
			Raw: func(t *testing.T) string {
				text, err := os.ReadFile(panel)
				var nics map[string]map[string]any
				if err == nil {
					err = json.Unmarshal(text, &nics)
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range nics {
					delete(n, "cut") // the marks' places
					delete(n, "measures")
				}
				return fmt.Sprint(nics)
			},
		}
	}
	t.Run("suspender", func(t *testing.T) { suspendertest.Run(t, fresh) })
	t.Run("restrictor", func(t *testing.T) { suspendertest.RunRestrictor(t, fresh) })
	t.Run("lister", func(t *testing.T) { suspendertest.RunLister(t, fresh) })
	t.Run("describer", func(t *testing.T) { suspendertest.RunDescriber(t, fresh) })
}

func TestAdminDownStaysDown(t *testing.T) {
	a, panel := example(t)
	if err := os.WriteFile(panel, []byte(`{"52:54:00:aa:10:01": {"live": "down", "config": "up", "running": true}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m := suspendertest.Mark("inc-1")
	r, err := a.Cut(t.Context(), testNIC, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Restore(t.Context(), testNIC, m, r); err != nil {
		t.Fatal(err)
	}
	st, err := a.Status(t.Context(), testNIC)
	if diff := cmp.Diff(flow.NICStatus{Live: flow.LinkDown, Config: flow.LinkUp, Running: true}, st); err != nil || diff != "" {
		t.Errorf("after Restore: %v (-want +got):\n%s", err, diff)
	}
}

// shell is an adapter over a few lines of shell, which get what the adapter
// passes and nothing else.
func shell(t *testing.T, script string, more ...func(*Config)) *Adapter {
	t.Helper()
	cfg := Config{Name: "panel", Command: []string{"/bin/sh", "-c", script, "cut-vds"}, Measures: both, Timeout: patience}
	for _, m := range more {
		m(&cfg)
	}
	return New(cfg, Deps{})
}

const up = `{"live":"up","config":"up","running":true,"mark":null}`

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   flow.ErrClass
		say    string
	}{
		"ok":                       {"echo '" + up + "'", "", ""},
		"does not read its stdin":  {"exec <&-; echo '" + up + "'", "", ""},
		"fields of the future":     {`echo '{"live":"up","config":"up","running":true,"colour":"red"}'`, "", ""},
		"not found":                {"exit 10", flow.ErrNotFound, "exited with 10"},
		"locked":                   {"echo 'backup of vds-1001' >&2; exit 11", flow.ErrLocked, "backup of vds-1001"},
		"conflict":                 {"exit 12", flow.ErrConflict, ""},
		"denied":                   {"exit 13", flow.ErrDenied, ""},
		"unsupported":              {"exit 14", flow.ErrUnsupported, ""},
		"one":                      {"exit 1", flow.ErrTransient, "exited with 1"},
		"not found by the shell":   {"exit 127", flow.ErrTransient, "127"},
		"killed":                   {"kill -9 $$", flow.ErrTransient, "killed"},
		"aborted":                  {"kill -ABRT $$", flow.ErrTransient, "aborted"},
		"nothing":                  {"true", flow.ErrTransient, "JSON"},
		"garbage":                  {"echo '<html>login</html>'", flow.ErrTransient, "JSON"},
		"wrong types":              {`echo '{"live":1}'`, flow.ErrTransient, "JSON"},
		"no state":                 {"echo '{}'", flow.ErrTransient, "lacks"},
		"two objects":              {"echo '" + up + up + "'", flow.ErrTransient, "follows"},
		"not UTF-8":                {`printf '{"live":"up","config":"up","x":"\377"}'`, flow.ErrTransient, "UTF-8"},
		"exactly the limit":        {"printf '" + up + "'; head -c " + strconv.Itoa(maxOutput-len(up)) + " /dev/zero | tr '\\0' ' '", "", ""},
		"one byte over":            {"printf '" + up + "'; head -c " + strconv.Itoa(maxOutput-len(up)+1) + " /dev/zero | tr '\\0' ' '", flow.ErrTransient, "more than"},
		"endless output":           {"head -c 50000000 /dev/zero", flow.ErrTransient, "more than"},
		"half an answer, dies":     {`printf '{"live":"up",'; exit 3`, flow.ErrTransient, "exited with 3"},
		"the end of a long story":  {"for i in 1 2 3 4 5 6 7 8 9; do echo '" + strings.Repeat("word ", 200) + "' >&2; done; echo 'the reason' >&2; exit 13", flow.ErrDenied, "the reason"},
		"stderr in tongues":        {`printf 'caf\351 \033[31mred\000\n\nnext' >&2; exit 13`, flow.ErrDenied, "caf� [31mred next"},
		"a flood on stderr":        {"head -c 3000000 /dev/zero | tr '\\0' 'y' >&2; echo ' the reason' >&2; exit 13", flow.ErrDenied, "y the reason"},
		"half a secret in a flood": {"printf '%s' $TOKEN >&2; head -c " + strconv.Itoa(maxStderr-5) + " /dev/zero | tr '\\0' ' ' >&2; exit 13", flow.ErrDenied, "exited with 13"},
		"a secret in the answer":   {`echo '{"live":"up","config":"up","mark":{"at":"'$TOKEN'"}}'`, flow.ErrTransient, "***"},
		"a secret on stderr":       {`echo "token $TOKEN refused" >&2; exit 13`, flow.ErrDenied, "token *** refused"},
		"clean environment":        {`env | grep -vE '^(PATH|LANG|TOKEN|PWD|OLDPWD|SHLVL|_)=' >&2 && exit 13; echo '` + up + "'", "", ""},
		"in the root":              {`[ "$PWD" = / ] || exit 13; echo '` + up + "'", "", ""},
		"leaves a child behind":    {"sleep 100 & echo '" + up + "'", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := shell(t, c.script, func(c *Config) { c.SecretEnv = map[string]string{"TOKEN": "hush-hush"} })
			_, err := a.Status(t.Context(), testNIC)
			if got := suspendertest.Class(err); got != c.want {
				t.Fatalf("class %q (%v), want %q", got, err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), c.say) || len(err.Error()) > 2000 || strings.Contains(err.Error(), "hush") || strings.HasSuffix(err.Error(), "sh")) {
				t.Errorf("err = %q, want %q in a short text", err, c.say)
			}
		})
	}
}

func TestCommandsThatAreNotThere(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"missing": "/nonexistent/cut-vds", "not executable": plain, "a folder": "/tmp"} {
		t.Run(name, func(t *testing.T) {
			a := New(Config{Name: "panel", Command: []string{path}}, Deps{})
			_, err := a.Status(t.Context(), testNIC)
			wantClass(t, err, flow.ErrDenied, path)
		})
	}
	a := New(Config{Name: "panel"}, Deps{})
	_, err := a.Status(t.Context(), testNIC)
	wantClass(t, err, flow.ErrUnsupported, "command:")
}

// At the deadline the command and all of its children are gone, and the call
// is back.
func TestHangs(t *testing.T) {
	for name, script := range map[string]string{
		"asleep":                  "echo $$ >$PIDS/a; echo 'waiting for the panel' >&2; sleep 1000",
		"deaf to SIGTERM":         "trap '' TERM INT HUP; echo $$ >$PIDS/a; while :; do sleep 1; done",
		"its child holds on":      "sh -c 'echo $$ >$PIDS/b; sleep 1000' & echo $$ >$PIDS/a; wait",
		"writes and never ends":   "echo $$ >$PIDS/a; while :; do echo x; done",
		"reads and never answers": "echo $$ >$PIDS/a; while :; do cat >/dev/null; sleep 1; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pids := t.TempDir()
			a := shell(t, script, func(c *Config) { c.Timeout = 5 * time.Second; c.Env = map[string]string{"PIDS": pids} })
			start := time.Now()
			_, err := a.Cut(t.Context(), testNIC, suspendertest.Mark("inc-1"))
			wantClass(t, err, flow.ErrTransient, "deadline")
			if took := time.Since(start); took > time.Minute {
				t.Errorf("freed after %v, want some 5 s", took)
			}
			files, _ := filepath.Glob(pids + "/*")
			if len(files) == 0 {
				t.Fatal("the script did not run")
			}
			for _, f := range files {
				gone(t, f)
			}
		})
	}
}

// gone waits until the process whose id is in the file has ended.
func gone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") { // a zombie is for init to reap
			return
		}
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d outlived the deadline", pid)
		}
	}
}

func TestCallerGivesUp(t *testing.T) {
	pids := t.TempDir()
	a := shell(t, "echo $$ >$PIDS/a; sleep 1000", func(c *Config) { c.Env = map[string]string{"PIDS": pids} })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if b, err := os.ReadFile(pids + "/a"); err == nil && len(b) > 0 {
				cancel()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	_, err := a.Status(ctx, testNIC)
	if suspendertest.Class(err) != flow.ErrTransient || !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want transient, canceled", err)
	}
	gone(t, pids+"/a")
}

// A command that says it is done and is not is not believed.
func TestLyingCommand(t *testing.T) {
	for name, answer := range map[string]string{
		"still up":          `{"live":"up","config":"down","running":true,"mark":{"incident":"inc-1"}}`,
		"up after power-on": `{"live":"down","config":"up","running":true,"mark":{"incident":"inc-1"}}`,
		"invented state":    `{"live":"down","config":"maybe","running":true,"mark":{"incident":"inc-1"}}`,
		"no mark":           `{"live":"down","config":"down","running":true,"mark":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			a := shell(t, "echo '"+answer+"'")
			_, err := a.Cut(t.Context(), testNIC, suspendertest.Mark("inc-1"))
			wantClass(t, err, flow.ErrConflict, "exited with 0")
		})
	}
	m, r := suspendertest.Mark("inc-1"), `"restrictions":[{"measure":{"kind":"rate_limit","kbit_s":9000},"mark":{"incident":"inc-1"}}]}`
	a := shell(t, `echo '{"live":"up","config":"up","running":true,`+r+`'`)
	_, err := a.Restrict(t.Context(), testNIC, flow.Measure{Kind: flow.MeasureLimit, KbitS: 8000}, m)
	wantClass(t, err, flow.ErrConflict, "9000")
	wantClass(t, a.Lift(t.Context(), testNIC, flow.MeasureLimit, m, flow.Receipt{}), flow.ErrConflict, "still")
}

// A command that dies after it acted, before it could say so: the repeat finds
// what it did, and the restore gives back what was there first.
func TestDiesAfterActing(t *testing.T) {
	a, panel := example(t)
	dead := *a
	dead.cfg.Command = []string{"/bin/sh", "-c", `read -r q; out=$(echo "$q" | "$@") || exit $?; case "$q" in *'"action":"cut"'*) kill -9 $$;; esac; echo "$out"`, "x", a.cfg.Command[0], a.cfg.Command[1], a.cfg.Command[2]}
	m := suspendertest.Mark("inc-1")
	_, err := dead.Cut(t.Context(), testNIC, m)
	wantClass(t, err, flow.ErrTransient, "killed")
	if text, _ := os.ReadFile(panel); !strings.Contains(string(text), `"live": "down"`) {
		t.Fatalf("it did not act: %s", text)
	}
	r, err := a.Cut(t.Context(), testNIC, m)
	if err != nil || r.Before.Live != flow.LinkUp || !r.After.Cut() {
		t.Fatalf("the repeat: %+v, %v", r, err)
	}
	if err := a.Restore(t.Context(), testNIC, m, r); err != nil {
		t.Error(err)
	}
}

// undo is passed back as it was given, with the mark and the key of the act.
func TestUndoAndKey(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen")
	a := shell(t, `read -r q; echo "$q" >>$SEEN; case "$q" in
*'"action":"status"'*) echo '{"live":"up","config":"up","running":true}';;
*) echo '{"live":"down","config":"down","running":true,"mark":{"incident":"inc-1"},"node":"node7","undo":{"filter":"clean-traffic"}}';; esac`,
		func(c *Config) { c.Env = map[string]string{"SEEN": seen} })
	m := suspendertest.Mark("inc-1")
	r, err := a.Cut(t.Context(), testNIC, m)
	if err != nil || string(r.Undo) != `{"filter":"clean-traffic"}` || r.Node != "node7" {
		t.Fatalf("%+v, %v", r, err)
	}
	b := shell(t, `read -r q; echo "$q" >>$SEEN; echo '{"live":"down","config":"down","running":true,"mark":{"incident":"inc-1"}}'`,
		func(c *Config) { c.Env = map[string]string{"SEEN": seen} })
	m.Key = "inc-1-restore"
	wantClass(t, b.Restore(t.Context(), testNIC, m, r), flow.ErrConflict) // it did not, but was asked as it should be
	text, _ := os.ReadFile(seen)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var q request
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &q); err != nil {
		t.Fatal(err)
	}
	if q.Version != 1 || q.Action != "restore" || q.Adapter != "panel" || q.Mark.Key != "inc-1-restore" || string(q.Receipt.Undo) != `{"filter":"clean-traffic"}` || *q.NIC != testNIC {
		t.Errorf("restore was asked for as %s", lines[len(lines)-1])
	}
}

func TestConfigValidate(t *testing.T) {
	good := Config{Name: "p", Command: []string{"/bin/true"}}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":            {func(*Config) {}, ""},
		"no name":         {func(c *Config) { c.Name = "" }, "name:"},
		"a path as name":  {func(c *Config) { c.Name = "../p" }, "name:"},
		"no command":      {func(c *Config) { c.Command = nil }, "command:"},
		"relative":        {func(c *Config) { c.Command = []string{"cut-vds"} }, "command:"},
		"mode":            {func(c *Config) { c.Mode = "magic" }, "mode:"},
		"fnm without dir": {func(c *Config) { c.Mode = ModeFastNetMon }, "dir: missing"},
		"fnm and measure": {func(c *Config) { c.Mode, c.Dir, c.Measures = ModeFastNetMon, "/tmp", both }, "measures:"},
		"cut as measure":  {func(c *Config) { c.Measures = []flow.MeasureKind{flow.MeasureCut} }, "measures[0]"},
		"measure twice":   {func(c *Config) { c.Measures = []flow.MeasureKind{flow.MeasureLimit, flow.MeasureLimit} }, "measures[1]"},
		"details":         {func(c *Config) { c.AttackDetails = true }, "attack_details"},
		"env":             {func(c *Config) { c.Env = map[string]string{"A=B": "c"} }, "env:"},
		"work dir":        {func(c *Config) { c.WorkDir = "here" }, "work_dir"},
		"negative":        {func(c *Config) { c.Timeout = -1 }, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
		})
	}
}
