package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/capture"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/respond"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/embedded"
)

const replayUsage = `usage: flowcordon replay --config F [--json] FILE…

Sends the datagrams of captures through decoding, aggregation, an embedded
ClickHouse of its own and the detector, on the captures' own clock, and prints
findings and incidents. No action is taken and nothing is kept. The exporter
allow-list does not apply: the files were chosen by hand. All else that serve
judges by does: tags, overrides, ports, and the exporters' health.

`

// replayTail is how long the detector goes on after the last datagram: until
// every window is closed and the shortest persistence has been judged.
const replayTail = 60 * time.Second

func runReplay(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("replay", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, replayUsage)
		fs.PrintDefaults()
	}
	path := fs.String("config", "/etc/flowcordon/flowcordon.yaml", "configuration `file`")
	asJSON := fs.Bool("json", false, "JSON lines, a summary last")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fs.NArg() == 0 {
		fs.Usage()
		return 2
	}
	cfg, err := config.Load(*path)
	if err != nil {
		return configFailed(err, stderr)
	}
	r, err := newReplay(cfg, *asJSON, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "flowcordon: replay:", err)
		return 1
	}
	err = errors.Join(r.run(ctx, fs.Args()), os.RemoveAll(r.dir))
	if err != nil {
		fmt.Fprintln(stderr, "flowcordon: replay:", err)
		return 1
	}
	return 0
}

// replay is one run: the same parts as the service, driven by the captures'
// clock in one goroutine, so that the same input gives the same output.
type replay struct {
	dir      string
	svc      *service // engine and store
	dec      *decode.Decoder
	agg      *aggregate.Local
	detector *detect.Detector
	control  *respond.Controller
	interval time.Duration
	json     *json.Encoder // nil: for people
	out      io.Writer

	slot     time.Time // next tick
	last     time.Time // of a datagram
	busy     time.Time // last tick that stored rows
	wrote    bool      // rows were written since the last tick
	refused  error     // the first error of writing them
	skipped  uint64
	findings uint64
	ticks    uint64
}

func newReplay(cfg config.Config, asJSON bool, stdout io.Writer) (*replay, error) {
	inv, err := openInventory(cfg, inventory.Deps{}, true)
	if err != nil {
		return nil, err
	}
	lib, err := embedded.FindLib(cfg.ClickHouse.EngineLib)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "flowcordon-replay-")
	if err != nil {
		return nil, err
	}
	r := &replay{dir: dir, out: stdout, interval: cfg.Detect.Interval, svc: &service{cfg: cfg, log: zap.NewNop(), inventory: inv}}
	r.svc.networks.Store(&cfg.Networks)
	if asJSON {
		r.json = json.NewEncoder(stdout)
	}
	r.svc.engine = embedded.New(embedded.Config{Lib: lib, Dir: filepath.Join(dir, "clickhouse"), MaxMemory: cfg.ClickHouse.MaxMemory}, embedded.Deps{})
	r.svc.store, err = store.New(store.Config{
		Addr: []string{"embedded:9000"}, User: r.svc.engine.User(), Password: r.svc.engine.Password(), DialContext: r.svc.engine.DialContext,
		SpoolDir: filepath.Join(dir, "spool"), BatchWait: time.Millisecond,
		FlowTTL: -1, WindowTTL: -1, // a capture may be years old
	}, store.Deps{})
	if err != nil {
		return nil, err
	}
	r.judge()
	return r, nil
}

// judge makes what judges, which knows nothing of what came before.
func (r *replay) judge() {
	cfg, inv := r.svc.cfg, r.svc.inventory
	// Nothing is done about what is found, whatever the modes say.
	modes := map[flow.Rule]flow.Mode{}
	for rule, rc := range cfg.Detect.Rules {
		if modes[rule] = flow.ModeObserve; rc.Mode == flow.ModeOff {
			modes[rule] = flow.ModeOff
		}
	}
	r.dec = decode.New(decodeConfig(cfg), decode.Deps{})
	r.agg = aggregate.NewLocal(aggregateConfig(cfg), r.write)
	now := func() time.Time { return r.last }
	r.detector = detect.New(cfg.Detect, detect.Deps{
		Windows: r.svc.store, Tags: tagsOf(inv, now), Holder: holderNow(inv, now), SameHolder: sameHolder(inv, now),
		PortOwner: r.svc.portOwner(now), Health: replayHealth{r.dec},
	})
	r.control = respond.New(respond.Config{Modes: modes}, respond.Deps{Events: &memoryLog{}, Flows: r.svc.store, Inventory: inv})
}

func (r *replay) run(ctx context.Context, files []string) error {
	return r.withStore(ctx, func(ctx context.Context) error {
		if err := r.files(ctx, files); err != nil {
			return err
		}
		return r.finish(ctx)
	})
}

// withStore runs f while engine and store run.
func (r *replay) withStore(ctx context.Context, f func(context.Context) error) error {
	return r.svc.withEngine(ctx, func(ctx context.Context) error {
		if err := r.svc.store.Migrate(ctx); err != nil {
			return err
		}
		if err := r.control.Load(ctx); err != nil {
			return err
		}
		sctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- r.svc.store.Run(sctx) }()
		err := f(ctx)
		stop()
		return errors.Join(err, <-ended)
	})
}

