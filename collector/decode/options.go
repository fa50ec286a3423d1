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
	changed, ok := o.domain.samplers.set(samplerKeyOf(f), rate)
	if !ok {
		o.exporter.count(d, nSamplersFull)
	}
	if changed {
		o.exporter.count(d, nSamplingChanged)
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
