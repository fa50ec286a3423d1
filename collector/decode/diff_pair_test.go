package decode_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// pair runs the decoder and the reference over the same datagrams.
type pair struct {
	t    testing.TB
	name string
	ours *decode.Decoder
	ref  *refDecoder

	datagrams, records int
	failed, found      int
	payloads           [][]byte
}

func newPair(t testing.TB, name string, cfg decode.Config) *pair {
	return &pair{t: t, name: name, ours: decode.New(cfg, decode.Deps{}), ref: newRef(cfg)}
}

// decode gives a datagram to both and holds that they yield the same records.
// The payload lies in a buffer that is overwritten afterwards, and each run is
// spoilt as soon as it is copied: nothing may be kept.
func (p *pair) decode(dg decode.Datagram) []flow.Record {
	p.datagrams++
	p.payloads = append(p.payloads, dg.Payload)
	want := p.ref.decode(dg)
	payload := bytes.Clone(dg.Payload)
	ours := dg
	ours.Payload = payload
	var got []flow.Record
	p.ours.Decode(ours, func(rs []flow.Record) {
		got = append(got, rs...)
		for i := range rs {
			rs[i] = flow.Record{Packets: 1 << 60, Has: 0xffff}
		}
	})
	if !bytes.Equal(payload, dg.Payload) {
		p.t.Errorf("%s: the payload was changed", p.name)
	}
	for i := range payload {
		payload[i] = 0xa5
	}
	p.records += len(want)
	p.compare(dg, got, want)
	return got
}

func (p *pair) compare(dg decode.Datagram, got, want []flow.Record) {
	if slices.Equal(got, want) {
		return
	}
	p.failed++
	if p.failed > 3 {
		return
	}
	p.t.Errorf("%s: datagram %d: %d records, reference has %d\npayload %x", p.name, p.datagrams, len(got), len(want), dg.Payload)
	shown := 0
	for i := range min(len(got), len(want)) {
		if d := fieldDiff(&got[i], &want[i]); d != nil && shown < 3 {
			shown++
			p.t.Errorf("record %d: ours (reference): %s", i, strings.Join(d, ", "))
			if i < len(p.ref.from) {
				p.t.Errorf("of%v", p.ref.from[i])
			}
		}
	}
}

// counts are the decoder's, by name.
func (p *pair) counts() map[string]int {
	s := p.ours.Stats()
	got := map[string]int{"options": int(s.OptionsRecords), "templates": int(s.Templates)}
	for _, m := range []map[string]uint64{s.Dropped, s.SetsDropped, s.RecordsDropped, s.Notes} {
		for name, n := range m {
			got[name] = int(n)
		}
	}
	return got
}

// end compares the counts of both.
func (p *pair) end() {
	p.ours.DropHeld()
	p.ref.dropHeld()
	s, got := p.ours.Stats(), p.counts()
	if n := got[decode.ReasonPanic]; n > 0 {
		p.t.Errorf("%s: %d panics", p.name, n)
	}
	sum := s.Decoded
	for _, n := range s.Dropped {
		sum += n
	}
	if sum != s.Datagrams {
		p.t.Errorf("%s: %d datagrams, decoded + dropped = %d", p.name, s.Datagrams, sum)
	}
	if int(s.Records) != p.records && p.failed == 0 {
		p.t.Errorf("%s: %d records counted, %d emitted", p.name, s.Records, p.records)
	}
	for _, name := range refNamed {
		if got[name] != p.ref.n[name] {
			p.failed++
			p.t.Errorf("%s: %s: %d, reference has %d\nlast payload %x", p.name, name, got[name], p.ref.n[name], p.payloads[len(p.payloads)-1])
		}
	}
}

// refNamed are the counts that the reference keeps too.
var refNamed = []string{
	"options", "templates",
	decode.ReasonNotAllowed, decode.ReasonShort, decode.ReasonVersion, decode.ReasonV5Count, decode.ReasonIPFIXLength, decode.ReasonSFlowHeader,
	decode.ReasonSetLength, decode.ReasonSetID, decode.ReasonTemplateBad, decode.ReasonTemplateUnknown, decode.ReasonDataBad,
	decode.ReasonSampleLength, decode.ReasonSampleBad, decode.ReasonSampleForeign, decode.ReasonRecordTruncated,
	decode.NoteCounterSample, decode.NoteDiscardedSample, decode.NoteFlowRecordBad, decode.NoteTimesClamped,
	decode.NoteSamplingRefused, decode.NoteSamplingChanged, decode.NoteTemplateChanged, decode.NoteTemplateWithdrawn,
	decode.NoteHeld, decode.NoteHeldDecoded, decode.NoteTotalReduced, decode.NoteTrailing,
}

// fieldDiff names the fields of two records that differ.
func fieldDiff(a, b *flow.Record) []string {
	var out []string
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range x.NumField() {
		f, g := x.Field(i).Interface(), y.Field(i).Interface()
		if f != g {
			out = append(out, fmt.Sprintf("%s %v (%v)", x.Type().Field(i).Name, f, g))
		}
	}
	return out
}
