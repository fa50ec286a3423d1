package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Store is the way to and from ClickHouse. Its methods may be called from
// several goroutines.
type Store struct {
	cfg      Config
	log      *zap.Logger
	metrics  *metrics
	conn     driver.Conn
	spool    *spool
	encoders sync.Pool     // *encoder
	ended    chan struct{} // closed when Run returns
	reader   *reader
}

// New prepares a store; it does no I/O and starts nothing. The error names
// every mistake in cfg.
func New(cfg Config, deps Deps) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("store configuration: %w", err)
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	log := deps.Log.Named("store")
	conn, err := clickhouse.Open(cfg.options(cfg.Database)) // connects at the first use
	if err != nil {
		return nil, fmt.Errorf("store configuration: %w", err)
	}
	m := newMetrics()
	s := &Store{
		cfg: cfg, log: log, metrics: m, conn: conn,
		spool:    newSpool(cfg, log, m),
		encoders: sync.Pool{New: func() any { return new(encoder) }},
		ended:    make(chan struct{}),
	}
	if s.reader, err = s.newReader(); err != nil {
		return nil, fmt.Errorf("store configuration: %w", err)
	}
	if deps.Registerer != nil {
		m.register(deps.Registerer, s.spool)
		deps.Registerer.MustRegister(s.reader.metrics.all()...)
	}
	return s, nil
}

// options are the driver's for one database.
func (c *Config) options(database string) *clickhouse.Options {
	o := &clickhouse.Options{
		Addr:         c.Addr,
		Auth:         clickhouse.Auth{Database: database, Username: c.User, Password: c.Password},
		TLS:          c.TLS,
		DialContext:  c.DialContext,
		DialTimeout:  dialWait,
		MaxOpenConns: c.Senders + 8,
		MaxIdleConns: c.Senders + 4,
		// Of several addresses one is used as long as it answers, so that what
		// was written is read.
		ConnOpenStrategy: clickhouse.ConnOpenInOrder,
	}
	if c.compress() {
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	return o
}

// compress reports whether blocks are compressed on their way: over a network
// that pays, over loopback it costs.
func (c *Config) compress() bool { return c.DialContext == nil }

// Run sends what Write has spooled, first what an earlier process left, until
// ctx ends; it then sends what is left for a few seconds and returns nil. The
// database may be away at any time, also at the start. Only a spool that cannot
// be used is an error. After Run the store is closed; Run may be called once.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.ended)
	defer func() { _, _ = s.conn.Close(), s.reader.conn.Close() }() // of no more use
	if err := s.spool.open(); err != nil {
		return err
	}
	drain, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		select {
		case <-ctx.Done():
			time.AfterFunc(drainWait, stop)
		case <-drain.Done():
		}
	}()
	var g errgroup.Group
	for range s.cfg.Senders {
		g.Go(func() error {
			(&sender{Store: s, link: link{cfg: &s.cfg}}).run(ctx, drain)
			return nil
		})
	}
	<-ctx.Done()
	s.spool.seal()
	_ = g.Wait() // the loops return no error
	if err := s.spool.close(); err != nil {
		return fmt.Errorf("close the spool: %w", err)
	}
	return nil
}

// Ping reports whether ClickHouse answers and the schema's database is there.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.conn.Ping(ctx); err != nil {
		return fmt.Errorf("ping ClickHouse: %w", err)
	}
	return nil
}
