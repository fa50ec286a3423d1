// Command flowcordon collects flow exports, finds tenants that attack others
// and cuts their network. This package is the composition root: flags, signals
// and exits live here and nowhere else; serve.go wires everything.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/store/embedded"
)

// version is set by the linker.
var version = "unknown"

type command struct {
	name, args, what string
	run              func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

func commands() []command {
	return slices.Concat([]command{
		{"serve", "--config F", "run the service", runServe},
		{"check-config", "F", "list everything that is wrong with a configuration", runCheckConfig},
		{"migrate", "--config F", "bring the database's schema up to date", runMigrate},
		{"decode", "[--json] FILE…", "print the flow records of captures", runDecode},
		{"replay", "--config F [--json] FILE…", "what the detector would have found in captures; no action is taken", runReplay},
		{"inventory", "--config F [--read] [ADDRESS]", "who holds what, and how that is known", runInventory},
		{"match", "[flags] FILE|-", "hold a complaint against what was seen", matchCommand},
		{"doctor", "[disk] --config F [--json]", "whether everything that is needed is there; what the disk holds and when it is full", runDoctor},
		{"notify", "test --config F [--to ADDRESS]", "send an example of each notice over each channel", runNotify},
		{"version", "", "print the version", runVersion},
		{"completion", "bash|zsh|fish", "print what makes a shell complete these words", runCompletion},
		{completeWord, "", "", runComplete}, // of the scripts of completion; not told
	}, topCommands())
}

func main() {
	embedded.RunIfChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.run(ctx, args[1:], stdout, stderr)
			}
		}
	}
	code := 2
	out := stderr
	if len(args) > 0 && (args[0] == "help" || args[0] == "-h" || args[0] == "--help") {
		code, out = 0, stdout
	} else if len(args) > 0 {
		fmt.Fprintf(stderr, "flowcordon: unknown command %q\n", args[0])
	}
	fmt.Fprintln(out, "usage: flowcordon COMMAND")
	for _, c := range commands() {
		if c.name == topCommands()[0].name {
			fmt.Fprintln(out, "\nand for the desk, asking a running service (--url, --token-file; COMMAND -h tells more):")
		}
		if c.what != "" {
			fmt.Fprintf(out, "  %-40s %s\n", c.name+" "+c.args, c.what)
		}
	}
	return code
}

func runVersion(_ context.Context, _ []string, stdout, _ io.Writer) int {
	v := version
	if v == "unknown" {
		if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
			v = b.Main.Version
		}
	}
	fmt.Fprintf(stdout, "flowcordon %s (%s, %s/%s)\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return 0
}

func runCheckConfig(_ context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: flowcordon check-config FILE")
		return 2
	}
	cfg, err := config.Load(args[0])
	var warning string
	if err == nil {
		warning, err = checkReferences(args[0], cfg)
	}
	if err != nil {
		return configFailed(err, stderr)
	}
	if warning != "" {
		fmt.Fprintf(stderr, "%s: warning: %s\n", cfg.Inventory.File, warning)
	}
	fmt.Fprintf(stdout, "%s: ok\n", args[0])
	return 0
}

// configFailed prints what is wrong, one problem a line, and returns the exit status.
func configFailed(err error, stderr io.Writer) int {
	fmt.Fprintln(stderr, err)
	var ps config.Problems
	if errors.As(err, &ps) {
		fmt.Fprintf(stderr, "%d problem(s)\n", len(ps))
	}
	return 1
}
