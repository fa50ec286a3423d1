package proxmox

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/proxmox/pvetest"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

func isConfigWrite(method, path string) bool {
	return (method == "POST" || method == "PUT") && strings.HasSuffix(path, "/config")
}

// before sets the hook that is called, under the simulator's lock, with every call.
func before(s *pvetest.Sim, fn func(method, path string) *pvetest.Fault) {
	s.Lock()
	defer s.Unlock()
	s.Before = fn
}

func TestLocked(t *testing.T) {
	for name, nic := range map[string]flow.NIC{"VM": vmNIC, "CT": ctNIC} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			id := map[string]int{"VM": 100, "CT": 200}[name]
			a, m := adapter(t, s), suspendertest.Mark("inc-1")
			was := raw(s, id)
			s.Edit(id, func(g *pvetest.Guest) { g.Lock = "backup" })
			_, err := a.Cut(t.Context(), nic, m)
			wantClass(t, "Cut during a backup", err, flow.ErrLocked)
			if !strings.Contains(err.Error(), name+" is locked (backup)") {
				t.Errorf("the error %q does not say what holds the guest", err)
			}
			// The firewall has a file and a lock of its own.
			r, err := a.Restrict(t.Context(), nic, flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}}, m)
			if err != nil {
				t.Fatalf("a port block during a backup: %v", err)
			}
			if err := a.Lift(t.Context(), nic, flow.MeasureBlockPort, m, r); err != nil {
				t.Fatal(err)
			}
			s.Edit(id, func(g *pvetest.Guest) { g.Lock = "" })
			if diff := cmp.Diff(was, raw(s, id)); diff != "" {
				t.Errorf("a refused cut left something (-before +after):\n%s", diff)
			}
			mustCut(t, a, nic, m)
		})
	}
}

// A backup that begins after the early check: the task itself fails.
func TestLockedInTheTask(t *testing.T) {
	s := pvetest.Start(t)
	s.SlowTasks = 3
	a := adapter(t, s)
	before(s, func(_, path string) *pvetest.Fault {
		if strings.Contains(path, "/tasks/") {
			s.Guests[100].Lock = "snapshot"
		}
		return nil
	})
	_, err := a.Cut(t.Context(), vmNIC, suspendertest.Mark("inc-1"))
	wantClass(t, "Cut", err, flow.ErrLocked)
}

func TestTaskThatNeverEnds(t *testing.T) {
	s := pvetest.Start(t)
	s.SlowTasks = 1 << 30
	a := adapter(t, s, func(c *Config) { c.Timeout = 2 * time.Second })
	_, err := a.Cut(t.Context(), vmNIC, suspendertest.Mark("inc-1"))
	wantClass(t, "Cut", err, flow.ErrTransient)
}

func TestDigestRace(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	once := 0
	before(s, func(method, path string) *pvetest.Fault {
		if isConfigWrite(method, path) {
			if once++; once == 1 { // an admin saves the VLAN in the same moment
				s.Guests[100].Conf["net0"] = strings.Replace(s.Guests[100].Conf["net0"], "tag=101", "tag=102", 1)
			}
		}
		return nil
	})
	mustCut(t, a, vmNIC, m)
	if got := conf(s, 100, "net0"); !strings.Contains(got, "tag=102") || !strings.Contains(got, "link_down=1") {
		t.Errorf("net0 = %s, want the admin's change and the cut", got)
	}
	n := 0
	before(s, func(method, path string) *pvetest.Fault {
		if isConfigWrite(method, path) {
			n++
			s.Guests[200].Conf["memory"] = strings.Repeat("1", n)
		}
		return nil
	})
	_, err := a.Cut(t.Context(), ctNIC, m)
	wantClass(t, "Cut against one who writes all the time", err, flow.ErrConflict)
	if n != tries {
		t.Errorf("%d tries, want %d", n, tries)
	}
}

func TestMigratesBetweenFindAndCut(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	before(s, func(method, path string) *pvetest.Fault {
		if isConfigWrite(method, path) && strings.HasPrefix(path, "/nodes/pve1/") {
			s.Guests[100].Node = "pve2"
		}
		return nil
	})
	if r := mustCut(t, a, vmNIC, m); r.Node != "pve2" {
		t.Errorf("Receipt.Node = %s, want pve2", r.Node)
	}
	if got := conf(s, 100, "net0"); !strings.Contains(got, "link_down=1") {
		t.Errorf("net0 = %s after the migration, want it down", got)
	}
}

