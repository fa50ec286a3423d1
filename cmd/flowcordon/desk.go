package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// deskCommand is a command of the abuse desk and the NOC: it asks a running
// service by its API, shows tables on a terminal and JSON to programs.
type deskCommand struct {
	name string // one word or two
	args string // as they are written in the usage; … at the end: any number
	what string // for the list of commands
	more string // for the command's own usage
	role api.Role
	// argument is what completes the first argument: a key of completers.
	argument string
	watch    bool // --watch makes sense
	// setup declares the flags and gives what runs with them.
	setup func(fs *flag.FlagSet) action
}

// action does the command's work.
type action func(ctx context.Context, d *desk, args []string) error

// deskCommands are all of them, in the order of the usage.
func deskCommands() []deskCommand {
	return slices.Concat(incidentCommands(), actCommands(), explainCommands(), hostCommands(), tenantCommands(), exemptionCommands(), ruleCommands(), controlCommands(), eventCommands())
}

// topCommands are those of the usage of flowcordon itself: the first words.
func topCommands() []command {
	var out []command
	for _, c := range deskCommands() {
		if !strings.Contains(c.name, " ") {
			out = append(out, command{c.name, c.args, c.what, func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
				return runDesk(ctx, append([]string{c.name}, args...), os.Stdin, stdout, stderr)
			}})
		}
	}
	return out
}

// findDesk finds the command that words begin with, and the rest of them.
func findDesk(words []string) (deskCommand, []string, bool) {
	var found deskCommand
	n := 0
	for _, c := range deskCommands() {
		name := strings.Fields(c.name)
		if len(name) > n && len(words) >= len(name) && slices.Equal(name, words[:len(name)]) {
			found, n = c, len(name)
		}
	}
	return found, words[n:], n > 0
}

// deskFlags are those that every such command has.
type deskFlags struct {
	remote  remote
	json    bool
	watch   watchFlag
	timeout time.Duration
}

func (f *deskFlags) flags(fs *flag.FlagSet, c deskCommand) {
	f.remote.flags(fs)
	fs.BoolVar(&f.json, "json", false, "the answer as one JSON document, as the API gives it")
	fs.DurationVar(&f.timeout, "timeout", defaultTimeout, "how long the service may take for one answer")
	if c.watch {
		fs.Var(&f.watch, "watch", "ask again and again, each `interval` (2s if only --watch is written), until Ctrl-C; with --json a line for each answer")
	}
}

// watchFlag is a time, or 2 s when the flag stands alone.
type watchFlag time.Duration

func (w *watchFlag) String() string   { return time.Duration(*w).String() }
func (w *watchFlag) IsBoolFlag() bool { return true }

func (w *watchFlag) Set(s string) error {
	if s == "true" {
		*w = watchFlag(2 * time.Second)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return errors.New("write a time from 1s on, as --watch=5s")
	}
	*w = watchFlag(d)
	return nil
}

// runDesk runs one command of the desk and returns its exit code.
func runDesk(ctx context.Context, words []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c, rest, ok := findDesk(words)
	if !ok { // of those that topCommands names
		panic("desk: no command " + strings.Join(words, " "))
	}
	var f deskFlags
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the error comes back
	fs.Usage = func() {}
	f.flags(fs, c)
	do := c.setup(fs)
	args, err := parseMixed(fs, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return deskUsage(stdout, c, fs)
	case err == nil:
		err = c.checkArgs(args)
	}
	if err != nil {
		if slices.ContainsFunc(rest, func(s string) bool {
			return strings.HasPrefix(strings.TrimLeft(s, "-"), "token=") || strings.TrimLeft(s, "-") == "token"
		}) {
			err = errors.New("a token that stands on the command line can be read by everybody on this machine; write --token-file FILE")
		}
		fmt.Fprintf(stderr, "flowcordon %s: %v\nusage: flowcordon %s; flowcordon %s -h tells more\n", c.name, err, strings.TrimSpace(c.name+" "+c.args), c.name)
		return exitUsage
	}
	d := &desk{json: f.json, timeout: f.timeout, out: stdout, errs: stderr, in: stdin, term: terminalOf(stdout), now: time.Now}
	if err = d.connect(&f.remote, c.role); err == nil {
		if f.watch > 0 {
			err = d.watch(ctx, time.Duration(f.watch), func(ctx context.Context, d *desk) error { return do(ctx, d, args) })
		} else {
			err = do(ctx, d, args)
		}
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 130 // as shells say of SIGINT
	}
	fmt.Fprintf(stderr, "flowcordon %s: %s\n", c.name, cleanText(err.Error()))
	return exitCode(err)
}

