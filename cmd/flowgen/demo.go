package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/demo"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
)

func runDemo(ctx context.Context, fs *flag.FlagSet, args []string, stdout, _ io.Writer) error {
	cfg := demo.Config{Out: stdout}
	var rate uint
	fs.StringVar(&cfg.Flowcordon, "flowcordon", "bin/flowcordon", "the flowcordon `binary`")
	fs.StringVar(&cfg.Dir, "dir", "", "work `directory`, kept; empty: a temporary one, removed at the end")
	fs.BoolVar(&cfg.Once, "once", false, "headless: end with a verdict, exit status 0 or 1")
	fs.DurationVar(&cfg.Timeout, "timeout", 180*time.Second, "how long --once may take")
	fs.StringVar(&cfg.HTTP, "http", "127.0.0.1:8080", "`address` of the dashboard; another port is taken when it is not free")
	fs.IntVar(&cfg.Tenants, "tenants", 2000, "ordinary tenants")
	fs.DurationVar(&cfg.AttackAfter, "attack-after", 10*time.Second, "how long there is ordinary traffic only")
	fs.UintVar(&rate, "sflow-rate", 256, "router B samples one packet in this many")
	fs.Uint64Var(&cfg.Seed, "seed", 1, "of the simulated traffic")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	if rate < 1 || rate > 1<<20 {
		return tool.Misuse(fs, "--sflow-rate %d: choose 1 to %d", rate, 1<<20)
	}
	if cfg.Tenants < 2 || cfg.Tenants > 100_000 {
		return tool.Misuse(fs, "--tenants %d: choose 2 to 100000", cfg.Tenants)
	}
	cfg.SampleRate = uint32(rate)
	sum, err := demo.Run(ctx, cfg)
	if !cfg.Once {
		return err
	}
	return errors.Join(err, json.NewEncoder(stdout).Encode(sum))
}
