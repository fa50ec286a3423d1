package panel

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

const secret = "the panel's secret"

var nic = flow.NIC{VDS: "100", Hypervisor: "panel", MAC: "00:16:3e:0d:0b:2f"}

// fault is what a test makes go wrong with calls whose URL or path contains on.
type fault struct {
	on    string
	code  int  // answered so
	after bool // the call is carried out first
	hang  bool
	once  bool
}

type faults struct {
	sync.Mutex
	f     *fault
	calls []string // that change something
}

func (x *faults) set(f *fault) {
	x.Lock()
	defer x.Unlock()
	x.f = f
}

// wrap applies the fault around the panel.
func (x *faults) wrap(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x.Lock()
		defer x.Unlock()
		f := x.f
		if f == nil || !strings.Contains(r.URL.String(), f.on) {
			h(w, r)
			return
		}
		if f.once {
			x.f = nil
		}
		switch {
		case f.hang:
			x.Unlock()
			<-r.Context().Done()
			x.Lock()
		case f.after:
			h(httptest.NewRecorder(), r)
			fallthrough
		default:
			w.WriteHeader(f.code)
		}
	}
}

func config(t *testing.T, product string, h http.HandlerFunc) Config {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{Name: "panel", Product: product, URL: srv.URL, User: "admin-key", Secret: secret, State: dir, CAFile: ca, Timeout: 30 * time.Second}
}

// virtualizor answers as the SDK and the documentation show it: PHP's JSON,
// with numbers as texts, nulls, and [] for an empty map.
type virtualizor struct {
	faults
	off, running, gone, ignore bool
	mac                        string
}

func (v *virtualizor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	answer := func(m map[string]any) {
		m["title"], m["timenow"] = "Virtual Servers", "1"
		_ = json.NewEncoder(w).Encode(m)
	}
	if q.Get("adminapikey") != "admin-key" || q.Get("adminapipass") != secret || q.Get("api") != "json" || q.Get("act") != "vs" {
		answer(map[string]any{"act": "login", "error": []any{}})
		return
	}
	switch {
	case q.Get("suspend_net") != "" || q.Get("unsuspend_net") != "":
		v.calls = append(v.calls, r.URL.RawQuery)
		if v.gone || q.Get("suspend_net")+q.Get("unsuspend_net") != "100" {
			answer(map[string]any{"error": map[string]string{"no_vps": "the VPS does not exist"}})
			return
		}
		if !v.ignore {
			v.off = q.Get("suspend_net") != ""
		}
		answer(map[string]any{"done": true, "error": []any{}})
	case q.Get("vs_status") != "":
		st := "0"
		if v.running {
			st = "1"
		}
		answer(map[string]any{"status": map[string]any{"100": map[string]any{"status": st, "used_cpu": "0.1"}}})
	case v.gone || q.Get("vpsid") != "100":
		answer(map[string]any{"vs": []any{}, "error": nil})
	default:
		var off any
		if v.off {
			off = "1"
		}
		answer(map[string]any{"vs": map[string]any{"100": map[string]any{
			"vpsid": "100", "vps_name": "v1001", "hostname": "vds-1001", "suspended": "0", "nw_suspended": off, "mac": v.mac, "ips": map[string]string{"7": "11.7.0.10"},
		}}})
	}
}

func newVirtualizor(t *testing.T) (*virtualizor, *VirtualizorAdapter, Config) {
	v := &virtualizor{running: true, mac: "00:16:3E:0D:0B:2F"}
	cfg := config(t, Virtualizor, v.wrap(v.ServeHTTP))
	return v, NewVirtualizor(cfg, Deps{}), cfg
}

func TestVirtualizorConformance(t *testing.T) {
	fresh := func(t *testing.T) suspendertest.Fixture {
		v, a, _ := newVirtualizor(t)
		missing := nic
		missing.VDS = "101"
		return suspendertest.Fixture{S: a, NIC: nic, Missing: missing, Secrets: []string{secret, "admin-key"}, Raw: func(*testing.T) string {
			v.Lock()
			defer v.Unlock()
			return strconv.FormatBool(v.off)
		}}
	}
	suspendertest.Run(t, fresh)
	suspendertest.RunLister(t, fresh)
	suspendertest.RunDescriber(t, fresh)
}

