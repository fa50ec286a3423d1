package decode

import (
	"cmp"
	"math"
	"slices"

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
	rates map[samplerKey]samplerRate
	// uses counts the entries by rate: with one key, all of them agree.
	uses map[uint32]int
	// perInterface: one of them is of an interface, so that a record's rate
	// depends on where it came in.
	perInterface bool
}

// samplerRate is a rate that was stated and when it was last, ns.
type samplerRate struct {
	rate uint32
	seen int64
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

// set stores a rate stated at the time seen (ns) and reports whether one of another value was replaced, and
// whether it could be stored.
func (s *samplers) set(k samplerKey, rate uint32, seen int64) (changed, ok bool) {
	old, had := s.rates[k]
	if had && old.rate == rate {
		s.rates[k] = samplerRate{rate, seen}
		return false, true
	}
	if !had && len(s.rates) >= maxSamplers {
		return false, false
	}
	if s.rates == nil {
		s.rates, s.uses = make(map[samplerKey]samplerRate), make(map[uint32]int)
	}
	if had {
		if s.uses[old.rate]--; s.uses[old.rate] == 0 {
			delete(s.uses, old.rate)
		}
	}
	s.rates[k] = samplerRate{rate, seen}
	s.uses[rate]++
	s.perInterface = s.perInterface || k.kind == samplerInterface
	return had, true
}

// rateKey is what of a record decides which stated rate it has.
type rateKey struct {
	has               present // of fSamplerID, fSelectorID and fInIf
	sampler, selector uint64
	inIf              uint32
}

func (f *fields) rateKey() rateKey {
	return rateKey{f.has & (fSamplerID | fSelectorID | fInIf), f.samplerID, f.selectorID, f.inIf}
}

// lookup finds the rate for a record: by the id it carries, by its interface or
// template, then the rate of the whole domain, then the only rate there is. A
// record that names an id which was not announced gets the domain's own rate or
// none: which of several samplers it went through is not guessed.
func (s *samplers) lookup(k rateKey, templateID uint16) uint32 {
	if len(s.rates) == 0 {
		return 0
	}
	named := false
	if k.has&fSamplerID != 0 {
		if r := s.rates[samplerKey{samplerID, k.sampler}]; r.rate != 0 {
			return r.rate
		}
		named = true
	}
	if k.has&fSelectorID != 0 {
		if r := s.rates[samplerKey{samplerSelector, k.selector}]; r.rate != 0 {
			return r.rate
		}
		named = true
	}
	if k.has&fInIf != 0 && s.perInterface {
		if r := s.rates[samplerKey{samplerInterface, uint64(k.inIf)}]; r.rate != 0 {
			return r.rate
		}
	}
	if r := s.rates[samplerKey{samplerTemplate, uint64(templateID)}]; r.rate != 0 {
		return r.rate
	}
	if r := s.rates[samplerKey{}]; r.rate != 0 {
		return r.rate
	}
	if named {
		return 0
	}
	return s.sole()
}

// optionsRate looks a record's rate up in the options of its domain, then in
// those of domain 0, which speaks for the whole exporting process (RFC 7011
// §3.1, Observation Domain ID).
func (d *Decoder) optionsRate(o *origin, k rateKey) uint32 {
	if len(o.domain.samplers.rates) == 0 {
		zero := d.domainZero(o)
		if zero == nil {
			return 0
		}
		return zero.samplers.lookup(k, o.templateID)
	}
	return o.domain.samplers.lookup(k, o.templateID)
}

// domainZero is the domain whose options stand in for those that o's domain has
// not; nil: none does.
func (d *Decoder) domainZero(o *origin) *domain {
	if o.domain.key.id == 0 || o.domain.key.version < 9 || len(o.domain.samplers.rates) > 0 {
		return nil
	}
	return o.exporter.zero[o.domain.key.version&1]
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

// rateCache keeps what optionsRate found: records of one domain go through few
// samplers, and one lookup costs up to five in maps.
type rateCache struct {
	entries [64]rateEntry
	age     uint32 // of what was found before samplers changed, nothing holds
}

type rateEntry struct {
	domain   *domain
	age      uint32
	template uint16
	key      rateKey
	rate     uint32
}

// stale is called whenever samplers or domains come, change or go.
func (c *rateCache) stale() {
	if c.age++; c.age == 0 {
		*c = rateCache{age: 1}
	}
}

// cachedRate is optionsRate.
func (d *Decoder) cachedRate(o *origin, k rateKey) uint32 {
	h := (k.sampler ^ k.selector<<20 ^ uint64(k.inIf)<<40 ^ uint64(o.domain.key.id)) * 0x9e3779b97f4a7c15
	e := &d.known.entries[h>>58]
	if e.domain != o.domain || e.age != d.known.age || e.template != o.templateID || e.key != k {
		*e = rateEntry{o.domain, d.known.age, o.templateID, k, d.optionsRate(o, k)}
	}
	return e.rate
}

// rate resolves the rate of one record that fill wrote; not ok: it states one
// that is not believed.
func (d *Decoder) rate(o *origin, q *quick, s *[numSlots]slot, rec []byte, r *flow.Record) bool {
	stated := s[sInterval].num(rec)
	if stated > maxSamplingRate {
		return false
	}
	k := rateKey{has: q.rateHas, sampler: s[sSamplerID].num(rec), selector: s[sSelectorID].num(rec)}
	if q.rateHas&fInIf != 0 {
		k.inIf = r.InIf
	}
	r.SamplingRate, r.SamplingSource = o.exporter.resolve(uint32(stated), d.cachedRate(o, k), o.headerRate)
	return true
}

// StaleRate is a sampling rate in use that the exporter did not state for long:
// one from a state file, or of options that come no longer.
type StaleRate struct {
	Domain   uint32 // that stated it
	Rate     uint32 // 1:N
	LastSeen int64  // received, ns; 0: before times were kept
}

// staleRates returns the rates that records were given within the last rateStale
// and that options data stated before that only. They stay in use: a rate that
// was true is a better guess than none.
func (e *exporter) staleRates() []StaleRate {
	used := map[uint32]bool{}
	e.domains.all(func(_ domainKey, dom *domain) {
		for _, u := range dom.rates.uses {
			if u.source == flow.SamplingOptions && e.last-u.last < int64(rateStale) {
				used[u.rate] = true
			}
		}
	})
	var out []StaleRate
	e.domains.all(func(k domainKey, dom *domain) {
		latest := map[uint32]int64{} // whichever of several samplers stated it
		for _, r := range dom.samplers.rates {
			latest[r.rate] = max(latest[r.rate], r.seen)
		}
		for rate, seen := range latest {
			if used[rate] && e.last-seen >= int64(rateStale) {
				out = append(out, StaleRate{k.id, rate, seen})
			}
		}
	})
	slices.SortFunc(out, func(a, b StaleRate) int {
		return cmp.Or(cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Rate, b.Rate), cmp.Compare(a.LastSeen, b.LastSeen))
	})
	return out
}
