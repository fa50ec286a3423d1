package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/collectors"
	"github.com/flowcordon/flowcordon/cmd/flowbench/measure"
	"github.com/flowcordon/flowcordon/cmd/flowbench/report"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
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
	protocolList := fs.String("protocols", "", "some of v5, v9, ipfix, sflow; empty: all, and v9 and sflow with --short")
	only := fs.String("only", "", "collectors whose names begin with one of these, comma-separated; empty: all")
	fs.BoolVar(&c.search, "highest", true, "look for the highest rate, too; --highest=false: the quiet rate only")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	c.pace, c.protocols = fullPace, protocolNames
	if *short {
		c.pace, c.protocols = shortPace, []string{"v9", "sflow"}
	}
	if *rounds > 0 {
		c.rounds = *rounds
	}
	if *protocolList != "" {
		c.protocols = strings.Split(*protocolList, ",")
	}
	for _, p := range c.protocols {
		if !slices.Contains(protocolNames, p) {
			return tool.Misuse(fs, "--protocols: %q is none of %s", p, strings.Join(protocolNames, ", "))
		}
	}
	if c.choose(*only); len(c.chosen) == 0 {
		return tool.Misuse(fs, "--only %q: no such collector", *only)
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
	if err := measure.Drain(ctx, s.running); err != nil {
		return err
	}
	if err := s.wait(ctx, 2500*time.Millisecond); err != nil { // counters are published each second
		return err
	}
	lost, err := s.running.Lost()
	if err != nil {
		return err
	}
	sent, _ := s.load.Sent()
	cell.Sent = sent - uint64(float64(lost)*s.load.PerDatagram()) // a busy machine loses even these
	if cell.Seen, err = s.running.Records(ctx); err != nil {
		return err
	}
	if float64(cell.Seen) < leastSeen*float64(cell.Sent) || cell.Seen > sent {
		return fmt.Errorf("it saw %d of %d records at the quiet rate, %d datagrams lost:\n%s", cell.Seen, sent, lost, s.running.Tail())
	}
	return s.end()
}
