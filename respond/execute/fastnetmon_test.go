package execute

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

// glue is a script as people have them for FastNetMon: it appends what it is
// told to $LOG and fails as long as $LOG.fail is there.
const glue = `
[ -e "$LOG.fail" ] && { cat "$LOG.fail" >&2; exit 13; }
echo "$1 $2 $3 $4 args=$#" >>"$LOG"
if [ "$4" = "unban" ]; then
  exit 0
fi
if [ "$4" = "ban" ] || [ "$4" = "attack_details" ]; then
  cat >>"$LOG"
  exit 0
fi
exit 1`

func hook(t *testing.T, more ...func(*Config)) (*Adapter, string) {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{
		Name: "fnm", Mode: ModeFastNetMon, Dir: dir, Command: []string{"/bin/sh", "-c", glue, "notify_about_attack.sh"},
		Env: map[string]string{"LOG": filepath.Join(dir, "log")}, Timeout: patience,
	}
	for _, m := range more {
		m(&cfg)
	}
	return New(cfg, Deps{Attack: func(_ context.Context, incident string) Attack {
		return Attack{PPS: 546475, Type: "syn_flood", Protocol: "tcp", Text: "sample of " + incident}
	}}), filepath.Join(dir, "log")
}

func TestFastNetMonConformance(t *testing.T) {
	fresh := func(t *testing.T) suspendertest.Fixture {
		a, _ := hook(t)
		return suspendertest.Fixture{S: a, NIC: testNIC}
	}
	t.Run("suspender", func(t *testing.T) { suspendertest.Run(t, fresh) })
	t.Run("lister", func(t *testing.T) {
		suspendertest.RunLister(t, func(t *testing.T) suspendertest.Fixture {
			f := fresh(t)
			f.S = struct { // it takes no milder measures to list
				suspendertest.Suspender
				suspendertest.Lister
			}{f.S, f.S.(suspendertest.Lister)}
			return f
		})
	})
	t.Run("describer", func(t *testing.T) { suspendertest.RunDescriber(t, fresh) })
	a, _ := hook(t)
	_, err := a.Restrict(t.Context(), testNIC, flow.Measure{Kind: flow.MeasureLimit, KbitS: 1}, suspendertest.Mark("inc-1"))
	wantClass(t, err, flow.ErrUnsupported)
}

// The script sees what FastNetMon would give it: four arguments, the details on
// stdin of ban and attack_details, none on that of unban.
func TestFastNetMonArguments(t *testing.T) {
	a, log := hook(t, func(c *Config) { c.AttackDetails = true })
	m := suspendertest.Mark("inc-1")
	r, err := a.Cut(t.Context(), testNIC, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Cut(t.Context(), testNIC, m); err != nil { // banned once
		t.Fatal(err)
	}
	if err := a.Restore(t.Context(), testNIC, m, r); err != nil {
		t.Fatal(err)
	}
	details := `IP: 11.20.0.10
Attack type: syn_flood
Initial attack power: 546475 packets per second
Peak attack power: 546475 packets per second
Attack direction: outgoing
Attack protocol: tcp
Total outgoing pps: 546475 packets per second
Incident: inc-1
Reason: netscan: 312 hosts on TCP/22 in 60 s <"quoted" & 'all'>
VDS: vds-1001
MAC: 52:54:00:aa:10:01

sample of inc-1
`
	want := "11.20.0.10 outgoing 546475 ban args=4\n" + details +
		"11.20.0.10 outgoing 546475 attack_details args=4\n" + details +
		"11.20.0.10 outgoing 546475 unban args=4\n"
	got, err := os.ReadFile(log)
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// A script that fails leaves an unknown state with the mark: the repeat runs it
// again, over a restart of ours, too, and the restore unbans.
func TestFastNetMonFails(t *testing.T) {
	a, log := hook(t)
	fail := func(why string) {
		t.Helper()
		if err := os.WriteFile(log+".fail", []byte(why), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fail("router said no")
	m := suspendertest.Mark("inc-1")
	_, err := a.Cut(t.Context(), testNIC, m)
	wantClass(t, err, flow.ErrTransient, "exited with 13", "router said no")
	b := New(a.cfg, Deps{}) // a restart
	st, err := b.Status(t.Context(), testNIC)
	if err != nil || st.Cut() || st.Live != flow.LinkUnknown || st.Mark == nil || st.Mark.Incident != "inc-1" {
		t.Errorf("Status = %+v, %v; want unknown with the mark", st, err)
	}
	_ = os.Remove(log + ".fail")
	r, err := b.Cut(t.Context(), testNIC, m)
	if err != nil || !r.After.Cut() {
		t.Fatalf("repeat: %+v, %v", r, err)
	}
	fail("router said no")
	wantClass(t, b.Restore(t.Context(), testNIC, m, r), flow.ErrTransient)
	if st, _ := b.Status(t.Context(), testNIC); !st.Cut() {
		t.Errorf("after a restore that failed: %+v, want it cut", st)
	}
	_ = os.Remove(log + ".fail")
	if err := b.Restore(t.Context(), testNIC, m, r); err != nil {
		t.Error(err)
	}
	got, _ := os.ReadFile(log)
	if n := strings.Count(string(got), " ban "); n != 1 {
		t.Errorf("banned %d times, want once:\n%s", n, got)
	}
}

func TestFastNetMonFile(t *testing.T) {
	a, log := hook(t)
	m := suspendertest.Mark("inc-1")
	if err := os.WriteFile(a.bansPath(), []byte(`{"version":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := a.Cut(t.Context(), testNIC, m)
	wantClass(t, err, flow.ErrDenied, "another version")
	if err := os.Remove(a.bansPath()); err != nil {
		t.Fatal(err)
	}
	none := testNIC
	none.IP = flow.NIC{}.IP
	_, err = a.Cut(t.Context(), none, m)
	wantClass(t, err, flow.ErrNotFound, "no address")
	// What cannot be written is not done.
	a.cfg.Dir = filepath.Join(a.cfg.Dir, "none", "at", "all")
	_, err = a.Cut(t.Context(), testNIC, m)
	wantClass(t, err, flow.ErrTransient, "write")
	if _, err := os.Stat(log); err == nil {
		t.Error("the script was run although the mark could not be written")
	}
}
