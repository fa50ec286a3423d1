package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
)

const doctorUsage = `usage: flowcordon doctor [disk] [flags]

Looks at everything that the service needs, one line each: OK, WARN or FAIL, and
what to do. Nothing is changed. A running service is asked for its metrics and
exporters; where none runs, the database is opened itself. doctor disk says what
each table takes, when the disk is full and what each retention costs.

Exit status: 0 all is well, 1 something failed, 2 wrong usage, 3 warnings only.

`

// Grades of a line, best first.
const (
	gradeOK   = "OK"
	gradeWarn = "WARN"
	gradeFail = "FAIL"
)

// exitWarned is the exit status with warnings only.
const exitWarned = 3

// diagnosis is one line of the doctor's.
type diagnosis struct {
	Check string `json:"check"`
	Grade string `json:"grade"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do
}

// doctor is one run of the command.
type doctor struct {
	remote
	json    bool
	timeout time.Duration
	now     func() time.Time

	cfg   config.Config
	live  *liveService // nil: none runs
	lines []diagnosis
}

func (d *doctor) say(check, grade, do, format string, args ...any) {
	d.lines = append(d.lines, diagnosis{check, grade, fmt.Sprintf(format, args...), do})
}

// runDoctor is the doctor command.
func runDoctor(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	d := &doctor{now: time.Now}
	disk := len(args) > 0 && args[0] == "disk"
	if disk {
		args = args[1:]
	}
	fs := flag.NewFlagSet("doctor", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, doctorUsage)
		fs.PrintDefaults()
	}
	d.flags(fs)
	fs.BoolVar(&d.json, "json", false, "the answer as JSON")
	fs.DurationVar(&d.timeout, "timeout", time.Minute, "for everything together")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "flowcordon doctor: unexpected argument %q\n", fs.Arg(0))
		return exitUsage
	}
	var err error
	if d.cfg, err = config.Load(d.config); err != nil {
		return configFailed(err, stderr)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	d.live = d.findService(ctx)
	if disk {
		err = d.disk(ctx, stdout)
	} else {
		err = d.all(ctx, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "flowcordon: doctor:", err)
		return 1
	}
	return d.code()
}

// code is the exit status that the lines amount to.
func (d *doctor) code() int {
	has := func(grade string) bool {
		return slices.ContainsFunc(d.lines, func(l diagnosis) bool { return l.Grade == grade })
	}
	switch {
	case has(gradeFail):
		return 1
	case has(gradeWarn):
		return exitWarned
	}
	return 0
}

// all goes through every check; a check that cannot be made is a line too.
func (d *doctor) all(ctx context.Context, out io.Writer) error {
	d.say("config", gradeOK, "", "%s is valid", d.config)
	d.checkService()
	d.checkDatabase(ctx)
	d.checkClock()
	d.checkBuffers()
	d.checkIngest()
	d.checkExporters(ctx)
	d.checkInventory()
	d.checkSuspenders(ctx)
	if d.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Checks []diagnosis `json:"checks"`
		}{d.lines})
	}
	return printDiagnoses(out, d.lines)
}

func printDiagnoses(out io.Writer, lines []diagnosis) error {
	// The writer keeps an error until Flush.
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", l.Grade, l.Check, l.Text)
		if l.Do != "" {
			_, _ = fmt.Fprintf(w, "\t\t→ %s\n", l.Do)
		}
	}
	return w.Flush()
}

// database runs f on the service's parts that a database question needs: on the
// configured server, or on the embedded engine while no service runs.
func (d *doctor) database(ctx context.Context, f func(context.Context, *service) error) error {
	s := &service{path: d.config, cfg: d.cfg, log: zap.NewNop(), registry: prometheus.NewRegistry()}
	if err := s.wireStore(); err != nil {
		return err
	}
	return s.withEngine(ctx, func(ctx context.Context) error { return f(ctx, s) })
}

// ownDatabase reports whether the database can be asked besides the service:
// the embedded engine belongs to one process.
func (d *doctor) ownDatabase() bool { return d.live == nil || len(d.cfg.ClickHouse.Addr) > 0 }
