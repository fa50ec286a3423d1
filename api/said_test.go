package api

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSaidInRussian: every sentence about a state has its Russian form, each form
// has the values of the English one, and none stands for what is said no more.
func TestSaidInRussian(t *testing.T) {
	raw, err := os.ReadFile("../web/src/said.json")
	if err != nil {
		t.Fatal(err)
	}
	var table [][2]string
	if err := json.Unmarshal(raw, &table); err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, dir := range []string{".", "../respond", "../detect"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	code := strings.NewReplacer(`" + Prefix + "`, Prefix, `%s/events`, Prefix+"/events", `\"`, `"`).Replace(source.String())
	hole := regexp.MustCompile(`\{\d\}`)
	known := map[string]bool{}
	for _, f := range table {
		if known[f[0]] {
			t.Errorf("twice: %s", f[0])
		}
		known[f[0]] = true
		if f[1] == "" || !regexp.MustCompile(`[а-яё]`).MatchString(f[1]) {
			t.Errorf("not Russian: %s", f[1])
		}
		for _, h := range hole.FindAllString(f[1], -1) {
			if !strings.Contains(f[0], h) {
				t.Errorf("%s is in no value of %q", h, f[0])
			}
		}
		for _, part := range hole.Split(f[0], -1) {
			// Words that a sentence is put together of are looked for one by one.
			for _, p := range regexp.MustCompile(`[;:()]`).Split(part, -1) {
				if p = strings.Trim(p, " ./"); len(p) > 12 && !strings.Contains(code, p) && !strings.HasPrefix(p, "GET ") {
					t.Errorf("nothing says %q any more (%s)", p, f[0])
				}
			}
		}
	}
	n := 0
	for _, file := range []string{"../respond/explain.go", "../respond/explain_measure.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\t+Reason\w+:\s+"(.*)",$`).FindAllStringSubmatch(string(text), -1) {
			n++
			if !known[strings.ReplaceAll(m[1], "%s", "{0}")] {
				t.Errorf("web/src/said.json has no Russian for %q", m[1])
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d sentences found", n)
	}
}
