// Package report turns figures into tables for docs/performance.md, with the
// machine, commit and command that they come from. It imports flowbench's
// machine and measure.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
)

// Head says where figures come from.
type Head struct {
	Machine machine.Info `json:"machine"`
	Commit  string       `json:"commit"`
	Command string       `json:"command"`
	At      time.Time    `json:"at"`
}

// NewHead describes this machine, the commit of the working directory and how
// to repeat the run: by a command for everyone, and by this one exactly.
func NewHead(command string) Head {
	h := Head{Machine: machine.Describe(), Command: command, At: time.Now().UTC().Truncate(time.Minute)}
	if out, err := exec.Command("git", "describe", "--always", "--abbrev=10").Output(); err == nil {
		h.Commit = strings.TrimSpace(string(out))
		// What this program writes is no change.
		if exec.Command("git", "diff", "--quiet", "HEAD", "--", ":/", ":(exclude,top)docs/performance.md").Run() != nil {
			h.Commit += " with changes"
		}
	} else if info, ok := debug.ReadBuildInfo(); ok {
		h.Commit = info.Main.Version
	}
	if exact := strings.Join(os.Args, " "); len(os.Args) > 1 {
		h.Command += " (" + exact + ")"
	}
	return h
}

func (h Head) String() string {
	m := h.Machine
	return fmt.Sprintf("%s, commit %s, %d CPUs %s (L3 %s), %d GB, %s, kernel %s, %s. `%s`",
		h.At.Format(time.DateOnly), h.Commit, m.CPUs, m.CPU, m.L3, (m.Memory+1<<29)>>30, m.OS, m.Kernel, m.Go, h.Command)
}

// WriteJSON writes figures to a file.
func WriteJSON(path string, figures any) error {
	b, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// errNoMarks is an error of WriteBetween.
var errNoMarks = errors.New("its marks are not there")

// WriteBetween replaces what stands in a file between the lines
// <!-- bench:NAME --> and <!-- /bench:NAME -->.
func WriteBetween(path, name, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := "<!-- bench:"+name+" -->\n", "<!-- /bench:"+name+" -->"
	before, rest, ok1 := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: %s: %w", path, strings.TrimSpace(begin), errNoMarks)
	}
	return os.WriteFile(path, []byte(before+begin+text+"\n"+end+after), 0o644)
}