// parseMixed parses flags that may stand before, between and after the
// arguments; what follows "--" are arguments.
func parseMixed(fs *flag.FlagSet, words []string) (args []string, err error) {
	for {
		if err := fs.Parse(words); err != nil {
			return nil, err
		}
		n := len(words) - fs.NArg()
		if n > 0 && words[n-1] == "--" {
			return append(args, fs.Args()...), nil
		}
		if fs.NArg() == 0 {
			return args, nil
		}
		args, words = append(args, fs.Arg(0)), fs.Args()[1:]
	}
}

func (c deskCommand) checkArgs(args []string) error {
	need := strings.Fields(c.args)
	least, most := 0, len(need)
	for _, n := range need {
		if !strings.HasPrefix(n, "[") {
			least++
		}
		if strings.HasSuffix(strings.TrimSuffix(n, "]"), "…") {
			most = 1 << 10
		}
	}
	switch {
	case len(args) < least:
		return fmt.Errorf("%s is missing", need[len(args)])
	case len(args) > most:
		sub := ""
		if names := subcommands(c.name); names != nil {
			sub = "; what can follow is " + strings.Join(names, ", ")
		}
		return fmt.Errorf("unexpected argument %q%s", args[most], sub)
	}
	return nil
}

// subcommands are the second words after a first one.
func subcommands(name string) []string {
	var out []string
	for _, c := range deskCommands() {
		if sub, ok := strings.CutPrefix(c.name, name+" "); ok {
			out = append(out, sub)
		}
	}
	return out
}

func deskUsage(w io.Writer, c deskCommand, fs *flag.FlagSet) int {
	var b bytes.Buffer
	fmt.Fprintf(&b, "usage: flowcordon %s [flags]\n\n%s\n", strings.TrimSpace(c.name+" "+c.args), first(c.more, strings.ToUpper(c.what[:1])+c.what[1:]+"."))
	begun := false
	for _, sub := range deskCommands() {
		if !strings.HasPrefix(sub.name, c.name+" ") {
			continue
		}
		if !begun {
			b.WriteString("\nand:\n")
		}
		begun = true
		fmt.Fprintf(&b, "  %-34s %s\n", strings.TrimSpace(sub.name+" "+sub.args), sub.what)
	}
	fmt.Fprintf(&b, "\nNeeds a token of the role %s or higher.\n", c.role)
	common := flag.NewFlagSet("", flag.ContinueOnError)
	(&deskFlags{}).flags(common, c)
	flagUsage(&b, fs, func(x *flag.Flag) bool { return common.Lookup(x.Name) == nil })
	b.WriteByte('\n')
	flagUsage(&b, common, func(*flag.Flag) bool { return true })
	b.WriteString("\nExit codes: 0 done, 1 refused or not there, 2 wrong usage, 3 no service answers, 4 token or role.\n")
	if _, err := b.WriteTo(w); err != nil {
		return exitFailed
	}
	return 0
}

// flagUsage prints the flags that are wanted, as they are written.
func flagUsage(b *bytes.Buffer, fs *flag.FlagSet, want func(*flag.Flag) bool) {
	fs.VisitAll(func(x *flag.Flag) {
		if !want(x) {
			return
		}
		value, what := flag.UnquoteUsage(x)
		if isBool(x) {
			value = ""
		}
		if x.DefValue != "" && x.DefValue != "false" && !strings.Contains(what, "default") && x.DefValue != "0s" && x.DefValue != "0" && x.DefValue != "-1" {
			what += " (default " + x.DefValue + ")"
		}
		fmt.Fprintf(b, "  --%-26s %s\n", strings.TrimSpace(x.Name+" "+value), what)
	})
}

// desk is a command at work.
type desk struct {
	api     *apiclient.Client
	end     *serviceAt
	json    bool
	lines   bool // JSON on one line
	timeout time.Duration
	in      io.Reader
	out     io.Writer
	errs    io.Writer
	term    terminal // of out
	now     func() time.Time
}

func (d *desk) connect(r *remote, role api.Role) error {
	end, err := r.endpoint(role)
	if err != nil {
		return err
	}
	d.end = end
	end.warnPlain(d.errs)
	d.api, err = end.client()
	return err
}

// call is one request of the generated client.
type call func(ctx context.Context) (*http.Response, error)

// fetch makes a call and gives the body of its answer. what stands in the
// progress that a person sees when it takes long.
func (d *desk) fetch(ctx context.Context, what string, f call) ([]byte, http.Header, error) {
	done := d.progress(what)
	defer done()
	for try := 0; ; try++ {
		once, cancel := context.WithTimeout(ctx, d.timeout)
		res, err := f(once) //nolint:bodyclose // check closes it
		if err != nil {
			cancel()
			return nil, nil, d.end.unreached(err)
		}
		wait := retryAfter(res)
		body, err := d.end.check(res)
		cancel()
		if wait == 0 || try == 3 {
			return body, res.Header, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, context.Canceled
		case <-time.After(wait):
		}
	}
}

