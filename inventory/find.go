package inventory

import "github.com/flowcordon/flowcordon/flow"

// Each calls yield with every entry, past ones too, until it returns false; the
// order is that of the prefixes, and of one prefix that of time. The holders'
// slices belong to the table.
func (t *Table) Each(yield func(flow.Holder) bool) {
	for _, es := range t.byPrefix.AllSorted() {
		for _, e := range es {
			if !yield(*e.h) {
				return
			}
		}
	}
}

// Each is Table.Each of the entries in force, and then what was discovered, in
// the same way.
func (i *Inventory) Each(yield func(flow.Holder) bool) {
	l, now := i.current.Load(), i.now()
	on := true
	l.table.Each(func(h flow.Holder) bool { on = yield(h); return on })
	if !on || l.view == nil {
		return
	}
	for _, ivs := range l.view.byPrefix.AllSorted() {
		for _, iv := range ivs {
			if !yield(l.view.judge(iv, now, now)) {
				return
			}
		}
	}
}
