package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Defaults of Config.
const (
	DefaultDatabase = "flowcordon"
	// DefaultSpoolMaxBytes holds ten minutes of 100,000 flow rows a second twice:
	// compressed they and their windows take 45 to 60 bytes (BenchmarkSpoolBytes).
	DefaultSpoolMaxBytes = 8 << 30
	// DefaultBatchRows makes a batch of 200,000 rows: parts large enough that
	// merges stay cheap, small enough (tens of MB) to be held in memory once
	// per sender. 100,000 records a second are 75,000 rows.
	DefaultBatchRows = 200_000
	// DefaultSenders overlap one batch's way with another's insertion.
	DefaultSenders = 2
	// DefaultBatchWait keeps ClickHouse at about one insert in two seconds and table:
	// at one a second a question about one tenant's rows opens twice as many parts,
	// and each row is merged half a time more. A slot of the detector does not wait
	// for it (Sync).
	DefaultBatchWait = 2 * time.Second
	DefaultFlowTTL   = 7 * 24 * time.Hour
	DefaultWindowTTL = 14 * 24 * time.Hour
	// DefaultMinuteTTL and DefaultHourTTL are what operators keep: half a year
	// to look at, two years for complaints.
	DefaultMinuteTTL = 183 * 24 * time.Hour
	DefaultHourTTL   = 731 * 24 * time.Hour
)

// Config says where the database and the spool are. Zero values mean the
// defaults above.
type Config struct {
	Addr     []string // host:port of the native protocol; with DialContext any name
	Database string   // letters, digits, underscore; made by Migrate
	User     string
	Password string
	TLS      *tls.Config // nil: plain. Not used with DialContext

	SpoolDir      string        // required; owned by this store alone
	SpoolMaxBytes int64         // on disk; beyond that the oldest detail goes, then Write refuses
	Senders       int           // batches in flight at a time
	BatchRows     int           // rows of a batch, all tables together; at least one Write
	BatchWait     time.Duration // longest time before a batch that is not full is sent

	// FlowTTL and WindowTTL are how long rows are kept after their event time;
	// negative: for ever (replay of old captures, tests).
	FlowTTL, WindowTTL time.Duration
	// MinuteTTL and HourTTL are the same for the rollups.
	MinuteTTL, HourTTL time.Duration
	Storage            Storage

	// DialContext, if set, makes the connections instead of net.Dialer: the
	// embedded engine's, whose address changes with each restart.
	DialContext func(ctx context.Context, addr string) (net.Conn, error)
}

// Deps are what a Store uses of others. Both may be nil.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// identifier is what a database may be called: it is written into statements,
// where identifiers cannot be bound.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// check fills in the defaults and returns every mistake.
func (c *Config) check() error {
	if c.Database == "" {
		c.Database = DefaultDatabase
	}
	if c.SpoolMaxBytes == 0 {
		c.SpoolMaxBytes = DefaultSpoolMaxBytes
	}
	if c.BatchRows == 0 {
		c.BatchRows = DefaultBatchRows
	}
	if c.Senders == 0 {
		c.Senders = DefaultSenders
	}
	if c.BatchWait == 0 {
		c.BatchWait = DefaultBatchWait
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Addr) == 0 {
		if c.DialContext == nil {
			bad("addr: want at least one host:port of a ClickHouse server's native protocol")
		}
		c.Addr = []string{"embedded:9000"} // never dialled: DialContext ignores it
	}
	if !identifier.MatchString(c.Database) {
		bad("database: %q is not a name of letters, digits and underscores", c.Database)
	}
	if c.SpoolDir == "" {
		bad("spool directory: missing")
	}
	if c.SpoolMaxBytes < 0 || c.BatchRows < 0 || c.BatchWait < 0 || c.Senders < 0 {
		bad("spool size, batch rows, batch wait and senders must not be negative")
	}
	c.checkRetention(bad)
	return errors.Join(errs...)
}
