package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

func TestMain(m *testing.M) {
	RunIfChild()
	if os.Getenv(envParent) != "" {
		os.Exit(parentMain())
	}
	os.Exit(m.Run())
}

// lib is the engine's library; a test that needs it fails without it.
func lib(t testing.TB) string {
	t.Helper()
	p, err := FindLib()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start runs an engine until the test ends or the returned function is called,
// which returns what Run returned and how long the stop took.
func start(t testing.TB, dir string) (*Engine, func() (time.Duration, error)) {
	t.Helper()
	e := New(Config{Lib: lib(t), Dir: dir, MaxMemory: 2 << 30}, Deps{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	stop := func() (time.Duration, error) {
		if stopped {
			return 0, nil
		}
		stopped = true
		began := time.Now()
		cancel()
		err := <-done
		return time.Since(began), err
	}
	t.Cleanup(func() { _, _ = stop() })
	select {
	case <-e.Ready():
	case err := <-done:
		stopped = true
		t.Fatalf("engine did not start: %v", err)
	}
	return e, stop
}

// pool opens a driver pool as the store does.
func pool(t testing.TB, e *Engine, user, password, database string) driver.Conn {
	t.Helper()
	c, err := clickhouse.Open(&clickhouse.Options{
		Addr:        []string{"engine"},
		Auth:        clickhouse.Auth{Username: user, Password: password, Database: database},
		DialContext: e.DialContext,
		DialTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func own(t testing.TB, e *Engine) driver.Conn { return pool(t, e, e.User(), e.Password(), "") }

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestEngineServes(t *testing.T) {
	e, _ := start(t, t.TempDir())
	var version string
	if err := own(t, e).QueryRow(within(t, 2*time.Minute), "SELECT version()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(version, "26.7.") {
		t.Errorf("version %s, want 26.7.x as the lock file pins", version)
	}
}

// The engine's log is for what is wrong: at its finest it tells 100 lines a query.
func TestLogIsQuiet(t *testing.T) {
	dir := t.TempDir()
	e, stop := start(t, dir)
	c := own(t, e)
	ctx := within(t, 2*time.Minute)
	for _, q := range []string{"CREATE DATABASE quiet", "CREATE TABLE quiet.t (n UInt64) ENGINE = MergeTree ORDER BY n",
		"INSERT INTO quiet.t SELECT number FROM numbers(10)", "INSERT INTO quiet.t SELECT number FROM numbers(10)", "OPTIMIZE TABLE quiet.t FINAL"} {
		if err := c.Exec(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, fileLog))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, level := range []string{"<Trace>", "<Debug>", "<Information>"} {
		if strings.Contains(string(b), level) {
			t.Errorf("the engine's log has lines of %s", level)
		}
	}
}

// The memory limits must be in force, or one query takes the machine down.
func TestMemoryLimits(t *testing.T) {
	e, _ := start(t, t.TempDir())
	c := own(t, e)
	ctx := within(t, 2*time.Minute)
	var query, server string
	if err := c.QueryRow(ctx, "SELECT value FROM system.settings WHERE name = 'max_memory_usage'").Scan(&query); err != nil {
		t.Fatal(err)
	}
	if err := c.QueryRow(ctx, "SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'").Scan(&server); err != nil {
		t.Fatal(err)
	}
	if query != "1288490184" || server != "2147483648" {
		t.Errorf("max_memory_usage %s, max_server_memory_usage %s; want 60%% of 2 GiB and 2 GiB", query, server)
	}
	var n uint64
	err := c.QueryRow(ctx, "SELECT length(groupArray(number)) FROM numbers(400000000)").Scan(&n)
	var ex *clickhouse.Exception
	if !errors.As(err, &ex) || ex.Code != 241 {
		t.Errorf("a query of 3.2 GB: got %v, want code 241 MEMORY_LIMIT_EXCEEDED", err)
	}
}

// clickhouse-local's passwordless user must be of no use to other users of the
// machine.
func TestDefaultUserIsPowerless(t *testing.T) {
	e, _ := start(t, t.TempDir())
	c := own(t, e)
	ctx := within(t, 2*time.Minute)
	if err := c.Exec(ctx, "CREATE TABLE default.secret (s String) ENGINE = MergeTree ORDER BY s"); err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(ctx, "INSERT INTO default.secret VALUES ('x')"); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		"SELECT count() FROM default.secret",
		"SELECT * FROM default.secret",
		"INSERT INTO default.secret VALUES ('y')",
		"CREATE TABLE default.mine (s String) ENGINE = MergeTree ORDER BY s",
		"DROP TABLE default.secret",
		"SELECT count() FROM system.users",
		"SELECT * FROM file('/etc/passwd', 'LineAsString', 's String')",
		"SELECT count() FROM numbers(10)",
		"SYSTEM STOP LISTEN TCP",
		"SYSTEM START LISTEN HTTP",
		"SYSTEM SHUTDOWN",
		"CREATE USER mallory IDENTIFIED WITH no_password",
		"CREATE TEMPORARY TABLE t (a UInt8)",
		"SHOW TABLES FROM default",
		"SET max_memory_usage = 0",
	} {
		d := pool(t, e, "default", "", "")
		err := d.Exec(ctx, q)
		_ = d.Close()
		var ex *clickhouse.Exception
		if !errors.As(err, &ex) || (ex.Code != 201 && ex.Code != 497) {
			t.Errorf("%s as default: got %v, want 201 QUOTA_EXCEEDED or 497 ACCESS_DENIED", q, err)
		}
	}
	var n uint64
	if err := c.QueryRow(ctx, "SELECT count() FROM default.secret").Scan(&n); err != nil || n != 1 {
		t.Errorf("afterwards %d rows, %v; want 1", n, err)
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engine")
	e, _ := start(t, dir)
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, want 0700", st.Mode().Perm())
	}
	for _, f := range []string{fileUsers, fileConfig, fileBoot, fileLock} {
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", f, st.Mode().Perm())
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, fileUsers))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), e.Password()) {
		t.Error("the password itself is in a file; only its hash may be")
	}
	cmdline, err := os.ReadFile("/proc/" + itoa(e.Pid()) + "/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(cmdline), e.Password()) {
		t.Error("the password is on the child's command line")
	}
}

// Pooled connections hold the engine back for 5 s unless they are closed first.
func TestStopWithOpenPool(t *testing.T) {
	e, stop := start(t, t.TempDir())
	c := own(t, e)
	ctx := within(t, 2*time.Minute)
	var all []driver.Rows
	for range 4 { // four busy connections, not returned to the pool
		rows, err := c.Query(ctx, "SELECT number FROM numbers(1000000000)")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows)
	}
	if err := c.Ping(ctx); err != nil { // and an idle one
		t.Fatal(err)
	}
	pid := e.Pid()
	took, err := stop()
	if err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
	if took > 2*time.Second {
		t.Errorf("stop took %v, want under 2 s", took)
	}
	if alive(pid) {
		t.Errorf("process %d outlived Run", pid)
	}
	for _, r := range all {
		_ = r.Close()
	}
	if err := c.Ping(ctx); !errors.Is(err, errStopped) {
		t.Errorf("ping after the stop: %v, want %v", err, errStopped)
	}
}

func TestSecondEngineOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	start(t, dir)
	second := New(Config{Lib: lib(t), Dir: dir}, Deps{})
	began := time.Now()
	err := second.Run(within(t, 2*time.Minute))
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want %v", err, ErrInUse)
	}
	for _, want := range []string{dir, itoa(os.Getpid()), "choose another directory"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %v to say so", took)
	}
}

