package detect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// exporterPast is what an exporter had shown to the collector before this one:
// counters, and the sampling rates that were in force. A collector that starts
// counts from nothing and takes a rate that it hears for the one of always.
type exporterPast struct {
	protocols   []string
	first, last time.Time
	counts      healthCounts
	samplers    []flow.SamplerHealth // of known rates
	denser      float64
}

// denserKept is how long a collector has to count a source's samples again before
// it is believed that nothing is amiss with them.
const denserKept = 10 * time.Minute

// restore takes over what was saved.
func (l *healthLog) restore(s *guardState, ts time.Time) {
	l.before, l.saved, l.read = map[netip.Addr]*exporterPast{}, s.At, ts
	for _, e := range s.Exporters {
		p := &exporterPast{protocols: e.Protocols, first: e.First, last: e.Last, counts: e.Counts.counts(), denser: e.Denser}
		for _, r := range e.Samplers {
			if r.Rate != 0 {
				p.samplers = append(p.samplers, r)
			}
		}
		if p.counts.datagrams > 0 {
			l.before[e.Exporter] = p
		}
	}
	l.snaps = nil
	for i, snap := range s.Snaps {
		// The last one stays: what was lost long ago does not count as lost lately.
		if i < len(s.Snaps)-1 && ts.Sub(snap.At) > healthKept*healthEvery {
			continue
		}
		o := healthSnap{at: snap.At, by: make(map[netip.Addr]healthCounts, len(snap.By))}
		for a, c := range snap.By {
			o.by[a] = c.counts()
		}
		l.snaps = append(l.snaps, o)
	}
}

// exporters is what h says, continued from what was remembered: counters go on,
// rates that are over are among the samplers, and an exporter that was not heard
// since is there as it was.
func (l *healthLog) exporters(h Health, ts time.Time) []flow.ExporterHealth {
	all := h.Exporters()
	if len(l.before) == 0 {
		return all
	}
	out := make([]flow.ExporterHealth, 0, len(all)+len(l.before))
	heard := map[netip.Addr]bool{}
	for i := range all {
		e := all[i]
		p := l.before[e.Exporter]
		switch {
		case p == nil:
		case e.Datagrams == 0:
			continue // as it was
		case e.FirstSeen.After(l.saved):
			e = p.continued(e)
		}
		heard[e.Exporter] = true
		out = append(out, e)
	}
	for a, p := range l.before {
		if !heard[a] {
			// Nobody listened between the two processes.
			last := l.read.Add(-max(0, l.saved.Sub(p.last)))
			if ts.Sub(last) <= silentUntil {
				out = append(out, flow.ExporterHealth{Exporter: a, Protocols: p.protocols, FirstSeen: p.first.Add(last.Sub(p.last)), LastSeen: last,
					Datagrams: p.counts.datagrams, Records: p.counts.records, Lost: p.counts.lost, SamplesDropped: p.counts.dropped, Samplers: p.samplers, Denser: p.denser})
			}
		}
	}
	slices.SortFunc(out, func(a, b flow.ExporterHealth) int { return a.Exporter.Compare(b.Exporter) })
	return out
}

// continued is e, of a collector that began after p.
func (p *exporterPast) continued(e flow.ExporterHealth) flow.ExporterHealth {
	if e.Denser == 0 && e.LastSeen.Sub(e.FirstSeen) < denserKept {
		e.Denser = p.denser
	}
	e.FirstSeen = p.first
	e.Datagrams, e.Records = e.Datagrams+p.counts.datagrams, e.Records+p.counts.records
	e.Lost, e.SamplesDropped = e.Lost+p.counts.lost, e.SamplesDropped+p.counts.dropped
	var samplers []flow.SamplerHealth
	for i := range e.Samplers {
		s := e.Samplers[i]
		if s.Rate == 0 && announcedSince(e.Samplers, &s) {
			continue // at a start records come before what says their rate
		}
		if j := p.sampler(&s); j >= 0 && s.Rate != 0 {
			s.FirstSeen, s.Records = p.samplers[j].FirstSeen, s.Records+p.samplers[j].Records
		}
		samplers = append(samplers, s)
	}
	for i := range p.samplers {
		s := &p.samplers[i]
		if !slices.ContainsFunc(e.Samplers, func(o flow.SamplerHealth) bool { return o.Domain == s.Domain && o.Rate == s.Rate }) {
			samplers = append(samplers, *s)
		}
	}
	e.Samplers = samplers
	return e
}

func (p *exporterPast) sampler(s *flow.SamplerHealth) int {
	return slices.IndexFunc(p.samplers, func(o flow.SamplerHealth) bool { return o.Domain == s.Domain && o.Rate == s.Rate })
}
