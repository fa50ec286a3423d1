package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/collectors"
	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/cmd/flowbench/measure"
	"github.com/flowcordon/flowcordon/cmd/flowbench/report"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
)

// growth is what runScale was asked for.
type growth struct {
	site
	protocol     string
	policy       string
	rate         float64
	warm, long   time.Duration
	backlog      uint64
	rounds       int
	points, core bool
	log          io.Writer
}

func runScale(ctx context.Context, fs *flag.FlagSet, args []string, stdout, stderr io.Writer) error {
	g := growth{log: stderr}
	finish := g.flags(fs)
	short := fs.Bool("short", false, "short stretches, coarse figures")
	fs.StringVar(&g.protocol, "protocol", "v9", "v5, v9, ipfix or sflow")
	fs.StringVar(&g.policy, "flow-policy", "off", "which records flowcordon keeps as rows: off, attempts or all")
	fs.Float64Var(&g.rate, "rate", 500_000, "records per second")
	fs.BoolVar(&g.points, "points", true, "hosts, exporters, templates, durations")
	fs.Uint64Var(&g.backlog, "backlog", 6_000_000, "records that wait in the sockets before they are taken")
	fs.BoolVar(&g.core, "cores", true, "one and two cores")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	if _, ok := protocols[g.protocol]; !ok {
		return tool.Misuse(fs, "--protocol %q: write v5, v9, ipfix or sflow", g.protocol)
	}
	g.warm, g.long, g.rounds = 20*time.Second, 20*time.Second, 3
	if *short {
		g.warm, g.long, g.rounds = 2*time.Second, 3*time.Second, 1
	}
	leave, err := g.enter(stderr)
	if err != nil {
		return err
	}
	result, err := g.run(ctx)
	if err := errors.Join(err, leave()); err != nil {
		return err
	}
	result.Head = report.NewHead("make bench")
	result.Rate, result.Protocol, result.Backlog = g.rate, g.protocol, g.backlog
	return g.publish(stdout, "scale", result, report.Scale(result))
}

func (g *growth) run(ctx context.Context) (report.Scaling, error) {
	var result report.Scaling
	if g.points {
		for _, p := range g.variations() {
			point := report.Point{What: p.what}
			err := g.point(ctx, p.traffic, &point)
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			if err != nil {
				point.Error = err.Error()
			}
			fmt.Fprintln(g.log, point)
			result.Points = append(result.Points, point)
		}
	}
	for _, cores := range []int{1, 2} {
		if !g.core {
			break
		}
		for range g.rounds {
			d, err := g.drain(ctx, cores)
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			if err != nil {
				d.Error = err.Error()
			}
			fmt.Fprintln(g.log, d)
			result.Drains = append(result.Drains, d)
		}
	}
	return result, nil
}

type variation struct {
	what    string
	traffic load.Config
}

// variations change one thing at a time.
func (g *growth) variations() []variation {
	out := []variation{{"50,000 hosts, 4 exporters, 20 remotes a host, durations of a router", g.traffic}}
	with := func(what string, edit func(*load.Config)) {
		t := g.traffic
		edit(&t)
		out = append(out, variation{what, t})
	}
	with("5,000 hosts", func(t *load.Config) { t.Hosts = 5_000 })
	with("500,000 hosts", func(t *load.Config) { t.Hosts = 500_000 })
	with("1 exporter", func(t *load.Config) { t.Exporters = 1 })
	with("64 exporters", func(t *load.Config) { t.Exporters = 64 })
	with("1,000 exporters", func(t *load.Config) { t.Exporters = 1000 })
	if g.protocol == "v9" || g.protocol == "ipfix" {
		with("100 templates of each exporter", func(t *load.Config) { t.Templates = 100 })
		with("1,000 templates of each exporter", func(t *load.Config) { t.Templates = 1000 })
	}
	if g.protocol != "sflow" {
		with("all records are instants", func(t *load.Config) { t.Duration = 0 })
		with("all records last 60 s", func(t *load.Config) { t.Duration = time.Minute })
	}
	with("a new remote with each record", func(t *load.Config) { t.Remotes = 0 })
	return out
}

