package webhook

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

var both = []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}

// startExample runs the shipped receiver over a file with n NICs that are up.
func startExample(t *testing.T, n int) (url, panel string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 is not installed: apt-get install python3")
		}
		t.Skip("python3 is not installed: apt-get install python3")
	}
	nics := map[string]any{}
	for i := range n {
		nic := exampleNIC(i)
		nics[nic.MAC] = map[string]any{"live": "up", "config": "up", "running": true, "vds": nic.VDS, "ip": nic.IP.String(), "bandwidth": 1000}
	}
	text, err := json.Marshal(nics)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	panel = filepath.Join(dir, "panel.json")
	for path, text := range map[string][]byte{panel: text, filepath.Join(dir, "secret"): append(secret, '\n')} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, "testdata/receiver.py", "127.0.0.1:0", filepath.Join(dir, "secret"), panel)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the receiver did not start: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port) + "/hook?token=hush", panel
}

func exampleNIC(i int) flow.NIC {
	return flow.NIC{
		VDS: fmt.Sprintf("vds-%d", i), Hypervisor: "panel", MAC: fmt.Sprintf("52:54:00:aa:%02x:%02x", i>>8, i&255),
		IP: netip.AddrFrom4([4]byte{11, 20, byte(i >> 8), byte(i)}),
	}
}

// The shipped receiver passes every suite, each case with a NIC of its own.
func TestExampleConformance(t *testing.T) {
	url, panel := startExample(t, 200)
	a := New(Config{Name: "panel", URL: url, Secret: secret, Measures: both, List: true, Timeout: 2 * time.Minute}, Deps{})
	next := 0
	fresh := func(t *testing.T) suspendertest.Fixture {
		next++
		nic := exampleNIC(next)
		missing := nic
		missing.MAC = "52:54:00:ff:ff:ff"
		return suspendertest.Fixture{
			S: a, NIC: nic, Missing: missing, Secrets: []string{string(secret), "hush"},
			Raw: func(t *testing.T) string {
				var nics map[string]map[string]any
				text, err := os.ReadFile(panel)
				if err == nil {
					err = json.Unmarshal(text, &nics)
				}
				if err != nil {
					t.Fatal(err)
				}
				n := nics[nic.MAC]
				delete(n, "cut") // the marks' places
				delete(n, "measures")
				return fmt.Sprint(n)
			},
		}
	}
	t.Run("suspender", func(t *testing.T) { suspendertest.Run(t, fresh) })
	t.Run("restrictor", func(t *testing.T) { suspendertest.RunRestrictor(t, fresh) })
	t.Run("lister", func(t *testing.T) { suspendertest.RunLister(t, fresh) })
	t.Run("describer", func(t *testing.T) { suspendertest.RunDescriber(t, fresh) })
	t.Run("another's secret", func(t *testing.T) {
		b := New(Config{Name: "panel", URL: url, Secret: []byte("another")}, Deps{})
		if _, err := b.Status(t.Context(), exampleNIC(0)); suspendertest.Class(err) != flow.ErrDenied {
			t.Errorf("err = %v, want denied", err)
		}
	})
}

// recorded answers each action from a table and keeps the bodies as they came.
func recorded(t *testing.T, answers map[string]string) (*httptest.Server, *[]string) {
	t.Helper()
	var bodies []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		var b struct{ Action, Key string }
		if err := json.Unmarshal(body, &b); err != nil {
			t.Error(err)
		}
		if got := q.Header.Get("Idempotency-Key"); got != b.Key {
			t.Errorf("%s: header key %q, body key %q", b.Action, got, b.Key)
		}
		bodies = append(bodies, string(body))
		_, _ = io.WriteString(w, answers[b.Action])
	}))
	t.Cleanup(srv.Close)
	return srv, &bodies
}

const (
	upState  = `{"live":"up","config":"up","running":true}`
	cutState = `{"live":"down","config":"down","running":true,"mark":{"incident":"inc-1"}}`
)

