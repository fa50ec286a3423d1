package detect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Health tells what the collector knows of its exporters.
type Health interface {
	Exporters() []flow.ExporterHealth
}

// Guard G2 of detection.md §5.2: an exporter that loses, that changed its rate,
// whose clock is off or that fell silent does not testify.

const (
	healthEvery = time.Minute
	healthKept  = 11 // snapshots: ten minutes
	// rateSeen: a rate that was not heard for so long is no longer in force.
	rateSeen = 10 * time.Minute
	// A silence of silentAfter and silentTimes the mean time between datagrams is
	// one; after silentUntil it is the new normal.
	silentAfter = time.Minute
	silentTimes = 20
	silentUntil = 30 * time.Minute
	// leastLost is what a restart of an exporter may cost without a word.
	leastLost = 20
)

// healthLog remembers counters, which are since the collector's start, or since
// that of the first one of which anything is remembered.
type healthLog struct {
	snaps  []healthSnap // oldest first
	before map[netip.Addr]*exporterPast
	saved  time.Time // when before was
	read   time.Time // when it was read
}

type healthSnap struct {
	at time.Time
	by map[netip.Addr]healthCounts
}

type healthCounts struct{ datagrams, records, lost, dropped uint64 }

func countsOf(h *flow.ExporterHealth) healthCounts {
	return healthCounts{h.Datagrams, h.Records, h.Lost, h.SamplesDropped}
}

// observe takes a snapshot when the last is a minute old.
func (l *healthLog) observe(ts time.Time, h Health) {
	if h == nil || len(l.snaps) > 0 && ts.Sub(l.snaps[len(l.snaps)-1].at) < healthEvery {
		return
	}
	all := l.exporters(h, ts)
	s := healthSnap{at: ts, by: make(map[netip.Addr]healthCounts, len(all))}
	for i := range all {
		s.by[all[i].Exporter] = countsOf(&all[i])
	}
	l.snaps = append(l.snaps, s)
	if n := len(l.snaps) - healthKept; n > 0 {
		l.snaps = slices.Delete(l.snaps, 0, n)
	}
}

// since returns what an exporter's counters grew by over the time kept. After a
// restart of the collector, or without a snapshot, that is all of them.
func (l *healthLog) since(h *flow.ExporterHealth) healthCounts {
	c := countsOf(h)
	if len(l.snaps) == 0 {
		return c
	}
	o, ok := l.snaps[0].by[h.Exporter]
	if !ok || o.datagrams > c.datagrams || o.records > c.records || o.lost > c.lost || o.dropped > c.dropped {
		return c
	}
	return healthCounts{c.datagrams - o.datagrams, c.records - o.records, c.lost - o.lost, c.dropped - o.dropped}
}

// exporterGates names what speaks against an exporter at ts; grown is what its
// counters grew by lately.
func exporterGates(cfg *GuardConfig, h *flow.ExporterHealth, grown healthCounts, ts time.Time) []string {
	var out []string
	if !ratesSettled(cfg, h, ts) {
		out = append(out, GateExporterRate)
	}
	if h.Denser > cfg.RateSlack {
		out = append(out, GateRateWrong)
	}
	// NetFlow 9 and sFlow number datagrams, the others records.
	heard := grown.records
	if slices.Contains(h.Protocols, flow.NetFlow9.String()) || slices.Contains(h.Protocols, flow.SFlow5.String()) {
		heard = min(heard, grown.datagrams)
	}
	if missing(grown.lost, heard) > cfg.LossShare || missing(grown.dropped, grown.records) > cfg.LossShare {
		out = append(out, GateExporterLoss)
	}
	if c := h.ClockOffsetS; c != nil && (*c > cfg.ClockS || *c < -cfg.ClockS) {
		out = append(out, GateExporterClock)
	}
	return out
}

func missing(lost, heard uint64) float64 {
	if lost < leastLost {
		return 0
	}
	return float64(lost) / float64(lost+heard)
}

// ratesSettled reports whether every rate in force is known and expected, and
// none of them took the place of another within the time that settling takes.
func ratesSettled(cfg *GuardConfig, h *flow.ExporterHealth, ts time.Time) bool {
	for i := range h.Samplers {
		s := &h.Samplers[i]
		if ts.Sub(s.LastSeen) > rateSeen || s.Records == 0 {
			continue
		}
		if s.Rate == 0 && announcedSince(h.Samplers, s) {
			continue
		}
		if s.Rate == 0 || !cfg.expects(h.Exporter, s.Rate) {
			return false
		}
		if ts.Sub(s.FirstSeen) > time.Duration(cfg.SettleS)*time.Second {
			continue
		}
		for j := range h.Samplers {
			o := &h.Samplers[j]
			// Rates that go on side by side are those of several interfaces; and what
			// came before the first announcement was kept out, it is no other rate.
			if o.Domain == s.Domain && o.Rate != 0 && o.Rate != s.Rate && o.FirstSeen.Before(s.FirstSeen) && !o.LastSeen.After(s.FirstSeen.Add(healthEvery)) {
				return false
			}
		}
	}
	return true
}

// announcedSince reports whether the rate of what came without one is known by
// now: at a start records come before the options data that say it, and are kept
// out.
func announcedSince(all []flow.SamplerHealth, s *flow.SamplerHealth) bool {
	return slices.ContainsFunc(all, func(o flow.SamplerHealth) bool {
		return o.Domain == s.Domain && o.Rate != 0 && o.LastSeen.After(s.LastSeen) && !o.FirstSeen.Before(s.LastSeen.Add(-healthEvery))
	})
}

// silent reports whether an exporter that used to send has stopped: what it saw,
// answers among them, is missing.
func silent(h *flow.ExporterHealth, ts time.Time) bool {
	if h.Datagrams < 2 || h.LastSeen.IsZero() {
		return false
	}
	quiet := ts.Sub(h.LastSeen)
	between := h.LastSeen.Sub(h.FirstSeen) / time.Duration(min(h.Datagrams-1, 1<<40))
	return quiet > silentAfter && quiet > silentTimes*between && quiet <= silentUntil
}
