package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// user is the engine's only usable account.
const user = "flow"

// DefaultMaxMemory is the engine's memory limit in bytes where the
// configuration has none. Measured: 350 MB inserting 10 M rows, 610 MB at the
// peak of a large GROUP BY.
const DefaultMaxMemory = 4 << 30

const (
	// startWait bounds one start. Measured 0.1 to 0.5 s; loading a large store
	// after a crash takes longer.
	startWait = 2 * time.Minute
	// stopWait is how long the engine may flush before it is killed; a kill
	// loses nothing that was acknowledged. Measured 17 to 98 ms once the
	// connections are closed.
	stopWait = 1500 * time.Millisecond
	// The pause before a restart doubles between these bounds: up to the first
	// while starts succeed (everybody waits for the engine), up to the second
	// while they fail. It starts over once the engine has run for steadyAfter.
	minBackoff    = 50 * time.Millisecond
	maxBackoff    = time.Second
	maxBackoffBad = 10 * time.Second
	steadyAfter   = 5 * time.Second
)

// Config says which library to run and where.
type Config struct {
	Lib       string // absolute path of libchdb.so, from FindLib
	Dir       string // owned by the engine; made if absent, mode 0700
	MaxMemory int64  // bytes the engine may use; 0: DefaultMaxMemory
}

// Deps are what an Engine uses of others. Both may be nil.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Engine is a ClickHouse server in a child process. Its methods may be called
// from several goroutines.
type Engine struct {
	cfg      Config
	log      *zap.Logger
	metrics  *metrics
	password string
	ready    chan struct{} // closed after the first start

	mu    sync.Mutex
	child *child             // nil while none serves
	turn  chan struct{}      // closed and replaced whenever child or err changes
	err   error              // why Run ended; nil while it has not
	conns map[*conn]struct{} // dialled and not closed
}

// New prepares an engine; it does no I/O and starts nothing.
func New(cfg Config, deps Deps) *Engine {
	if cfg.MaxMemory <= 0 {
		cfg.MaxMemory = DefaultMaxMemory
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	var pw [24]byte
	_, _ = rand.Read(pw[:]) // never fails, see crypto/rand
	return &Engine{
		cfg:      cfg,
		log:      deps.Log.Named("engine"),
		metrics:  newMetrics(deps.Registerer),
		password: hex.EncodeToString(pw[:]),
		ready:    make(chan struct{}),
		turn:     make(chan struct{}),
		conns:    map[*conn]struct{}{},
	}
}

// User returns the account to log in with.
func (e *Engine) User() string { return user }

// Password returns the account's password: random, new for each Engine, kept in
// memory only (the engine's files hold its hash).
func (e *Engine) Password() string { return e.password }

// Ready is closed once the engine has answered for the first time. It stays
// open if Run fails before.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Pid returns the child's process id, 0 while none runs.
func (e *Engine) Pid() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.child == nil {
		return 0
	}
	return e.child.cmd.Process.Pid
}

// Addr returns host:port of the native protocol, empty while none serves. It
// changes with each restart: dial with DialContext.
func (e *Engine) Addr() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.child == nil {
		return ""
	}
	return e.child.addr
}

// Run starts the engine, restarts it whenever it ends, and stops it when ctx
// ends; it then returns nil, after at most 2 s. It returns an error that wraps
// ErrInUse if another process holds the directory, and one if the very first
// start fails; later failures are logged, counted and tried again.
func (e *Engine) Run(ctx context.Context) error {
	err := e.run(ctx)
	e.mu.Lock()
	e.child = nil
	e.err = errors.Join(errStopped, err)
	e.announceLocked()
	e.mu.Unlock()
	return err
}

var errStopped = errors.New("the ClickHouse engine is stopped")

