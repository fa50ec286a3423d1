package execute

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Mode is the language that the command is spoken to in.
type Mode string

// The modes.
const (
	ModeJSON       Mode = "json"       // the protocol of this package
	ModeFastNetMon Mode = "fastnetmon" // the arguments of FastNetMon's notify script
)

const (
	// defaultTimeout bounds one operation, which is at most two runs.
	defaultTimeout = 10 * time.Second

	// maxOutput bounds what is read of a command's stdout: the state is some
	// hundred bytes, a list of NICs some hundred each.
	maxOutput = 1 << 20

	// maxStderr bounds what of its stderr is kept, and maxSaid what of that
	// stands in an error.
	maxStderr = 16 << 10
	maxSaid   = 400

	// drain is how long the output of a command's own children is waited for
	// once it has ended: glue that leaves a mailer behind is done all the same.
	drain = 500 * time.Millisecond
)

// Config says what to run.
type Config struct {
	Name    string   // of the adapter; the inventory's hypervisor field refers to it
	Command []string // absolute path and its arguments; no shell is involved
	Mode    Mode     // empty: json
	// Measures are the milder ones that the command takes, of ModeJSON.
	Measures []flow.MeasureKind
	// Env is all of the command's environment beside PATH and LANG. SecretEnv is
	// the same, and no error or log shows its values.
	Env       map[string]string
	SecretEnv map[string]string
	WorkDir   string // empty: /
	// Dir keeps exec-<name>.json with our marks, of ModeFastNetMon: such a
	// script cannot tell what it has banned.
	Dir string
	// AttackDetails runs the script a second time after a ban, as FastNetMon's
	// older versions do, of ModeFastNetMon.
	AttackDetails bool
	Timeout       time.Duration // of one operation; 0: 10 s
}

func (c Config) withDefaults() Config {
	if c.Mode == "" {
		c.Mode = ModeJSON
	}
	if c.WorkDir == "" {
		c.WorkDir = "/"
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return c
}

// Validate reports every mistake in the configuration at once. Whether the
// command is there shows when it is run.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" || strings.ContainsAny(c.Name, "/\x00") {
		bad("name: %q; write a name without slashes, which the inventory's hypervisor field refers to", c.Name)
	}
	if len(c.Command) == 0 || !filepath.IsAbs(c.Command[0]) {
		bad("command: write a list that starts with an absolute path, such as [/usr/local/bin/cut-vds]")
	}
	for i, a := range c.Command {
		if strings.ContainsRune(a, 0) {
			bad("command[%d]: holds a NUL byte", i)
		}
	}
	switch c.Mode {
	case "", ModeJSON:
		if c.AttackDetails {
			bad("attack_details: only mode fastnetmon knows it")
		}
	case ModeFastNetMon:
		if c.Dir == "" {
			bad("dir: missing; write the directory that keeps what the script has banned")
		}
		if len(c.Measures) != 0 {
			bad("measures: such a script bans and unbans, and knows nothing milder")
		}
	default:
		bad("mode: %q; write json or fastnetmon", c.Mode)
	}
	for i, m := range c.Measures {
		if m != flow.MeasureBlockPort && m != flow.MeasureLimit || slices.Contains(c.Measures[:i], m) {
			bad("measures[%d]: %q; write block_port or rate_limit, each once", i, m)
		}
	}
	if c.WorkDir != "" && !filepath.IsAbs(c.WorkDir) {
		bad("work_dir: %q; write an absolute path", c.WorkDir)
	}
	for _, env := range []map[string]string{c.Env, c.SecretEnv} {
		for k, v := range env {
			if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
				bad("env: %q is no name of a variable, or its value holds a NUL byte", k)
			}
		}
	}
	if c.Timeout < 0 {
		bad("timeout: %v is negative; write a duration such as 10s", c.Timeout)
	}
	return errors.Join(errs...)
}

func (c Config) environ() []string {
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
	for _, more := range []map[string]string{c.Env, c.SecretEnv} {
		for k, v := range more {
			env[k] = v
		}
	}
	var out []string
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}
