package export

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/flowcordon/flowcordon/flow"
)

// NetFlow v5 as in Cisco's "NetFlow Export Datagram Format", tables B-3 and B-4.
const (
	v5HeaderLen = 24
	v5RecordLen = 48
	// The format allows 30 records; 28 is what MaxDatagram leaves room for.
	v5PerDatagram = (MaxDatagram - v5HeaderLen) / v5RecordLen
	maxV5Interval = 1<<14 - 1
	// Sampling mode 1 in the upper two bits: packet interval sampling.
	v5ModeInterval = 1 << 14
)

type v5 struct {
	cfg   Config
	boot  int64
	emit  Emit
	buf   []byte
	count int
	seq   uint32 // flows sent before the pending datagram
}

func newV5(cfg Config, emit Emit) *v5 {
	e := &v5{cfg: cfg, boot: cfg.Boot.UnixNano(), emit: emit, buf: make([]byte, v5HeaderLen, MaxDatagram)}
	return e
}

func (e *v5) Sequence() uint32 { return e.seq }

func (e *v5) Add(f *Flow, now int64) error {
	v6, err := sameFamily(f)
	if err != nil {
		return err
	}
	if v6 {
		return fmt.Errorf("%w: NetFlow v5 has no IPv6: %s", ErrFamily, f.Src)
	}
	if f.Packets > math.MaxUint32 || f.Bytes > math.MaxUint32 || f.InIf > math.MaxUint16 || f.OutIf > math.MaxUint16 {
		return fmt.Errorf("%w: NetFlow v5 counters have 32 bits, interfaces 16", ErrRange)
	}
	if e.count == v5PerDatagram {
		if err := e.Flush(now); err != nil {
			return err
		}
	}
	src, dst := f.Src.As4(), f.Dst.As4()
	sport, dport := f.SrcPort, f.DstPort
	if f.IPProto == flow.ProtoICMP {
		sport, dport = 0, uint16(f.ICMPType)<<8|uint16(f.ICMPCode)
	}
	b, be := e.buf, binary.BigEndian
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	b = be.AppendUint32(b, 0) // next hop
	b = be.AppendUint16(b, uint16(f.InIf))
	b = be.AppendUint16(b, uint16(f.OutIf))
	b = be.AppendUint32(b, uint32(f.Packets))
	b = be.AppendUint32(b, uint32(f.Bytes))
	b = be.AppendUint32(b, uptime(e.boot, f.Start))
	b = be.AppendUint32(b, uptime(e.boot, f.End))
	b = be.AppendUint16(b, sport)
	b = be.AppendUint16(b, dport)
	b = append(b, 0, f.TCPFlags, f.IPProto, 0)
	b = be.AppendUint32(b, 0) // AS numbers
	b = be.AppendUint32(b, 0) // masks, padding
	e.buf = b
	e.count++
	return nil
}

func (e *v5) Flush(now int64) error {
	if e.count == 0 {
		return nil
	}
	b, be := e.buf, binary.BigEndian
	be.PutUint16(b[0:], 5)
	be.PutUint16(b[2:], uint16(e.count))
	be.PutUint32(b[4:], uptime(e.boot, now))
	be.PutUint32(b[8:], uint32(now/1e9))
	be.PutUint32(b[12:], uint32(now%1e9))
	be.PutUint32(b[16:], e.seq)
	be.PutUint16(b[20:], uint16(e.cfg.Domain))
	be.PutUint16(b[22:], v5ModeInterval|uint16(e.cfg.SamplingRate))
	n := e.count
	e.seq += uint32(n)
	e.count = 0
	e.buf = b[:v5HeaderLen]
	return e.emit(b, n)
}
