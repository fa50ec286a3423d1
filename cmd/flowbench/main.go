// Command flowbench measures what collecting flows costs: flowcordon beside
// other collectors on one machine, and how its cost grows. Flags, signals and
// exits live here and nowhere else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

type command struct {
	name, what string
	run        func(ctx context.Context, fs *flag.FlagSet, args []string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"compare", "flowcordon beside other collectors: cost at a quiet rate, highest rate without loss", runCompare},
	{"scale", "how flowcordon's cost grows with hosts, exporters, templates, durations, cores", runScale},
	{"load", "send datagrams at a rate, to a collector that runs already", runLoad},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage is an error in the flags that was already told.
var errUsage = errors.New("usage")

// run returns the exit status: 0, 1 for a failure, 2 for bad flags.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		fs := flag.NewFlagSet("flowbench "+c.name, flag.ContinueOnError)
		fs.SetOutput(stderr)
		switch err := c.run(ctx, fs, args[1:], stdout, stderr); {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		default:
			fmt.Fprintf(stderr, "flowbench %s: %v\n", c.name, err)
			return 1
		}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return 0
	}
	fmt.Fprintf(stderr, "flowbench: no command %q\n", args[0])
	usage(stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: flowbench COMMAND [flags]")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.what)
	}
	fmt.Fprintln(w, "flowbench COMMAND -h lists a command's flags.")
}

// parse parses flags that take no positional arguments.
func parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if fs.NArg() > 0 {
		return misuse(fs, "unexpected argument %q", fs.Arg(0))
	}
	return nil
}

// misuse tells of flags that parse but make no sense.
func misuse(fs *flag.FlagSet, format string, args ...any) error {
	fmt.Fprintf(fs.Output(), fs.Name()+": "+format+"\n", args...)
	return errUsage
}
