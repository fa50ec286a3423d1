package decode

import (
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// samplerKind is the number space that a sampler's id belongs to.
type samplerKind uint8

const (
	samplerWhole     samplerKind = iota // no id: the whole domain
	samplerID                           // IE 48 samplerId
	samplerSelector                     // IE 302 selectorId
	samplerInterface                    // scope interface (v9 scope 2, IE 10)
	samplerTemplate                     // scope template (v9 scope 5, IE 145)
)

type samplerKey struct {
	kind samplerKind
	id   uint64
}

// samplers are the rates that options data states for one domain.
type samplers struct {
	rates map[samplerKey]uint32
	// uses counts the entries by rate: with one key, all of them agree.
	uses map[uint32]int
}

// sole is the one rate that all entries agree on; 0: none or several.
func (s *samplers) sole() uint32 {
	if len(s.uses) == 1 {
		for r := range s.uses {
			return r
		}
	}
	return 0
}

// set stores a rate and reports whether one of another value was replaced, and
// whether it could be stored.
func (s *samplers) set(k samplerKey, rate uint32) (changed, ok bool) {
	old, had := s.rates[k]
	if had && old == rate {
		return false, true
	}
	if !had && len(s.rates) >= maxSamplers {
		return false, false
	}
	if s.rates == nil {
		s.rates, s.uses = make(map[samplerKey]uint32), make(map[uint32]int)
	}
	if had {
		if s.uses[old]--; s.uses[old] == 0 {
			delete(s.uses, old)
		}
	}
	s.rates[k] = rate
	s.uses[rate]++
	return had, true
}

// lookup finds the rate for a record: by the id it carries, by its interface or
// template, then the rate of the whole domain, then the only rate there is. A
// record that names an id which was not announced gets the domain's own rate or
// none: which of several samplers it went through is not guessed.
func (s *samplers) lookup(f *fields, templateID uint16) uint32 {
	if len(s.rates) == 0 {
		return 0
	}
	named := false
	if f.has&fSamplerID != 0 {
		if r := s.rates[samplerKey{samplerID, f.samplerID}]; r != 0 {
			return r
		}
		named = true
	}
	if f.has&fSelectorID != 0 {
		if r := s.rates[samplerKey{samplerSelector, f.selectorID}]; r != 0 {
			return r
		}
		named = true
	}
	if f.has&fInIf != 0 {
		if r := s.rates[samplerKey{samplerInterface, uint64(f.inIf)}]; r != 0 {
			return r
		}
	}
	if r := s.rates[samplerKey{samplerTemplate, uint64(templateID)}]; r != 0 {
		return r
	}
	if r := s.rates[samplerKey{}]; r != 0 {
		return r
	}
	if named {
		return 0
	}
	return s.sole()
}

// statedRate is the rate that one record (of data or of options) states by
// itself. 0: none; refused: one that is not believed.
//
// An interval of 0 is no statement: exporters send it where sampling is off for
// an interface, and where they do not know.
func statedRate(f *fields) (rate uint32, refused bool) {
	switch {
	case f.has&fSamplingInterval != 0 && f.samplingInterval > 0: // IE 34
		return believe(f.samplingInterval)
	case f.has&fRandomInterval != 0 && f.randomInterval > 0: // IE 50
		return believe(f.randomInterval)
	case f.has&fSize != 0 && f.size > 0 && f.population > 0 && (f.has&fPacketInterval == 0 || f.algorithm != algorithmCount):
		// IE 309, 310: n out of N. Cisco IOS XR sends 305 = 1 beside them,
		// which taken alone would turn 1:256 into 1:1.
		if f.population > math.MaxUint32 {
			return 0, true
		}
		return believe(f.population / f.size)
	case f.has&fPacketInterval != 0 && f.packetInterval > 0: // IE 305, 306
		if f.packetInterval > math.MaxUint32 || f.packetSpace > math.MaxUint32 {
			return 0, true
		}
		if f.has&fPacketSpace == 0 {
			// RFC 5477 §8.2.2 means the length of a run of packets, and the
			// space between runs is in 306. Those who send 305 alone
			// (softflowd and others) mean one packet out of so many.
			return believe(f.packetInterval)
		}
		return believe((f.packetInterval + f.packetSpace) / f.packetInterval)
	case f.has&fProbability != 0 && f.probability > 0 && f.probability <= 1: // IE 311
		r := math.Round(1 / f.probability)
		if r > maxSamplingRate {
			return 0, true
		}
		return believe(uint64(r))
	}
	return 0, false
}

// algorithmCount is systematic count-based sampling (IANA psamp-parameters, IE
// 304): a run of packets (305), then a space (306).
const algorithmCount = 1

func believe(n uint64) (rate uint32, refused bool) {
	if n > maxSamplingRate {
		return 0, true
	}
	return uint32(n), false
}

// v5HeaderRate reads the sampling field of a NetFlow v5 header: two bits of
// mode, 14 bits of interval (Cisco, "NetFlow Export Datagram Format").
//
// The mode is not asked for: Juniper MX exports mode 0 with a true interval. An
// interval of 0 states nothing: Cisco's "no sampling mode is configured" and
// the many exporters that never fill the field (fprobe, Open vSwitch, sampled
// or not) look the same. Such an exporter needs a configured default, which
// may be 1. An interval of 1 is the statement that nothing is sampled.
func v5HeaderRate(field uint16) uint32 { return uint32(field & 0x3fff) }

// resolve fixes the rate of a record in the order of docs/architecture.md:
// override, record, options, header, default. Not known is 0, never 1.
func (e *exporter) resolve(record, options, header uint32) (uint32, flow.SamplingSource) {
	switch {
	case e.rule.Override != 0:
		return e.rule.Override, flow.SamplingOverride
	case record != 0:
		return record, flow.SamplingRecord
	case options != 0:
		return options, flow.SamplingOptions
	case header != 0:
		return header, flow.SamplingHeader
	case e.rule.Default != 0:
		return e.rule.Default, flow.SamplingDefault
	}
	return 0, flow.SamplingUnknown
}
