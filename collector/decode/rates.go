package decode

import (
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// rateUse is one sampling rate of a domain and when records had it.
type rateUse struct {
	rate        uint32 // 0: unknown
	source      flow.SamplingSource
	records     uint64
	first, last int64 // received, ns
}

// rates are the sampling rates that a domain's records had, at most
// maxRatesInUse of them: the one least recently seen gives way.
type rates struct {
	uses []rateUse
	at   int // of the one found last, mostly the next one too
}

// note counts n records with one rate.
func (rs *rates) note(rate uint32, source flow.SamplingSource, n uint64, received int64) {
	if rs.at >= len(rs.uses) || rs.uses[rs.at].rate != rate || rs.uses[rs.at].source != source {
		rs.find(rate, source, received)
	}
	u := &rs.uses[rs.at]
	u.records += n
	u.last = max(u.last, received)
}

func (rs *rates) find(rate uint32, source flow.SamplingSource, received int64) {
	oldest := 0
	for i := range rs.uses {
		if rs.uses[i].rate == rate && rs.uses[i].source == source {
			rs.at = i
			return
		}
		if rs.uses[i].last < rs.uses[oldest].last {
			oldest = i
		}
	}
	fresh := rateUse{rate: rate, source: source, first: received, last: received}
	if len(rs.uses) < maxRatesInUse {
		rs.uses = append(rs.uses, fresh)
		oldest = len(rs.uses) - 1
	}
	rs.uses[oldest] = fresh
	rs.at = oldest
}

// A rate counts as changed when records with the old one stopped, for at least
// rateSilence, within rateOverlap of the first with the new one. An exporter
// with several samplers uses its rates side by side and shows no such edge.
const (
	rateSilence = 2 * time.Minute
	rateOverlap = time.Minute
)

// RateChange is a sampling rate that gave way to another.
type RateChange struct {
	Domain   uint32
	From, To uint32 // 1:N
	At       int64  // of the first record with the new one, ns
}

// change is the latest change from one stated rate to another. What the
// configuration sets or a first announcement brings is none.
func (rs *rates) change() (from, to rateUse, ok bool) {
	var now int64
	for i := range rs.uses {
		now = max(now, rs.uses[i].last)
	}
	for _, b := range rs.uses {
		if b.rate == 0 || b.source == flow.SamplingOverride || b.source == flow.SamplingDefault || ok && b.first <= to.first {
			continue
		}
		for _, a := range rs.uses {
			gap := b.first - a.last
			if a.rate == 0 || a.rate == b.rate || a.first >= b.first || now-a.last < int64(rateSilence) ||
				gap < -int64(rateOverlap) || gap > int64(rateOverlap) {
				continue
			}
			from, to, ok = a, b, true
		}
	}
	return from, to, ok
}
