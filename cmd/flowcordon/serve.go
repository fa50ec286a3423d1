package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/casebook"
	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/collector"
	"github.com/flowcordon/flowcordon/detect"
	"github.com/flowcordon/flowcordon/exempt"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/ledger"
	"github.com/flowcordon/flowcordon/respond"
	"github.com/flowcordon/flowcordon/respond/bgp"
	"github.com/flowcordon/flowcordon/respond/portal"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/embedded"
)

func runServe(ctx context.Context, args []string, _, stderr io.Writer) int {
	path, code := configFlag("serve", args, stderr)
	if code >= 0 {
		return code
	}
	cfg, err := config.Load(path)
	if err != nil {
		return configFailed(err, stderr)
	}
	log, err := newLogger(cfg.Log, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	s, err := newService(path, cfg, log)
	if err != nil {
		return configFailed(err, stderr)
	}
	if err := s.Run(ctx); err != nil {
		fmt.Fprintln(stderr, "flowcordon:", err)
		return 1
	}
	return 0
}

// configFlag parses --config; a code of -1 means go on.
func configFlag(name string, args []string, stderr io.Writer) (path string, code int) {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&path, "config", "/etc/flowcordon/flowcordon.yaml", "configuration `file`")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return "", 0
		}
		return "", 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "flowcordon %s: unexpected argument %q\n", name, fs.Arg(0))
		return "", 2
	}
	return path, -1
}

// service is everything that serve runs. Its parts are made by newService and
// owned by Run.
type service struct {
	path      string
	cfg       config.Config
	log       *zap.Logger
	registry  *prometheus.Registry
	engine    *embedded.Engine // nil with an external server
	store     *store.Store
	collector *collector.Collector
	inventory *inventory.Inventory
	detector  *detect.Detector
	control   *respond.Controller
	ledger    *ledger.Ledger
	exempt    *exempt.Book
	cases     *casebook.Book
	api       *api.Handler
	portal    *portal.Handler // nil: none
	speakers  []*bgp.Adapter  // run before the controller, to keep what was announced
	http      *http.Server
	listener  net.Listener
	ready     chan struct{} // closed once schema and event log are loaded
	reloaded  prometheus.Gauge
	networks  atomic.Pointer[config.Networks] // as last loaded; cfg is as started
}

// newService wires the parts. It reads the inventory and opens the HTTP
// listener, so that a mistake in either is told before anything runs.
func newService(path string, cfg config.Config, log *zap.Logger) (*service, error) {
	s := &service{path: path, cfg: cfg, log: log, registry: prometheus.NewRegistry(), ready: make(chan struct{})}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "flowcordon_config_last_reload_success",
		Help: "1 if the configuration in force is the one in the file, 0 after a reload that was refused.",
	})
	s.reloaded.Set(1)
	s.registry.MustRegister(s.reloaded)
	s.networks.Store(&cfg.Networks)

	var err error
	if s.inventory, err = openInventory(cfg, inventory.Deps{Log: log, Registerer: s.registry}, false); err != nil {
		return nil, err
	}
	if err := checkInventory(cfg, s.inventory); err != nil {
		return nil, err
	}
	if w := inventoryWarning(cfg, s.inventory); w != "" {
		log.Warn("inventory: " + w)
	}
	if err := s.wireStore(); err != nil {
		return nil, err
	}
	if err := s.wireRespond(); err != nil {
		return nil, err
	}
	s.ledger = ledger.New(ledger.Config{}, s.store)
	s.cases = casebook.New(s.store)
	s.collector, err = collector.New(collectorConfig(cfg), collector.Deps{Sink: s.store, Log: log, Registerer: s.registry})
	if err != nil {
		return nil, err
	}
	s.detector = detect.New(cfg.Detect, detect.Deps{
		Windows: s.store, Tags: tagsOf(s.inventory, time.Now), Holder: holderNow(s.inventory, time.Now), SameHolder: sameHolder(s.inventory, time.Now),
		PortOwner: s.portOwner(time.Now), Fresh: s.control.Fresh, Prepare: s.storeReceived, Memory: s.store, Health: s.collector, Emit: s.emit, Log: log, Registerer: s.registry,
	})
	return s, s.wireHTTP()
}

// tagsOf looks up the role tags of who holds a tenant's address now.
func tagsOf(inv *inventory.Inventory, now func() time.Time) func(netip.Addr) []string {
	return func(tenant netip.Addr) []string {
		h, _ := inv.Holder(tenant, now())
		return h.Tags
	}
}

