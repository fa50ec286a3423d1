package decode_test

import (
	"fmt"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// refCount is a counter of a record, and whether it is a running total.
type refCount struct {
	n     uint64
	total bool
}

// refCounts are packets, bytes, and both of the way back.
type refCounts [4]refCount

// refTotal is what a flow with running totals was reported with last.
type refTotal struct {
	n   [4]uint64
	end int64
}

// running takes from running totals what the same flow was reported with
// before. The same flow: all that names it is the same, its start included. A
// total that is lower than before is one that counts anew.
func (r *refDecoder) running(fs refFields, x *flow.Record, counts *refCounts) {
	start, _ := refAbsolute(fs, 150, 152, 154, 156)
	uptime, _ := fs.num(1<<32-1, 22)
	key := fmt.Sprint(x.Exporter, x.Src, x.Dst, x.Protocol, x.Domain, x.SrcPort, x.DstPort, x.IPProto, x.ICMPType, x.ICMPCode, x.VLAN, x.InIf, start, uptime)
	for _, f := range fs {
		switch f.id {
		case 5, 61, 80, 148, 234:
			if f.pen == 0 && len(f.b) >= 1 && len(f.b) <= 8 {
				key += fmt.Sprintf(" %d=%x", f.id, padLeft(f.b))
			}
		}
	}
	last, known := r.totals[key]
	now := refTotal{end: x.End}
	anew := false
	for i, c := range counts {
		if c.total {
			now.n[i] = c.n
		}
		anew = anew || now.n[i] < last.n[i]
	}
	reason, _ := fs.num(255, 136)
	if reason &= 0x7f; reason == 0 || reason == 2 { // not told, or the active timeout: it goes on
		r.totals[key] = now
	} else {
		delete(r.totals, key)
	}
	if !known || anew {
		return
	}
	r.n[decode.NoteTotalReduced]++
	for i := range counts {
		if counts[i].total {
			counts[i].n -= last.n[i]
		}
	}
	if counts[0].total {
		x.Packets = counts[0].n
	}
	if counts[1].total {
		x.Bytes = counts[1].n
	}
	if x.Has&flow.HasTimes != 0 && last.end > x.Start {
		x.Start = min(last.end, x.End)
	}
}

func padLeft(b []byte) []byte { return append(make([]byte, 8-len(b)), b...) }
