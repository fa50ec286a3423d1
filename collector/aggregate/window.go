package aggregate

import (
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// window is one slot of event time, or what came for it after an earlier window
// of the same slot was closed.
type window struct {
	no     int64 // start / WindowSeconds
	opened int64 // arrival of the record that opened it, ns
	handle uint16
	state  windowState
	keys   [numKinds]keyList
}

type windowState uint8

const (
	windowUnused windowState = iota
	windowOpen
	windowClosing // is being handed over
)

// The kinds of keys, in the order in which a window's are handed over: a service
// and a pair ask their host's row for their tenant.
const (
	kindPairs = iota
	kindServices
	kindHosts
	numKinds
)

// keyList is where a window's keys lie in the index: bucket·ways + way, of a
// pair the first of the two buckets that it may be in. When it would be long, or
// the index has grown, the whole index is looked through instead.
type keyList struct {
	at   []uint32
	long bool
}

// longList: a window with more than this part of the index's capacity is found
// faster by looking through the index.
const longList = 16

func (l *keyList) add(at uint32, capacity int) {
	if l.long {
		return
	}
	if len(l.at) >= capacity/longList {
		l.drop()
		return
	}
	l.at = append(l.at, at)
}

func (l *keyList) drop() { l.at, l.long = l.at[:0], true }

// windows are the open windows, and those that are being handed over.
type windows struct {
	recent [64]*window // by number, modulo
	older  map[int64]*window
	byID   []*window // by handle; 0 is none
	unused []*window
	open   int
}

func (ws *windows) init() {
	ws.older = make(map[int64]*window)
	ws.byID = []*window{nil}
}

// at returns the open window of that number, opened now if need be.
func (ws *windows) at(no, now int64) *window {
	if w := ws.recent[uint64(no)%64]; w != nil && w.no == no {
		return w
	}
	return ws.find(no, now)
}

func (ws *windows) find(no, now int64) *window {
	if w := ws.older[no]; w != nil {
		return w
	}
	var w *window
	if n := len(ws.unused); n > 0 {
		w, ws.unused = ws.unused[n-1], ws.unused[:n-1]
	} else {
		if len(ws.byID) == maxWin {
			panic("aggregate: more windows than handles") // maxAgeLimit forbids it
		}
		w = &window{handle: uint16(len(ws.byID))}
		ws.byID = append(ws.byID, w)
	}
	w.no, w.opened, w.state = no, now, windowOpen
	ws.open++
	slot := &ws.recent[uint64(no)%64]
	switch {
	case *slot == nil:
		*slot = w
	case (*slot).no < no:
		ws.older[(*slot).no] = *slot
		*slot = w
	default:
		ws.older[no] = w
	}
	return w
}

// close takes w out: records that come for its slot open another one.
func (ws *windows) close(w *window) {
	if slot := &ws.recent[uint64(w.no)%64]; *slot == w {
		*slot = nil
	} else {
		delete(ws.older, w.no)
	}
	w.state = windowClosing
	ws.open--
}

// release makes w, which has no keys any more, free for another slot.
func (ws *windows) release(w *window) {
	for k := range w.keys {
		w.keys[k] = keyList{at: w.keys[k].at[:0]}
	}
	w.state = windowUnused
	ws.unused = append(ws.unused, w)
}

// due reports whether the window has waited long enough for late records: until
// lateness after its end or, if a record opened it after that, for lateness from
// then on. With patience such a window is open as long as the others. Routers
// tell of a flow 15 s after its last packet and of a long one each minute, so
// that a window is opened again and again; each time would be another row of
// each key, and have the detector read the window anew. What is busy goes out
// before, whenever its window was opened.
func (w *window) due(now int64, lateness time.Duration, patience bool) bool {
	until := (w.no + 1) * windowNS
	if w.opened > until {
		until = w.opened
		if patience {
			until += windowNS
		}
	}
	return now >= until+int64(lateness)
}

func (w *window) start() int64 { return w.no * flow.WindowSeconds }
