package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/collectors"
	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/cmd/flowbench/measure"
	"github.com/flowcordon/flowcordon/cmd/flowbench/report"
	"github.com/flowcordon/flowcordon/flow"
)

// The order of the table's columns.
var protocolNames = []string{"v5", "v9", "ipfix", "sflow"}

// Quiet rates: of records, and of sFlow samples.
const (
	quietRecords = 50_000
	quietSamples = 20_000
)

// pace is how long everything takes.
type pace struct {
	warm           bool // wait until all of a collector's work goes on
	check, quiet   time.Duration
	trial, confirm time.Duration
	precision      float64
	rounds         int
}

var (
	fullPace  = pace{warm: true, check: 4 * time.Second, quiet: 20 * time.Second, trial: 3 * time.Second, confirm: 10 * time.Second, precision: 0.03, rounds: 3}
	shortPace = pace{check: time.Second, quiet: 2 * time.Second, trial: 500 * time.Millisecond, confirm: time.Second, precision: 0.15, rounds: 1}
)

// contest is what runCompare was asked for.
type contest struct {
	site
	pace
	protocols []string
	chosen    []*collectors.Collector
	policies  map[*collectors.Collector]string // flow_policy of flowcordon's variants
	search    bool
	log       io.Writer
}

func runCompare(ctx context.Context, fs *flag.FlagSet, args []string, stdout, stderr io.Writer) error {
	c := contest{log: stderr}
	finish := c.flags(fs)
	short := fs.Bool("short", false, "a few minutes: one round, short stretches, coarse figures")
	rounds := fs.Int("rounds", 0, "how often each is measured; the table has medians; 0: 3, and 1 with --short")
	protocolList := fs.String("protocols", strings.Join(protocolNames, ","), "which of them")
	only := fs.String("only", "", "collectors whose names begin with one of these, comma-separated; empty: all")
	fs.BoolVar(&c.search, "highest", true, "look for the highest rate, too; --highest=false: the quiet rate only")
	if err := parse(fs, args); err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	c.pace = fullPace
	if *short {
		c.pace = shortPace
	}
	if *rounds > 0 {
		c.rounds = *rounds
	}
	for p := range strings.SplitSeq(*protocolList, ",") {
		if !slices.Contains(protocolNames, p) {
			return misuse(fs, "--protocols: %q is none of %s", p, strings.Join(protocolNames, ", "))
		}
		c.protocols = append(c.protocols, p)
	}
	if c.choose(*only); len(c.chosen) == 0 {
		return misuse(fs, "--only %q: no such collector", *only)
	}
	leave, err := c.enter(stderr)
	if err != nil {
		return err
	}
	result, err := c.run(ctx)
	if err := errors.Join(err, leave()); err != nil {
		return err
	}
	result.Head = report.NewHead("make bench")
	return c.publish(stdout, "compare", result, report.Compare(result))
}

// choose fills in the collectors whose names begin with one of the texts.
func (c *contest) choose(only string) {
	all := []*collectors.Collector{
		collectors.Flowcordon("flowcordon", "windows per address with distinct counts, to ClickHouse"),
		collectors.Flowcordon("flowcordon, all flows", "the same, and every record as a row in ClickHouse"),
		collectors.Fastnetmon(), collectors.Nfdump(), collectors.Pmacct(), collectors.Goflow2(),
	}
	c.policies = map[*collectors.Collector]string{all[0]: "off", all[1]: "all"}
	for _, k := range all {
		for begin := range strings.SplitSeq(only, ",") {
			if strings.HasPrefix(k.Name, begin) {
				c.chosen = append(c.chosen, k)
				break
			}
		}
	}
}

