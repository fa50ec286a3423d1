package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the time that all threads of a process have run, those that ended
// included, to the nanosecond: user and system together.
func CPU(pid int) (time.Duration, error) {
	// The clock id of another process' CPU time, as clock_getcpuclockid(3) makes
	// it: CPUCLOCK_SCHED is 2.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// Tree is pid and its descendants, without those of the process except (0:
// none); a process that ends meanwhile is left out.
func Tree(pid, except int) []int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, s := range stats {
		if id, parent, ok := readParent(s); ok {
			parents[id] = parent
		}
	}
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		for id, parent := range parents {
			if parent == out[i] && id != except {
				out = append(out, id)
			}
		}
	}
	return out
}

// readParent reads /proc/PID/stat. A zombie is no process any more.
func readParent(path string) (pid, parent int, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	i := bytes.LastIndexByte(b, ')') // the name before may hold anything
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 2 || f[0] == "Z" {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(filepath.Base(filepath.Dir(path)))
	parent, err2 := strconv.Atoi(f[1])
	return pid, parent, err1 == nil && err2 == nil
}

// TreeCPU is the sum of CPU over Tree.
func TreeCPU(pid, except int) (time.Duration, error) {
	total, err := CPU(pid)
	if err != nil {
		return 0, err
	}
	for _, id := range Tree(pid, except)[1:] {
		if d, err := CPU(id); err == nil { // it may have ended
			total += d
		}
	}
	return total, nil
}

// RSS is the resident memory of processes, in bytes; those that ended have none.
func RSS(pids ...int) int64 {
	total := int64(0)
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue
		}
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64) // the kernel writes numbers
			total += pages * int64(os.Getpagesize())
		}
	}
	return total
}

// Disk is what the files below a directory occupy, in bytes.
func Disk(dir string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since it was listed
		}
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}