// holderNow looks up who holds a tenant's address.
func holderNow(inv *inventory.Inventory, now func() time.Time) func(netip.Addr) (flow.Holder, bool) {
	return func(tenant netip.Addr) (flow.Holder, bool) { return inv.Holder(tenant, now()) }
}

// sameHolder reports whether two addresses are of one server.
func sameHolder(inv *inventory.Inventory, now func() time.Time) func(a, b netip.Addr) bool {
	return func(a, b netip.Addr) bool {
		h, known := inv.Holder(a, now())
		g, too := inv.Holder(b, now())
		return a == b || known && too && h.VDS != "" && h.VDS == g.VDS && h.Hypervisor == g.Hypervisor && h.Tenant == g.Tenant
	}
}

// emit hands the findings of one slot to the store, the ledger and the controller.
func (s *service) emit(ctx context.Context, ts time.Time, findings []flow.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	s.exempt.Mark(findings, func(f flow.Finding) flow.Holder { h, _ := s.inventory.Holder(f.Tenant, ts); return h }, ts)
	return errors.Join(s.store.SaveFindings(ctx, findings), s.ledger.Record(ctx, ts, findings), s.control.Handle(ctx, ts, findings))
}

func (s *service) wireHTTP() error {
	ac, err := apiConfig(s.cfg)
	if err != nil {
		return err
	}
	deps := s.apiDeps()
	deps.Rules = rules{s.detector, s.ledger}
	if deps.Complaints, err = s.complaints(); err != nil {
		return err
	}
	h, err := api.New(ac, deps)
	if err != nil {
		return err
	}
	s.api = h
	s.http = api.NewServer(h)
	s.http.ErrorLog = zap.NewStdLog(s.log.Named("http"))
	s.listener, err = net.Listen("tcp", s.cfg.HTTP.Address)
	if err != nil {
		return fmt.Errorf("http.address %s: %w", s.cfg.HTTP.Address, err)
	}
	return nil
}

// Run runs the service until ctx ends, then ends it in order: the collector
// flushes into the store, detector and controller end, the store drains, the
// engine stops last.
func (s *service) Run(ctx context.Context) error {
	var stages []stage
	if s.engine != nil {
		stages = append(stages, stage{"engine", s.engine.Run, 5 * time.Second})
	}
	if len(s.speakers) > 0 {
		stages = append(stages, stage{"bgp", s.runSpeakers, 5 * time.Second})
	}
	stages = append(stages,
		stage{"store", s.store.Run, 20 * time.Second},
		stage{"reads", s.afterReady(s.api.Run), 5 * time.Second},
		stage{"exemptions", s.afterReady(s.exempt.Run), 5 * time.Second},
		stage{"inventory", s.inventory.Run, 5 * time.Second},
		stage{"http", s.runHTTP, 6 * time.Second},
		stage{"database", s.prepare, time.Second},
		stage{"rollups", s.afterReady(s.store.RunRollups), 5 * time.Second},
		stage{"disk", s.afterReady(s.store.RunDisk), 5 * time.Second},
		stage{"controller", s.afterReady(s.control.Run), 15 * time.Second},
		stage{"detector", s.afterReady(s.detector.Run), 10 * time.Second},
		stage{"collector", s.collector.Run, 15 * time.Second},
		stage{"reload", s.runReload, time.Second},
	)
	s.log.Info("flowcordon starts", zap.String("version", version), zap.String("config", s.path),
		zap.Stringer("http", s.listener.Addr()), zap.Bool("embedded_engine", s.engine != nil))
	defer func() { _ = s.log.Sync() }()
	return runStages(ctx, s.log, stages)
}

// prepare brings the schema up to date and loads the event log, for as long as
// it takes: meanwhile the collector collects into the spool and nothing is judged.
func (s *service) prepare(ctx context.Context) error {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 15*time.Second) {
		err := s.store.Migrate(ctx)
		if err == nil {
			if err = errors.Join(s.exempt.Load(ctx), s.cases.Load(ctx), s.control.Load(ctx), s.ledger.Load(ctx, time.Now())); err == nil {
				close(s.ready)
				s.log.Info("database is ready; detection starts")
				<-ctx.Done()
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		s.log.Warn("database is not ready; collecting into the spool, detection waits", zap.Error(err), zap.Duration("retry_in", wait))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (s *service) afterReady(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ready:
			return run(ctx)
		}
	}
}

func (s *service) runHTTP(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.http.Serve(s.listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := s.http.Shutdown(sctx); err != nil {
		_ = s.http.Close() // a slow reader must not hold up the rest
	}
	<-done
	return nil
}

func (s *service) runReload(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			s.reload()
		}
	}
}