// run goes round by round, so that what changes on the machine meanwhile meets
// all collectors alike.
func (c *contest) run(ctx context.Context) (report.Comparison, error) {
	var result report.Comparison
	for _, k := range c.chosen {
		result.Collectors = append(result.Collectors, report.Collector{Name: k.Name, Does: k.Does})
	}
	for round := range c.rounds {
		for _, p := range c.protocols {
			for _, k := range c.chosen {
				cell := report.Cell{Collector: k.Name, Protocol: p, Round: round + 1}
				began := time.Now()
				err := c.cell(ctx, k, &cell)
				if ctx.Err() != nil {
					return result, ctx.Err()
				}
				if err != nil {
					cell.Error = err.Error()
				}
				result.Cells = append(result.Cells, cell)
				fmt.Fprintf(c.log, "%s (%.0f s)\n", cell, time.Since(began).Seconds())
			}
		}
	}
	return result, nil
}

// cell measures one collector with one protocol.
func (c *contest) cell(ctx context.Context, k *collectors.Collector, cell *report.Cell) error {
	p := protocols[cell.Protocol]
	rate, from := float64(quietRecords), 200_000.0
	if p == flow.SFlow5 {
		rate, from = quietSamples, 100_000
	}
	if cell.Round == 1 {
		if err := c.check(ctx, k, cell, rate); err != nil {
			return err
		}
	}
	s, err := c.start(ctx, k, p, c.policies[k])
	if err != nil {
		return err
	}
	defer s.stop()
	s.load.SetRate(rate)
	if c.warm {
		if err := s.wait(ctx, k.Warm); err != nil {
			return err
		}
	}
	quiet, err := measure.Stretch(ctx, s.load, s.running, c.quiet)
	if err != nil {
		return err
	}
	cell.Quiet = &quiet
	if !c.search {
		return s.end()
	}
	highest, err := measure.FindHighest(ctx, s.load, s.running, measure.Search{From: from, Trial: c.trial, Confirm: c.confirm, Precision: c.precision})
	if err != nil {
		return err
	}
	cell.Highest = &highest
	return s.end()
}

// leastSeen is the share of the records that a collector must say it saw: a
// few may be in its buffers. One that ignores the data would be the fastest of
// all.
const leastSeen = 0.99

// check sends at the quiet rate and asks the collector how much it saw.
func (c *contest) check(ctx context.Context, k *collectors.Collector, cell *report.Cell, rate float64) error {
	s, err := c.start(ctx, k, protocols[cell.Protocol], c.policies[k])
	if err != nil {
		return err
	}
	defer s.stop()
	s.load.SetRate(rate)
	if err := s.wait(ctx, c.pace.check); err != nil {
		return err
	}
	s.load.SetRate(0)
	if err := s.wait(ctx, 2500*time.Millisecond); err != nil { // counters are published each second
		return err
	}
	sent, _ := s.load.Sent()
	cell.Sent = sent
	if cell.Seen, err = s.running.Records(ctx); err != nil {
		return err
	}
	if float64(cell.Seen) < leastSeen*float64(sent) || cell.Seen > sent {
		return fmt.Errorf("it saw %d of %d records at the quiet rate:\n%s", cell.Seen, sent, s.running.Tail())
	}
	return s.end()
}

// site is where and with what the runs take place.
type site struct {
	traffic             load.Config
	flowcordon, goflow2 string
	detect              string
	dir                 string
	cpu, loadCPU        int
	readBuffer          int
	docs, json          string
}

func (s *site) flags(fs *flag.FlagSet) (finish func() error) {
	finish = trafficFlags(fs, &s.traffic)
	fs.StringVar(&s.flowcordon, "flowcordon", "bin/flowcordon", "flowcordon's `binary`")
	fs.StringVar(&s.goflow2, "goflow2", ".cache/bin/goflow2", "goflow2's `binary`")
	fs.StringVar(&s.detect, "detect", "observe", "mode of flowcordon's rules: observe or off")
	fs.StringVar(&s.dir, "dir", "", "`directory` for the collectors' files; empty: a temporary one")
	fs.IntVar(&s.cpu, "cpu", 0, "the collector's CPU")
	fs.IntVar(&s.loadCPU, "load-cpu", 1, "the generator's CPU, and that of flowcordon's database")
	fs.IntVar(&s.readBuffer, "read-buffer", 16<<20, "bytes of every collector's receive buffer")
	fs.StringVar(&s.docs, "docs", "", "write the table into this Markdown `file`, between its marks")
	fs.StringVar(&s.json, "json", "", "write all figures to this `file`")
	return finish
}

