package migrations

import (
	"regexp"
	"strings"
	"testing"
)

var comment = regexp.MustCompile(`(?m)--.*$`)

func TestAll(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no migrations")
	}
	for _, m := range all {
		sql := strings.TrimSpace(comment.ReplaceAllString(m.SQL, ""))
		if strings.Contains(sql, ";") {
			t.Errorf("%04d_%s: holds a semicolon; one statement a file, without one", m.Version, m.Name)
		}
		if !strings.Contains(sql, "IF NOT EXISTS") && !strings.Contains(sql, "IF EXISTS") {
			t.Errorf("%04d_%s: a run that ends half-way is repeated, so it must say IF [NOT] EXISTS", m.Version, m.Name)
		}
	}
}
