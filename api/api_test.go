package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

type answer struct {
	code int
	head http.Header
	body string
}

func (b *bench) do(t testing.TB, role Role, method, path, body string, head ...string) answer {
	t.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, b.URL+path, rd)
	if err != nil {
		t.Fatal(err)
	}
	if role > 0 {
		req.Header.Set("Authorization", "Bearer "+secret(role))
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	res, err := b.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(got)}
}

func (b *bench) get(t testing.TB, path string, head ...string) answer {
	t.Helper()
	return b.do(t, RoleViewer, http.MethodGet, path, "", head...)
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if a.code != http.StatusOK {
		t.Fatalf("status %d: %s", a.code, a.body)
	}
	d := json.NewDecoder(strings.NewReader(a.body))
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

type problem struct {
	Title, Detail, Instance string
	Status                  int
}

// problem checks that the answer is a whole problem+json and gives it.
func (a answer) problem(t testing.TB, code int) problem {
	t.Helper()
	var p problem
	if ct := a.head.Get("Content-Type"); a.code != code || ct != "application/problem+json" {
		t.Fatalf("status %d %s, want %d as problem+json: %s", a.code, ct, code, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != code || p.Title != http.StatusText(code) || p.Detail == "" || p.Instance != "urn:flowcordon:request:"+a.head.Get("X-Request-Id") {
		t.Errorf("incomplete problem: %+v (X-Request-Id %s)", p, a.head.Get("X-Request-Id"))
	}
	return p
}

func TestOpenAPIGolden(t *testing.T) {
	b := newBench(t, nil)
	a := b.get(t, Prefix+"/openapi.json")
	if a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, []byte(a.body), "", "  "); err != nil {
		t.Fatal(err)
	}
	buf.WriteByte('\n')
	const golden = "openapi.golden.json"
	if *update {
		if err := os.WriteFile(golden, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./api -run OpenAPI -update", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(buf.String(), "\n")); diff != "" {
		t.Errorf("the OpenAPI document changed; if that is meant, run: go test ./api -run OpenAPI -update (-want +got):\n%s", diff)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Security    []map[string][]string
			Description string
		}
	}
	a.into(t, &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || len(doc.Paths) != 40 {
		t.Errorf("version %s, %d paths", doc.OpenAPI, len(doc.Paths))
	}
	if strings.Contains(a.body, `"null"`) {
		t.Error("the document allows null, which is never sent")
	}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			if len(op.Security) != 1 || !strings.Contains(op.Description, "Needs a token of the role ") {
				t.Errorf("%s %s says nothing about tokens", method, path)
			}
		}
	}
}
