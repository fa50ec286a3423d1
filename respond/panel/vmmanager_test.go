package panel

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

// vmmanager answers as the API guide and client libraries show it.
type vmmanager struct {
	faults
	token           string
	logins, asleep  int
	rules           []map[string]any
	out             int
	failTask, stale bool
	deny            bool // a role without rights
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
	case v.deny:
		refuse(403, 3003, "Access denied")
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
	t.Run("a role without rights", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		v.deny = true
		_, err := a.Status(t.Context(), nic)
		wantClass(t, "Status", err, flow.ErrDenied)
		if v.logins != 2 {
			t.Errorf("%d logins, want 2: once at first, once in case the session had ended", v.logins)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		v, _, cfg := newVMmanager(t)
		cfg.Secret = "wrong"
		_, err := NewVMmanager(cfg, Deps{}).Status(t.Context(), nic)
		wantClass(t, "Status", err, flow.ErrDenied)
		if v.logins != 1 {
			t.Errorf("%d logins, want 1: an account could be locked", v.logins)
		}
	})
	t.Run("a task that fails", func(t *testing.T) {
		v, a, _ := newVMmanager(t)
		v.failTask = true
		_, err := a.Restrict(t.Context(), nic, ssh, m)
		wantClass(t, "Restrict", err, flow.ErrTransient)
		if !strings.Contains(err.Error(), "task 55 failed") {
			t.Errorf("%v does not say that the task failed", err)
		}
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
