package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/scenario"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
	"github.com/flowcordon/flowcordon/flow"
)

// runScenario lets one tenant of a scenario file live by the wall clock and
// exports what he does: for a look at what flowcordon says of it.
func runScenario(ctx context.Context, fs *flag.FlagSet, args []string, stdout, _ io.Writer) error {
	protocol := fs.String("protocol", "sflow", "sflow or v9")
	target := fs.String("target", "", "the collector's `address:port`")
	source := fs.String("source", "", "the exporter's `address`; empty: the system's choice")
	rate := fs.Uint("rate", 256, "sampling: 1 of so many packets")
	seed := fs.Uint64("seed", 1, "the same seed gives the same traffic")
	if err := tool.Parse(fs, args, 1); err != nil {
		return err
	}
	p, ok := protocols[*protocol]
	if !ok || p != flow.SFlow5 && p != flow.NetFlow9 {
		return tool.Misuse(fs, "--protocol %q: write sflow or v9", *protocol)
	}
	if *rate < 1 || *rate > 1<<24 {
		return tool.Misuse(fs, "--rate %d: write 1 to 16777216", *rate)
	}
	to, err := netip.ParseAddrPort(*target)
	if err != nil {
		return tool.Misuse(fs, "--target: %v; write it as 127.0.0.1:6343", err)
	}
	var from netip.Addr
	if *source != "" {
		if from, err = netip.ParseAddr(*source); err != nil {
			return tool.Misuse(fs, "--source: %v", err)
		}
	}
	s, err := scenario.Read(fs.Arg(0))
	if err != nil {
		return err
	}
	u, err := export.DialUDP(netip.AddrPortFrom(from, 0), to)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: tenants %s and %s, %s, 1:%d by %s\n", s.Title, scenario.Tenant4, scenario.Tenant6, s.Length, *rate, p)
	records, err := live(ctx, s, uint32(*rate), *seed, p == flow.NetFlow9, u)
	if err := errors.Join(err, u.Close()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d records in %d datagrams\n", records, u.Sent())
	return nil
}

// live exports each step's records at the time they are due.
func live(ctx context.Context, s *scenario.Scenario, n uint32, seed uint64, netflow bool, u *export.UDP) (int, error) {
	var failed error
	g := scenario.NewGenerator(seed, n, netflow)
	g.OutOnly = s.OutOnly
	w, err := scenario.NewWire(n, netflow, time.Now().Add(-time.Hour), func(payload []byte, received int64) {
		if failed != nil {
			return
		}
		if failed = until(ctx, time.Unix(0, received)); failed == nil {
			failed = errors.Join(u.Send(payload), u.Flush())
		}
	})
	if err != nil {
		return 0, err
	}
	start := time.Now().Truncate(scenario.Step).Add(scenario.Step)
	for e := time.Duration(0); e < s.Length+scenario.ActiveTimeout+2*scenario.InactiveTimeout; e += scenario.Step {
		if err := until(ctx, start.Add(e)); err != nil {
			return g.Records(), ended(ctx, err)
		}
		for i := range s.Sources {
			g.Run(&s.Sources[i], start, e)
		}
		end := start.Add(e + scenario.Step)
		if err := errors.Join(w.Send(g.Take(end), end.UnixNano()), failed); err != nil {
			return g.Records(), ended(ctx, err)
		}
	}
	return g.Records(), nil
}

// ended makes an interrupt no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func until(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
