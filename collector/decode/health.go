package decode

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// maxTemplateList bounds the templates that are listed of an exporter. Routers
// have tens; one that is listed by the thousand is hostile or broken.
const maxTemplateList = 256

// Templates lists the templates kept of an exporter, by protocol, domain and
// id, at most maxTemplateList of them. It belongs to the Decoder's goroutine
// like Decode.
func (d *Decoder) Templates(addr netip.Addr) []flow.TemplateHealth {
	n, ok := d.exporters.m[addr.Unmap()] // not get: to be asked about is no use
	if !ok {
		return nil
	}
	var out []flow.TemplateHealth
	n.val.templates.all(func(k templateKey, t *template) {
		h := flow.TemplateHealth{Protocol: flow.NetFlow9.String(), Domain: k.domain, ID: k.id, Options: t.options, Fields: len(t.fields)}
		if k.version == 10 {
			h.Protocol = flow.IPFIX.String()
		}
		if t.refreshed != 0 {
			h.Learned, h.Refreshed = time.Unix(0, t.learned).UTC(), time.Unix(0, t.refreshed).UTC()
		}
		out = append(out, h)
	})
	slices.SortFunc(out, func(a, b flow.TemplateHealth) int {
		return cmp.Or(cmp.Compare(b.Protocol, a.Protocol), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.ID, b.ID))
	})
	return out[:min(len(out), maxTemplateList)]
}

// Health turns the counts into what the API shows, with one line for each thing
// that somebody should do something about.
func (s ExporterStats) Health(addr netip.Addr) flow.ExporterHealth {
	h := flow.ExporterHealth{
		Exporter:       addr,
		FirstSeen:      time.Unix(0, s.FirstSeen).UTC(),
		LastSeen:       time.Unix(0, s.LastSeen).UTC(),
		Datagrams:      s.Datagrams,
		Records:        s.Records,
		Lost:           s.Lost,
		Templates:      s.Templates,
		Dropped:        map[string]uint64{},
		Samplers:       s.Samplers,
		MaxDelayS:      s.MaxDelay.Seconds(),
		Duplicates:     s.Notes[NoteDuplicate],
		Restarts:       s.Notes[NoteRestart],
		ExportDelayS:   s.ExportDelay,
		FlowDurationS:  s.FlowDuration,
		TemplatesKnown: s.TemplatesKnown,
		SamplesDropped: s.SamplesDropped,
		Denser:         s.denser(),
	}
	if s.ClockOffset != nil {
		off := s.ClockOffset.Seconds()
		h.ClockOffsetS = &off
	}
	for _, p := range s.Protocols {
		h.Protocols = append(h.Protocols, p.String())
	}
	for _, m := range []map[string]uint64{s.Dropped, s.SetsDropped, s.RecordsDropped} {
		for name, n := range m {
			h.Dropped[name] += n
		}
	}
	s.tellSampling(&h)
	for _, r := range reasons {
		if n := h.Dropped[r.Name]; n > 0 {
			h.Tell(problemForms, dropped+r.Name, n)
		}
	}
	if n := s.Notes[NoteTimesClamped]; n > 0 {
		h.Tell(problemForms, dropped+NoteTimesClamped, n)
	}
	return h
}

// How long after it a change of rate, or samples that an agent left out, are
// still worth a line.
const (
	changeShown = time.Hour
	dropsShown  = 15 * time.Minute
)

// tellSampling adds the problems of the sampling rates: unknown, changed, or not
// what the agent does.
func (s ExporterStats) tellSampling(h *flow.ExporterHealth) {
	clock := func(at int64) string { return time.Unix(0, at).UTC().Format("15:04 UTC") }
	for _, sp := range s.Samplers {
		if sp.Rate == 0 {
			h.Tell(problemForms, "rate_unknown", sp.Domain, sp.Records, h.Exporter)
		}
	}
	for _, c := range s.RateChanges {
		if s.LastSeen-c.At < int64(changeShown) {
			h.Tell(problemForms, "rate_changed", c.Domain, clock(c.At), c.From, c.To)
		}
	}
	for _, r := range s.StaleRates {
		if r.LastSeen > 0 {
			h.Tell(problemForms, "rate_stale", r.Domain, r.Rate, time.Unix(0, r.LastSeen).UTC().Format(time.RFC3339), h.Exporter)
		} else {
			h.Tell(problemForms, "rate_stale_unseen", r.Domain, r.Rate, h.Exporter)
		}
	}
	if len(s.Deviations) > 0 {
		d := s.Deviations[0]
		values := []any{d.name(), d.Stated, d.Samples, d.Packets, d.Rate(), h.Exporter}
		if more := len(s.Deviations) - 1; more > 0 {
			h.Tell(problemForms, "rate_deviates_more", append(values, more)...)
		} else {
			h.Tell(problemForms, "rate_deviates", values...)
		}
	}
	if s.SamplesDropped > 0 && s.LastSeen-s.SamplesDroppedAt < int64(dropsShown) {
		h.Tell(problemForms, "samples_dropped", s.SamplesDropped, clock(s.SamplesDroppedAt))
	}
}

// denser is flow.ExporterHealth.Denser. A pool that grows by little more than the
// samples themselves is one that counts them, and states nothing.
func (s ExporterStats) denser() float64 {
	var most float64
	for _, d := range s.Deviations {
		if 2*d.Packets < 3*d.Samples {
			continue
		}
		taken := d.Stated
		for _, sp := range s.Samplers {
			if sp.Domain == d.Domain && sp.Source == flow.SamplingOverride.String() {
				taken = sp.Rate
			}
		}
		most = max(most, float64(taken)*float64(d.Samples)/float64(d.Packets))
	}
	if most <= 1 {
		return 0
	}
	return most
}

// name is the source as an operator knows it, whatever language he reads.
func (s SamplingDeviation) name() string {
	class, index := s.Source>>24, s.Source&0xffffff
	switch class {
	case 0:
		return fmt.Sprintf("ifIndex %d, sub-agent %d", index, s.Domain)
	case 1:
		return fmt.Sprintf("VLAN %d, sub-agent %d", index, s.Domain)
	}
	return fmt.Sprintf("%d (class %d), sub-agent %d", index, class, s.Domain)
}