// enter sets the machine up: buffers equal for all, ourselves on the
// generator's CPU. leave undoes what outlives us.
func (s *site) enter(stderr io.Writer) (leave func() error, err error) {
	allowed, err := machine.Allowed()
	if err != nil {
		return nil, err
	}
	for _, cpu := range []int{s.cpu, s.loadCPU} {
		if !slices.Contains(allowed, cpu) {
			return nil, fmt.Errorf("CPU %d is none of those that may be used: %v", cpu, allowed)
		}
	}
	if s.cpu == s.loadCPU {
		return nil, errors.New("the collector and the generator need a CPU each")
	}
	for _, p := range []*string{&s.flowcordon, &s.goflow2} {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
	}
	if s.dir, err = os.MkdirTemp(s.dir, "flowbench"); err != nil {
		return nil, err
	}
	restore, err := machine.SetSysctls(map[string]int64{"net.core.rmem_default": int64(s.readBuffer), "net.core.rmem_max": int64(s.readBuffer)})
	if err != nil {
		fmt.Fprintf(stderr, "receive buffers are not equal: fastnetmon and goflow2 have the system's default (%v)\n", err)
		restore = func() error { return nil }
	}
	// The generator keeps its thread; others must run beside it on the one CPU.
	runtime.GOMAXPROCS(4)
	leave = func() error { return errors.Join(restore(), os.RemoveAll(s.dir)) }
	if err := machine.Pin(os.Getpid(), s.loadCPU); err != nil {
		return nil, errors.Join(err, leave())
	}
	return leave, nil
}

// session is a collector that runs with its generator.
type session struct {
	running *collectors.Running
	load    *load.Load
	cancel  context.CancelFunc
	ended   chan error
	dir     string
}

func (s *site) start(ctx context.Context, k *collectors.Collector, p flow.Protocol, policy string) (*session, error) {
	return s.startOn(ctx, k, collectors.Job{Protocol: p, CPUs: []int{s.cpu}, EngineCPU: s.loadCPU, FlowPolicy: policy}, s.traffic)
}

// startOn starts the collector and a generator at rate 0.
func (s *site) startOn(ctx context.Context, k *collectors.Collector, j collectors.Job, traffic load.Config) (*session, error) {
	var err error
	if j.Dir, err = os.MkdirTemp(s.dir, "job"); err != nil {
		return nil, err
	}
	j.Prefix, j.ReadBuffer, j.Detect, j.Flowcordon, j.Goflow2 = load.PrefixFor(traffic.Hosts), s.readBuffer, s.detect, s.flowcordon, s.goflow2
	e := &session{ended: make(chan error, 1), dir: j.Dir}
	if e.running, err = k.Start(ctx, j); err != nil {
		return nil, err
	}
	traffic.Protocol, traffic.Target, traffic.Realtime = j.Protocol, e.running.Target, true
	if e.load, err = load.New(traffic); err != nil {
		return nil, errors.Join(err, e.running.Stop())
	}
	run, cancel := context.WithCancel(ctx)
	e.cancel = cancel
	go func() { e.ended <- e.load.Run(run) }()
	return e, e.wait(ctx, time.Second)
}

func (s *session) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-s.ended:
		s.ended <- err
		return fmt.Errorf("the generator ended: %w", err)
	case <-time.After(d):
		return nil
	}
}

// end reports what went wrong with the generator.
func (s *session) end() error {
	s.cancel()
	err := <-s.ended
	s.ended <- err
	return err
}

func (s *session) stop() {
	s.cancel()
	<-s.ended
	_ = s.running.Stop() // it is killed then
	_ = os.RemoveAll(s.dir)
}

// publish writes the table and the figures to where they were asked for.
func (s *site) publish(stdout io.Writer, mark string, figures any, table string) error {
	fmt.Fprintln(stdout, table)
	if s.json != "" {
		if err := report.WriteJSON(s.json, figures); err != nil {
			return err
		}
	}
	if s.docs != "" {
		return report.WriteBetween(s.docs, mark, table)
	}
	return nil
}
