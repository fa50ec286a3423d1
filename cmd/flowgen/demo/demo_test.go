package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/internal/loopback"
)

func TestOnceAgainstAStub(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		mode    string
		timeout time.Duration
		want    string // of the error; empty: success
		told    string
	}{
		{"good", 3 * time.Minute, "", "SILENT"},
		{"innocent", 3 * time.Minute, "innocent", "FAILED"},
		{"liar", 20 * time.Second, "the panel cut it 0 times", "FAILED"},
		{"idle", 20 * time.Second, "no incident by rule netscan", "FAILED"},
		{"crash", 3 * time.Minute, "ended by itself", "told to crash"},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			dir := filepath.Join(t.TempDir(), tc.mode)
			started := time.Now()
			sum, err := Run(t.Context(), Config{
				Flowcordon: exe, Dir: dir, Once: true, Timeout: tc.timeout, Tenants: 40, AttackAfter: time.Second, Seed: 1, Out: &out,
			})
			text := out.String()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("err = %v, want %q\n%s", err, tc.want, text)
			}
			if sum.OK != (err == nil) || !strings.Contains(text, tc.told) {
				t.Errorf("summary %+v, told:\n%s", sum, text)
			}
			if d := time.Since(started); d > tc.timeout+time.Minute {
				t.Errorf("took %s", d)
			}
			if tc.mode != "good" {
				return
			}
			if len(sum.Cut) != 2 || !sum.HonestUntouched || !sum.BackgroundUntouched || sum.Tickets != 2 || sum.Mails != 2 ||
				sum.NetFlowRecords < 100 || sum.SFlowSamples < 100 || sum.FirstDatagramToCall <= 0 {
				t.Errorf("summary %+v", sum)
			}
			mails, _ := filepath.Glob(filepath.Join(dir, "mails", "*.eml"))
			if len(mails) != 2 || !strings.Contains(text, `"Сеть"`) {
				t.Errorf("mails %v, told:\n%s", mails, text)
			}
		})
	}
}

func TestInteractiveEndsCleanlyAndTidiesUp(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // hang guard
	defer cancel()
	out := &ctrlC{after: "Everything goes on until Ctrl-C", press: cancel}
	if _, err := Run(ctx, Config{Flowcordon: exe, Tenants: 40, AttackAfter: time.Second, HTTP: loopback.Quiet().String() + ":0", Out: out}); err != nil {
		t.Fatalf("%v\n%s", err, out.text())
	}
	if !strings.Contains(out.text(), out.after) {
		t.Errorf("told:\n%s", out.text())
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// ctrlC keeps what it is told and presses once it has seen a text.
type ctrlC struct {
	after string
	press func()
	mu    sync.Mutex
	buf   bytes.Buffer
}

func (c *ctrlC) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.buf.Write(b)
	if strings.Contains(c.buf.String(), c.after) {
		c.press()
	}
	return n, err
}

func (c *ctrlC) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

func TestRunRefuses(t *testing.T) {
	for _, path := range []string{"", "/nonexistent/flowcordon"} {
		if _, err := Run(t.Context(), Config{Flowcordon: path}); err == nil {
			t.Errorf("%q: no error", path)
		}
	}
}
