// Package tool is the frame of our programs for tests and measurements: named
// commands with flags, signals and exit statuses.
package tool

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

// Command is what a program does when its first argument is Name. Run gets a
// flag set without flags and the other arguments.
type Command struct {
	Name, What string
	Run        func(ctx context.Context, fs *flag.FlagSet, args []string, stdout, stderr io.Writer) error
}

// errUsage is an error in the flags that was already told.
var errUsage = errors.New("usage")

// Main runs the program with its context ended by SIGINT and SIGTERM, and exits.
func Main(program string, commands []Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, program, commands, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Run returns the exit status: 0, 1 for a failure, 2 for bad flags.
func Run(ctx context.Context, program string, commands []Command, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr, program, commands)
		return 2
	}
	for _, c := range commands {
		if c.Name != args[0] {
			continue
		}
		fs := flag.NewFlagSet(program+" "+c.Name, flag.ContinueOnError)
		fs.SetOutput(stderr)
		switch err := c.Run(ctx, fs, args[1:], stdout, stderr); {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		default:
			fmt.Fprintf(stderr, "%s %s: %v\n", program, c.Name, err)
			return 1
		}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(stdout, program, commands)
		return 0
	}
	fmt.Fprintf(stderr, "%s: no command %q\n", program, args[0])
	usage(stderr, program, commands)
	return 2
}

func usage(w io.Writer, program string, commands []Command) {
	fmt.Fprintf(w, "usage: %s COMMAND [flags]\n", program)
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s %s\n", c.Name, c.What)
	}
	fmt.Fprintf(w, "%s COMMAND -h lists a command's flags.\n", program)
}

// Parse parses flags that are followed by want arguments.
func Parse(fs *flag.FlagSet, args []string, want int) error {
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	case want == 0 && fs.NArg() > 0:
		return Misuse(fs, "unexpected argument %q", fs.Arg(0))
	case fs.NArg() != want:
		return Misuse(fs, "takes %d argument(s) after its flags, not %q", want, fs.Args())
	}
	return nil
}

// Misuse tells of flags that parse but make no sense.
func Misuse(fs *flag.FlagSet, format string, args ...any) error {
	fmt.Fprintf(fs.Output(), fs.Name()+": "+format+"\n", args...)
	return errUsage
}
