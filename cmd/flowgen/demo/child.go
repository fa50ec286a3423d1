package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// tailLines is how much of the child's log a failure's report shows.
const tailLines = 40

// stopGrace is how long the child may take to drain and end by itself; its own
// steps have deadlines that add up to less.
const stopGrace = 40 * time.Second

// child is flowcordon as a process of ours.
type child struct {
	path, config, log string

	mu    sync.Mutex
	lines []string
}

func newChild(path, config, log string) *child { return &child{path: path, config: config, log: log} }

// run starts the process and returns when it has ended: by itself, which is an
// error, or because ctx ended, by SIGTERM, and by SIGKILL after stopGrace.
func (c *child) run(ctx context.Context) error {
	file, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.path, "serve", "--config", c.config)
	cmd.Stdout, cmd.Stderr = w, w
	// A group of its own: Ctrl-C reaches us only, and we end it in order. If we
	// are killed ourselves, the kernel tells it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	// Pdeathsig is about the thread that started the process: hold on to it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		_ = r.Close()
		return fmt.Errorf("start flowcordon: %w", err)
	}
	_ = w.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		c.copy(r, file)
	}()
	err = cmd.Wait()
	select {
	case <-copied:
	case <-time.After(2 * time.Second): // a grandchild holds the pipe
	}
	_ = r.Close()
	<-copied
	if ctx.Err() != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && !exit.Success() {
			return fmt.Errorf("flowcordon did not end cleanly: %w", err)
		}
		return nil
	}
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("flowcordon ended by itself: %w", err)
}

// copy writes the child's output to its log file and keeps the last lines.
func (c *child) copy(r io.Reader, file io.Writer) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), 1<<20)
	for s.Scan() {
		_, _ = fmt.Fprintln(file, s.Text()) // a full disk must not block the child
		c.mu.Lock()
		if len(c.lines) == tailLines {
			c.lines = slices.Delete(c.lines, 0, 1)
		}
		c.lines = append(c.lines, s.Text())
		c.mu.Unlock()
	}
	_, _ = io.Copy(file, r) // after a line that is too long
}

func (c *child) tail() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lines)
}