func TestDeletedBetweenFindAndCut(t *testing.T) {
	s := pvetest.Start(t)
	a := adapter(t, s)
	before(s, func(method, path string) *pvetest.Fault {
		if isConfigWrite(method, path) {
			delete(s.Guests, 100)
		}
		return nil
	})
	_, err := a.Cut(t.Context(), vmNIC, suspendertest.Mark("inc-1"))
	wantClass(t, "Cut", err, flow.ErrNotFound)
}

func TestNodeDown(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	s.Lock()
	s.Down["pve1"] = true
	s.Unlock()
	_, err := a.Cut(t.Context(), vmNIC, m)
	wantClass(t, "Cut on a node that is down", err, flow.ErrTransient)
	mustCut(t, a, ctNIC, m) // of the other node
	found, err := a.Marked(t.Context())
	wantClass(t, "Marked", err, flow.ErrTransient)
	if len(found) != 1 || found[0].NIC.VDS != "200" {
		t.Errorf("Marked = %+v, want what the other node has", found)
	}
}

func TestRights(t *testing.T) {
	block := flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}}
	for name, c := range map[string]struct {
		priv string
		do   func(*Adapter) error
		want flow.ErrClass
	}{
		"cut without VM.Config.Network": {"VM.Config.Network", nil, flow.ErrDenied},
		"cut without VM.Config.Options": {"VM.Config.Options", nil, flow.ErrDenied},
		"cut without SDN.Use":           {"SDN.Use", nil, flow.ErrDenied},
		"cut without VM.Audit":          {"VM.Audit", nil, flow.ErrNotFound},
		"block without Sys.Audit": {"Sys.Audit", func(a *Adapter) error {
			_, err := a.Restrict(t.Context(), vmNIC, block, suspendertest.Mark("i"))
			return err
		}, flow.ErrDenied},
		"block without VM.Config.Network": {"VM.Config.Network", func(a *Adapter) error {
			_, err := a.Restrict(t.Context(), vmNIC, block, suspendertest.Mark("i"))
			return err
		}, flow.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			was := raw(s, 100)
			s.Lock()
			s.Privs[c.priv] = false
			s.Unlock()
			a := adapter(t, s)
			do := c.do
			if do == nil {
				do = func(a *Adapter) error { _, err := a.Cut(t.Context(), vmNIC, suspendertest.Mark("i")); return err }
			}
			err := do(a)
			wantClass(t, "class", err, c.want)
			if err == nil || !strings.Contains(err.Error(), c.priv) {
				t.Errorf("the error %v does not name the right %s", err, c.priv)
			}
			if diff := cmp.Diff(was, raw(s, 100)); diff != "" {
				t.Errorf("changed although refused:\n%s", diff)
			}
		})
	}
}

func TestWrongToken(t *testing.T) {
	s := pvetest.Start(t)
	a := adapter(t, s, func(c *Config) { c.Token = "abuse@pve!flowcordon=not-the-secret" })
	_, err := a.Status(t.Context(), vmNIC)
	wantClass(t, "Status", err, flow.ErrDenied)
	if strings.Contains(err.Error(), "not-the-secret") {
		t.Errorf("the error tells the token: %v", err)
	}
}

func TestCertificates(t *testing.T) {
	s := pvetest.Start(t)
	t.Run("another fingerprint", func(t *testing.T) {
		a := adapter(t, s, func(c *Config) { c.Fingerprints = []string{strings.Repeat("00:", 31) + "00"} })
		_, err := a.Cut(t.Context(), vmNIC, suspendertest.Mark("inc-1"))
		wantClass(t, "Cut", err, flow.ErrDenied)
		if !strings.Contains(err.Error(), s.Fingerprint()) {
			t.Errorf("the error %v does not say which certificate it was", err)
		}
	})
	t.Run("one of two fingerprints", func(t *testing.T) {
		a := adapter(t, s, func(c *Config) {
			c.Fingerprints = append([]string{strings.Repeat("00:", 31) + "00"}, c.Fingerprints...)
		})
		if _, err := a.Status(t.Context(), vmNIC); err != nil {
			t.Error(err)
		}
	})
	t.Run("a CA that is not ours", func(t *testing.T) {
		a := adapter(t, s, func(c *Config) { c.Fingerprints = nil })
		_, err := a.Status(t.Context(), vmNIC)
		wantClass(t, "Status", err, flow.ErrDenied)
	})
	t.Run("the cluster's own CA", func(t *testing.T) {
		srv := httptest.NewTLSServer(s)
		defer srv.Close()
		file := filepath.Join(t.TempDir(), "pve-root-ca.pem")
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
		if err := os.WriteFile(file, ca, 0o600); err != nil {
			t.Fatal(err)
		}
		a := adapter(t, s, func(c *Config) { c.URLs, c.Fingerprints, c.CAFile = []string{srv.URL}, nil, file })
		if _, err := a.Status(t.Context(), vmNIC); err != nil {
			t.Error(err)
		}
	})
	t.Run("a redirect is not followed", func(t *testing.T) {
		srv := httptest.NewTLSServer(http.RedirectHandler(s.URL()+"/api2/json/cluster/resources", http.StatusTemporaryRedirect))
		defer srv.Close()
		a := adapter(t, s, func(c *Config) { c.URLs = []string{srv.URL} })
		_, err := a.Status(t.Context(), vmNIC)
		wantClass(t, "Status", err, flow.ErrDenied)
	})
}

