package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tools are the programs that a lab runs, with the Debian packages they are in.
var tools = []struct{ tool, pkg string }{
	{"ip", "iproute2"},
	{"unshare", "util-linux"},
	{"libvirtd", "libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu"},
	{"qemu-system-x86_64", "qemu-system-x86 seabios ipxe-qemu"},
	{"busybox", "busybox-static"},
	{"cpio", "cpio"},
	{"iptables", "iptables"},
	{"ebtables", "ebtables"},
	{"softflowd", "softflowd"},
	{"go", "(Go itself)"},
}

// MissingError says what this machine lacks for a lab.
type MissingError struct{ What []string }

// Error names the tools and what to install.
func (e *MissingError) Error() string {
	return "this machine cannot run a hypervisor lab: " + strings.Join(e.What, "; ")
}

// check reports everything that is missing at once, as a *MissingError.
func check() error {
	var miss []string
	if os.Geteuid() != 0 {
		miss = append(miss, "needs root for network namespaces")
	}
	for _, t := range tools {
		if _, err := exec.LookPath(t.tool); err != nil {
			miss = append(miss, fmt.Sprintf("%s is not installed (apt-get install %s)", t.tool, t.pkg))
		}
	}
	if len(miss) > 0 {
		return &MissingError{miss}
	}
	return nil
}

// Require skips the test when err is about missing tools, and fails it for any
// other error. With CI=true missing tools fail too: there they are installed,
// so a skip would hide that nothing was tested.
func Require(t testing.TB, err error) {
	t.Helper()
	var miss *MissingError
	switch {
	case err == nil:
	case errors.As(err, &miss) && os.Getenv("CI") != "true":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// Root is the checkout's top folder: the one with go.mod above the working folder.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = up
	}
}
