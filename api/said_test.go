package api

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/collector"
	"github.com/flowcordon/flowcordon/ledger"
	"github.com/flowcordon/flowcordon/respond"
)

func tableOf[T any](t *testing.T, file string) map[string]T {
	t.Helper()
	raw, err := os.ReadFile("../web/src/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]T
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}

var (
	aHole   = regexp.MustCompile(`\{\d\}`)
	russian = regexp.MustCompile(`[а-яё]`)
)

func holes(form string) []string {
	l := aHole.FindAllString(form, -1)
	slices.Sort(l)
	return l
}

// sameForms: what Go says in English stands in Russian under the same code, with
// the same values, and nothing else does.
func sameForms(t *testing.T, file string, english, ru map[string]string) {
	t.Helper()
	for code, en := range english {
		form, ok := ru[code]
		switch {
		case !ok:
			t.Errorf("web/src/%s has no Russian for %s: %q", file, code, en)
		case !russian.MatchString(form):
			t.Errorf("%s: %s is not Russian: %q", file, code, form)
		case en != "" && !slices.Equal(holes(en), holes(form)):
			t.Errorf("%s: %s has the values %v in English and %v in Russian", file, code, holes(en), holes(form))
		}
	}
	for code := range ru {
		if _, ok := english[code]; !ok {
			t.Errorf("%s: nothing says %s any more", file, code)
		}
	}
}

// TestSaidInBothLanguages: every code of a sentence that the API gives is known to
// the dashboard in both languages.
func TestSaidInBothLanguages(t *testing.T) {
	reasons := tableOf[struct{ EN, RU string }](t, "reasons.json")
	english, ru := respond.Sentences(), map[string]string{}
	for code, r := range reasons {
		if ru[code] = r.RU; r.EN != english[code] {
			t.Errorf("reasons.json: %s is %q, the controller says %q", code, r.EN, english[code])
		}
	}
	if len(english) < 60 {
		t.Errorf("only %d sentences of the controller", len(english))
	}
	sameForms(t, "reasons.json", english, ru)

	if len(problemForms) < 40 {
		t.Errorf("only %d sentences of errors", len(problemForms))
	}
	sameForms(t, "problems.ru.json", problemForms, tableOf[string](t, "problems.ru.json"))

	problems := collector.Sentences()
	if len(problems) < 30 {
		t.Errorf("only %d problems of exporters", len(problems))
	}
	sameForms(t, "exporters.ru.json", problems, tableOf[string](t, "exporters.ru.json"))
	sameForms(t, "advice.ru.json", ledger.Sentences(), tableOf[string](t, "advice.ru.json"))

	// A finding is its rule and its numbers.
	findings := tableOf[string](t, "findings.ru.json")
	for _, rule := range allRules {
		if !russian.MatchString(findings[string(rule)]) {
			t.Errorf("findings.ru.json has no Russian for %s", rule)
		}
	}
	if len(findings) != len(allRules) {
		t.Errorf("findings.ru.json knows %d rules, there are %d", len(findings), len(allRules))
	}
	source, err := os.ReadFile("../web/src/told.ts")
	if err != nil {
		t.Fatal(err)
	}
	for rule, form := range findings {
		for _, m := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(form, -1) {
			if !strings.Contains(string(source), m[1]+":") {
				t.Errorf("findings.ru.json: %s has {%s}, which told.ts does not fill", rule, m[1])
			}
		}
	}
}

// TestProblemCodes: an error says its code and its values; together they make its
// sentence.
func TestProblemCodes(t *testing.T) {
	b := newBench(t, nil)
	for _, tt := range []struct {
		path, code string
		status     int
		values     []string
	}{
		{"/incidents/none", "no_incident", 404, []string{`"none"`}},
		{"/hosts/8.8.8.8", "not_ours", 404, []string{"8.8.8.8"}},
		{"/incidents?since=soon", "param", 422, nil},
		{"/audit/reads", "role", 403, nil},
		{"/nothing", "no_route", 404, nil},
	} {
		a := b.do(t, RoleViewer, "GET", Prefix+tt.path, "")
		var p struct {
			Detail, Code, Instance string
			Status                 int
			Values                 []string
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.head.Get("Content-Type") != "application/problem+json" {
			t.Fatalf("%s: %v: %s %s", tt.path, err, a.head.Get("Content-Type"), a.body)
		}
		made := problemForms[p.Code]
		for i, v := range p.Values {
			made = strings.ReplaceAll(made, "{"+string(rune('0'+i))+"}", v)
		}
		if a.code != tt.status || p.Status != tt.status || p.Code != tt.code || made != p.Detail || p.Instance == "" || tt.values != nil && !slices.Equal(p.Values, tt.values) {
			t.Errorf("%s: %d %+v; its form gives %q", tt.path, a.code, p, made)
		}
	}
}
