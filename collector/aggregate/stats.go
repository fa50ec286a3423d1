package aggregate

import "net/netip"

// Stats are totals since New. Records = Aggregated + Σ Dropped, always.
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
	// PairsBelowFloor were dropped by design (PairFloor), not lost.
	PairsBelowFloor uint64

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

// maxExporters bounds the exporters told apart; those beyond it share the
// invalid address. Far more than one collector is ever sent by.
const maxExporters = 4096

func (a *Aggregator) exporter(addr netip.Addr) *ExporterStats {
	e := a.exporters[addr]
	if e == nil {
		if len(a.exporters) >= maxExporters {
			addr = netip.Addr{}
			if e = a.exporters[addr]; e != nil {
				return e
			}
		}
		e = &ExporterStats{}
		a.exporters[addr] = e
	}
	return e
}

// Stats returns a copy of the totals.
func (a *Aggregator) Stats() Stats {
	s := a.stats
	s.Dropped = make(map[string]uint64, numReasons)
	for i, name := range Reasons() {
		s.Dropped[name] = a.dropped[i]
	}
	s.TableFull = map[string]uint64{"hosts": a.hosts.refused, "services": a.services.refused, "pairs": a.pairs.refused}
	s.Windows, s.Keys = len(a.windows), a.hosts.used+a.services.used+a.pairs.used
	s.Exporters = make(map[netip.Addr]ExporterStats, len(a.exporters))
	for addr, e := range a.exporters {
		s.Exporters[addr] = *e
	}
	return s
}