func (r *replay) files(ctx context.Context, files []string) error {
	for _, path := range files {
		if err := r.file(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) file(ctx context.Context, path string) error {
	skipped, err := eachDatagram(ctx, path, func(d capture.Datagram) error {
		if err := r.advance(ctx, time.Unix(0, d.Time).UTC()); err != nil {
			return err
		}
		r.dec.Decode(decode.Datagram{Exporter: d.Exporter, Received: r.last.UnixNano(), Payload: d.Payload}, r.agg.AddRun)
		return nil
	})
	r.skipped += skipped
	return err
}

// advance ticks every slot up to now. The clock never goes back: a file that
// begins before the last one ended is taken as if it came right after.
func (r *replay) advance(ctx context.Context, now time.Time) error {
	if now.Before(r.last) {
		now = r.last
	}
	r.last = now
	if r.slot.IsZero() {
		r.slot = now.Truncate(r.interval).Add(r.interval)
	}
	for !r.slot.After(now) {
		if err := r.tick(ctx, r.slot); err != nil {
			return err
		}
		if r.slot = r.slot.Add(r.interval); r.slot.Sub(r.busy) > replayTail && r.slot.Before(now) {
			// A hole in the capture: nothing is stored, nothing can be found.
			r.slot = now.Truncate(r.interval)
			r.busy = r.slot
		}
	}
	return nil
}

// finish lets the detector see the windows close.
func (r *replay) finish(ctx context.Context) error {
	r.dec.DropHeld()
	if !r.slot.IsZero() {
		for end := r.last.Add(replayTail); !r.slot.After(end); r.slot = r.slot.Add(r.interval) {
			if err := r.tick(ctx, r.slot); err != nil {
				return err
			}
		}
	}
	return r.report()
}

// write stores rows. What is wrong with the store the next tick tells.
func (r *replay) write(b *flow.Batch) {
	r.wrote = true
	if err := r.svc.store.Write(b); err != nil && r.refused == nil {
		r.refused = err
	}
}

func (r *replay) tick(ctx context.Context, ts time.Time) error {
	r.agg.Flush(ts.UnixNano(), false)
	if r.refused != nil {
		return r.refused
	}
	if r.wrote {
		if err := r.svc.store.Sync(ctx); err != nil {
			return err
		}
		r.busy, r.wrote = ts, false
	}
	r.ticks++
	fs, err := r.detector.Tick(ctx, ts)
	if err != nil {
		return err
	}
	for _, f := range fs {
		r.findings++
		if err := r.line("finding", f, func() string {
			return fmt.Sprintf("%s  %-10s %-10s %s: %s (score %.1f of %.0f)", f.Time.Format(time.RFC3339), f.Rule, f.Tier, f.Tenant, f.Reason, f.Score, f.Threshold)
		}); err != nil {
			return err
		}
	}
	return r.control.Handle(ctx, ts, fs)
}

type replaySummary struct {
	summaryJSON
	Findings  uint64            `json:"findings"`
	Incidents int               `json:"incidents"`
	Ticks     uint64            `json:"ticks"`
	Aggregate map[string]uint64 `json:"records_not_aggregated"` // reason → records
	Windows   uint64            `json:"windows"`                // rows stored
}

func (r *replay) report() error {
	incs := r.control.Incidents(respond.Filter{})
	for _, inc := range incs {
		if err := r.line("incident", inc, func() string {
			return fmt.Sprintf("incident %s  %s  %v  %s  since %s", inc.ID, inc.Tenant, inc.Rules, inc.Tier, inc.Opened.Format(time.RFC3339))
		}); err != nil {
			return err
		}
	}
	st := r.agg.Stats()
	sum := replaySummary{
		summaryJSON: summaryOf(r.dec.Stats(), r.skipped), Findings: r.findings, Incidents: len(incs), Ticks: r.ticks,
		Aggregate: st.Dropped, Windows: st.RowsHosts + st.RowsServices + st.RowsPairs,
	}
	return r.line("", sum, func() string {
		return fmt.Sprintf("%d datagrams, %d records, %d findings, %d incidents; not aggregated: %v", sum.Datagrams, sum.Records, sum.Findings, sum.Incidents, sum.Aggregate)
	})
}

// line prints v as one JSON object with its type, or what text says.
func (r *replay) line(kind string, v any, text func() string) error {
	if r.json == nil {
		_, err := fmt.Fprintln(r.out, text())
		return err
	}
	if kind == "" {
		return r.json.Encode(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.out, "{\"type\":%q,%s\n", kind, b[1:])
	return err
}

// replayHealth is what the captures tell of their exporters, on the captures' clock.
type replayHealth struct{ dec *decode.Decoder }

// Exporters is detect.Health.
func (h replayHealth) Exporters() []flow.ExporterHealth {
	var out []flow.ExporterHealth
	for addr, st := range h.dec.Stats().Exporters {
		out = append(out, st.Health(addr))
	}
	slices.SortFunc(out, func(a, b flow.ExporterHealth) int { return a.Exporter.Compare(b.Exporter) })
	return out
}

// memoryLog is an event log that ends with the process.
type memoryLog struct {
	mu     sync.Mutex
	events []flow.Event
}

// AppendEvents keeps the events.
func (l *memoryLog) AppendEvents(_ context.Context, ev []flow.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, ev...)
	return nil
}

// Events gives them back in order.
func (l *memoryLog) Events(_ context.Context, fn func(flow.Event) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

var _ respond.Inventory = (*inventory.Inventory)(nil)

// tenantKey is the window key of an address: the address, or the first of its
// delegated IPv6 prefix; the zero Addr if it is not internal.
func tenantKey(n config.Networks, a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	for _, p := range n.Internal {
		if p.Contains(a) {
			if a.Is6() {
				q, err := a.Prefix(n.IPv6TenantPrefix)
				if err != nil {
					return netip.Addr{}
				}
				return q.Addr()
			}
			return a
		}
	}
	return netip.Addr{}
}
