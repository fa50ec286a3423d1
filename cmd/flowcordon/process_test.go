package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// process is `flowcordon serve` as a process of its own: this test binary, see
// TestMain.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, after done

	mu    sync.Mutex
	lines []string
}

// startProcess runs a command of flowcordon. It is killed with the test.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asCommandEnv+"=1", "GORACE=halt_on_error=1")
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the last lines of flowcordon %v:\n%s", args, strings.Join(p.tail(40), "\n"))
		}
	})
	return p
}

// serve runs the service until its sockets are open.
func (s *site) serve(t *testing.T) *process {
	t.Helper()
	p := startProcess(t, "serve", "--config", s.config)
	eventually(t, 2*time.Minute, "flowcordon's sockets", func() (bool, string) {
		select {
		case <-p.done:
			t.Fatalf("flowcordon ended by itself: %v\n%s", p.err, strings.Join(p.tail(40), "\n"))
		default:
		}
		return len(p.fields("listening", "address")) == 2, "no line about them"
	})
	return p
}

func (p *process) log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

func (p *process) tail(n int) []string {
	l := p.log()
	return l[max(0, len(l)-n):]
}

// fields collects a field of the log lines with this message.
func (p *process) fields(msg, name string) []string {
	var out []string
	for _, l := range p.log() {
		var m map[string]any
		if json.Unmarshal([]byte(l), &m) == nil && m["msg"] == msg {
			out = append(out, fmt.Sprint(m[name]))
		}
	}
	return out
}

func (p *process) netflow() netip.AddrPort {
	return netip.MustParseAddrPort(p.fields("listening", "address")[0])
}

func (p *process) http() string { return p.fields("flowcordon starts", "http")[0] }

// kill ends it at once, as an out-of-memory killer does, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop asks it to end and returns its exit code.
func (p *process) stop(t *testing.T, wait time.Duration) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p.exit(t, wait)
}

// exit waits for its end and returns its exit code.
func (p *process) exit(t *testing.T, wait time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(wait):
		t.Fatalf("flowcordon has not ended within %v", wait)
	}
	var e *exec.ExitError
	if errors.As(p.err, &e) {
		return e.ExitCode()
	}
	if p.err != nil {
		t.Fatal(p.err)
	}
	return 0
}

// engine is the process id of its ClickHouse, 0 while there is none.
func (p *process) engine() int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		if st, err := readStat(pid); err == nil && st.parent == p.cmd.Process.Pid && st.state != "Z" {
			return pid
		}
	}
	return 0
}

// procStat is what the kernel says of a process (proc(5)).
type procStat struct {
	state  string
	parent int
	cpu    time.Duration // user and system, all threads
	rss    int64         // bytes
}

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	_, rest, ok := strings.Cut(string(b), ") ") // the name before may hold blanks
	f := strings.Fields(rest)
	if !ok || len(f) < 22 {
		return procStat{}, fmt.Errorf("stat of %d: %q", pid, b)
	}
	n := func(i int) int64 { v, _ := strconv.ParseInt(f[i], 10, 64); return v }
	const tick = time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
	return procStat{
		state: f[0], parent: int(n(1)), cpu: time.Duration(n(11)+n(12)) * tick, rss: n(21) * int64(os.Getpagesize()),
	}, nil
}

// ready waits until the service says that it is.
func (c *client) ready(t *testing.T, wait time.Duration) {
	t.Helper()
	eventually(t, wait, "readiness", func() (bool, string) {
		status, text, err := c.do("/readyz", "", nil)
		return status == http.StatusOK, fmt.Sprintf("%d %s %v", status, text, err)
	})
}

// local is the service within this process, for tests that look inside.
type local struct {
	*service
	logs *lineWriter
	stop func() error // ends it in order and returns what Run returned
}

// lineWriter keeps log lines.
type lineWriter struct {
	mu    sync.Mutex
	lines []string
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, strings.TrimSpace(string(b)))
	return len(b), nil
}

func (w *lineWriter) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lines)
}

// start runs the service in this process until its sockets are open.
func (s *site) start(t *testing.T) *local {
	t.Helper()
	cfg, err := loadSite(s)
	if err != nil {
		t.Fatal(err)
	}
	l := &local{logs: &lineWriter{}}
	ec := zap.NewProductionEncoderConfig()
	ec.TimeKey, ec.EncodeTime, ec.EncodeDuration = "time", zapcore.RFC3339NanoTimeEncoder, zapcore.StringDurationEncoder
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(ec), zapcore.AddSync(l.logs), zapcore.InfoLevel))
	if l.service, err = newService(s.config, cfg, log); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := l.stop(); err != nil {
			t.Errorf("service: %v", err)
		}
		if t.Failed() {
			all := l.logs.all()
			t.Logf("the last lines of the log:\n%s", strings.Join(all[max(0, len(all)-40):], "\n"))
		}
	})
	select {
	case <-l.collector.Ready():
	case <-time.After(2 * time.Minute):
		t.Fatal("the collector's sockets are not open")
	}
	return l
}

// awaitDatabase waits until schema and event log are loaded.
func (l *local) awaitDatabase(t *testing.T) {
	t.Helper()
	select {
	case <-l.service.ready:
	case <-time.After(3 * time.Minute):
		t.Fatal("the database is not ready")
	}
}

func (l *local) netflow() netip.AddrPort {
	return netip.MustParseAddrPort(l.collector.Addrs()[0].String())
}

func (l *local) sflow() netip.AddrPort {
	return netip.MustParseAddrPort(l.collector.Addrs()[1].String())
}
