package embedded

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envParent makes the test binary a process that runs an engine in the named
// directory and prints its child's pid: something to kill.
const envParent = "FLOWCORDON_TEST_PARENT_DIR"

func itoa(n int) string { return strconv.Itoa(n) }

func parentMain() int {
	p, err := FindLib()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	e := New(Config{Lib: p, Dir: os.Getenv(envParent)}, Deps{})
	go func() {
		<-e.Ready()
		fmt.Println("pid", e.Pid())
	}()
	if err := e.Run(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// startParent runs parentMain in a process of its own and returns it with its
// engine's pid.
func startParent(t *testing.T, dir string) (*exec.Cmd, int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envParent+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("parent said nothing: %v", err)
	}
	num, ok := strings.CutPrefix(strings.TrimSpace(line), "pid ")
	if !ok {
		t.Fatalf("parent says %q", line)
	}
	pid, err := strconv.Atoi(num)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, pid
}

// A parent that is killed cannot stop its engine: the engine must leave by
// itself, and a new parent must get the directory without a human's help.
func TestParentKilled(t *testing.T) {
	dir := t.TempDir()
	cmd, pid := startParent(t, dir)
	if !alive(pid) {
		t.Fatalf("engine %d is not running", pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	began := time.Now()
	e, _ := start(t, dir) // at once, while the old engine still flushes
	if alive(pid) {
		t.Errorf("engine %d lives beside its successor", pid)
	}
	t.Logf("a new parent serves after %v", time.Since(began).Round(time.Millisecond))
	if err := own(t, e).Ping(within(t, 2*time.Minute)); err != nil {
		t.Error(err)
	}
}

// Another process on the directory gets an error that names both.
func TestSecondProcessOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	cmd, pid := startParent(t, dir)
	err := New(Config{Lib: lib(t), Dir: dir}, Deps{}).Run(within(t, 2*time.Minute))
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "process "+itoa(cmd.Process.Pid)) {
		t.Errorf("got %v, want an error that names %s and process %d", err, dir, cmd.Process.Pid)
	}
	if syscall.Kill(pid, 0) != nil {
		t.Error("the first engine did not survive the attempt")
	}
}
