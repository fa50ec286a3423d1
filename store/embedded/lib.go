package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// EnvLib names the environment variable with the path of libchdb.so.
const EnvLib = "FLOWCORDON_ENGINE_LIB"

const (
	libName     = "libchdb.so"
	libPackage  = "node_modules/@chdb/lib-linux-x64-gnu/" + libName
	checkoutDir = "store/embedded/engine"
)

// ErrNoLib is wrapped by FindLib's error.
var ErrNoLib = errors.New("the ClickHouse engine (libchdb.so) is not installed")

// FindLib returns the absolute path of libchdb.so. It looks at each of paths
// (a file, or a directory that holds it), then at $FLOWCORDON_ENGINE_LIB, then
// at ../lib/flowcordon beside the executable, then at the engine's folder of a
// checkout, walking up from the working directory and from the executable. A
// path that is given, or set by the environment, and does not exist is an
// error: another engine than the one asked for is never loaded. The error says
// what to run.
func FindLib(paths ...string) (string, error) {
	for _, p := range append(paths, os.Getenv(EnvLib)) {
		if p == "" {
			continue
		}
		if lib, ok := isLib(p); ok {
			return lib, nil
		}
		if lib, ok := isLib(filepath.Join(p, libName)); ok {
			return lib, nil
		}
		return "", fmt.Errorf("%w: %s is not there; correct the path or %s", ErrNoLib, p, EnvLib)
	}
	var tried []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		tried = append(tried, filepath.Join(filepath.Dir(exe), "..", "lib", "flowcordon", libName))
		tried = append(tried, upwards(filepath.Dir(exe))...)
	}
	if wd, err := os.Getwd(); err == nil {
		tried = append(tried, upwards(wd)...)
	}
	for _, p := range tried {
		if lib, ok := isLib(p); ok {
			return lib, nil
		}
	}
	return "", fmt.Errorf("%w: in a checkout run `npm ci --ignore-scripts` in %s (the lock file there pins version and checksum); for an installed binary put the file at ../lib/flowcordon/%s beside it or name it in %s",
		ErrNoLib, checkoutDir, libName, EnvLib)
}

// upwards lists where a checkout's engine would be for dir and each parent.
func upwards(dir string) []string {
	var l []string
	for {
		l = append(l, filepath.Join(dir, checkoutDir, libPackage))
		if strings.HasSuffix(filepath.ToSlash(dir), "/"+checkoutDir) {
			l = append(l, filepath.Join(dir, libPackage))
		}
		up := filepath.Dir(dir)
		if up == dir {
			return l
		}
		dir = up
	}
}

func isLib(p string) (string, bool) {
	st, err := os.Stat(p)
	if err != nil || !st.Mode().IsRegular() {
		return "", false
	}
	abs, err := filepath.Abs(p)
	return abs, err == nil
}