// reload takes over exporters, networks and the inventory; a file with any
// mistake changes nothing, so all of them are looked at before any is taken.
func (s *service) reload() {
	err := func() error {
		cfg, err := config.Load(s.path)
		if err != nil {
			return err
		}
		if err := collectorConfig(cfg).Validate(); err != nil {
			return err
		}
		if was, is := s.cfg.Networks.IPv6TenantPrefix, cfg.Networks.IPv6TenantPrefix; was != is {
			// Windows of one tenant would be stored under two keys.
			return fmt.Errorf("networks.ipv6_tenant_prefix changed from %d to %d; that needs a restart", was, is)
		}
		if cfg.Inventory.File != s.cfg.Inventory.File {
			return fmt.Errorf("inventory.file changed to %q; that needs a restart", cfg.Inventory.File)
		}
		// Against the suspenders in force: those of the file need a restart.
		if _, err := checkReferences(s.path, s.cfg); err != nil {
			return err
		}
		if err := s.inventory.Reload(); err != nil {
			return err
		}
		s.networks.Store(&cfg.Networks)
		return s.collector.Reload(collectorConfig(cfg))
	}()
	if err != nil {
		s.reloaded.Set(0)
		s.log.Error("reload refused; the configuration in force stays", zap.Error(err))
		return
	}
	s.reloaded.Set(1)
	s.log.Info("reloaded exporters, networks and inventory; other sections need a restart")
}

// wireStore makes the engine, unless a server is configured, and the store.
func (s *service) wireStore() error {
	cfg := s.cfg
	sc := store.Config{
		Addr:          cfg.ClickHouse.Addr,
		Database:      cfg.ClickHouse.Database,
		User:          cfg.ClickHouse.User,
		Password:      cfg.ClickHouse.Password,
		SpoolDir:      filepath.Join(cfg.DataDir, "spool"),
		SpoolMaxBytes: cfg.Store.SpoolMaxBytes,
		FlowTTL:       cfg.Store.FlowTTL,
		WindowTTL:     cfg.Store.WindowTTL,
		MinuteTTL:     cfg.ClickHouse.Retention.Minutes,
		HourTTL:       cfg.ClickHouse.Retention.Hours,
		Storage:       storage(cfg.ClickHouse.Storage),
	}
	if len(cfg.ClickHouse.Addr) == 0 {
		lib, err := embedded.FindLib(cfg.ClickHouse.EngineLib)
		if err != nil {
			return err
		}
		dir, err := filepath.Abs(filepath.Join(cfg.DataDir, "clickhouse"))
		if err != nil {
			return err
		}
		s.engine = embedded.New(embedded.Config{Lib: lib, Dir: dir, MaxMemory: cfg.ClickHouse.MaxMemory},
			embedded.Deps{Log: s.log, Registerer: s.registry})
		sc.Addr = []string{"embedded:9000"} // a name only: DialContext knows the address
		sc.User, sc.Password, sc.DialContext = s.engine.User(), s.engine.Password(), s.engine.DialContext
	} else if cfg.ClickHouse.TLS.Enabled {
		t, err := clientTLS(cfg.ClickHouse.TLS)
		if err != nil {
			return fmt.Errorf("clickhouse.tls: %w", err)
		}
		sc.TLS = t
	}
	var err error
	s.store, err = store.New(sc, store.Deps{Log: s.log, Registerer: s.registry})
	return err
}

func runMigrate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	path, code := configFlag("migrate", args, stderr)
	if code >= 0 {
		return code
	}
	cfg, err := config.Load(path)
	if err != nil {
		return configFailed(err, stderr)
	}
	s := &service{path: path, cfg: cfg, log: zap.NewNop(), registry: prometheus.NewRegistry()}
	if err := s.wireStore(); err != nil {
		fmt.Fprintln(stderr, "flowcordon:", err)
		return 1
	}
	err = s.withEngine(ctx, s.store.Migrate)
	if err != nil {
		fmt.Fprintln(stderr, "flowcordon: migrate:", err)
		return 1
	}
	fmt.Fprintln(stdout, "the schema is up to date")
	return 0
}

// withEngine runs f while the embedded engine, if there is one, runs.
func (s *service) withEngine(ctx context.Context, f func(context.Context) error) error {
	if s.engine == nil {
		return f(ctx)
	}
	ectx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.engine.Run(ectx) }()
	select {
	case err := <-ended:
		return err
	case <-s.engine.Ready():
	}
	err := f(ctx)
	cancel()
	return errors.Join(err, <-ended)
}