func (e *Engine) run(ctx context.Context) error {
	dir, err := filepath.Abs(e.cfg.Dir)
	if err != nil {
		return fmt.Errorf("engine directory: %w", err)
	}
	lock, err := lockDir(ctx, dir)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := writeFiles(dir, user, e.password, e.cfg.MaxMemory); err != nil {
		return fmt.Errorf("prepare the engine: %w", err)
	}
	backoff := minBackoff
	for first := true; ; first = false {
		began := time.Now()
		c, err := spawn(ctx, e.cfg.Lib, dir, lock)
		if ctx.Err() != nil {
			if c != nil {
				e.stop(c)
			}
			return nil
		}
		if err != nil && first {
			return err
		}
		ceiling := maxBackoffBad
		if err == nil {
			ceiling = maxBackoff
			e.log.Info("engine serves", zap.String("address", c.addr), zap.Int("pid", c.cmd.Process.Pid), zap.Duration("took", time.Since(began)))
			e.serve(c)
			if first {
				close(e.ready)
			}
			if err = e.watch(ctx, c); err == nil {
				return nil
			}
		}
		if time.Since(began) > steadyAfter && ceiling == maxBackoff {
			backoff = minBackoff
		}
		backoff = min(backoff, ceiling)
		e.metrics.restarts.Inc()
		e.log.Error("engine is down, it is started again", zap.Error(err), zap.Duration("after", backoff), zap.String("log", filepath.Join(dir, fileLog)))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff *= 2
	}
}

// watch waits for the end of the child, which is an error, or of ctx, when it
// stops the child.
func (e *Engine) watch(ctx context.Context, c *child) error {
	select {
	case <-ctx.Done():
		e.stop(c)
		return nil
	case <-c.exited:
		e.withdraw()
		c.release()
		return fmt.Errorf("engine ended: %w", c.failure())
	}
}

// serve makes c the child that is dialled.
func (e *Engine) serve(c *child) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.child = c
	e.metrics.up.Set(1)
	e.announceLocked()
}

// withdraw makes dialling wait for the next child.
func (e *Engine) withdraw() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.child = nil
	e.metrics.up.Set(0)
	e.announceLocked()
}

func (e *Engine) announceLocked() {
	close(e.turn)
	e.turn = make(chan struct{})
}

// stop lets the engine flush and exit, and kills it if that takes too long.
// Open connections hold the engine back for 5 s (measured), so they are closed
// first; whoever uses one gets an error, as from any server that goes away.
func (e *Engine) stop(c *child) {
	began := time.Now()
	e.withdraw()
	e.mu.Lock()
	open := make([]*conn, 0, len(e.conns))
	for cn := range e.conns {
		open = append(open, cn)
	}
	e.mu.Unlock()
	for _, cn := range open {
		_ = cn.Close()
	}
	c.release()
	select {
	case <-c.exited:
		e.log.Info("engine stopped", zap.Duration("took", time.Since(began)))
	case <-time.After(stopWait):
		_ = c.cmd.Process.Kill()
		<-c.exited
		e.log.Warn("engine did not stop in time and was killed; acknowledged rows are safe", zap.Duration("after", stopWait))
	}
}

// DialContext connects to the engine, wherever it listens at the moment; while
// it restarts, the call waits for it until ctx ends. The address is ignored,
// so that the function fits clickhouse.Options.
func (e *Engine) DialContext(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	for {
		e.mu.Lock()
		c, err, turn := e.child, e.err, e.turn
		e.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if c == nil {
			select {
			case <-turn:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("the ClickHouse engine is not up: %w", context.Cause(ctx))
			}
		}
		nc, err := d.DialContext(ctx, "tcp", c.addr)
		if err == nil {
			return e.track(c, nc.(*net.TCPConn))
		}
		if ctx.Err() != nil {
			return nil, err
		}
		// Refused: it has just died and its exit is not yet noticed.
		select {
		case <-turn:
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// conn is a connection that stop can close. Embedding *net.TCPConn keeps
// SyscallConn, by which the driver checks idle connections.
type conn struct {
	*net.TCPConn
	e *Engine
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.e.mu.Lock()
	delete(c.e.conns, c)
	c.e.mu.Unlock()
	return c.TCPConn.Close()
}

func (e *Engine) track(c *child, nc *net.TCPConn) (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.child != c { // stopping, or dead since
		_ = nc.Close()
		if e.err != nil {
			return nil, e.err
		}
		return nil, errors.New("the ClickHouse engine went away")
	}
	cn := &conn{TCPConn: nc, e: e}
	e.conns[cn] = struct{}{}
	return cn, nil
}
