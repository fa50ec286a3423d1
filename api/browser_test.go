package api

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// needBrowser skips where node, the packages of web/ or Chromium are not there,
// and fails in CI.
func needBrowser(t *testing.T) {
	t.Helper()
	var missing []string
	for _, tool := range []string{"node", "chromium"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if _, err := os.Stat("../web/node_modules/playwright-core"); err != nil {
		missing = append(missing, "web/node_modules (cd web && npm install --no-save)")
	}
	if len(missing) == 0 {
		return
	}
	what := "missing: " + strings.Join(missing, ", ") + "; .ci/install test installs them"
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// TestBrowser goes through the dashboard with a real Chromium over the gallery's
// data: one test, since a Chromium is dear to start. FLOWCORDON_SHOTS names a directory for pictures of each page.
func TestBrowser(t *testing.T) {
	needBrowser(t)
	b := newGallery(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // a hang guard: it takes one or two
	defer cancel()
	args := []string{"test/browser.mjs", b.URL, strings.Replace(secret(RoleAdmin), "admin", "ROLE", 1)}
	if dir := os.Getenv("FLOWCORDON_SHOTS"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, abs)
	}
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = "../web"
	out, err := cmd.CombinedOutput()
	t.Logf("%s", bytes.TrimSpace(out))
	if err != nil {
		t.Errorf("the browser: %v", err)
	}
	if inc, _, _ := b.desk.Incident("inc-1"); inc.State != flow.StateReleasing || !strings.Contains(inc.Statement, "WordPress") {
		t.Errorf("the incident released in the browser is %s: %q", inc.State, inc.Statement)
	}
}

// TestDashboardIsBuilt: what is committed is what web/ makes.
func TestDashboardIsBuilt(t *testing.T) {
	needBrowser(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "node", "node_modules/vite/bin/vite.js", "build", "--outDir", dir, "--logLevel", "warn")
	cmd.Dir = "../web"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"app.js", "index.css", "index.html", "icon.svg"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("ui/dist/" + name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("api/ui/dist/%s is not what web/ makes; run: cd web && npm install --no-save && npm run build (%v)", name, err)
		}
	}
	types := exec.CommandContext(t.Context(), "node", "node_modules/typescript/bin/tsc", "--noEmit")
	types.Dir = "../web"
	if out, err := types.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// maxPictures keeps a checkout small.
const maxPictures = 3_000_000

// TestDashboardPictures: docs/dashboard.md shows every picture there is, and no
// other.
func TestDashboardPictures(t *testing.T) {
	doc, err := os.ReadFile("../docs/dashboard.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("../docs/screenshots")
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	there := map[string]bool{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
		there["screenshots/"+f.Name()] = true
		if !strings.Contains(string(doc), "(screenshots/"+f.Name()+")") {
			t.Errorf("docs/dashboard.md does not show %s", f.Name())
		}
	}
	for _, m := range regexp.MustCompile(`\((screenshots/[^)]+)\)`).FindAllSubmatch(doc, -1) {
		if !there[string(m[1])] {
			t.Errorf("docs/dashboard.md shows %s, which is not there; FLOWCORDON_SHOTS=../docs/screenshots go test ./api -run Browser makes it", m[1])
		}
	}
	if total > maxPictures || len(files) == 0 {
		t.Errorf("%d pictures have %d bytes, more than %d or none at all", len(files), total, maxPictures)
	}
}
