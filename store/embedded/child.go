package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is one running engine process.
type child struct {
	cmd    *exec.Cmd
	addr   string
	stderr string
	exited chan struct{} // closed after Wait; then waitErr may be read

	waitErr error
	hold    io.Closer // write end of the pipe that the child's life hangs on
	once    sync.Once
}

// release lets go of the pipe: the child leaves.
func (c *child) release() { c.once.Do(func() { _ = c.hold.Close() }) }

// failure says how the child ended and what it said last. Only after exited.
func (c *child) failure() error {
	err := c.waitErr
	if err == nil {
		err = errors.New("it exited by itself")
	}
	if said := tail(c.stderr, 600); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// spawn starts the child and waits until it serves. The library reports no
// failure, so the file with the port is the only sign of success.
func spawn(ctx context.Context, lib, dir string, lock *os.File) (*child, error) {
	if err := checkLib(lib); err != nil {
		return nil, err
	}
	port := filepath.Join(dir, filePort)
	if err := os.Remove(port); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	c, err := launch(lib, dir, lock)
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	deadline := time.NewTimer(startWait)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.exited:
			c.release()
			return nil, fmt.Errorf("the engine did not start: %w", c.failure())
		case <-ctx.Done():
			return nil, c.abandon(ctx.Err())
		case <-deadline.C:
			return nil, c.abandon(fmt.Errorf("the engine did not start within %v", startWait))
		case <-tick.C:
			if b, err := os.ReadFile(port); err == nil && bytes.HasSuffix(b, []byte("\n")) {
				c.addr = "127.0.0.1:" + strings.TrimSpace(string(b))
				return c, nil
			}
		}
	}
}

func (c *child) abandon(err error) error {
	c.release()
	_ = c.cmd.Process.Kill()
	<-c.exited
	return err
}

// checkLib tells a missing library apart from an engine that fails, before the
// child dies of it.
func checkLib(lib string) error {
	if lib == "" {
		return ErrNoLib
	}
	if _, err := os.Stat(lib); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLib, err)
	}
	return nil
}

func launch(lib, dir string, lock *os.File) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	run := filepath.Join(dir, dirRun)
	cmd := exec.Command(exe, childArg, lib,
		"--config-file="+filepath.Join(dir, fileConfig),
		"--log-level=warning", // the configuration's level is not heeded; writing all down took 2 % of its CPU, putting it into words more
		"--path="+filepath.Join(dir, dirData),
		"--interactive", "--disable_suggestion", "--history_file=/dev/null",
		"--queries-file="+filepath.Join(dir, fileBoot))
	// The engine reads ./config.xml and ~/.clickhouse-local by itself: both
	// must be ours.
	cmd.Dir = run
	cmd.Env = []string{"HOME=" + run, "TZ=UTC", "PATH=/usr/bin:/bin", "GOTRACEBACK=none", "TERM=dumb"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C on a terminal reaches the parent alone, which stops in order
	out, err := os.OpenFile(filepath.Join(dir, fileStderr), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout, cmd.Stderr = out, out
	r, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{r, lock} // fdParent, fdLock
	err = cmd.Start()
	_ = r.Close()
	if err != nil {
		_ = hold.Close()
		return nil, err
	}
	c := &child{cmd: cmd, stderr: out.Name(), exited: make(chan struct{}), hold: hold}
	go func() {
		c.waitErr = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// tail returns the last n bytes of a file, on one line.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err == nil && st.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ")
}