func wantClass(t *testing.T, what string, err error, want flow.ErrClass) {
	t.Helper()
	if got := suspendertest.Class(err); got != want {
		t.Errorf("%s: class %q (%v), want %q", what, got, err, want)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("%s: the error tells the secret: %v", what, err)
	}
}

func TestVirtualizorFaults(t *testing.T) {
	m := suspendertest.Mark("inc-1")
	t.Run("an admin's suspension is left alone", func(t *testing.T) {
		v, a, _ := newVirtualizor(t)
		v.off = true
		r, err := a.Cut(t.Context(), nic, m)
		if err != nil || len(v.calls) != 0 {
			t.Fatalf("%v, %q", err, v.calls)
		}
		if err := a.Restore(t.Context(), nic, m, r); err != nil || !v.off {
			t.Errorf("Restore: %v, off %t, want it off as before", err, v.off)
		}
		wantClass(t, "Restore of what was never ours", a.Restore(t.Context(), nic, m, flow.Receipt{}), flow.ErrConflict)
	})
	t.Run("the mark outlives the process", func(t *testing.T) {
		_, a, cfg := newVirtualizor(t)
		r, err := a.Cut(t.Context(), nic, m)
		if err != nil {
			t.Fatal(err)
		}
		b := NewVirtualizor(cfg, Deps{})
		again, err := b.Cut(t.Context(), nic, m)
		if diff := cmp.Diff(r.Before, again.Before); err != nil || diff != "" {
			t.Errorf("%v, Before (-first +again):\n%s", err, diff)
		}
		if err := b.Restore(t.Context(), nic, m, flow.Receipt{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a call that does nothing", func(t *testing.T) {
		v, a, _ := newVirtualizor(t)
		v.ignore = true
		_, err := a.Cut(t.Context(), nic, m)
		wantClass(t, "Cut", err, flow.ErrConflict)
	})
	t.Run("acted, and no answer", func(t *testing.T) {
		v, a, _ := newVirtualizor(t)
		v.set(&fault{on: "suspend_net", code: 502, after: true, once: true})
		_, err := a.Cut(t.Context(), nic, m)
		wantClass(t, "Cut", err, flow.ErrTransient)
		r, err := a.Cut(t.Context(), nic, m)
		if err != nil || len(v.calls) != 1 || r.Before.Config != flow.LinkUp {
			t.Errorf("the repeat: %+v, %v, calls %q; want one call and the state from before", r, err, v.calls)
		}
	})
	t.Run("another MAC", func(t *testing.T) {
		v, a, _ := newVirtualizor(t)
		v.mac = "00:16:3e:00:00:01"
		_, err := a.Cut(t.Context(), nic, m)
		wantClass(t, "Cut", err, flow.ErrNotFound)
	})
	t.Run("deleted", func(t *testing.T) {
		v, a, _ := newVirtualizor(t)
		if _, err := a.Cut(t.Context(), nic, m); err != nil {
			t.Fatal(err)
		}
		v.gone = true
		wantClass(t, "Restore", a.Restore(t.Context(), nic, m, flow.Receipt{}), flow.ErrNotFound)
		if all, err := a.Marked(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("Marked = %+v, %v", all, err)
		}
	})
	t.Run("powered off", func(t *testing.T) {
		v, a, _ := newVirtualizor(t)
		v.running = false
		r, err := a.Cut(t.Context(), nic, m)
		if err != nil || r.After.Running || !r.After.Cut() {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("a wrong key", func(t *testing.T) {
		_, _, cfg := newVirtualizor(t)
		cfg.User = "other"
		_, err := NewVirtualizor(cfg, Deps{}).Status(t.Context(), nic)
		wantClass(t, "Status", err, flow.ErrDenied)
	})
	t.Run("a hang", func(t *testing.T) {
		v, _, cfg := newVirtualizor(t)
		cfg.Timeout = 200 * time.Millisecond
		v.set(&fault{on: "index.php", hang: true})
		_, err := NewVirtualizor(cfg, Deps{}).Cut(t.Context(), nic, m)
		wantClass(t, "Cut", err, flow.ErrTransient)
	})
	t.Run("a mark that cannot be read is not none", func(t *testing.T) {
		_, a, cfg := newVirtualizor(t)
		if err := os.WriteFile(filepath.Join(cfg.State, "panel.100.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := a.Cut(t.Context(), nic, m)
		wantClass(t, "Cut", err, flow.ErrDenied)
	})
	t.Run("no number", func(t *testing.T) {
		_, a, _ := newVirtualizor(t)
		_, err := a.Status(t.Context(), flow.NIC{VDS: "v1001"})
		wantClass(t, "Status", err, flow.ErrNotFound)
	})
}

// vmmanager answers as the API guide and client libraries show it.
type vmmanager struct {
	faults
	token           string
	logins, asleep  int
	rules           []map[string]any
	out             int
	failTask, stale bool
}

var resource = regexp.MustCompile(`^/vm/v3/host/(\d+)/resource$`)

func (v *vmmanager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(code int, m any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(m)
	}
	refuse := func(code, n int, msg string) {
		answer(code, map[string]any{"error": map[string]any{"code": n, "msg": msg, "value": map[string]any{}}})
	}
	if v.asleep > 0 {
		v.asleep--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var in map[string]json.RawMessage
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(400, 3001, "bad body")
			return
		}
	}
	if r.URL.Path == "/auth/v4/public/token" {
		v.logins++
		if string(in["email"]) != `"admin-key"` || string(in["password"]) != strconv.Quote(secret) {
			refuse(403, 3008, "Invalid credentials")
			return
		}
		v.token = fmt.Sprintf("token-%d", v.logins)
		answer(200, map[string]any{"token": v.token, "expires_at": nil})
		return
	}
	c, err := r.Cookie("ses6")
	if v.token == "" || r.Header.Get("x-xsrf-token") != v.token || err != nil || c.Value != v.token {
		refuse(401, 3004, "Unauthorized")
		return
	}
	switch {
	case r.URL.Path == "/vm/v3/host" && r.FormValue("where") == "(id EQ 100)":
		answer(200, map[string]any{"last_notify": 7, "list": []any{map[string]any{
			"id": 100, "name": "vds-1001", "state": "active", "firewall_rules": v.rules, "net_out_mbitps": v.out,
			"interfaces": []any{map[string]any{"host_interface": "vm100", "mac": "00:16:3e:0d:0b:2f"}},
		}}})
	case r.URL.Path == "/vm/v3/host":
		answer(200, map[string]any{"last_notify": 7, "list": []any{}})
	case resource.MatchString(r.URL.Path) && r.Method == http.MethodPost:
		v.calls = append(v.calls, r.URL.Path)
		for k, x := range in {
			switch k {
			case "firewall_rules":
				if !v.failTask && !v.stale {
					v.rules = nil
					_ = json.Unmarshal(x, &v.rules)
				}
			case "net_out_mbitps":
				if !v.failTask && !v.stale {
					_ = json.Unmarshal(x, &v.out)
				}
			default:
				refuse(400, 3008, "Unexpected property: "+k)
				return
			}
		}
		answer(200, map[string]any{"id": 100, "task": 55})
	case r.URL.Path == "/vm/v3/task" && r.FormValue("where") == "(consul_id EQ 55)":
		st := "complete"
		if v.failTask {
			st = "fail"
		}
		answer(200, map[string]any{"list": []any{map[string]any{"status": st}}})
	default:
		refuse(404, 3000, "no such function")
	}
}

func newVMmanager(t *testing.T) (*vmmanager, *VMmanagerAdapter, Config) {
	v := &vmmanager{rules: []map[string]any{
		{"action": "drop", "direction": "in", "protocols": []any{"udp"}, "portstart": 53.0, "portend": 53.0, "note": "an admin's"},
	}}
	cfg := config(t, VMmanager6, v.wrap(v.ServeHTTP))
	return v, NewVMmanager(cfg, Deps{}), cfg
}

func (v *vmmanager) raw() string {
	v.Lock()
	defer v.Unlock()
	b, _ := json.Marshal([]any{v.rules, v.out})
	return string(b)
}

func TestVMmanagerMeasures(t *testing.T) {
	m := suspendertest.Mark("inc-1")
	mild := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}}
	strong := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 17}}}
	for name, c := range map[string]struct{ mild, strong flow.Measure }{
		"block_port": {mild, strong},
		"rate_limit": {flow.Measure{Kind: flow.MeasureLimit, KbitS: 16000}, flow.Measure{Kind: flow.MeasureLimit, KbitS: 8000}},
	} {
		t.Run(name, func(t *testing.T) {
			v, a, cfg := newVMmanager(t)
			before, raw := mustStatus(t, a), v.raw()
			first := mustRestrict(t, a, c.mild, m)
			if diff := cmp.Diff(before, first.Before); diff != "" {
				t.Errorf("Receipt.Before (-status +receipt):\n%s", diff)
			}
			second := mustRestrict(t, a, c.strong, m)
			in, ok := mustStatus(t, a).Restricted(c.strong.Kind)
			if diff := cmp.Diff(c.strong, in.Measure); !ok || diff != "" || !cmp.Equal(in.Mark, m) {
				t.Errorf("in force %t, mark %+v (-want +got):\n%s", ok, in.Mark, diff)
			}
			if diff := cmp.Diff(mustStatus(t, a), second.After); diff != "" {
				t.Errorf("Receipt.After (-status +receipt):\n%s", diff)
			}
			v.calls = nil
			mustRestrict(t, NewVMmanager(cfg, Deps{}), c.strong, m) // after a restart
			if len(v.calls) != 0 {
				t.Errorf("a repeat wrote %q", v.calls)
			}
			other := suspendertest.Mark("inc-2")
			_, err := a.Restrict(t.Context(), nic, c.mild, other)
			wantClass(t, "Restrict for another incident", err, flow.ErrConflict)
			wantClass(t, "Lift for another incident", a.Lift(t.Context(), nic, c.mild.Kind, other, first), flow.ErrConflict)
			if all, err := a.Marked(t.Context()); err != nil || len(all) != 1 || all[0].NIC.VDS != "100" {
				t.Errorf("Marked = %+v, %v", all, err)
			}
			for range 2 {
				if err := a.Lift(t.Context(), nic, c.mild.Kind, m, first); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(raw, v.raw()); diff != "" {
				t.Errorf("after Lift (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(before, mustStatus(t, a)); diff != "" {
				t.Errorf("status after Lift (-before +after):\n%s", diff)
			}
		})
	}
}

func mustStatus(t *testing.T, a *VMmanagerAdapter) flow.NICStatus {
	t.Helper()
	st, err := a.Status(t.Context(), nic)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func mustRestrict(t *testing.T, a *VMmanagerAdapter, me flow.Measure, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := a.Restrict(t.Context(), nic, me, m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVMmanagerFaults(t *testing.T) {
	m := suspendertest.Mark("inc-1")
	ssh := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}}
	t.Run("a cut is refused, not pretended", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		_, err := a.Cut(t.Context(), nic, m)
		wantClass(t, "Cut", err, flow.ErrUnsupported)
		if len(v.calls) != 0 || mustStatus(t, a).Cut() {
			t.Errorf("calls %q", v.calls)
		}
	})
	t.Run("what cannot be taken", func(t *testing.T) {
		_, a, _ := newVMmanager(t)
		for what, me := range map[string]flow.Measure{
			"ICMP": {Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 1}}}, "another kind": {Kind: "shout"}, "a cut": {Kind: flow.MeasureCut},
		} {
			_, err := a.Restrict(t.Context(), nic, me, m)
			wantClass(t, what, err, flow.ErrUnsupported)
		}
		for what, me := range map[string]flow.Measure{"no ports": {Kind: flow.MeasureBlockPort}, "no limit": {Kind: flow.MeasureLimit}} {
			_, err := a.Restrict(t.Context(), nic, me, m)
			wantClass(t, what, err, flow.ErrDenied)
		}
	})
	t.Run("an admin's equal rule stays", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		v.rules = append(v.rules, map[string]any{"action": "drop", "direction": "out", "protocols": []any{"tcp"}, "portstart": 22.0, "portend": 22.0})
		raw := v.raw()
		r := mustRestrict(t, a, ssh, m)
		if err := a.Lift(t.Context(), nic, ssh.Kind, m, r); err != nil || v.raw() != raw {
			t.Errorf("%v, rules %s, want %s", err, v.raw(), raw)
		}
	})
	t.Run("a tighter limit of its own stays", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		v.out = 5
		r := mustRestrict(t, a, flow.Measure{Kind: flow.MeasureLimit, KbitS: 16000}, m)
		if in, _ := r.After.Restricted(flow.MeasureLimit); in.Measure.KbitS != 5000 || v.out != 5 {
			t.Errorf("%d kbit/s in force, %d Mbit/s at the panel, want 5 Mbit/s", in.Measure.KbitS, v.out)
		}
	})
	t.Run("one that somebody sets meanwhile stays", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		r := mustRestrict(t, a, flow.Measure{Kind: flow.MeasureLimit, KbitS: 16000}, m)
		v.out = 30
		if err := a.Lift(t.Context(), nic, flow.MeasureLimit, m, r); err != nil || v.out != 30 {
			t.Errorf("%v, %d Mbit/s, want 30", err, v.out)
		}
	})
	t.Run("asleep", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		v.asleep = 3
		mustStatus(t, a)
	})
	t.Run("the session ends", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		mustStatus(t, a)
		v.token = "another"
		mustStatus(t, a)
		if v.logins != 2 {
			t.Errorf("%d logins, want 2", v.logins)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		v, _, cfg := newVMmanager(t)
		cfg.Secret = "wrong"
		_, err := NewVMmanager(cfg, Deps{}).Status(t.Context(), nic)
		wantClass(t, "Status", err, flow.ErrDenied)
		if v.logins > 2 {
			t.Errorf("%d logins: an account could be locked", v.logins)
		}
	})
	t.Run("a task that fails", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		v.failTask = true
		_, err := a.Restrict(t.Context(), nic, ssh, m)
		wantClass(t, "Restrict", err, flow.ErrTransient)
		v.failTask = false
		r := mustRestrict(t, a, ssh, m)
		if err := a.Lift(t.Context(), nic, ssh.Kind, m, r); err != nil || len(v.rules) != 1 {
			t.Errorf("%v, rules %v", err, v.rules)
		}
	})
	t.Run("a task that does nothing", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		v.stale = true
		_, err := a.Restrict(t.Context(), nic, ssh, m)
		wantClass(t, "Restrict", err, flow.ErrConflict)
	})
	t.Run("acted, and no answer", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		raw := v.raw()
		v.set(&fault{on: "/resource", code: 500, after: true, once: true})
		_, err := a.Restrict(t.Context(), nic, ssh, m)
		wantClass(t, "Restrict", err, flow.ErrTransient)
		r := mustRestrict(t, a, ssh, m)
		if len(v.calls) != 1 {
			t.Errorf("written %d times, want once", len(v.calls))
		}
		if err := a.Lift(t.Context(), nic, ssh.Kind, m, r); err != nil || v.raw() != raw {
			t.Errorf("%v, %s, want %s", err, v.raw(), raw)
		}
	})
	t.Run("not this server", func(t *testing.T) {
		_, a, _ := newVMmanager(t)
		wrong := nic
		wrong.MAC = "00:16:3e:00:00:01"
		_, err := a.Restrict(t.Context(), wrong, ssh, m)
		wantClass(t, "another MAC", err, flow.ErrNotFound)
		wrong.VDS = "101"
		_, err = a.Restrict(t.Context(), wrong, ssh, m)
		wantClass(t, "another server", err, flow.ErrNotFound)
	})
	t.Run("described", func(t *testing.T) {
		_, a, _ := newVMmanager(t)
		for _, me := range []flow.Measure{ssh, {Kind: flow.MeasureLimit, KbitS: 8000}, {Kind: flow.MeasureCut}} {
			text, err := a.Describe(t.Context(), nic, me)
			if err != nil || text == "" || strings.Contains(text, secret) || strings.Contains(text, "token-") {
				t.Errorf("Describe %s: %q, %v", me.Kind, text, err)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	good := Config{Name: "p", Product: VMmanager6, URL: "https://panel", User: "u", Secret: "s", State: t.TempDir()}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no name":          {func(c *Config) { c.Name = "" }, "name: "},
		"a path as name":   {func(c *Config) { c.Name = "../x" }, "name: "},
		"SolusVM":          {func(c *Config) { c.Product = "solusvm" }, "PXE"},
		"another product":  {func(c *Config) { c.Product = "cpanel" }, "product: "},
		"http":             {func(c *Config) { c.URL = "http://panel" }, "url: "},
		"no secret":        {func(c *Config) { c.Secret = "" }, "secret_file: "},
		"no state":         {func(c *Config) { c.State = "/nonexistent" }, "state: "},
		"no such CA":       {func(c *Config) { c.CAFile = "/nonexistent" }, "ca_file: "},
		"negative timeout": {func(c *Config) { c.Timeout = -1 }, "timeout: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Validate = %v, want %q", err, c.says)
			}
		})
	}
}
