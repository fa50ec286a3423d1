package aggregate

import "net/netip"

// Stats are totals since New: of a Front what it judged, of an Aggregator what
// became of it. Those of all fronts and aggregators together, merged, hold
// Records = Aggregated + Σ Dropped, but for what is between them.
type Stats struct {
	Records    uint64
	Aggregated uint64
	Dropped    map[string]uint64 // records by reason; see Reasons

	// ClippedPackets and ClippedBytes lay before MaxAge: of records dropped as
	// too_late, and the early part of those that reach back further.
	ClippedPackets, ClippedBytes uint64
	// ClockAhead records ended over 60 s after they arrived; the arrival stands
	// for their end.
	ClockAhead uint64
	// LostPackets and LostBytes found no room in the hosts' table.
	LostPackets, LostBytes uint64
	// TableFull counts contributions (one record to one window) that found no
	// room, by kind: hosts, services, pairs.
	TableFull map[string]uint64
	// PairsBelowFloor were dropped by design (PairFloor), not lost. PairsEvicted
	// were below it, too, when they gave way to others: what they would have
	// become nobody knows.
	PairsBelowFloor, PairsEvicted uint64

	RowsHosts, RowsServices, RowsPairs, RowsFlows uint64
	// Windows and Keys are open now.
	Windows, Keys int

	// Exporters holds those with anything to report.
	Exporters map[netip.Addr]ExporterStats
}

// ExporterStats are one exporter's records that could not be taken as they were.
type ExporterStats struct {
	SamplingUnknown, TooLate, ClockAhead uint64
}

// Merge adds o to s; maps are united.
func (s *Stats) Merge(o Stats) {
	s.Records += o.Records
	s.Aggregated += o.Aggregated
	s.ClippedPackets += o.ClippedPackets
	s.ClippedBytes += o.ClippedBytes
	s.ClockAhead += o.ClockAhead
	s.LostPackets += o.LostPackets
	s.LostBytes += o.LostBytes
	s.PairsBelowFloor += o.PairsBelowFloor
	s.PairsEvicted += o.PairsEvicted
	s.RowsHosts += o.RowsHosts
	s.RowsServices += o.RowsServices
	s.RowsPairs += o.RowsPairs
	s.RowsFlows += o.RowsFlows
	s.Windows += o.Windows
	s.Keys += o.Keys
	s.Dropped = addCounts(s.Dropped, o.Dropped)
	s.TableFull = addCounts(s.TableFull, o.TableFull)
	if s.Exporters == nil {
		s.Exporters = make(map[netip.Addr]ExporterStats, len(o.Exporters))
	}
	for addr, e := range o.Exporters {
		sum := s.Exporters[addr]
		sum.SamplingUnknown += e.SamplingUnknown
		sum.TooLate += e.TooLate
		sum.ClockAhead += e.ClockAhead
		s.Exporters[addr] = sum
	}
}

func addCounts(to, from map[string]uint64) map[string]uint64 {
	if to == nil {
		to = make(map[string]uint64, len(from))
	}
	for name, n := range from {
		to[name] += n
	}
	return to
}

// aggregatorStats are an Aggregator's counters that are kept nowhere else.
type aggregatorStats struct {
	aggregated, tableFull         uint64 // records
	clippedPackets, clippedBytes  uint64
	lostPackets, lostBytes        uint64
	pairsBelowFloor, pairsEvicted uint64
}

// Stats returns a copy of the totals.
func (a *Aggregator) Stats() Stats {
	s, rows := &a.stats, &a.chunk.rows
	b := &a.chunk.batch
	return Stats{
		Aggregated:     s.aggregated,
		Dropped:        map[string]uint64{ReasonTableFull: s.tableFull},
		ClippedPackets: s.clippedPackets, ClippedBytes: s.clippedBytes,
		LostPackets: s.lostPackets, LostBytes: s.lostBytes,
		TableFull:       map[string]uint64{"hosts": a.hosts.full, "services": a.services.full, "pairs": a.pairs.full},
		PairsBelowFloor: s.pairsBelowFloor, PairsEvicted: s.pairsEvicted,
		RowsHosts: rows.hosts + uint64(len(b.Hosts)), RowsServices: rows.services + uint64(len(b.Services)),
		RowsPairs: rows.pairs + uint64(len(b.Pairs)), RowsFlows: rows.flows + uint64(len(b.Flows)),
		Windows: a.windows.open, Keys: a.hosts.keys() + a.services.keys() + a.pairs.index.n,
	}
}
