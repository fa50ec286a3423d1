package aggregate

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// Aggregator holds the open windows of one shard. It is not safe for
// concurrent use.
type Aggregator struct {
	cfg  Config
	nets *networks

	windows map[int64]*window // by start
	last    *window           // the one used last: most records share a window
	spare   []*window         // emptied, for reuse

	hosts, services, pairs budget

	pending flow.Batch // rows that were full before a flush, and flow rows
	spans   []span     // scratch
	order   []uint32   // scratch

	stats     Stats
	dropped   [numReasons]uint64
	exporters map[netip.Addr]*ExporterStats
}

// maxSpare is how many emptied windows keep their memory. Two are enough for
// the steady state: one window closes as another opens.
const maxSpare = 2

// New returns an Aggregator without windows. It panics if cfg does not
// Validate: a user's configuration is checked before.
func New(cfg Config) *Aggregator {
	if err := cfg.Validate(); err != nil {
		panic("aggregate: " + err.Error())
	}
	cfg = cfg.withDefaults()
	return &Aggregator{
		cfg:       cfg,
		nets:      newNetworks(cfg),
		windows:   make(map[int64]*window),
		hosts:     budget{max: cfg.MaxKeys},
		services:  budget{max: cfg.MaxKeys},
		pairs:     budget{max: cfg.MaxKeys},
		exporters: make(map[netip.Addr]*ExporterStats),
	}
}

// Reconfigure replaces the configuration for records that come from now on.
// Open windows stay. An error leaves everything as it was.
func (a *Aggregator) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	a.cfg = cfg.withDefaults()
	a.nets = newNetworks(a.cfg)
	a.hosts.max, a.services.max, a.pairs.max = a.cfg.MaxKeys, a.cfg.MaxKeys, a.cfg.MaxKeys
	return nil
}

// Add takes in one record; r.Received is "now". The record is not kept.
func (a *Aggregator) Add(r *flow.Record) {
	a.stats.Records++
	if !r.Src.IsValid() || !r.Dst.IsValid() {
		a.dropped[dropNoAddress]++
		return
	}
	if r.SamplingRate == 0 {
		a.dropped[dropSamplingUnknown]++
		a.exporter(r.Exporter).SamplingUnknown++
		return
	}
	srcInternal, dstInternal := a.nets.internal.Contains(r.Src), a.nets.internal.Contains(r.Dst)
	if !srcInternal && !dstInternal {
		a.dropped[dropNotInternal]++
		return
	}
	t := checkTimes(r, a.cfg.MaxAge)
	if t.ahead {
		a.stats.ClockAhead++
		a.exporter(r.Exporter).ClockAhead++
	}
	if t.end < t.horizon {
		a.dropped[dropTooLate]++
		a.stats.ClippedPackets += r.Packets
		a.stats.ClippedBytes += r.Bytes
		a.exporter(r.Exporter).TooLate++
		return
	}
	k := classify(r)
	spans, clipped := spread(a.spans[:0], t, r.Packets, r.Bytes, k.synPackets)
	a.spans = spans
	a.stats.ClippedPackets += clipped.packets
	a.stats.ClippedBytes += clipped.bytes

	stored := false
	if srcInternal {
		s := side{
			rec: r, kind: k, dir: flow.Out, host: r.Src, remote: r.Dst, role: k.sender,
			spoofed: r.Has&flow.HasInIf != 0 && a.nets.isExternal(r.Exporter, r.InIf),
			bogon:   a.nets.isBogon(r.Dst, dstInternal),
		}
		stored = a.addSide(&s, t) || stored
	}
	if dstInternal {
		s := side{
			rec: r, kind: k, dir: flow.In, host: r.Dst, remote: r.Src, role: opposite(k.sender),
			bogon: a.nets.isBogon(r.Src, srcInternal),
		}
		stored = a.addSide(&s, t) || stored
	}
	if !stored {
		a.dropped[dropTableFull]++
		return
	}
	a.stats.Aggregated++
}

func opposite(r flow.Role) flow.Role {
	switch r {
	case flow.RoleClient:
		return flow.RoleServer
	case flow.RoleServer:
		return flow.RoleClient
	}
	return r
}

// window returns the window that starts at start, opened now if need be.
func (a *Aggregator) window(start, now int64) *window {
	if a.last != nil && a.last.start == start {
		return a.last
	}
	w := a.windows[start]
	if w == nil {
		if n := len(a.spare); n > 0 {
			w, a.spare = a.spare[n-1], a.spare[:n-1]
		} else {
			w = newWindow()
		}
		w.start, w.opened = start, now
		a.windows[start] = w
	}
	a.last = w
	return w
}
