package client

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const tool = "../../.cache/bin/oapi-codegen"

// generator gives the generator of the version that .ci/install names.
func generator(t *testing.T) string {
	t.Helper()
	install, err := os.ReadFile("../../.ci/install")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^  oapi=(v\S+)`).FindSubmatch(install)
	if want == nil {
		t.Fatal(".ci/install names no version of oapi-codegen")
	}
	have, err := exec.CommandContext(t.Context(), tool, "--version").Output()
	if version := strings.Fields(string(have)); err != nil || len(version) == 0 || version[len(version)-1] != string(want[1]) {
		missing := "oapi-codegen " + string(want[1]) + " is not in .cache/bin; .ci/install test puts it there"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	path, err := filepath.Abs(tool)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGenerated: the client is what the document gives, no less and no more.
func TestGenerated(t *testing.T) {
	gen := generator(t)
	out := filepath.Join(t.TempDir(), "client.gen.go")
	cmd := exec.CommandContext(t.Context(), gen, "-config", "config.yaml", "-o", out, "../openapi.golden.json")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("client.gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		d := cmp.Diff(strings.Split(string(got), "\n"), strings.Split(string(want), "\n"))
		t.Fatalf("client.gen.go is not what ../openapi.golden.json gives; run go generate ./api/client (-have +want):\n%.4000s", d)
	}
}

// TestUnsigned: interfaces and observation domains reach 2^32-1.
func TestUnsigned(t *testing.T) {
	var f FlowView
	if err := json.Unmarshal([]byte(`{"in_if": 4294967295, "sampling_rate": 4294967295}`), &f); err != nil || f.InIf != 1<<32-1 {
		t.Errorf("%d, %v", f.InIf, err)
	}
	var s SamplerHealth
	if err := json.Unmarshal([]byte(`{"domain": 4294967295}`), &s); err != nil || s.Domain != 1<<32-1 {
		t.Errorf("%d, %v", s.Domain, err)
	}
}

// TestCalls: parameters that are not set are not sent, those that are set are,
// and answers come back in their shapes.
func TestCalls(t *testing.T) {
	var asked *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r
		if r.URL.Path == "/api/v1/incidents" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"_metadata": {"totalCount": 7, "limit": 50, "offset": 0}, "incidents": [{"id": "a", "rules": ["netscan"], "tier": "suspend"}]}`))
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"status": 404, "detail": "no such"}`))
	}))
	defer srv.Close()
	c, err := NewClientWithResponses(srv.URL+"/api/v1", WithRequestEditorFn(Bearer("secret")))
	if err != nil {
		t.Fatal(err)
	}
	rule := "netscan"
	page, err := c.IncidentsWithResponse(t.Context(), &IncidentsParams{State: []string{"live", "closed"}, Rule: &rule})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := asked.URL.RawQuery, "state=live,closed&rule=netscan"; got != want || asked.Header.Get("Authorization") != "Bearer secret" {
		t.Errorf("asked %q, want %q, as %q", got, want, asked.Header.Get("Authorization"))
	}
	if l := page.JSON200; l == nil || l.UnderscoreMetadata.TotalCount != 7 || l.Incidents[0].Tier != IncidentTierSuspend {
		t.Errorf("answer %+v of %s", l, page.Body)
	}
	one, err := c.IncidentWithResponse(t.Context(), "x/../../y?z")
	if err != nil {
		t.Fatal(err)
	}
	if got := asked.URL.EscapedPath(); got != "/api/v1/incidents/x%2F..%2F..%2Fy%3Fz" {
		t.Errorf("an id left its place: %s", got)
	}
	if p := one.ApplicationProblemJSON404; p == nil || p.Detail == nil || *p.Detail != "no such" {
		t.Errorf("the problem: %+v of %s", p, one.Body)
	}
}