// retryAfter is how long to wait before a request that was one too many for
// the service is made again (RFC 9110 §10.2.3); 0: not to be made again.
func retryAfter(res *http.Response) time.Duration {
	if res.StatusCode != http.StatusTooManyRequests || res.Request == nil || res.Request.Method != http.MethodGet {
		return 0
	}
	s, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || s > 30 {
		return 0
	}
	return max(time.Duration(s)*time.Second, 100*time.Millisecond)
}

// get makes a call whose answer is JSON of the type T.
func get[T any](ctx context.Context, d *desk, what string, f call) (*T, []byte, error) {
	body, _, err := d.fetch(ctx, what, f)
	if err != nil {
		return nil, nil, err
	}
	v := new(T)
	if err := json.Unmarshal(body, v); err != nil {
		return nil, nil, failf(exitAway, "%s answers something that is not understood; is it another version, or no flowcordon? (%v)", d.end.base, err)
	}
	return v, body, nil
}

// show makes a call and writes its answer: as the API gave it with --json, else
// by print.
func show[T any](ctx context.Context, d *desk, what string, f call, print func(*T) error) error {
	v, body, err := get[T](ctx, d, what, f)
	switch {
	case err != nil:
		return err
	case d.json:
		return d.writeJSON(body)
	}
	return print(v)
}

// writeJSON writes a document of the API for people and programs alike: indented,
// names and order as they came. Characters that a terminal would obey are escaped.
func (d *desk) writeJSON(body []byte) error {
	var b bytes.Buffer
	err := json.Compact(&b, body)
	if err == nil && !d.lines {
		b.Reset()
		err = json.Indent(&b, bytes.TrimSpace(body), "", "  ")
	}
	if err != nil {
		return failf(exitAway, "%s answers no JSON: %v", d.end.base, err)
	}
	var safe strings.Builder
	for _, r := range b.String() {
		if r != '\n' && unsafeRune(r) && r <= 0xffff {
			fmt.Fprintf(&safe, `\u%04x`, r) // in strings only: elsewhere JSON has none
			continue
		}
		safe.WriteRune(r)
	}
	safe.WriteByte('\n')
	_, err = io.WriteString(d.out, safe.String())
	return err
}

// sayf writes a line that is no data.
func (d *desk) sayf(format string, a ...any) error {
	_, err := fmt.Fprintln(d.out, clean(fmt.Sprintf(format, a...)))
	return err
}

// confirm asks on a terminal before something that a customer feels. Elsewhere
// --yes has to say it.
func (d *desk) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	f, ok := d.in.(*os.File)
	if !ok || !terminalOf(f).is {
		return failf(exitUsage, "%s Without a terminal to ask on, write --yes", clean(question))
	}
	fmt.Fprintf(d.errs, "%s [y/N] ", clean(question))
	answer, err := bufio.NewReader(d.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return failf(exitFailed, "nothing was done")
	}
	return nil
}

// progress tells a person who waits for more than half a second what for. The
// function that it gives wipes it away.
func (d *desk) progress(what string) (done func()) {
	term := terminalOf(d.errs)
	if !term.is || d.lines {
		return func() {}
	}
	end, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		began, tick := time.Now(), time.NewTicker(500*time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				fmt.Fprint(d.errs, "\r\x1b[K") // ECMA-48: erase in line
				return
			case <-tick.C:
				fmt.Fprintf(d.errs, "\r\x1b[K%s", shorten(fmt.Sprintf("%s … %s", what, span(time.Since(began))), max(term.width-1, 10)))
			}
		}
	}()
	return func() {
		close(end)
		<-gone
	}
}

// watch runs f again and again. On a terminal each answer takes the place of
// the one before; a service that is away for a while is waited for.
func (d *desk) watch(ctx context.Context, every time.Duration, f func(context.Context, *desk) error) error {
	for n := 0; ; n++ {
		var b bytes.Buffer
		once := *d
		once.out, once.lines = &b, true
		err := f(ctx, &once)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how it ends
		case err != nil && (n == 0 || exitCode(err) != exitAway):
			return err
		case err != nil:
			b.Reset()
			fmt.Fprintf(&b, "%s  %s\n", stamp(d.now()), clean(err.Error()))
		}
		if d.term.is && !d.json {
			fmt.Fprint(d.out, "\x1b[H\x1b[2J") // home, and erase in display
			fmt.Fprintf(d.out, "%s\n", d.term.paint(fmt.Sprintf("%s UTC, every %s", stamp(d.now()), every), dim))
		}
		if err != nil && d.json {
			_, _ = b.WriteTo(d.errs) // else a program would take it for an answer
		} else if _, err := b.WriteTo(d.out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// opt is a parameter that is left out when it is the zero value.
func opt[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// val is what an optional field says, or the zero value.
func val[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
