package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is wrapped by Run's error when another process holds the directory.
var ErrInUse = errors.New("the engine's directory is in use")

// lockWait is how long the engine of a parent that was killed may take to
// flush and exit before a new parent gives up on the directory.
const lockWait = stuckAfter + 5*time.Second

// lockDir takes the directory for this process. The lock is an flock, which
// the engine child inherits: it ends with the last of both, however they end.
// A holder that lives is an error at once; one that has died has left an engine
// that is about to exit, which is waited for.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the engine's directory: %w", err)
	}
	path := filepath.Join(dir, fileLock)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the engine's directory: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder, pid := readHolder(path)
		if alive(pid) || time.Now().After(deadline) {
			_ = f.Close()
			return nil, fmt.Errorf("%w: %s is held by %s; stop that process or choose another directory", ErrInUse, dir, holder)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := writeHolder(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func writeHolder(f *os.File) error {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(fmt.Sprintf("%d %s\n", os.Getpid(), exe)), 0)
	return err
}

// readHolder describes who wrote the lock file last; pid is 0 if unknown.
func readHolder(path string) (string, int) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "an unknown process", 0
	}
	num, exe, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	pid, err := strconv.Atoi(num)
	if err != nil || pid <= 0 {
		return "an unknown process", 0
	}
	return fmt.Sprintf("process %d (%s)", pid, exe), pid
}

// alive reports whether pid runs. A zombie, dead and not yet waited for by its
// parent, does not.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	if err := unix.Kill(pid, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// proc_pid_stat(5): the state follows the name, which is in parentheses and
	// may hold any character.
	i := bytes.LastIndexByte(b, ')')
	return i < 0 || i+2 >= len(b) || b[i+2] != 'Z'
}