// What receivers of before version 2 are sent is what they ever were sent, to
// the byte, but for the key of a restore.
func TestOldBodies(t *testing.T) {
	srv, bodies := recorded(t, map[string]string{"status": cutState, "suspend": cutState, "restore": upState})
	a, m := adapter(srv.URL), suspendertest.Mark("inc-1")
	m.Reason = "netscan"
	r, err := a.Cut(t.Context(), testNIC, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Restore(t.Context(), testNIC, m, r); err != nil {
		t.Fatal(err)
	}
	const nic = `"incident":"inc-1","vds":"vds-1001","hypervisor":"panel","mac":"52:54:00:aa:10:01","ip":"198.51.100.10","reason":"netscan","at":"2026-11-22T07:00:00.123456789Z"}`
	want := []string{
		`{"action":"status","key":"",` + nic, `{"action":"suspend","key":"inc-1-suspend",` + nic,
		`{"action":"status","key":"",` + nic, `{"action":"restore","key":"inc-1-suspend-restore",` + nic,
	}
	if diff := cmp.Diff(want, *bodies); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
}

// A receiver whose marks have no key gets one with the restore all the same: the
// same for a retry, another for another cut.
func TestRestoreHasAKey(t *testing.T) {
	srv, bodies := recorded(t, map[string]string{"status": cutState, "suspend": cutState, "restore": upState})
	a := adapter(srv.URL)
	m := flow.Mark{Incident: "inc-1"} // as read back
	first := flow.Receipt{At: time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)}
	second := flow.Receipt{At: first.At.Add(time.Hour)}
	for _, r := range []flow.Receipt{first, first, second, {}} {
		if err := a.Restore(t.Context(), testNIC, m, r); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for _, b := range *bodies {
		var q request
		if err := json.Unmarshal([]byte(b), &q); err != nil {
			t.Fatal(err)
		}
		if q.Action == actionRestore {
			keys = append(keys, q.Key)
		}
	}
	want := []string{"inc-1-1795330800000-restore", "inc-1-1795330800000-restore", "inc-1-1795334400000-restore", "inc-1-restore"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// A receiver that was never said to take measures is not asked for any.
func TestMeasuresAreOptIn(t *testing.T) {
	srv, bodies := recorded(t, nil)
	a, m := adapter(srv.URL), suspendertest.Mark("inc-1")
	limit := flow.Measure{Kind: flow.MeasureLimit, KbitS: 8000}
	if len(a.Measures()) != 0 {
		t.Errorf("Measures = %v, want none", a.Measures())
	}
	_, err := a.Restrict(t.Context(), testNIC, limit, m)
	_, listErr := a.Marked(t.Context())
	_, describeErr := a.Describe(t.Context(), testNIC, limit)
	for what, err := range map[string]error{
		"Restrict": err, "Lift": a.Lift(t.Context(), testNIC, flow.MeasureLimit, m, flow.Receipt{}), "Marked": listErr, "Describe": describeErr,
	} {
		if suspendertest.Class(err) != flow.ErrUnsupported {
			t.Errorf("%s: %v, want unsupported", what, err)
		}
	}
	if len(*bodies) != 0 {
		t.Errorf("it was asked: %v", *bodies)
	}
}

// The bodies of version 2, and undo that comes back as it was given.
func TestMeasureBodies(t *testing.T) {
	in := `{"live":"up","config":"up","running":true,"restrictions":[{"measure":{"kind":"block_port","ports":[{"proto":17},{"proto":6,"port":22}]},"mark":{"incident":"inc-1","key":"inc-1-block"}}],"undo":{"filter":"clean-traffic"}}`
	srv, bodies := recorded(t, map[string]string{"status": in, "restrict": in, "lift": upState})
	a := New(Config{Name: "panel", URL: srv.URL, Secret: secret, Measures: both}, Deps{})
	m := flow.Mark{Incident: "inc-1", Key: "inc-1-block"}
	me := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 17}}}
	r, err := a.Restrict(t.Context(), testNIC, me, m)
	if err != nil || string(r.Undo) != `{"filter":"clean-traffic"}` || len(r.Before.Restrictions) != 0 || len(r.After.Restrictions) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := a.Lift(t.Context(), testNIC, flow.MeasureBlockPort, m, r); err != nil {
		t.Fatal(err)
	}
	const nic = `"incident":"inc-1","vds":"vds-1001","hypervisor":"panel","mac":"52:54:00:aa:10:01","ip":"198.51.100.10","reason":"",`
	want := []string{
		`{"version":2,"action":"restrict","key":"inc-1-block",` + nic + `"measure":{"kind":"block_port","ports":[{"proto":6,"port":22},{"proto":17}]}}`,
		`{"version":2,"action":"lift","key":"inc-1-block-lift",` + nic + `"measure":{"kind":"block_port"},"undo":{"filter":"clean-traffic"}}`,
	}
	got := slices.DeleteFunc(*bodies, func(b string) bool { return strings.Contains(b, `"status"`) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
}

// A receiver that says 200 and does something else is not believed.
func TestLyingAboutMeasures(t *testing.T) {
	me := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 6, Port: 25}}}
	for name, restrictions := range map[string]string{
		"nothing in force": `[]`,
		"another measure":  `[{"measure":{"kind":"rate_limit","kbit_s":1},"mark":{"incident":"inc-1"}}]`,
		"no mark":          `[{"measure":{"kind":"block_port","ports":[{"proto":6,"port":22},{"proto":6,"port":25}]},"mark":{"incident":""}}]`,
		"a port less":      `[{"measure":{"kind":"block_port","ports":[{"proto":6,"port":22}]},"mark":{"incident":"inc-1"}}]`,
		"a port more":      `[{"measure":{"kind":"block_port","ports":[{"proto":6,"port":22},{"proto":6,"port":25},{"proto":6,"port":80}]},"mark":{"incident":"inc-1"}}]`,
		"every port":       `[{"measure":{"kind":"block_port","ports":[{"proto":6}]},"mark":{"incident":"inc-1"}}]`,
	} {
		t.Run(name, func(t *testing.T) {
			srv, _ := recorded(t, map[string]string{
				"status": upState, "restrict": `{"live":"up","config":"up","running":true,"restrictions":` + restrictions + `}`,
			})
			a := New(Config{Name: "panel", URL: srv.URL, Secret: secret, Measures: both}, Deps{})
			_, err := a.Restrict(t.Context(), testNIC, me, suspendertest.Mark("inc-1"))
			if suspendertest.Class(err) != flow.ErrConflict {
				t.Errorf("err = %v, want conflict", err)
			}
		})
	}
	still := `{"live":"up","config":"up","running":true,"restrictions":[{"measure":{"kind":"rate_limit","kbit_s":1},"mark":{"incident":"inc-1"}}]}`
	srv, _ := recorded(t, map[string]string{"status": still, "lift": still})
	a := New(Config{Name: "panel", URL: srv.URL, Secret: secret, Measures: both}, Deps{})
	if err := a.Lift(t.Context(), testNIC, flow.MeasureLimit, suspendertest.Mark("inc-1"), flow.Receipt{}); suspendertest.Class(err) != flow.ErrConflict {
		t.Errorf("a lift that lifts nothing: %v, want conflict", err)
	}
}

func TestGarbageAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"not UTF-8":            "{\"live\":\"up\",\"config\":\"up\",\"mark\":{\"incident\":\"inc-\xff\"}}",
		"measures of no sense": `{"live":"up","config":"up","restrictions":{"kind":"cut"}}`,
		"a port out of range":  `{"live":"up","config":"up","restrictions":[{"measure":{"ports":[{"proto":6,"port":70000}]}}]}`,
		"a list of a number":   `{"nics":7}`,
	} {
		t.Run(name, func(t *testing.T) {
			srv, _ := recorded(t, map[string]string{"status": answer, "list": answer})
			a := New(Config{Name: "panel", URL: srv.URL, Secret: secret, Measures: both, List: true}, Deps{})
			if _, err := a.Status(t.Context(), testNIC); suspendertest.Class(err) != flow.ErrTransient {
				t.Errorf("Status: %v, want transient", err)
			}
			if _, err := a.Marked(t.Context()); suspendertest.Class(err) != flow.ErrTransient {
				t.Errorf("Marked: %v, want transient", err)
			}
		})
	}
}

func TestMeasuresValidate(t *testing.T) {
	for name, m := range map[string][]flow.MeasureKind{
		"cut": {flow.MeasureCut}, "twice": {flow.MeasureLimit, flow.MeasureLimit}, "unknown": {"shout"},
	} {
		err := Config{Name: "p", URL: "https://h/x", Secret: secret, Measures: m}.Validate()
		if err == nil || !strings.Contains(err.Error(), "measures[") {
			t.Errorf("%s: Validate() = %v, want it refused", name, err)
		}
	}
}
