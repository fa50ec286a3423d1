package collector

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// Sink takes the rows. Write keeps nothing of the batch after it returned,
// unless it copied it, and never waits for a database.
type Sink interface {
	Write(b *flow.Batch) error
}

// Listen is one UDP address. "0.0.0.0:2055" takes IPv4 only, "[::]:2055" and
// ":2055" take both families.
type Listen struct {
	Protocol decode.Kind
	Address  string // host:port; port 0 for any
}

// Config is what a Collector works by. Zero values mean the defaults named.
type Config struct {
	Listen []Listen
	// Allow are the exporters that are listened to; empty: nobody.
	Allow     []netip.Prefix
	Decode    decode.Config
	Aggregate aggregate.Config
	// FlushInterval is the longest time until rows that are due go to the sink:
	// 2.5 s. FlushDue may have them go earlier.
	FlushInterval time.Duration
	// StateFile keeps templates and sampling options over a restart, so that
	// data can be read before the exporter sends them again; empty: nowhere.
	StateFile string
	// ReadBuffer is the kernel's buffer for each socket in bytes: 32 MiB.
	ReadBuffer int
	// Workers is the number of sockets of each address, of decoders and of
	// aggregators: GOMAXPROCS. Aggregate.MaxKeys is each aggregator's, since one
	// busy tenant fills one.
	Workers int
	// MaxDatagram is the longest datagram taken: 65,535 bytes, all that UDP can.
	MaxDatagram int
}

// Deps are a Collector's collaborators. Only Sink is required.
type Deps struct {
	Sink       Sink
	Log        *zap.Logger
	Registerer prometheus.Registerer // nil: a private registry
	Now        func() time.Time      // nil: time.Now
}

// Defaults of Config.
const (
	// DefaultFlushInterval: the detector looks each 5 s and has rows flushed before
	// (FlushDue), so that this is one flush in between.
	DefaultFlushInterval = 2500 * time.Millisecond
	// DefaultReadBuffer bridges 0.2 s at 100,000 datagrams/s of 1,400 bytes:
	// while a sink writes to a slow disk, datagrams wait there.
	DefaultReadBuffer = 32 << 20
	// DefaultMaxDatagram is the length field's limit (RFC 768).
	DefaultMaxDatagram = 65535
)

// maxWorkers is beyond the cores of any host in sight; each worker costs a
// socket for each address, a decoder and an aggregator.
const maxWorkers = 256

// Validate returns every mistake of c at once, nil if there is none.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Listen) == 0 {
		bad("listen: no address; write for example {protocol: netflow, address: \"0.0.0.0:2055\"}")
	}
	for i, l := range c.Listen {
		if _, _, err := net.SplitHostPort(l.Address); err != nil {
			bad("listen[%d].address: %q is not host:port; write for example \"0.0.0.0:2055\"", i, l.Address)
		}
	}
	for i, p := range c.Allow {
		if !p.IsValid() || p.Addr().Is4In6() {
			bad("exporters.allow[%d]: %s is not a prefix; write it like 192.0.2.1/32", i, p)
		}
	}
	if c.FlushInterval < 0 || c.ReadBuffer < 0 || c.Workers < 0 {
		bad("collector: flush_interval, read_buffer and workers must not be negative")
	}
	if c.Workers > maxWorkers {
		bad("collector: workers %d is over %d", c.Workers, maxWorkers)
	}
	if c.MaxDatagram < 0 || c.MaxDatagram > DefaultMaxDatagram {
		bad("collector: max_datagram %d is not between 1 and %d", c.MaxDatagram, DefaultMaxDatagram)
	}
	if err := c.Aggregate.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.FlushInterval == 0 {
		c.FlushInterval = DefaultFlushInterval
	}
	if c.ReadBuffer == 0 {
		c.ReadBuffer = DefaultReadBuffer
	}
	if c.Workers == 0 {
		c.Workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	if c.MaxDatagram == 0 {
		c.MaxDatagram = DefaultMaxDatagram
	}
	return c
}
