package inventory

import (
	"iter"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// At gives everybody who holds an address or a prefix at the moment at, in no
// particular order. What is given must not be changed.
func (t *Table) At(at time.Time) iter.Seq[*flow.Holder] {
	return func(yield func(*flow.Holder) bool) {
		for _, es := range t.byPrefix.All() {
			if h := valid(es, at); h != nil && !yield(h) {
				return
			}
		}
	}
}

// At is Table.At of the file in force, and of what was discovered.
func (i *Inventory) At(at time.Time) iter.Seq[*flow.Holder] {
	l, now := i.current.Load(), i.now()
	return func(yield func(*flow.Holder) bool) {
		for h := range l.table.At(at) {
			if !yield(h) {
				return
			}
		}
		if l.view == nil {
			return
		}
		for p := range l.view.byPrefix.All() {
			if h, ok := l.view.holder(p.Addr(), at, now); ok && h.Prefix == p && !yield(&h) {
				return
			}
		}
	}
}
