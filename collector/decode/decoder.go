package decode

import (
	"encoding/binary"
	"net/netip"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Decoder turns datagrams into records. It is not safe for concurrent use; all
// datagrams of one exporter must go to one Decoder, which holds its templates.
type Decoder struct {
	cfg     Config
	log     *zap.Logger
	holdMax int

	exporters lru[netip.Addr, *exporter]
	cost      int    // of all templates
	held      []held // oldest first, within heldSpace
	heldSpace []held
	heldBytes int
	known     rateCache
	totals    totals

	stats struct {
		datagrams, decoded, records, options, templates uint64
		counts                                          counters
	}

	// Of the datagram at hand.
	origin      origin
	setRecords  uint32
	setsSkipped bool // the number of records in the datagram is not known
	common      common
	walk        walk
	slots       [numSlots]slot
	f           fields
	places      *[runRecords]flow.Record
	out         []flow.Record // of places
	emit        func([]flow.Record)
	emitting    bool
}

// New returns a Decoder that knows no template yet.
func New(cfg Config, deps Deps) *Decoder {
	cfg.Sampling = cloneRules(cfg.Sampling)
	d := &Decoder{cfg: cfg, log: deps.Log, places: new([runRecords]flow.Record)}
	d.out = d.places[:0]
	if d.log == nil {
		d.log = zap.NewNop()
	}
	d.setHoldMax()
	return d
}

// Reconfigure takes a new configuration and keeps templates, options and counts.
func (d *Decoder) Reconfigure(cfg Config) {
	cfg.Sampling = cloneRules(cfg.Sampling)
	d.cfg = cfg
	d.setHoldMax()
	d.exporters.all(func(addr netip.Addr, e *exporter) { e.rule = ruleFor(cfg.Sampling, addr) })
}

func (d *Decoder) setHoldMax() {
	switch {
	case d.cfg.HoldBack == 0:
		d.holdMax = defaultHoldBack
	case d.cfg.HoldBack > 0:
		d.holdMax = d.cfg.HoldBack
	default:
		d.holdMax = 0
	}
}

// accepted is no reason: the datagram was decoded.
const accepted = numReasons

// Decode decodes one datagram and calls emit with runs of records, in the order
// of the datagram; a run is valid, and may be changed by emit, until emit
// returns. Data that waited for a template which this datagram brings is emitted
// too. Decode never panics on what a datagram holds (a panic of emit is the
// caller's and passes through) and counts everything it does not turn into
// records.
func (d *Decoder) Decode(dg Datagram, emit func([]flow.Record)) {
	dg.Exporter = netip.AddrPortFrom(dg.Exporter.Addr().Unmap(), dg.Exporter.Port())
	d.stats.datagrams++
	d.emit = emit
	d.emitting = false
	d.out = d.out[:0] // not empty after a panic of emit
	defer d.lastNet(dg)

	r := d.dispatch(dg)
	if r == accepted {
		d.stats.decoded++
		d.origin.exporter.datagrams++
		d.origin.exporter.decoded++
	}
}

// lastNet turns a panic into a dropped datagram. It is not a control: the
// guards are, and a test that finds a panic is a bug to mend.
func (d *Decoder) lastNet(dg Datagram) {
	if d.emitting {
		return // not ours: let it pass
	}
	p := recover()
	if p == nil {
		return
	}
	d.out = d.out[:0]
	d.reject(dg, rPanic)
	d.log.Error("decoder failed", zap.Stringer("exporter", dg.Exporter.Addr()), zap.Any("panic", p), zap.Stack("stack"))
}

func (d *Decoder) dispatch(dg Datagram) reason {
	if d.cfg.Allow != nil && !d.cfg.Allow(dg.Exporter.Addr()) {
		return d.reject(dg, rNotAllowed)
	}
	b := dg.Payload
	if len(b) < 4 {
		return d.reject(dg, rShort)
	}
	version := binary.BigEndian.Uint16(b)
	switch {
	case dg.Kind != KindSFlow && version == 5:
		return d.netflow5(dg)
	case dg.Kind != KindSFlow && version == 9:
		return d.netflow9(dg)
	case dg.Kind != KindSFlow && version == 10:
		return d.ipfix(dg)
	case dg.Kind != KindNetFlow && version == 0 && binary.BigEndian.Uint16(b[2:]) == 5:
		return d.sflow5(dg)
	}
	return d.reject(dg, rVersion)
}

// reject counts a dropped datagram, for its exporter too where that is known
// already: a source that never sent anything valid gets no state.
func (d *Decoder) reject(dg Datagram, r reason) reason {
	d.stats.counts[r]++
	if r != rNotAllowed {
		if e, ok := d.exporters.get(dg.Exporter.Addr()); ok {
			e.datagrams++
			e.counts[r]++
			e.last = dg.Received
		}
	}
	return r
}

// flush emits the records that a set or datagram yielded.
func (d *Decoder) flush(o *origin) {
	if len(d.out) == 0 {
		return
	}
	d.observe(o, d.out)
	d.emitting = true
	d.emit(d.out)
	d.emitting = false
	d.out = d.out[:0]
}
