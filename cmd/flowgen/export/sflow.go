package export

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// sFlow version 5 as in sflow_version_5.txt (sflow.org): flow samples (0,1)
// with a raw packet header record (0,1), counter samples (0,2) with generic
// interface counters (0,1).
const (
	sflowFlowSample    = 1
	sflowCounterSample = 2
	sflowMaxSample     = 8 + 32 + 8 + 16 + sampledHeader
	sflowCounterLen    = 8 + 12 + 8 + 88
	ethernetFCS        = 4
)

// source is one data source (an interface) with its own sample sequence.
type source struct {
	ifIndex     uint32
	seq         uint32
	counterSeq  uint32
	pool        uint32
	packets     uint64
	octets      uint64
	nextCounter int64
}

type sflow struct {
	cfg       Config
	boot      int64
	emit      Emit
	buf       []byte
	headerLen int
	samples   int // of both kinds in the pending datagram
	flows     int
	seq       uint32
	sources   []*source
}

func newSFlow(cfg Config, emit Emit) *sflow {
	e := &sflow{cfg: cfg, boot: cfg.Boot.UnixNano(), emit: emit, headerLen: 28, seq: 1}
	if !cfg.Agent.Is4() {
		e.headerLen = 40
	}
	e.buf = make([]byte, e.headerLen, MaxDatagram)
	return e
}

func (e *sflow) Sequence() uint32 { return e.seq }

func (e *sflow) source(ifIndex uint32, now int64) *source {
	for _, s := range e.sources {
		if s.ifIndex == ifIndex {
			return s
		}
	}
	s := &source{ifIndex: ifIndex, nextCounter: now + int64(e.cfg.CounterInterval/time.Nanosecond)}
	e.sources = append(e.sources, s)
	slices.SortFunc(e.sources, func(a, b *source) int { return int(a.ifIndex) - int(b.ifIndex) })
	return s
}

func (e *sflow) Add(f *Flow, now int64) error {
	v6, err := sameFamily(f)
	if err != nil {
		return err
	}
	if f.Bytes < uint64(minIPLen(f, v6)) || f.Bytes > math.MaxUint16 {
		return fmt.Errorf("%w: IP packet of %d bytes, protocol %d", ErrRange, f.Bytes, f.IPProto)
	}
	if len(e.buf)+sflowMaxSample > MaxDatagram {
		if err := e.Flush(now); err != nil {
			return err
		}
	}
	src := e.source(f.InIf, now)
	src.seq++
	src.pool += e.cfg.SamplingRate
	src.packets += uint64(e.cfg.SamplingRate)
	src.octets += f.Bytes * uint64(e.cfg.SamplingRate)

	be := binary.BigEndian
	b := be.AppendUint32(e.buf, sflowFlowSample)
	sampleAt := len(b)
	b = be.AppendUint32(b, 0) // length of the sample
	b = be.AppendUint32(b, src.seq)
	b = be.AppendUint32(b, f.InIf&0xffffff) // data source: type 0 (ifIndex)
	b = be.AppendUint32(b, e.cfg.SamplingRate)
	b = be.AppendUint32(b, src.pool)
	b = be.AppendUint32(b, 0) // drops
	b = be.AppendUint32(b, f.InIf)
	b = be.AppendUint32(b, f.OutIf)
	b = be.AppendUint32(b, 1) // records
	b = be.AppendUint32(b, 1) // raw packet header
	recordAt := len(b)
	b = be.AppendUint32(b, 0) // length of the record
	b = be.AppendUint32(b, 1) // Ethernet
	b = be.AppendUint64(b, 0) // frame length and stripped, below
	b = be.AppendUint32(b, 0) // header length, below
	headerAt := len(b)
	b, frameLen := appendPacket(b, f, v6)
	headerLen := len(b) - headerAt
	for (len(b)-headerAt)%4 != 0 {
		b = append(b, 0)
	}
	be.PutUint32(b[recordAt+8:], uint32(frameLen+ethernetFCS))
	be.PutUint32(b[recordAt+12:], ethernetFCS)
	be.PutUint32(b[recordAt+16:], uint32(headerLen))
	be.PutUint32(b[recordAt:], uint32(len(b)-recordAt-4))
	be.PutUint32(b[sampleAt:], uint32(len(b)-sampleAt-4))
	e.buf = b
	e.samples++
	e.flows++
	return nil
}

func (e *sflow) Flush(now int64) error {
	for _, s := range e.sources {
		if now < s.nextCounter || len(e.buf)+sflowCounterLen > MaxDatagram {
			continue
		}
		s.nextCounter = now + int64(e.cfg.CounterInterval/time.Nanosecond)
		e.counters(s)
	}
	if e.samples == 0 {
		return nil
	}
	be := binary.BigEndian
	b := be.AppendUint32(e.buf[:0], 5)
	if e.cfg.Agent.Is4() {
		b = be.AppendUint32(b, 1)
	} else {
		b = be.AppendUint32(b, 2)
	}
	b = append(b, e.cfg.Agent.AsSlice()...)
	b = be.AppendUint32(b, e.cfg.Domain)
	b = be.AppendUint32(b, e.seq)
	b = be.AppendUint32(b, uptime(e.boot, now))
	be.AppendUint32(b, uint32(e.samples))
	datagram, n := e.buf, e.flows
	e.seq++
	e.samples, e.flows = 0, 0
	e.buf = e.buf[:e.headerLen]
	return e.emit(datagram, n)
}

// counters appends a counter sample with if_counters of s.
func (e *sflow) counters(s *source) {
	be := binary.BigEndian
	s.counterSeq++
	b := be.AppendUint32(e.buf, sflowCounterSample)
	b = be.AppendUint32(b, 12+8+88)
	b = be.AppendUint32(b, s.counterSeq)
	b = be.AppendUint32(b, s.ifIndex&0xffffff)
	b = be.AppendUint32(b, 1)
	b = be.AppendUint32(b, 1)
	b = be.AppendUint32(b, 88)
	b = be.AppendUint32(b, s.ifIndex)
	b = be.AppendUint32(b, 6)              // ifType: ethernetCsmacd
	b = be.AppendUint64(b, 10_000_000_000) // ifSpeed
	b = be.AppendUint32(b, 1)              // full duplex
	b = be.AppendUint32(b, 3)              // admin and oper up
	b = be.AppendUint64(b, s.octets)
	b = be.AppendUint32(b, uint32(s.packets))
	for range 5 { // multicast, broadcast, discards, errors, unknown in
		b = be.AppendUint32(b, 0)
	}
	b = be.AppendUint64(b, 0) // out: this simulation counts input only
	for range 6 {
		b = be.AppendUint32(b, 0)
	}
	e.buf = b
	e.samples++
}
