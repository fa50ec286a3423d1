package decode

import (
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// domainKey names a stream of one exporter: an observation domain (IPFIX), a
// source id (v9), an engine (v5), or an sFlow agent and sub-agent (several
// agents may reach us through one relay).
type domainKey struct {
	version uint16 // 5, 9, 10; 0: sFlow
	id      uint32
	agent   netip.Addr // sFlow only
}

type domain struct {
	key        domainKey
	seq        sequence
	samplers   samplers
	systemInit int64 // ms since the epoch, from options; 0: not stated
	rates      rates
	sources    sources // sFlow
}

// maxRatesInUse bounds how many rates are told apart for health; sFlow agents
// that adapt their rate go through tens.
const maxRatesInUse = 64

// exporter is the state of one source address. The UDP port is no part of the
// key: exporters change it (real-world case: nfdump issue 237).
type exporter struct {
	addr        netip.Addr
	rule        SamplingRule
	domains     lru[domainKey, *domain]
	zero        [2]*domain // domain 0 of IPFIX and of v9: by the version's last bit
	templates   lru[templateKey, *template]
	waiting     map[templateKey]int // held-back sets
	cost        int
	warned      map[templateKey]int64 // when template_unknown was last logged
	warnedSince int64                 // when the first of them was

	protocols          uint8 // bit per flow.Protocol
	first, last        int64
	datagrams, decoded uint64
	records, options   uint64
	templatesSeen      uint64
	lost               uint64 // of domains that were evicted
	counts             counters
	timing             timing

	samplesDropped   uint64 // as sFlow agents say
	samplesDroppedAt int64  // when that grew last
}

// count counts a reason for the exporter and for the whole decoder.
func (e *exporter) count(d *Decoder, r reason) {
	e.counts[r]++
	d.stats.counts[r]++
}

// exporterOf returns the state of a datagram's source and notes that it was
// seen.
func (d *Decoder) exporterOf(dg Datagram, p flow.Protocol) *exporter {
	addr := dg.Exporter.Addr()
	e, ok := d.exporters.get(addr)
	if !ok {
		if d.exporters.len() >= maxExporters {
			d.evictExporter(nil)
		}
		e = &exporter{
			addr:    addr,
			rule:    ruleFor(d.cfg.Sampling, addr),
			waiting: map[templateKey]int{},
			first:   dg.Received,
		}
		d.exporters.put(addr, e)
	}
	if e.first == 0 {
		e.first = dg.Received
	}
	e.protocols |= 1 << p
	e.last = dg.Received
	return e
}

// evictExporter forgets the least recently seen exporter, but not keep.
func (d *Decoder) evictExporter(keep *exporter) bool {
	addr, e, ok := d.exporters.oldest()
	if !ok || e == keep {
		return false
	}
	for i := len(d.held) - 1; i >= 0; i-- {
		if d.held[i].origin.exporter == e {
			d.dropHeld(i)
		}
	}
	d.cost -= e.cost
	d.exporters.remove(addr)
	d.stats.counts[nExporterEvicted]++
	return true
}

// charge books n bytes of state to an exporter. Where the decoder would hold
// too much, the exporters least recently seen give way.
func (d *Decoder) charge(e *exporter, n int) {
	for n > 0 && d.cost+n > maxState && d.evictExporter(e) {
	}
	e.cost += n
	d.cost += n
}

// cost is what a domain is reckoned to cost.
func (dom *domain) cost() int {
	return domainCost + samplerCost*len(dom.samplers.rates) + sourceCost*len(dom.sources.table)
}

// domainOf returns the state of one of e's streams.
func (d *Decoder) domainOf(e *exporter, k domainKey) *domain {
	if dom, ok := e.domains.get(k); ok {
		return dom
	}
	if e.domains.len() >= maxDomains {
		d.evictDomain(e)
	}
	dom := &domain{key: k}
	d.known.stale()
	d.charge(e, dom.cost())
	e.domains.put(k, dom)
	if k.id == 0 && k.version >= 9 {
		e.zero[k.version&1] = dom
	}
	return dom
}

// evictDomain forgets the domain of e that was not used for longest. Domain 0
// is in use as long as its rates stand in for those of other domains.
func (d *Decoder) evictDomain(e *exporter) {
	for _, zero := range e.zero {
		if zero != nil && len(zero.samplers.rates) > 0 {
			e.domains.get(zero.key)
		}
	}
	k, dom, ok := e.domains.oldest()
	if !ok {
		return
	}
	e.lost += dom.seq.lost
	d.charge(e, -dom.cost())
	e.domains.remove(k)
	if k.id == 0 && k.version >= 9 {
		e.zero[k.version&1] = nil
	}
	e.count(d, nDomainEvicted)
}

// track follows the sequence numbers of a stream.
func (d *Decoder) track(o *origin, seq, n uint32, countKnown bool) {
	switch o.domain.seq.step(seq, n, countKnown) {
	case seqRestart:
		o.exporter.count(d, nRestart)
	case seqLate:
		o.exporter.count(d, nDuplicate)
	}
}

// observe counts a run of finished records and takes from them what the
// exporter's health tells.
func (d *Decoder) observe(o *origin, rs []flow.Record) {
	d.stats.records += uint64(len(rs))
	o.exporter.records += uint64(len(rs))
	for i := 0; i < len(rs); {
		first := &rs[i]
		n := i + 1
		for n < len(rs) && rs[n].SamplingRate == first.SamplingRate && rs[n].SamplingSource == first.SamplingSource {
			n++
		}
		o.domain.rates.note(first.SamplingRate, first.SamplingSource, uint64(n-i), o.received)
		i = n
	}
	if o.protocol != flow.SFlow5 { // its samples have no times
		o.exporter.timing.records(rs, o.export)
	}
}

// warnTemplate logs that data has no template: one line for each template and
// minute, not one for each datagram.
func (d *Decoder) warnTemplate(o *origin, key templateKey) {
	e := o.exporter
	if at, ok := e.warned[key]; ok && o.received-at < int64(time.Minute) {
		return
	}
	switch {
	case e.warned == nil:
		e.warned, e.warnedSince = map[templateKey]int64{}, o.received
	case len(e.warned) >= maxWarned && o.received-e.warnedSince < int64(time.Minute):
		return // who sends ever new ids is not given a line for each
	case len(e.warned) >= maxWarned:
		clear(e.warned)
		e.warnedSince = o.received
	}
	e.warned[key] = o.received
	if line := d.log.Check(zap.WarnLevel, "data without its template is held back"); line != nil {
		line.Write(zap.Stringer("exporter", e.addr), zap.Uint16("version", key.version),
			zap.Uint32("domain", key.domain), zap.Uint16("template", key.id))
	}
}
