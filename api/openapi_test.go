package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/ledger"
)

// document is the OpenAPI document as it is served, as plain JSON.
func document(t testing.TB, b *bench) map[string]any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(b.get(t, Prefix+"/openapi.json").body))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

// TestOpenAPIValid: the document is one by the OpenAPI Initiative's own schema,
// and each of its schemas is a JSON Schema that compiles.
func TestOpenAPIValid(t *testing.T) {
	b := newBench(t, nil)
	doc := document(t, b)
	f, err := os.Open("testdata/openapi-3.1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	meta, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	const url = "https://spec.openapis.org/oas/3.1/schema/2021-04-15"
	if err := c.AddResource(url, meta); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(url)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(doc); err != nil {
		t.Errorf("%#v", err)
	}
	broken := map[string]any{"openapi": "3.1.0", "info": map[string]any{"title": "x"}, "paths": map[string]any{}}
	if s.Validate(broken) == nil {
		t.Error("the check finds nothing in a document without a version")
	}
	all := compiler(t, doc)
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for name := range schemas {
		if _, err := all.Compile("mem:///doc.json#/components/schemas/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(schemas) < 50 {
		t.Errorf("%d schemas", len(schemas))
	}
}

func compiler(t testing.TB, doc any) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mem:///doc.json", doc); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOpenAPICoversRoutes: what the router has under /api/v1 and what the document
// says are the same; only the document's own addresses are not in it.
func TestOpenAPICoversRoutes(t *testing.T) {
	b := newBench(t, nil)
	doc := document(t, b)["paths"].(map[string]any)
	served := map[string]bool{}
	err := chi.Walk(b.h.router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		path, ok := strings.CutPrefix(route, Prefix)
		if !ok || strings.HasPrefix(path, "/openapi") {
			return nil
		}
		served[method+" "+path] = true
		ops, _ := doc[path].(map[string]any)
		if ops[strings.ToLower(method)] == nil {
			t.Errorf("%s %s is not in the document", method, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, ops := range doc {
		for method := range ops.(map[string]any) {
			n++
			if !served[strings.ToUpper(method)+" "+path] {
				t.Errorf("%s %s is described and not served", method, path)
			}
		}
	}
	if n < 38 || n != len(served) {
		t.Errorf("%d operations described, %d served", n, len(served))
	}
}

// seeded are the values for what an example cannot know: ids of the sample data.
func (b *bench) seeded(t testing.TB, op, name string) (string, bool) {
	t.Helper()
	switch name {
	case "id":
		switch {
		case op == "exemption-change" || op == "exemption-remove":
			e, err := b.exemptions.Create(t.Context(), flow.Exemption{Holder: "c-1", Owner: "o", Reason: "r", Expires: b.clock().AddDate(0, 0, 1)}, "test", b.clock())
			if err != nil {
				t.Fatal(err)
			}
			return e.Name, true
		case strings.HasPrefix(op, "exempt"):
			return b.exempt[0], true
		case strings.HasPrefix(op, "complaint"):
			return b.caseID, true
		case op == "session-end":
			return b.signedIn(RoleViewer, "anna"), true
		case op == "approve":
			return "inc-2", true
		case op == "close":
			return "inc-3", true
		}
		return "inc-1", true
	case "form":
		return "netscan", true
	}
	return "", false
}

// example is the value that the document shows for a parameter or property.
func example(v map[string]any) (any, bool) {
	for _, m := range []any{v, v["schema"]} {
		m, _ := m.(map[string]any)
		if l, ok := m["examples"].([]any); ok && len(l) > 0 {
			return l[0], true
		}
		if e, ok := m["example"]; ok {
			return e, true
		}
	}
	return nil, false
}

func text(v any) string {
	if l, ok := v.([]any); ok {
		parts := make([]string, len(l))
		for i := range l {
			parts[i] = text(l[i])
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// request builds what the document shows of an operation: every parameter that has
// an example, or must be there.
func (b *bench) request(t testing.TB, doc map[string]any, path string, op map[string]any) (target, body string, head []string) {
	t.Helper()
	id := op["operationId"].(string)
	q := url.Values{}
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		p := p.(map[string]any)
		name := p["name"].(string)
		v, ok := example(p)
		if s, seeded := b.seeded(t, id, name); p["in"] == "path" && seeded {
			v, ok = s, true
		}
		switch {
		case p["in"] == "path" && ok:
			path = strings.Replace(path, "{"+name+"}", url.PathEscape(text(v)), 1)
		case p["in"] == "query" && ok:
			q.Set(name, text(v))
		case p["in"] == "header" && ok && name != "Last-Event-ID":
			head = append(head, name, text(v))
		case p["required"] == true:
			t.Errorf("%s: the parameter %s is needed and has no example", id, name)
		}
	}
	if strings.HasPrefix(id, "exemption-") {
		head = append(head, "If-Match", `"1"`)
	}
	if id == "flow-search" { // who held it and which address are two questions
		q.Del("tenant")
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	if r, ok := op["requestBody"].(map[string]any); ok {
		schema := r["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any)
		body = b.bodyOf(t, doc, id, schema)
	}
	return Prefix + path, body, head
}

// bodyOf joins the examples of a schema's properties.
func (b *bench) bodyOf(t testing.TB, doc map[string]any, id string, schema map[string]any) string {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		schema = doc["components"].(map[string]any)["schemas"].(map[string]any)[ref[strings.LastIndex(ref, "/")+1:]].(map[string]any)
	}
	out := map[string]any{}
	required, _ := schema["required"].([]any)
	for name, p := range schema["properties"].(map[string]any) {
		v, ok := example(p.(map[string]any))
		if enum, is := p.(map[string]any)["enum"].([]any); !ok && is {
			v, ok = enum[0], true
		}
		switch {
		case ok:
			out[name] = v
		case slices.Contains(required, any(name)):
			t.Errorf("%s: %s of the body is needed and has no example", id, name)
		}
	}
	if id == "exempt" || id == "exemption-change" {
		delete(out, "remote_as") // instead of remote
	}
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOpenAPIExamples sends the example of every operation and holds the answer
// against the schema that the document gives for it.
func TestOpenAPIExamples(t *testing.T) {
	ran := 0
	probe := newBench(t, nil)
	doc := document(t, probe)
	schemas := compiler(t, doc)
	for path, ops := range doc["paths"].(map[string]any) {
		for method, v := range ops.(map[string]any) {
			op := v.(map[string]any)
			id := op["operationId"].(string)
			b := newBench(t, func(_ *Config, d *Deps) { d.Rules = newRealRules(t) }) // each finds the data as it was
			target, body, head := b.request(t, doc, path, op)
			a := b.example(t, method, target, body, head)
			code := ""
			for c := range op["responses"].(map[string]any) {
				if strings.HasPrefix(c, "2") {
					code = c
				}
			}
			if fmt.Sprint(a.code) != code {
				t.Errorf("%s: %s %s %s: %d, want %s: %s", id, method, target, body, a.code, code, a.body)
				continue
			}
			ran++
			content := op["responses"].(map[string]any)[code].(map[string]any)["content"].(map[string]any)
			mt, _, _ := strings.Cut(a.head.Get("Content-Type"), ";")
			if content[mt] == nil {
				t.Errorf("%s answers %s, which the document does not say", id, mt)
				continue
			}
			if mt != "application/json" {
				continue
			}
			ref := "mem:///doc.json#/paths/" + strings.ReplaceAll(url.PathEscape(strings.ReplaceAll(strings.ReplaceAll(path, "~", "~0"), "/", "~1")), "%7E", "~") +
				"/" + method + "/responses/" + code + "/content/application~1json/schema"
			s, err := schemas.Compile(ref)
			if err != nil {
				t.Errorf("%s: %v", id, err)
				continue
			}
			got, err := jsonschema.UnmarshalJSON(strings.NewReader(a.body))
			if err != nil {
				t.Errorf("%s: %v", id, err)
				continue
			}
			if err := s.Validate(got); err != nil {
				t.Errorf("%s: the answer is not what the document says: %v\n%.600s", id, err, a.body)
			}
		}
	}
	if ran < 38 {
		t.Errorf("%d examples ran", ran)
	}
}

func (b *bench) example(t testing.TB, method, target, body string, head []string) answer {
	t.Helper()
	if strings.HasPrefix(target, Prefix+"/events") {
		return b.head(t, RoleAdmin, target)
	}
	return b.do(t, RoleAdmin, strings.ToUpper(method), target, body, head...)
}

// realRules are the detector and the ledger themselves, wired as the service does.
type realRules struct {
	*verdicts
	d *detect.Detector
	l *ledger.Ledger
}

func newRealRules(t testing.TB) realRules {
	t.Helper()
	l := ledger.New(ledger.Config{}, nil)
	if err := l.Record(t.Context(), t0, sampleIncidents()[0].Findings); err != nil {
		t.Fatal(err)
	}
	return realRules{d: detect.New(detect.Defaults(), detect.Deps{}), l: l}
}

func (r realRules) Explain(ip netip.Addr, ts time.Time) any { return r.d.Explain(ip, ts) }
func (r realRules) Precisions(from, to string) any {
	return map[string]any{"precision": notNil(r.l.Precisions(from, to))}
}
func (r realRules) Proposals(ts time.Time) any {
	return map[string]any{"proposals": notNil(r.l.Proposals(ts))}
}
func (r realRules) Cases(q CaseQuery) any {
	return map[string]any{"cases": r.l.Cases(ledger.Query{Rule: q.Rule, Tenant: q.Tenant, Limit: q.Limit})}
}
func (r realRules) SetMark(ctx context.Context, id, verdict, by, reason string, ts time.Time) (any, error) {
	return r.l.SetMark(ctx, id, ledger.Verdict(verdict), by, reason, ts)
}
