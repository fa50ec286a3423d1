package panel

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
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
