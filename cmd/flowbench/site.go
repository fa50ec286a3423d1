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
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/collectors"
	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/cmd/flowbench/report"
	"github.com/flowcordon/flowcordon/flow"
)

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
