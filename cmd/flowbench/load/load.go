package load

import (
	"fmt"
	"math"
	"sync/atomic"
)

// Load is a generator. Its methods may be called while it runs.
type Load struct {
	cfg       Config
	exporters []*exporter
	rate      atomic.Uint64 // records per second, as float64 bits
	records   atomic.Uint64
	datagrams atomic.Uint64
	late      atomic.Uint64
	mean      float64 // records per datagram
}

// exporter is a simulated router: a ring of datagrams and a socket.
type exporter struct {
	codec    codec
	ring     []datagram
	next     int
	announce []datagram
	due      int64 // when to announce again, ns since the Unix epoch
	fd       int
}

// datagram is renewed in place each time it is sent.
type datagram struct {
	bytes   []byte
	records uint16
	variant uint16
	at      int64 // ms since the Unix epoch that its times are made for
}

// New encodes the datagrams. It opens nothing.
func New(cfg Config) (*Load, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	l := &Load{cfg: cfg}
	total := 0
	for i := range cfg.Exporters {
		x := &exporter{codec: newCodec(&cfg, i), fd: -1}
		m := newMix(&cfg, i)
		slab := make([]byte, 0, cfg.Ring*1500)
		for j := range cfg.Ring {
			from := len(slab)
			b, n := x.codec.encode(slab, m, j%cfg.Templates)
			slab = b
			x.ring = append(x.ring, datagram{slab[from:], uint16(n), uint16(j % cfg.Templates), epoch})
			total += n
		}
		ds, ns := x.codec.announce()
		for j := range ds {
			x.announce = append(x.announce, datagram{ds[j], uint16(ns[j]), 0, epoch})
		}
		l.exporters = append(l.exporters, x)
	}
	l.mean = float64(total) / float64(cfg.Exporters*cfg.Ring)
	return l, nil
}

// SetRate sets the records per second that Run offers: 0: none but
// announcements; +Inf: as many as it can.
func (l *Load) SetRate(recordsPerSecond float64) { l.rate.Store(math.Float64bits(recordsPerSecond)) }

// Sent is what was handed to the kernel so far: flow records or samples,
// without those of options, and datagrams.
func (l *Load) Sent() (records, datagrams uint64) { return l.records.Load(), l.datagrams.Load() }

// Late is how often Run was so far behind its rate that it gave up datagrams.
func (l *Load) Late() uint64 { return l.late.Load() }

// PerDatagram is the mean number of records in a datagram.
func (l *Load) PerDatagram() float64 { return l.mean }

// Config is the configuration with its defaults.
func (l *Load) Config() Config { return l.cfg }

// renew makes d say what a router would say at now.
func (x *exporter) renew(d *datagram, now int64, announcement bool) {
	ms := now / 1e6
	x.codec.renew(d.bytes, int(d.records), int(d.variant), now, uint64(ms-d.at), announcement)
	d.at = ms
}

// Next renews the datagram that is next, of the exporters in turns, as sent at
// now (ns since the Unix epoch): for a reader in the same process, without a
// socket. It is valid until its ring comes round. Not to be called while Run runs.
func (l *Load) Next(now int64) (exporter int, datagram []byte, records int) {
	exporter = int(l.datagrams.Load() % uint64(len(l.exporters)))
	x := l.exporters[exporter]
	d := &x.ring[x.next]
	x.next = (x.next + 1) % len(x.ring)
	x.renew(d, now, false)
	l.datagrams.Add(1)
	l.records.Add(uint64(d.records))
	return exporter, d.bytes, int(d.records)
}

// Announce calls read with what an exporter announces at now: templates and rates.
func (l *Load) Announce(now int64, read func(exporter int, datagram []byte)) {
	for i, x := range l.exporters {
		for j := range x.announce {
			x.renew(&x.announce[j], now, true)
			read(i, x.announce[j].bytes)
		}
	}
}
