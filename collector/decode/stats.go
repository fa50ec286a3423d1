package decode

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Stats is a copy of the counts since New. Datagrams = Decoded + Σ Dropped.
type Stats struct {
	Datagrams      uint64
	Decoded        uint64
	Records        uint64 // data records and packet samples emitted
	OptionsRecords uint64
	Templates      uint64            // template records received, refreshes included
	Dropped        map[string]uint64 // whole datagrams by reason
	SetsDropped    map[string]uint64 // sets and samples of decoded datagrams by reason
	RecordsDropped map[string]uint64 // record runs of decoded sets by reason
	Notes          map[string]uint64 // nothing dropped
	HeldSets       int               // waiting for a template now
	HeldBytes      int
	TemplatesKnown int // kept now
	Exporters      map[netip.Addr]ExporterStats
}

// ExporterStats is the same for one source address.
type ExporterStats struct {
	Protocols      []flow.Protocol
	FirstSeen      int64 // ns
	LastSeen       int64
	Datagrams      uint64
	Decoded        uint64
	Records        uint64
	OptionsRecords uint64
	Templates      uint64
	Lost           uint64 // by sequence numbers: records (v5, IPFIX) or datagrams (v9, sFlow)
	Dropped        map[string]uint64
	SetsDropped    map[string]uint64
	RecordsDropped map[string]uint64
	Notes          map[string]uint64
	Samplers       []flow.SamplerHealth
	MaxDelay       time.Duration  // longest of received − end over the last 5 to 10 minutes
	ClockOffset    *time.Duration // header clock − receipt; nil: no header tells a time
	ExportDelay    *flow.Spread   // seconds from a record's end to its export; nil: no times
	FlowDuration   *flow.Spread   // seconds from a record's start to its end; nil: no times
	TemplatesKnown int            // kept now

	// As sFlow agents say: samples left out for want of resources, and when
	// that count grew last (ns).
	SamplesDropped   uint64              `json:",omitempty"`
	SamplesDroppedAt int64               `json:",omitempty"`
	Deviations       []SamplingDeviation `json:",omitempty"` // sFlow sources that do not sample as stated, worst first
	RateChanges      []RateChange        `json:",omitempty"` // the latest of each domain
	StaleRates       []StaleRate         `json:",omitempty"` // in use, and not stated for long
}

// Stats returns the counts. It belongs to the Decoder's goroutine like Decode.
func (d *Decoder) Stats() Stats {
	c := &d.stats.counts
	s := Stats{
		Datagrams:      d.stats.datagrams,
		Decoded:        d.stats.decoded,
		Records:        d.stats.records,
		OptionsRecords: d.stats.options,
		Templates:      d.stats.templates,
		Dropped:        c.byLevel(LevelDatagram),
		SetsDropped:    c.byLevel(LevelSet),
		RecordsDropped: c.byLevel(LevelRecord),
		Notes:          c.byLevel(LevelNote),
		HeldSets:       len(d.held),
		HeldBytes:      d.heldBytes,
		Exporters:      make(map[netip.Addr]ExporterStats, d.exporters.len()),
	}
	d.exporters.all(func(addr netip.Addr, e *exporter) {
		s.TemplatesKnown += e.templates.len()
		if e.datagrams > 0 { // not those that are known from a state file only
			s.Exporters[addr] = e.stats()
		}
	})
	return s
}

func (e *exporter) stats() ExporterStats {
	s := ExporterStats{
		FirstSeen:      e.first,
		LastSeen:       e.last,
		Datagrams:      e.datagrams,
		Decoded:        e.decoded,
		Records:        e.records,
		OptionsRecords: e.options,
		Templates:      e.templatesSeen,
		Lost:           e.lost,
		Dropped:        e.counts.byLevel(LevelDatagram),
		SetsDropped:    e.counts.byLevel(LevelSet),
		RecordsDropped: e.counts.byLevel(LevelRecord),
		Notes:          e.counts.byLevel(LevelNote),
		MaxDelay:       time.Duration(max(e.timing.halves[0].late, e.timing.halves[1].late)),
		ClockOffset:    e.timing.clockOffset(),
		ExportDelay:    spread(e.timing.halves[0].delay, e.timing.halves[1].delay),
		FlowDuration:   spread(e.timing.halves[0].duration, e.timing.halves[1].duration),
		TemplatesKnown: e.templates.len(),

		SamplesDropped:   e.samplesDropped,
		SamplesDroppedAt: e.samplesDroppedAt,
		StaleRates:       e.staleRates(),
	}
	for p := flow.NetFlow5; p <= flow.SFlow5; p++ {
		if e.protocols&(1<<p) != 0 {
			s.Protocols = append(s.Protocols, p)
		}
	}
	e.domains.all(func(k domainKey, dom *domain) {
		s.Lost += dom.seq.lost
		if from, to, ok := dom.rates.change(); ok {
			s.RateChanges = append(s.RateChanges, RateChange{Domain: k.id, From: from.rate, To: to.rate, At: to.first})
		}
		s.Deviations = append(s.Deviations, dom.sources.deviations(k.id, e.last)...)
		for _, u := range dom.rates.uses {
			s.Samplers = append(s.Samplers, flow.SamplerHealth{
				Domain: k.id, Rate: u.rate, Source: u.source.String(), Records: u.records,
				FirstSeen: time.Unix(0, u.first).UTC(), LastSeen: time.Unix(0, u.last).UTC(),
			})
		}
	})
	slices.SortFunc(s.Deviations, func(a, b SamplingDeviation) int {
		return cmp.Or(cmp.Compare(b.off(), a.off()), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Source, b.Source))
	})
	slices.SortFunc(s.RateChanges, func(a, b RateChange) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.At, b.At))
	})
	slices.SortFunc(s.Samplers, func(a, b flow.SamplerHealth) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Rate, b.Rate), cmp.Compare(a.Source, b.Source))
	})
	return s
}
