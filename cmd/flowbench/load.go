package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"net/netip"
	"os"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowbench/load"
	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
	"github.com/flowcordon/flowcordon/flow"
)

var protocols = map[string]flow.Protocol{
	"v5": flow.NetFlow5, "v9": flow.NetFlow9, "ipfix": flow.IPFIX, "sflow": flow.SFlow5,
}

// trafficFlags are the flags of every command that sends.
func trafficFlags(fs *flag.FlagSet, cfg *load.Config) (finish func() error) {
	fs.IntVar(&cfg.Exporters, "exporters", 4, "routers: source addresses from 127.0.1.1 on")
	fs.IntVar(&cfg.Hosts, "hosts", 50_000, "internal addresses")
	fs.IntVar(&cfg.Remotes, "remotes", 20, "remotes of a host; 0: a new one with each record")
	fs.IntVar(&cfg.Templates, "templates", 1, "different templates of a router (v9, ipfix)")
	fs.IntVar(&cfg.Ring, "ring", 0, "different datagrams of a router; 0: 80,000 over all")
	fs.BoolVar(&cfg.Paired, "paired", cfg.Paired, "both directions of each conversation, with flags that fit, as an honest fleet's (not sflow); false: directions and flags are drawn for each record")
	fs.BoolVar(&cfg.GSO, "gso", false, "let the kernel cut batches into datagrams: a third of the sender's cost")
	fs.Uint64Var(&cfg.Seed, "seed", 1, "the same seed gives the same datagrams")
	duration := fs.String("duration", "router", "how long every record lasts, or router: as timeouts of 60 s and 15 s make them")
	return func() error {
		if *duration == "router" {
			cfg.Duration = load.RouterDurations
			return nil
		}
		var err error
		if cfg.Duration, err = time.ParseDuration(*duration); err != nil {
			return tool.Misuse(fs, "--duration: %v; write router, or for example 60s", err)
		}
		return nil
	}
}

func runLoad(ctx context.Context, fs *flag.FlagSet, args []string, stdout, _ io.Writer) error {
	var cfg load.Config
	finish := trafficFlags(fs, &cfg)
	protocol := fs.String("protocol", "v9", "v5, v9, ipfix or sflow")
	target := fs.String("target", "127.0.0.1:2055", "the collector's `address:port`")
	rate := fs.Float64("rate", 0, "records per second; 0: as fast as it goes")
	seconds := fs.Float64("seconds", 10, "how long")
	cpu := fs.Int("cpu", -1, "run on this CPU only")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	var ok bool
	if cfg.Protocol, ok = protocols[*protocol]; !ok {
		return tool.Misuse(fs, "--protocol %q: write v5, v9, ipfix or sflow", *protocol)
	}
	var err error
	if cfg.Target, err = netip.ParseAddrPort(*target); err != nil {
		return tool.Misuse(fs, "--target: %v; write it as 127.0.0.1:2055", err)
	}
	l, err := load.New(cfg)
	if err != nil {
		return err
	}
	if *cpu >= 0 {
		if err := machine.Pin(os.Getpid(), *cpu); err != nil {
			return err
		}
	}
	if *rate == 0 {
		*rate = math.Inf(1)
	}
	before, err := machine.UDPPort(cfg.Target.Port())
	if err != nil {
		return err
	}
	cpu0, _ := machine.CPU(os.Getpid()) // of a process that is there
	l.SetRate(*rate)
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*seconds*float64(time.Second)))
	defer cancel()
	if err := l.Run(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	elapsed := time.Since(started).Seconds()
	cpu1, _ := machine.CPU(os.Getpid())
	after, err := machine.UDPPort(cfg.Target.Port())
	if err != nil {
		return err
	}
	records, datagrams := l.Sent()
	return json.NewEncoder(stdout).Encode(map[string]any{
		"records": records, "datagrams": datagrams, "seconds": elapsed, "records_per_second": float64(records) / elapsed,
		"late": l.Late(), "kernel_drops": after.Drops - before.Drops, "sockets": after.Sockets, "cpu_per_million": (cpu1 - cpu0).Seconds() * 1e6 / float64(records),
	})
}
