package decode

// option takes one record of options data: sampling rates and the exporter's
// start. Everything else in options (interface names, applications) is counted
// and left.
func (d *Decoder) option(o *origin, f *fields) {
	d.stats.options++
	o.exporter.options++
	if f.has&fSystemInit != 0 {
		o.domain.systemInit = f.systemInit
	}
	rate, refused := statedRate(f)
	if refused {
		o.exporter.count(d, nSamplingRefused)
	}
	if rate == 0 {
		return
	}
	d.setSampler(o.exporter, o.domain, samplerKeyOf(f), rate, o.received)
}

// setSampler stores a rate stated at the time seen (ns) where there is room for
// it.
func (d *Decoder) setSampler(e *exporter, dom *domain, k samplerKey, rate uint32, seen int64) {
	_, known := dom.samplers.rates[k]
	if !known && e.cost+samplerCost > maxExporterState {
		e.count(d, nSamplersFull)
		return
	}
	changed, ok := dom.samplers.set(k, rate, seen)
	if ok && (changed || !known) {
		d.known.stale()
	}
	switch {
	case !ok:
		e.count(d, nSamplersFull)
	case changed:
		e.count(d, nSamplingChanged)
	case !known:
		d.charge(e, samplerCost)
	}
}

// samplerKeyOf names the sampler that an options record speaks of.
func samplerKeyOf(f *fields) samplerKey {
	switch {
	case f.has&fSamplerID != 0:
		return samplerKey{samplerID, f.samplerID}
	case f.has&fSelectorID != 0:
		return samplerKey{samplerSelector, f.selectorID}
	case f.has&fInIf != 0:
		return samplerKey{samplerInterface, uint64(f.inIf)}
	case f.has&fTemplateRef != 0:
		return samplerKey{samplerTemplate, f.templateRef}
	}
	return samplerKey{}
}
