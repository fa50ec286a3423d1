package decode

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// stateVersion is raised when the format changes in a way that old readers
// would misread.
const stateVersion = 1

// ErrState is returned for a state file that cannot be used.
var ErrState = errors.New("decoder state")

type savedState struct {
	Version   int             `json:"flowcordon_decoder_state"`
	Exporters []savedExporter `json:"exporters"`
}

type savedExporter struct {
	Addr      netip.Addr      `json:"addr"`
	Templates []savedTemplate `json:"templates,omitempty"`
	Domains   []savedDomain   `json:"domains,omitempty"`
}

type savedTemplate struct {
	Version uint16       `json:"version"`
	Domain  uint32       `json:"domain"`
	ID      uint16       `json:"id"`
	Options bool         `json:"options,omitempty"`
	Scopes  int          `json:"scopes,omitempty"`
	Fields  []savedField `json:"fields"`
}

// savedField is type, length and, with an enterprise number, that.
type savedField []uint32

type savedDomain struct {
	Version    uint16         `json:"version"`
	ID         uint32         `json:"id"`
	SystemInit int64          `json:"system_init_ms,omitempty"`
	Samplers   []savedSampler `json:"samplers,omitempty"`
}

type savedSampler struct {
	Kind samplerKind `json:"kind"`
	ID   uint64      `json:"id"`
	Rate uint32      `json:"rate"`
	Seen int64       `json:"seen_ns,omitempty"`
}

// SaveState writes templates and options (sampling rates, start times) as JSON.
// Writing it to a file atomically is the caller's part. The same state gives
// the same bytes.
func (d *Decoder) SaveState(w io.Writer) error {
	s := savedState{Version: stateVersion, Exporters: []savedExporter{}}
	d.exporters.all(func(addr netip.Addr, e *exporter) {
		if x := e.save(); len(x.Templates)+len(x.Domains) > 0 {
			s.Exporters = append(s.Exporters, x)
		}
	})
	slices.SortFunc(s.Exporters, func(a, b savedExporter) int { return a.Addr.Compare(b.Addr) })
	bw := bufio.NewWriter(w)
	if err := json.NewEncoder(bw).Encode(s); err != nil {
		return fmt.Errorf("save decoder state: %w", err)
	}
	return bw.Flush()
}

func (e *exporter) save() savedExporter {
	x := savedExporter{Addr: e.addr}
	e.templates.all(func(k templateKey, t *template) {
		st := savedTemplate{Version: k.version, Domain: k.domain, ID: k.id, Options: t.options, Scopes: t.scopes}
		for _, f := range t.fields {
			sf := savedField{uint32(f.id), uint32(f.length)}
			if f.enterprise {
				sf = append(sf, f.pen)
			}
			st.Fields = append(st.Fields, sf)
		}
		x.Templates = append(x.Templates, st)
	})
	slices.SortFunc(x.Templates, func(a, b savedTemplate) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.ID, b.ID))
	})
	e.domains.all(func(k domainKey, dom *domain) {
		if dom.systemInit == 0 && len(dom.samplers.rates) == 0 {
			return
		}
		sd := savedDomain{Version: k.version, ID: k.id, SystemInit: dom.systemInit}
		for sk, r := range dom.samplers.rates {
			sd.Samplers = append(sd.Samplers, savedSampler{sk.kind, sk.id, r.rate, r.seen})
		}
		slices.SortFunc(sd.Samplers, func(a, b savedSampler) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
		})
		x.Domains = append(x.Domains, sd)
	})
	slices.SortFunc(x.Domains, func(a, b savedDomain) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.ID, b.ID))
	})
	return x
}

// LoadState adds what SaveState wrote. What the Decoder knows already is newer
// and stays. The file is checked like the wire: a template or rate that would
// not be taken from an exporter is left out; a file that is not a state file,
// or of another version, is an error and changes nothing.
func (d *Decoder) LoadState(r io.Reader) error {
	var s savedState
	lr := &io.LimitedReader{R: r, N: maxStateFile + 1}
	if err := json.NewDecoder(lr).Decode(&s); err != nil {
		if lr.N <= 0 {
			return fmt.Errorf("%w: over %d bytes", ErrState, maxStateFile)
		}
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("%w: version %d, this program reads %d", ErrState, s.Version, stateVersion)
	}
	for _, x := range s.Exporters {
		if x.Addr.IsValid() {
			d.loadExporter(x)
		}
	}
	return nil
}

func (d *Decoder) loadExporter(x savedExporter) {
	addr := x.Addr.Unmap()
	e, ok := d.exporters.get(addr)
	if !ok {
		if d.exporters.len() >= maxExporters {
			return
		}
		e = &exporter{addr: addr, rule: ruleFor(d.cfg.Sampling, addr), waiting: map[templateKey]int{}}
		d.exporters.put(addr, e)
	}
	for _, st := range x.Templates {
		t, ok := st.template()
		if !ok || e.cost+t.cost() > maxExporterState || d.cost+t.cost() > maxState {
			continue
		}
		if _, known := e.templates.get(t.key); !known {
			d.remember(e, t)
		}
	}
	for _, sd := range x.Domains {
		k := domainKey{version: sd.Version, id: sd.ID}
		if sd.Version != 9 && sd.Version != 10 || e.domains.len() >= maxDomains || e.cost+domainCost > maxExporterState || d.cost+domainCost > maxState {
			continue
		}
		if _, known := e.domains.get(k); known {
			continue
		}
		dom := d.domainOf(e, k)
		dom.systemInit = max(0, sd.SystemInit)
		for _, sp := range sd.Samplers {
			if sp.Kind <= samplerTemplate && sp.Rate > 0 && sp.Rate <= maxSamplingRate {
				d.setSampler(e, dom, samplerKey{sp.Kind, sp.ID}, sp.Rate, sp.Seen)
			}
		}
	}
}

func (st savedTemplate) template() (*template, bool) {
	if st.Version != 9 && st.Version != 10 || st.Scopes < 0 || st.Scopes > len(st.Fields) || len(st.Fields) > maxTemplateFields {
		return nil, false
	}
	fields := make([]element, 0, len(st.Fields))
	for _, sf := range st.Fields {
		if len(sf) < 2 || len(sf) > 3 || sf[0] > 0xffff || sf[1] > 0xffff {
			return nil, false
		}
		f := element{id: uint16(sf[0]), length: uint16(sf[1])}
		if len(sf) == 3 {
			f.enterprise, f.pen = true, sf[2]
		}
		fields = append(fields, f)
	}
	t, err := newTemplate(templateKey{st.Version, st.Domain, st.ID}, fields, st.Scopes, st.Options)
	return t, err == nil
}
