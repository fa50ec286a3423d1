package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/embedded"
)

// The verification is made quicker than the defaults: softflowd reports within
// seconds here.
const serviceConfig = `
listen:
  - {protocol: netflow, address: "MGMT:2055"}
exporters:
  allow: [EXPORTER]
  sampling: [{exporter: EXPORTER, default: 1}]
networks:
  internal: [198.51.100.0/24]
data_dir: DIR/STORY
clickhouse: {engine_lib: "LIB"}
http: {address: "MGMT:8080"}
detect:
  interval: 5s
  rules: {netscan: {mode: enforce}}
respond:
  max_per_hour: 10
POLICY
  verify_after: 10s
  verify_for: 10s
  suspenders:
    - {name: node1, type: libvirt, socket: SOCKET, timeout: 10s}
inventory: {file: DIR/inventory.yaml}
api: {tokens: [{name: e2e, role: operator, token_file: DIR/token}]}
`

// cutPolicy is what follows from the scan in TestNothingMocked: a cut, and no
// other automatic act that day.
const cutPolicy = "  caps: {tenant_per_day: 1}"

const serviceInventory = `
- {prefix: SCANNER/32, tenant: c-42, vds: vds-1001, hypervisor: node1, macs: ["MAC"], contact: owner@example.net, language: ru, tags: []}
- {prefix: TENANT/32, tenant: c-43, vds: vds-1002, hypervisor: node1, macs: ["52:54:00:aa:10:99"], contact: other@example.net, language: en, tags: []}
`

// service is a running flowcordon in the management namespace.
type service struct {
	w     *world
	token string
	http  *http.Client
	log   string
}

// buildService builds the program as a user would.
func buildService(w *world) string {
	w.t.Helper()
	root, err := lab.Root()
	if err != nil {
		w.t.Fatal(err)
	}
	bin := filepath.Join(w.Dir, "flowcordon")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/flowcordon")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("build flowcordon: %v\n%s", err, out)
	}
	return bin
}

func findEngine(t *testing.T) string {
	t.Helper()
	lib, err := embedded.FindLib()
	if err != nil {
		lab.Require(t, &lab.MissingError{What: []string{err.Error()}})
	}
	return lib
}

// startService writes the files and starts flowcordon serve. It ends by SIGTERM
// at the end of the test.
func startService(w *world, bin, lib, policy string) *service {
	w.t.Helper()
	s := &service{
		w: w, token: rand.Text(), log: filepath.Join(w.Dir, "log", "flowcordon"),
		http: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: lab.DialIn(w.Mgmt)}},
	}
	r := strings.NewReplacer("POLICY", policy, "STORY", w.t.Name(), "MGMT", lab.MgmtIP, "EXPORTER", lab.ExporterA, "DIR", w.Dir, "LIB", lib, "SOCKET", w.Socket,
		"SCANNER", scannerIP, "TENANT", lab.TenantIP, "MAC", scannerMAC)
	for name, text := range map[string]string{
		"flowcordon.yaml": r.Replace(serviceConfig), "inventory.yaml": r.Replace(serviceInventory), "token": s.token + "\n",
	} {
		if err := os.WriteFile(filepath.Join(w.Dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	out, err := os.Create(s.log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.Close()
	stop, err := w.Spawn(lab.Command(w.Mgmt, bin, "serve", "--config", filepath.Join(w.Dir, "flowcordon.yaml")), out)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		stop()
		if w.t.Failed() {
			text, _ := os.ReadFile(s.log)
			w.t.Logf("flowcordon: …%s", text[max(0, len(text)-6000):])
		}
	})
	return s
}

// call makes one API call and decodes the answer into out.
func (s *service) call(method, path, body string, out any) error {
	ctx, cancel := context.WithTimeout(s.w.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+lab.MgmtIP+":8080"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// incidents lists all incidents.
func (s *service) incidents() ([]flow.Incident, error) {
	var out struct {
		Incidents []flow.Incident `json:"incidents"`
	}
	err := s.call(http.MethodGet, "/api/v1/incidents", "", &out)
	return out.Incidents, err
}

// waitState waits until an incident of the scanner's that is the one meant is in
// the state, and logs each state on the way.
func (s *service) waitState(want flow.State, meant func(flow.Incident) bool) flow.Incident {
	s.w.t.Helper()
	var last flow.Incident
	if err := lab.Until(hang, func() error {
		all, err := s.incidents()
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.Tenant.String() != scannerIP || !meant(i) {
				continue
			}
			if i.State != last.State {
				s.w.step("incident %s is %s %s", i.ID, i.State, i.Reason)
			}
			last = i
		}
		if last.State != want {
			return fmt.Errorf("the scanner's incident is %q (%s), want %q", last.State, last.Reason, want)
		}
		return nil
	}); err != nil {
		s.w.t.Fatal(err)
	}
	return last
}

// release gives back what an incident took, with the customer's statement.
func (s *service) release(id, statement string) {
	s.w.t.Helper()
	body, err := json.Marshal(map[string]string{"statement": statement})
	if err != nil {
		s.w.t.Fatal(err)
	}
	if err := s.call(http.MethodPost, "/api/v1/incidents/"+id+"/release", string(body), nil); err != nil {
		s.w.t.Fatal(err)
	}
	s.w.step("release of %s asked for", id)
}