func TestHangingServer(t *testing.T) {
	s := pvetest.Start(t)
	before(s, func(string, string) *pvetest.Fault { return &pvetest.Fault{Hang: true} })
	a := adapter(t, s, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	done := make(chan error, 1)
	go func() { _, err := a.Cut(t.Context(), vmNIC, suspendertest.Mark("inc-1")); done <- err }()
	select {
	case err := <-done:
		wantClass(t, "Cut", err, flow.ErrTransient)
	case <-time.After(time.Minute): // hang guard
		t.Fatal("the deadline does not free the call")
	}
}

// The call acts and its answer is lost: the repeat finds what it did, writes
// nothing and knows the state from before.
func TestFailsAfterActing(t *testing.T) {
	for name, f := range map[string]pvetest.Fault{
		"a 500":                  {After: true, Code: 500, Text: "got timeout"},
		"a dropped connection":   {After: true, Drop: true},
		"a proxy that gave up":   {After: true, Code: 596, Text: "Connection timed out"},
		"a gateway in between":   {After: true, Code: 502, Text: "Bad Gateway"},
		"a quorum that was lost": {After: true, Code: 500, Text: "cluster not ready - no quorum?"},
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			was := raw(s, 100)
			a, m := adapter(t, s), suspendertest.Mark("inc-1")
			st, err := a.Status(t.Context(), vmNIC)
			if err != nil {
				t.Fatal(err)
			}
			before(s, func(method, path string) *pvetest.Fault {
				if isConfigWrite(method, path) {
					s.Before = nil
					return &f
				}
				return nil
			})
			_, err = a.Cut(t.Context(), vmNIC, m)
			wantClass(t, "the call whose answer is lost", err, flow.ErrTransient)
			r := mustCut(t, a, vmNIC, m)
			if len(s.Calls) != 1 {
				t.Errorf("written %d times: %q, want once", len(s.Calls), s.Calls)
			}
			if diff := cmp.Diff(st, r.Before); diff != "" {
				t.Errorf("Receipt.Before (-status before +receipt):\n%s", diff)
			}
			if err := a.Restore(t.Context(), vmNIC, m, r); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(was, raw(s, 100)); diff != "" {
				t.Errorf("after the restore (-before +after):\n%s", diff)
			}
		})
	}
}

