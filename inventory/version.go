package inventory

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// enforce puts next in the place of what is in force. The caller holds mu.
func (i *Inventory) enforce(next *loaded) {
	next.turn, next.moments = i.current.Load().turn+1, momentsOf(next)
	i.current.Store(next)
}

// momentsOf are the moments, in Unix nanoseconds and in order, at which time alone
// changes what l tells: entries begin and end, sources become stale.
func momentsOf(l *loaded) []int64 {
	var out []int64
	add := func(times ...time.Time) {
		for _, t := range times {
			if !t.IsZero() {
				out = append(out, t.UnixNano())
			}
		}
	}
	l.table.Each(func(h flow.Holder) bool { add(h.From, h.To); return true })
	if l.view != nil {
		for _, ivs := range l.view.byPrefix.All() {
			for i := range ivs {
				add(ivs[i].Holder.From, ivs[i].Holder.To, ivs[i].Unsure)
			}
		}
		for _, s := range l.view.stale {
			add(s.till)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Version is another number after each change of what Each, At and Holder tell at
// ts: what was loaded or discovered since, and what begins, ends or becomes stale
// with the clock. It is found by two binary searches.
func (i *Inventory) Version(ts time.Time) uint64 {
	l := i.current.Load()
	n, exactly := slices.BinarySearch(l.moments, ts.UnixNano())
	at := uint64(2 * n) // what ends at a moment is over at it, what becomes stale is so after it
	if exactly {
		at++
	}
	h := fnv.New64a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, l.turn), at)) // a hash takes everything
	return h.Sum64()
}
