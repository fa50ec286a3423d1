package decode

import "time"

// source is what the samples of one sFlow data source tell about their
// sampling. Each sample has the number of packets that could have been sampled
// until then (its pool) and its own number (sFlow v5 §5, flow_sample), so that
// the growth of both gives the rate at which samples were truly taken, whether
// or not all of them came through.
type source struct {
	id      uint32 // class and index of the data source
	seq     uint32
	pool    uint32
	drops   uint32
	rate    uint32 // stated; a new one starts the count anew
	samples uint32 // taken since, by their numbers; 0 ≤ samples < sourceWindow
	packets uint64 // that the pool grew by meanwhile
	last    int64  // received, ns; 0: the place is free
}

// sources is a hash table with open addressing: nothing in it is for the
// garbage collector to follow.
type sources struct {
	table []source // a power of two, at most half full
	used  int
}

const (
	// sourceWindow: at so many samples both counts are halved, so that they
	// speak of the latest ones.
	sourceWindow = 1 << 13
	// sourceStep and poolStep are the largest steps taken for progress; more,
	// or backwards, is a restart.
	sourceStep = 1 << 20
	poolStep   = 1 << 31
	// dropsStep is the same for the count of samples that the agent left out.
	dropsStep = 1 << 24
)

// at returns where id is or would be. The table must have a free place.
func (s *sources) at(id uint32) *source {
	mask := uint32(len(s.table) - 1)
	for i := id * 0x9e3779b1 >> 8; ; i++ {
		src := &s.table[i&mask]
		if src.id == id || src.last == 0 {
			return src
		}
	}
}

// grow makes the table larger by n places.
func (s *sources) grow(n int) {
	old := s.table
	s.table = make([]source, len(old)+n)
	for i := range old {
		if old[i].last != 0 {
			*s.at(old[i].id) = old[i]
		}
	}
}

// source follows the data source of a sample; rate is the stated one.
func (d *Decoder) source(o *origin, s *sample, rate uint32) {
	e, t := o.exporter, &o.domain.sources
	if 2*t.used >= len(t.table) && !d.growSources(e, t) {
		return
	}
	src := t.at(s.source)
	fresh := source{id: s.source, seq: s.seq, pool: s.pool, drops: s.drops, rate: rate, last: max(o.received, 1)}
	if src.last == 0 {
		if t.used >= maxSources {
			return
		}
		t.used++
		*src = fresh
		return
	}
	seq, pool := s.seq-src.seq, s.pool-src.pool
	if back := -int32(seq); back >= 0 && back < reorderUnits {
		return // late, twice, or an agent that does not number its samples
	}
	if drops := s.drops - src.drops; drops > 0 && drops < dropsStep {
		e.samplesDropped += uint64(drops)
		e.samplesDroppedAt = o.received
	}
	if seq >= sourceStep || pool >= poolStep || rate != src.rate {
		*src = fresh
		return
	}
	src.seq, src.pool, src.drops, src.last = s.seq, s.pool, s.drops, fresh.last
	src.samples += seq
	src.packets += uint64(pool)
	for src.samples >= sourceWindow {
		src.samples, src.packets = src.samples/2, src.packets/2
	}
}

// growSources makes room for at least one source more, where the exporter may
// have it. A full table at maxSources keeps those it has.
func (d *Decoder) growSources(e *exporter, t *sources) bool {
	if len(t.table) >= 2*maxSources {
		return true
	}
	n := max(len(t.table), 8)
	if e.cost+n*sourceCost > maxExporterState {
		return false
	}
	d.charge(e, n*sourceCost)
	t.grow(n)
	return true
}

// SamplingDeviation is an sFlow data source whose samples are not taken at the
// rate that they state.
type SamplingDeviation struct {
	Domain  uint32 // sub-agent
	Source  uint32 // class (highest 8 bits) and index; class 0: the ifIndex
	Stated  uint32 // 1:N
	Samples uint64 // of about the last thousands
	Packets uint64 // that they were taken from
}

// Rate is the 1:N at which the samples were taken.
func (s SamplingDeviation) Rate() uint32 { return uint32(min(s.Packets/s.Samples, 1<<32-1)) }

// off is by which factor the stated rate is off, over 1.
func (s SamplingDeviation) off() float64 {
	f := float64(s.Packets) / (float64(s.Samples) * float64(s.Stated))
	return max(f, 1/f)
}

const (
	// deviationSamples makes a deviation beyond doubt: the count of samples
	// varies by its root, so 200 instead of 100 or 400 are over seven standard
	// deviations off.
	deviationSamples = 200
	// deviationAge: sources silent for so long are not spoken of.
	deviationAge = 15 * time.Minute
)

// deviations lists the sources that took their samples over twice as seldom, or
// over twice as often, as stated. A pool that does not grow states nothing.
func (s *sources) deviations(domain uint32, now int64) []SamplingDeviation {
	var out []SamplingDeviation
	for i := range s.table {
		src := &s.table[i]
		if src.last == 0 || src.samples < deviationSamples || src.packets == 0 || src.rate == 0 || now-src.last > int64(deviationAge) {
			continue
		}
		due := uint64(src.samples) * uint64(src.rate) // packets, were the rate true
		if src.packets > 2*due || 2*src.packets < due {
			out = append(out, SamplingDeviation{domain, src.id, src.rate, uint64(src.samples), src.packets})
		}
	}
	return out
}
