package collectors

import (
	"os/exec"
	"regexp"
)

var numbers = regexp.MustCompile(`[0-9]+\.[0-9]+\.[0-9]+`)

// version asks a program for its version; the default is for one that cannot
// be run, which Start will tell.
func version(otherwise, program string, args ...string) string {
	out, _ := exec.Command(program, args...).CombinedOutput()
	if v := numbers.Find(out); v != nil {
		return string(v)
	}
	return otherwise
}
