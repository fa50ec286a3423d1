package lab

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// starter is a thread that starts programs and lives as long as the process.
// The kernel counts the end of the starting thread as the parent's death
// (prctl(2), PR_SET_PDEATHSIG), and threads that went into a namespace end.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// start starts cmd so that it is killed when the test process ends.
func start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}

// Spawn starts a program with its output in out. It is told to end, and killed
// if it does not within 10 s, by stop, by Stop of the lab, or when the test
// process ends.
func (l *Lab) Spawn(cmd *exec.Cmd, out *os.File) (stop func(), err error) {
	cmd.Stdout, cmd.Stderr = out, out
	if err := start(cmd); err != nil {
		return nil, err
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		t := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		t.Stop()
	})
	l.onStop(stop)
	return stop, nil
}
