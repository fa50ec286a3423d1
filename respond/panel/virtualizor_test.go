package panel

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

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
