package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Sysctl reads a kernel setting that is one number.
func Sysctl(name string) (int64, error) {
	b, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return 0, fmt.Errorf("sysctl %s: %w", name, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("sysctl %s: %w", name, err)
	}
	return n, nil
}

// SetSysctls sets kernel settings and returns what restores them. If one cannot
// be set, those before it are restored.
func SetSysctls(values map[string]int64) (restore func() error, err error) {
	before := map[string]int64{}
	restore = func() error {
		var errs []error
		for name, v := range before {
			errs = append(errs, writeSysctl(name, v))
		}
		return errors.Join(errs...)
	}
	for name, v := range values {
		was, err := Sysctl(name)
		if err != nil {
			return nil, errors.Join(err, restore())
		}
		if err := writeSysctl(name, v); err != nil {
			return nil, errors.Join(err, restore())
		}
		before[name] = was
	}
	return restore, nil
}

func writeSysctl(name string, v int64) error {
	if err := os.WriteFile(sysctlPath(name), strconv.AppendInt(nil, v, 10), 0); err != nil {
		return fmt.Errorf("sysctl %s=%d: %w", name, v, err)
	}
	return nil
}

func sysctlPath(name string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
}
