package decode_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// rate: override, record, options, header, default.
func (r *refDecoder) rate(c refContext, fs refFields, x *flow.Record) {
	stated, refused := refStated(fs)
	if refused {
		r.n[decode.NoteSamplingRefused]++
	}
	for _, s := range []struct {
		rate uint32
		from flow.SamplingSource
	}{
		{c.rule.Override, flow.SamplingOverride},
		{stated, flow.SamplingRecord},
		{refOptionsRate(c, fs), flow.SamplingOptions},
		{c.headerRate, flow.SamplingHeader},
		{c.rule.Default, flow.SamplingDefault},
	} {
		if s.rate != 0 {
			x.SamplingRate, x.SamplingSource = s.rate, s.from
			return
		}
	}
}

// refStated is the rate that one record states.
func refStated(fs refFields) (uint32, bool) {
	believe := func(n uint64) (uint32, bool) {
		if n > refMaxRate {
			return 0, true
		}
		return uint32(n), false
	}
	for _, id := range []uint16{34, 50} {
		if n, _ := fs.u64(id); n > 0 {
			return believe(n)
		}
	}
	size, _ := fs.u64(309)
	population, _ := fs.u64(310)
	interval, hasInterval := fs.u64(305)
	space, hasSpace := fs.u64(306)
	algorithm, _ := fs.u64(304)
	if size > 0 && population > 0 && (!hasInterval || algorithm != 1) {
		if population > math.MaxUint32 {
			return 0, true
		}
		return believe(population / size)
	}
	if interval > 0 {
		if interval > math.MaxUint32 || space > math.MaxUint32 {
			return 0, true
		}
		if !hasSpace {
			return believe(interval)
		}
		return believe((interval + space) / interval)
	}
	b, ok := fs.last(0, func(b []byte) bool { return len(b) == 4 || len(b) == 8 }, 311)
	if !ok {
		return 0, false
	}
	p := math.Float64frombits(new(big.Int).SetBytes(b).Uint64())
	if len(b) == 4 {
		p = float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
	}
	if !(p > 0 && p <= 1) {
		return 0, false
	}
	if n := math.Round(1 / p); n <= refMaxRate {
		return uint32(n), false
	}
	return 0, true
}

// refOptionsRate looks for what options data said: in the record's domain, or
// else in domain 0, which speaks for the whole exporter.
func refOptionsRate(c refContext, fs refFields) uint32 {
	d := c.domain
	if len(d.samplers) == 0 {
		if d = c.e.domains[refDomainKey{version: c.version}]; d == nil {
			return 0
		}
	}
	var names []string
	named := false
	if n, ok := fs.u64(48); ok {
		names, named = append(names, fmt.Sprintf("sampler %d", n)), true
	}
	if n, ok := fs.u64(302); ok {
		names, named = append(names, fmt.Sprintf("selector %d", n)), true
	}
	if n, ok := fs.num(math.MaxUint32, 10); ok {
		names = append(names, fmt.Sprintf("interface %d", n))
	}
	names = append(names, fmt.Sprintf("template %d", c.template), "whole")
	for _, name := range names {
		if rate := d.samplers[name]; rate != 0 {
			return rate
		}
	}
	if named {
		return 0
	}
	return d.sole()
}

// option takes a record of options data.
func (r *refDecoder) option(c refContext, fs refFields) {
	r.n["options"]++
	if c.version == 9 { // scopes of v9 have types of their own (RFC 3954 §6.1)
		var own refFields
		for _, f := range fs {
			switch {
			case !f.scope:
				own = append(own, f)
			case f.id == 2:
				own = append(own, refField{id: 10, b: f.b})
			case f.id == 5:
				own = append(own, refField{id: 145, b: f.b})
			}
		}
		fs = own
	}
	for i := range fs {
		fs[i].scope = false
	}
	if ms, ok := fs.systemInit(); ok {
		c.domain.systemInit = ms
	}
	rate, refused := refStated(fs)
	if refused {
		r.n[decode.NoteSamplingRefused]++
	}
	if rate == 0 {
		return
	}
	name := "whole"
	for _, x := range []struct {
		id    uint16
		limit uint64
		kind  string
	}{{48, math.MaxUint64, "sampler"}, {302, math.MaxUint64, "selector"}, {10, math.MaxUint32, "interface"}, {145, math.MaxUint64, "template"}} {
		if n, ok := fs.num(x.limit, x.id); ok {
			name = fmt.Sprintf("%s %d", x.kind, n)
			break
		}
	}
	if old := c.domain.samplers[name]; old != 0 && old != rate {
		r.n[decode.NoteSamplingChanged]++
	}
	c.domain.samplers[name] = rate
}