// point measures one variation at the rate.
func (g *growth) point(ctx context.Context, traffic load.Config, p *report.Point) error {
	s, err := g.startOn(ctx, collectors.Flowcordon("flowcordon", ""), collectors.Job{
		Protocol: protocols[g.protocol], CPUs: []int{g.cpu}, EngineCPU: g.loadCPU, FlowPolicy: g.policy,
	}, traffic)
	if err != nil {
		return err
	}
	defer s.stop()
	s.load.SetRate(g.rate)
	if err := s.wait(ctx, g.warm); err != nil {
		return err
	}
	if p.Figures, err = measure.Stretch(ctx, s.load, s.running, g.long); err != nil {
		return err
	}
	if err := errors.Join(s.end(), s.running.Stop()); err != nil { // it stores what it has
		return err
	}
	bytes, err := machine.Disk(filepath.Join(s.dir, "data", "clickhouse"))
	records, _ := s.load.Sent()
	p.Disk = float64(bytes) * 1e6 / float64(records)
	return err
}

const (
	// drainBuffer holds a backlog; the kernel doubles what is asked for, and
	// counts in ints.
	drainBuffer = 512 << 20
	// drainExporters are enough to be spread evenly.
	drainExporters = 64
	// drainWarm fills the tables first.
	drainWarm   = 5 * time.Second
	drainWithin = 2 * time.Minute
	// fillRate leaves time to stop the generator when there is enough.
	fillRate = 1e6
)

// drain measures how fast flowcordon empties its sockets on one or two cores:
// it is stopped while the generator, which would need one of the cores, fills
// them, and goes on when the generator has ended, until it has counted every
// record. Its database rests meanwhile, rows wait in the spool.
func (g *growth) drain(ctx context.Context, cores int) (d report.Drain, err error) {
	d.Cores = cores
	restore, err := machine.SetSysctls(map[string]int64{"net.core.rmem_max": drainBuffer})
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	wide := g.site
	wide.readBuffer = drainBuffer
	traffic := g.traffic
	traffic.Exporters, traffic.GSO = drainExporters, true
	s, err := wide.startOn(ctx, collectors.Flowcordon("flowcordon", ""), collectors.Job{
		Protocol: protocols[g.protocol], CPUs: []int{g.cpu, g.loadCPU}[:cores], EngineCPU: g.loadCPU, FlowPolicy: g.policy,
	}, traffic)
	if err != nil {
		return d, err
	}
	defer s.stop()
	s.load.SetRate(g.rate / 2)
	if err := s.wait(ctx, drainWarm); err != nil {
		return d, err
	}
	s.load.SetRate(0)
	if err := measure.Drain(ctx, s.running); err != nil {
		return d, err
	}
	before, _ := s.load.Sent()
	seen, err := s.running.Records(ctx)
	if err != nil {
		return d, err
	}
	for _, pid := range []int{s.running.PID(), s.running.Engine} {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return d, err
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // it may have ended
	}
	s.load.SetRate(fillRate)
	for now := before; now-before < g.backlog; now, _ = s.load.Sent() {
		if err := s.wait(ctx, time.Millisecond); err != nil {
			return d, err
		}
	}
	if err := s.end(); err != nil { // the generator's core is free now
		return d, err
	}
	after, _ := s.load.Sent()
	lost, err := s.running.KernelLost()
	if err != nil {
		return d, err
	}
	records := float64(after-before) - float64(lost)*s.load.PerDatagram()
	return d, g.empty(ctx, s, seen, records, &d)
}

// counted is the share of the backlog that ends the time: the last records may
// be too late for a window, or in a buffer.
const counted = 0.999

// empty lets the collector go on and waits until it has counted the records.
func (g *growth) empty(ctx context.Context, s *session, seen uint64, records float64, d *report.Drain) error {
	cpu, err := machine.CPU(s.running.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := syscall.Kill(s.running.PID(), syscall.SIGCONT); err != nil {
		return err
	}
	// A scrape costs it some milliseconds of CPU, of seconds.
	for now := seen; float64(now-seen) < counted*records; {
		time.Sleep(100 * time.Millisecond)
		if now, err = s.running.Records(ctx); err != nil {
			return err
		}
		if time.Since(began) > drainWithin {
			return fmt.Errorf("%d records counted of %.0f after %v", now-seen, records, drainWithin)
		}
	}
	seconds := time.Since(began).Seconds()
	cpuNow, err := machine.CPU(s.running.PID())
	if err != nil {
		return err
	}
	d.Rate, d.CPU = records/seconds, (cpuNow-cpu).Seconds()*1e6/records
	return nil
}