// A panel writes the NIC anew from its template: the cut shows as undone and
// the repeat puts it right, with the state from before the first.
func TestRedefinedByThePanel(t *testing.T) {
	s := pvetest.Start(t)
	was := raw(s, 100)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	first := mustCut(t, a, vmNIC, m)
	s.Edit(100, func(g *pvetest.Guest) { g.Conf["net0"] = strings.Replace(g.Conf["net0"], "link_down=1,", "", 1) })
	if st, err := a.Status(t.Context(), vmNIC); err != nil || st.Cut() || st.Mark == nil {
		t.Errorf("Status = %+v, %v, want it up, with the mark", st, err)
	}
	again := mustCut(t, a, vmNIC, m)
	if diff := cmp.Diff(first.Before, again.Before); diff != "" {
		t.Errorf("Receipt.Before (-first +again):\n%s", diff)
	}
	s.Edit(100, func(g *pvetest.Guest) { g.Running = false })
	if st, err := a.Status(t.Context(), vmNIC); err != nil || !st.Cut() || st.Live != flow.LinkUnknown {
		t.Errorf("powered off: %+v, %v, want it cut", st, err)
	}
	s.Edit(100, func(g *pvetest.Guest) { g.Running = true })
	if err := a.Restore(t.Context(), vmNIC, m, again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(was, raw(s, 100)); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

func TestRebuiltWithNewMAC(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	r := mustCut(t, a, vmNIC, m)
	s.Edit(100, func(g *pvetest.Guest) {
		g.Conf = map[string]string{"name": "vds-1001", "net0": "virtio=BC:24:11:AA:77:77,bridge=vmbr0"}
	})
	_, err := a.Status(t.Context(), vmNIC)
	wantClass(t, "Status by the old MAC", err, flow.ErrNotFound)
	wantClass(t, "Restore by the old MAC", a.Restore(t.Context(), vmNIC, m, r), flow.ErrNotFound)
	fresh := vmNIC
	fresh.MAC = "bc:24:11:aa:77:77"
	mustCut(t, a, fresh, m)
}

func TestOtherEndpoint(t *testing.T) {
	s := pvetest.Start(t)
	const dead = "https://127.96.0.1:1" // where nobody listens
	a := adapter(t, s, func(c *Config) { c.URLs = []string{dead, s.URL()} })
	mustCut(t, a, vmNIC, suspendertest.Mark("inc-1"))
	if a.api.good.Load() != 1 {
		t.Error("the endpoint that answered is not kept")
	}
	a = adapter(t, s, func(c *Config) { c.URLs = []string{dead} })
	_, err := a.Status(t.Context(), vmNIC)
	wantClass(t, "Status", err, flow.ErrTransient)
}

func TestStrangeAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want flow.ErrClass
	}{
		"no JSON":            {"<html>maintenance</html>", flow.ErrTransient},
		"another shape":      {`{"data":{"vmid":"x"}}`, flow.ErrTransient},
		"nothing":            {"", flow.ErrTransient},
		"no data":            {`{"data":null}`, flow.ErrNotFound},
		"a guest without id": {`{"data":[{"type":"qemu","node":"pve1","name":"vds-1001"}]}`, flow.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s := pvetest.Start(t)
			srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(c.body)) }))
			defer srv.Close()
			a := adapter(t, s, func(cfg *Config) { cfg.URLs = []string{srv.URL} })
			_, err := a.Status(t.Context(), vmNIC)
			wantClass(t, "Status", err, c.want)
		})
	}
}

// A call that was sent may have acted: it does not go to another node too.
func TestSentOnlyOnce(t *testing.T) {
	s := pvetest.Start(t)
	var sent atomic.Int32
	first := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isConfigWrite(r.Method, r.URL.Path) {
			s.ServeHTTP(w, r)
			return
		}
		sent.Add(1)
		s.ServeHTTP(httptest.NewRecorder(), r)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if tc, ok := conn.(*tls.Conn).NetConn().(*net.TCPConn); ok {
			_ = tc.SetLinger(0) // a reset, as of a node that goes down
		}
		_ = conn.(*tls.Conn).NetConn().Close()
	}))
	defer first.Close()
	a := adapter(t, s, func(c *Config) { c.URLs = []string{first.URL, s.URL()} })
	_, err := a.Cut(t.Context(), vmNIC, suspendertest.Mark("inc-1"))
	wantClass(t, "Cut", err, flow.ErrTransient)
	s.Lock()
	defer s.Unlock()
	if sent.Load() != 1 || len(s.Calls) != 1 {
		t.Errorf("sent %d times, carried out %q; want once", sent.Load(), s.Calls)
	}
}

// Each call is some 10 to 50 ms of a real cluster, and all of an operation's
// have to be done within its deadline.
func TestCallsPerOperation(t *testing.T) {
	s := pvetest.Start(t)
	a, m := adapter(t, s), suspendertest.Mark("inc-1")
	calls := 0
	before(s, func(string, string) *pvetest.Fault { calls++; return nil })
	var r, rb flow.Receipt
	for _, op := range []struct {
		name string
		most int
		do   func() error
	}{
		{"status", 4, func() error { _, err := a.Status(t.Context(), vmNIC); return err }},
		{"cut", 8, func() (err error) { r, err = a.Cut(t.Context(), vmNIC, m); return err }},
		{"repeated cut", 7, func() error { _, err := a.Cut(t.Context(), vmNIC, m); return err }},
		{"restore", 4, func() error { return a.Restore(t.Context(), vmNIC, m, r) }},
		{"block", 15, func() (err error) { rb, err = a.Restrict(t.Context(), vmNIC, ssh, m); return err }},
		{"unblock", 6, func() error { return a.Lift(t.Context(), vmNIC, flow.MeasureBlockPort, m, rb) }},
		{"list of two guests", 5, func() error { _, err := a.Marked(t.Context()); return err }},
	} {
		calls = 0
		if err := op.do(); err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		if calls > op.most {
			t.Errorf("%s takes %d calls, want at most %d", op.name, calls, op.most)
		}
		t.Logf("%s: %d calls", op.name, calls)
	}
}
