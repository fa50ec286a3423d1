package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestBadUsage(t *testing.T) {
	for _, tc := range []struct {
		args string
		code int
		want string // on stderr
	}{
		{"", 2, "usage: flowgen"},
		{"burn", 2, `no command "burn"`},
		{"bulk", 2, "one of --target and --out"},
		{"bulk --target 127.0.0.1:1 --out x", 2, "one of --target and --out"},
		{"bulk --target 127.0.0.1", 2, "--target"},
		{"bulk --target 127.0.0.1:1 --protocol v7", 2, "write v5, v9, ipfix or sflow"},
		{"bulk --target 127.0.0.1:1 --source me", 2, "--source"},
		{"bulk --target 127.0.0.1:1 --records ten", 2, "records"},
		{"bulk --target 127.0.0.1:1 extra", 2, "extra"},
		{"bulk --target 127.0.0.1:1 --protocol v5 --v6-share 0.5", 1, "no IPv6"},
		{"bulk --target 127.0.0.1:1 --prefix4 none", 2, "prefix4"},
		{"demo --nonsense", 2, "nonsense"},
		{"demo --sflow-rate 0", 2, "--sflow-rate"},
		{"demo --tenants 1", 2, "--tenants"},
		{"demo --flowcordon /nonexistent", 1, "make build"},
		{"panel", 2, "--secret-file"},
		{"panel --secret-file /nonexistent", 1, "nonexistent"},
		{"send --target 127.0.0.1:1", 2, "takes 1 argument"},
		{"send --target here x", 2, "--target"},
		{"send --target 127.0.0.1:1 /nonexistent", 1, "nonexistent"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), strings.Fields(tc.args), &out, &errs); code != tc.code {
				t.Errorf("exit status %d, want %d", code, tc.code)
			}
			if !strings.Contains(errs.String(), tc.want) {
				t.Errorf("stderr %q, want %q in it", &errs, tc.want)
			}
		})
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "bulk") || errs.Len() > 0 {
		t.Errorf("help: %d %q %q", code, &out, &errs)
	}
}

func TestFailedDemoStillPrintsASummary(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"demo", "--once", "--flowcordon", "/nonexistent"}, &out, &errs); code != 1 {
		t.Errorf("exit status %d", code)
	}
	var sum struct {
		OK     *bool
		Reason string
	}
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil || sum.OK == nil || *sum.OK || sum.Reason == "" {
		t.Errorf("stdout %q: %v", &out, err)
	}
}

func TestBulkToFileAndSend(t *testing.T) {
	dir := t.TempDir()
	file, truth := filepath.Join(dir, "out.dgrams"), filepath.Join(dir, "truth.tsv")
	var out, errs bytes.Buffer
	args := []string{"bulk", "--protocol", "ipfix", "--records", "500", "--hosts", "20", "--out", file, "--truth", truth}
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("bulk: %d %s", code, &errs)
	}
	var sum struct{ Records, Datagrams, Bytes, Hosts int }
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil || sum.Records != 500 || sum.Hosts != 20 {
		t.Fatalf("%v: %s", err, &out)
	}
	tsv, err := os.ReadFile(truth)
	if err != nil || bytes.Count(tsv, []byte("\n")) != 21 {
		t.Errorf("truth: %v\n%s", err, tsv)
	}
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if code := run(t.Context(), []string{"send", "--target", conn.LocalAddr().String(), file}, &out, &errs); code != 0 {
		t.Fatalf("send: %d %s", code, &errs)
	}
	buf := make([]byte, 2000)
	total := 0
	for range sum.Datagrams {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != sum.Bytes {
		t.Errorf("%d bytes received, want %d", total, sum.Bytes)
	}
	if err := os.Truncate(file, 100); err != nil {
		t.Fatal(err)
	}
	errs.Reset()
	if code := run(t.Context(), []string{"send", "--target", conn.LocalAddr().String(), file}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "unexpected EOF") {
		t.Errorf("truncated file: %d %s", code, &errs)
	}
}

func TestPanelServes(t *testing.T) {
	dir := t.TempDir()
	secret, inventory := filepath.Join(dir, "secret"), filepath.Join(dir, "inventory.yaml")
	for path, text := range map[string]string{secret: "s3cret\n", inventory: `- {ip: 198.18.0.7, vds: vds-7, macs: ["52:54:00:00:00:07"]}` + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nics, err := readNICs(inventory)
	if err != nil || len(nics) != 1 || nics[0].MAC != "52:54:00:00:00:07" || nics[0].IP != "198.18.0.7" {
		t.Errorf("interfaces: %v %+v", err, nics)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	errs := &cue{text: "panel on ", then: cancel}
	if code := run(ctx, []string{"panel", "--listen", "127.0.0.1:0", "--secret-file", secret, "--inventory", inventory}, &out, errs); code != 0 {
		t.Errorf("exit status %d: %s", code, errs.String())
	}
	if !strings.Contains(errs.String(), "panel on http://127.0.0.1:") {
		t.Errorf("stderr %q", errs.String())
	}
}

// cue does something once a text was written to it.
type cue struct {
	mu   sync.Mutex
	all  bytes.Buffer
	text string
	then func()
}

func (u *cue) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, err := u.all.Write(b)
	if strings.Contains(u.all.String(), u.text) {
		u.then()
	}
	return n, err
}

func (u *cue) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all.String()
}
