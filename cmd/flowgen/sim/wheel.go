package sim

import "time"

// wheel holds what is due later, in slots of one tick, in order of arrival
// within a slot. What lies beyond its reach comes when the wheel has turned.
type wheel[T any] struct {
	slots [][]due[T]
	next  int64 // number of the first slot that was not taken yet
	n     int
}

type due[T any] struct {
	at int64
	v  T
}

const slotLen = int64(TickInterval / time.Nanosecond)

// wheelSlots reach over the longest flow timeout twice.
const wheelSlots = 2048

func newWheel[T any](now int64) *wheel[T] {
	return &wheel[T]{slots: make([][]due[T], wheelSlots), next: now / slotLen}
}

// add schedules v for at; a moment that is past is now.
func (w *wheel[T]) add(at int64, v T) {
	slot := min(max(at/slotLen, w.next), w.next+wheelSlots-1)
	i := slot % wheelSlots
	w.slots[i] = append(w.slots[i], due[T]{at, v})
	w.n++
}

// take gives all that is due by now to fn, slot by slot.
func (w *wheel[T]) take(now int64, fn func(v T) error) error {
	for ; w.next < now/slotLen; w.next++ {
		i := w.next % wheelSlots
		slot := w.slots[i]
		w.slots[i] = nil
		for j := range slot {
			w.n--
			if err := fn(slot[j].v); err != nil {
				return err
			}
		}
		if w.slots[i] == nil {
			w.slots[i] = slot[:0] // keep the memory; nothing was added meanwhile
		}
	}
	return nil
}
