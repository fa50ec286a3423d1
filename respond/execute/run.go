package execute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/flowcordon/flowcordon/flow"
)

// The exit codes that say what a failure is. Any other is worth a retry.
const (
	exitNotFound    = 10
	exitLocked      = 11
	exitConflict    = 12
	exitDenied      = 13
	exitUnsupported = 14
)

func classOfExit(code int) flow.ErrClass {
	switch code {
	case exitNotFound:
		return flow.ErrNotFound
	case exitLocked:
		return flow.ErrLocked
	case exitConflict:
		return flow.ErrConflict
	case exitDenied:
		return flow.ErrDenied
	case exitUnsupported:
		return flow.ErrUnsupported
	}
	return flow.ErrTransient
}

// bounded keeps so many bytes of what is written to it, the first or the last
// ones, and takes the rest without a word, so that the writer does not block.
type bounded struct {
	kept  []byte
	limit int
	last  bool
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	b.over = b.over || len(b.kept)+n > b.limit
	if b.last {
		p = p[max(0, n-b.limit):]
		drop := max(0, len(b.kept)+len(p)-b.limit)
		b.kept = append(b.kept[:0], b.kept[drop:]...)
	} else {
		p = p[:min(n, b.limit-len(b.kept))]
	}
	b.kept = append(b.kept, p...)
	return n, nil
}

// run runs the command once with these further arguments, and gives its stdout.
// At the end of ctx it is killed with all of its process group.
func (a *Adapter) run(ctx context.Context, args []string, stdin []byte) ([]byte, error) {
	if a.invalid != nil {
		return nil, fail(flow.ErrUnsupported, "configuration: %w", a.invalid)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	path := a.cfg.Command[0]
	cmd := exec.CommandContext(ctx, path, append(a.cfg.Command[1:len(a.cfg.Command):len(a.cfg.Command)], args...)...)
	stdout, stderr := &bounded{limit: maxOutput}, &bounded{limit: maxStderr, last: true}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	cmd.Env, cmd.Dir = a.cfg.environ(), a.cfg.WorkDir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drain
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() && ctx.Err() == nil {
		err = nil // it ended well, and only left somebody behind who holds its output
	}
	name := filepath.Base(path)
	said := a.tell(stderr)
	var exit *exec.ExitError
	switch {
	case err == nil && stdout.over:
		return nil, fmt.Errorf("%s wrote more than %d bytes to stdout%s", name, maxOutput, said)
	case err == nil:
		return stdout.kept, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s was killed: %w%s", name, context.Cause(ctx), said)
	case errors.As(err, &exit) && exit.Exited():
		class := classOfExit(exit.ExitCode())
		if a.cfg.Mode == ModeFastNetMon {
			class = flow.ErrTransient // such scripts give their codes no meaning
		}
		return nil, fail(class, "%s exited with %d%s", name, exit.ExitCode(), said)
	case errors.As(err, &exit):
		return nil, fmt.Errorf("%s ended by %s%s", name, exit.Sys().(syscall.WaitStatus).Signal(), said)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return nil, fail(flow.ErrDenied, "cannot run %s: %w", path, err)
	}
	return nil, fmt.Errorf("run %s: %w%s", name, err, said)
}

// tell is what a command said on stderr, as one line of bounded length: the end
// of it, where the reason stands, without what only it may know.
func (a *Adapter) tell(b *bounded) string {
	text := string(b.kept)
	if b.over { // the first bytes may be the rest of a secret
		text = text[min(len(text), a.longest()):]
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(a.redact(text), "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if r := []rune(text); len(r) > maxSaid {
		text = "… " + string(r[len(r)-maxSaid:])
	}
	if text == "" {
		return ""
	}
	return ": " + text
}

// redact takes the values of SecretEnv out of a text, longest first, so that
// one which holds another leaves nothing behind.
func (a *Adapter) redact(text string) string {
	secrets := slices.SortedFunc(maps.Values(a.cfg.SecretEnv), func(x, y string) int { return len(y) - len(x) })
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}

func (a *Adapter) longest() int {
	n := 0
	for _, s := range a.cfg.SecretEnv {
		n = max(n, len(s))
	}
	return n
}
