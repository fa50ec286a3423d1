package machine

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Info describes the machine of a measurement.
type Info struct {
	CPU    string `json:"cpu"`
	MHz    string `json:"mhz"` // as /proc/cpuinfo has it for the first one
	CPUs   int    `json:"cpus"`
	L3     string `json:"l3_cache"`
	Memory int64  `json:"memory_bytes"`
	Kernel string `json:"kernel"`
	OS     string `json:"os"`
	Go     string `json:"go"`
}

// Describe reads /proc, /sys and /etc/os-release; what is not there stays empty.
func Describe() Info {
	cpu := pairs("/proc/cpuinfo", ":")
	info := Info{
		CPU: cpu["model name"], MHz: cpu["cpu MHz"], CPUs: runtime.NumCPU(), Go: runtime.Version(),
		OS: strings.Trim(pairs("/etc/os-release", "=")["PRETTY_NAME"], `"`), L3: cpu["cache size"],
	}
	if b, err := os.ReadFile("/sys/devices/system/cpu/cpu0/cache/index3/size"); err == nil {
		info.L3 = strings.TrimSpace(string(b))
	}
	if cpus, err := os.ReadFile("/sys/devices/system/cpu/online"); err == nil { // NumCPU is after pinning
		if _, last, ok := strings.Cut(strings.TrimSpace(string(cpus)), "-"); ok {
			if n, err := strconv.Atoi(last); err == nil {
				info.CPUs = n + 1
			}
		}
	}
	if kb, _, ok := strings.Cut(pairs("/proc/meminfo", ":")["MemTotal"], " "); ok {
		n, _ := strconv.ParseInt(kb, 10, 64) // 0 if the kernel changes its mind
		info.Memory = n << 10
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		info.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return info
}

// pairs reads lines of a key and a value; of a repeated key, the first.
func pairs(path, sep string) map[string]string {
	out := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return out
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		k, v, ok := strings.Cut(s.Text(), sep)
		if k = strings.TrimSpace(k); ok {
			if _, dup := out[k]; !dup {
				out[k] = strings.TrimSpace(v)
			}
		}
	}
	return out
}
