package decode

import "slices"

// held is a data set that waits for its template.
type held struct {
	origin origin
	key    templateKey
	body   []byte // with lead bytes before it
}

// heldOverhead is what a waiting set costs beside its bytes.
const heldOverhead = 160

// holdBack keeps a copy of a set, oldest first out when the bound is reached.
// What goes out undecoded is counted as template_unknown.
func (d *Decoder) holdBack(o *origin, key templateKey, body []byte) {
	cost := len(body) + heldOverhead
	if cost > d.holdMax {
		o.exporter.count(d, rTemplateUnknown)
		return
	}
	for len(d.held) > 0 && (d.heldBytes+cost > d.holdMax || o.received-d.held[0].origin.received > int64(maxHoldAge)) {
		d.dropHeld(0)
	}
	o.exporter.count(d, nHeld)
	o.exporter.waiting[key]++
	d.roomHeld()
	d.held = append(d.held, held{*o, key, slices.Clone(body)})
	d.heldBytes += cost
}

// roomHeld makes room for one more. d.held moves through heldSpace as its first
// ones leave, and goes back to the beginning when it comes to the end: append
// alone would allocate anew each time.
func (d *Decoder) roomHeld() {
	if len(d.held) < cap(d.held) {
		return
	}
	if len(d.held) > len(d.heldSpace)*3/4 {
		d.heldSpace = make([]held, max(64, 2*len(d.held)))
	}
	n := copy(d.heldSpace, d.held)
	clear(d.heldSpace[n:])
	d.held = d.heldSpace[:n]
}

// dropHeld gives up on the i-th waiting set.
func (d *Decoder) dropHeld(i int) {
	h := d.held[i]
	h.origin.exporter.count(d, rTemplateUnknown)
	d.unhold(i)
}

func (d *Decoder) unhold(i int) {
	h := d.held[i]
	w := h.origin.exporter.waiting
	if w[h.key]--; w[h.key] == 0 {
		delete(w, h.key)
	}
	d.heldBytes -= len(h.body) + heldOverhead
	if i == 0 { // the common case
		d.held[0] = held{}
		d.held = d.held[1:]
		return
	}
	d.held = slices.Delete(d.held, i, i+1)
}

// release decodes what waited for the template t, with the times and rates
// that its own datagram had.
func (d *Decoder) release(o *origin, t *template) {
	key := t.key
	if o.exporter.waiting[key] == 0 {
		return
	}
	d.flush(o)
	var ready []held
	d.held = slices.DeleteFunc(d.held, func(h held) bool {
		if h.origin.exporter != o.exporter || h.key != key {
			return false
		}
		ready = append(ready, h)
		d.heldBytes -= len(h.body) + heldOverhead
		return true
	})
	delete(o.exporter.waiting, key)
	for i := range ready {
		o.exporter.count(d, nHeldDecoded)
		d.dataSet(&ready[i].origin, t, ready[i].body)
		d.flush(&ready[i].origin)
	}
}

// DropHeld gives up on all data that waits for a template and counts it as
// template_unknown. Call it when no more datagrams will come.
func (d *Decoder) DropHeld() {
	for len(d.held) > 0 {
		d.dropHeld(0)
	}
}