// The engine dies; the same pool must go on, with what was acknowledged.
func TestEngineKilled(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		within time.Duration
	}{
		{"SIGKILL", syscall.SIGKILL, 2 * time.Minute},
		{"SIGSEGV", syscall.SIGSEGV, 2 * time.Minute}, // it writes a stack trace first: 4 s measured
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := start(t, t.TempDir())
			c := own(t, e)
			ctx := within(t, 3*time.Minute)
			if err := c.Exec(ctx, "CREATE TABLE default.kept (a UInt64) ENGINE = MergeTree ORDER BY a"); err != nil {
				t.Fatal(err)
			}
			if err := c.Exec(ctx, "INSERT INTO default.kept SELECT number FROM numbers(1000)"); err != nil {
				t.Fatal(err)
			}
			old := e.Pid()
			if err := syscall.Kill(old, tt.signal); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for {
				var n uint64
				err := c.QueryRow(ctx, "SELECT count() FROM default.kept").Scan(&n)
				if err == nil && e.Pid() != old {
					if n != 1000 {
						t.Fatalf("%d rows after the restart, want 1000", n)
					}
					break
				}
				if time.Since(began) > tt.within {
					t.Fatalf("not back after %v: %v", tt.within, err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Logf("the same pool answers after %v", time.Since(began).Round(time.Millisecond))
		})
	}
}

func TestFirstStartFails(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(bad, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, lib, want string }{
		{"no library", filepath.Join(t.TempDir(), "absent.so"), "not installed"},
		{"empty path", "", "not installed"},
		{"not a library", bad, "load the engine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := New(Config{Lib: tt.lib, Dir: t.TempDir()}, Deps{}).Run(within(t, 2*time.Minute))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
