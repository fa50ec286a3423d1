package export

import (
	"encoding/binary"

	"github.com/flowcordon/flowcordon/flow"
)

// NetFlow v9 as in RFC 3954. Times are on the system uptime clock, and the
// header gives the epoch in whole seconds only, so that a receiver sees every
// time up to one second early: that is how real v9 exporters are, too.
const v9HeaderLen = 20

var (
	v9Common = []field{
		{ieSrcPort, 2}, {ieDstPort, 2}, {ieProtocol, 1}, {ieTCPFlags, 1}, {ieTOS, 1}, {ieSamplerID, 1},
		{ieInIf, 4}, {ieOutIf, 4}, {iePackets, 8}, {ieBytes, 8}, {ieFirstSwitched, 4}, {ieLastSwitched, 4}, {ieICMP, 2},
	}
	v9V4   = append([]field{{ieSrcV4, 4}, {ieDstV4, 4}}, v9Common...)
	v9V6   = append([]field{{ieSrcV6, 16}, {ieDstV6, 16}}, v9Common...)
	v9LenA = setLen(v9V4)
	v9LenB = setLen(v9V6)
	// Options: scope System (1), then the sampler table of Cisco's flexible
	// NetFlow.
	v9Scope   = []field{{1, 4}}
	v9Options = []field{{ieSamplerID, 1}, {ieSamplerMode, 1}, {ieSamplerInterval, 4}}
)

type v9 struct {
	cfg     Config
	boot    int64
	emit    Emit
	set     sets
	refresh refresh
	flows   int // data records of the pending datagram
	count   int // all records of it: flows, templates, options
	seq     uint32
}

func newV9(cfg Config, emit Emit) *v9 {
	e := &v9{cfg: cfg, boot: cfg.Boot.UnixNano(), emit: emit, refresh: newRefresh(cfg)}
	e.set = sets{buf: make([]byte, v9HeaderLen, MaxDatagram), open: -1}
	return e
}

func (e *v9) Sequence() uint32 { return e.seq }

func (e *v9) Add(f *Flow, now int64) error {
	v6, err := sameFamily(f)
	if err != nil {
		return err
	}
	id, n := uint16(tidV4), v9LenA
	if v6 {
		id, n = tidV6, v9LenB
	}
	if e.count > 0 && !e.set.room(id, n) {
		if err := e.Flush(now); err != nil {
			return err
		}
	}
	if e.count == 0 && e.refresh.due(now) {
		e.templates()
		e.refresh.done(now)
	}
	if e.set.open < 0 || e.set.openID != id {
		e.set.begin(id)
	}
	b, be := e.set.buf, binary.BigEndian
	b = appendAddrs(b, f, v6)
	b = be.AppendUint16(b, f.SrcPort)
	b = be.AppendUint16(b, f.DstPort)
	b = append(b, f.IPProto, f.TCPFlags, 0, samplerID)
	b = be.AppendUint32(b, f.InIf)
	b = be.AppendUint32(b, f.OutIf)
	b = be.AppendUint64(b, f.Packets)
	b = be.AppendUint64(b, f.Bytes)
	b = be.AppendUint32(b, uptime(e.boot, f.Start))
	b = be.AppendUint32(b, uptime(e.boot, f.End))
	e.set.buf = be.AppendUint16(b, icmpTypeCode(f))
	e.flows++
	e.count++
	return nil
}

// templates writes the two data templates, the options template and the one
// options record, as routers do at start and every refresh.
func (e *v9) templates() {
	be := binary.BigEndian
	e.set.begin(0)
	e.set.buf = appendTemplate(e.set.buf, tidV4, v9V4)
	e.set.buf = appendTemplate(e.set.buf, tidV6, v9V6)
	e.set.begin(1)
	e.set.buf = be.AppendUint16(e.set.buf, tidOptions)
	e.set.buf = be.AppendUint16(e.set.buf, uint16(4*len(v9Scope)))
	e.set.buf = be.AppendUint16(e.set.buf, uint16(4*len(v9Options)))
	e.set.buf = appendFields(e.set.buf, v9Scope)
	e.set.buf = appendFields(e.set.buf, v9Options)
	e.set.begin(tidOptions)
	e.set.buf = be.AppendUint32(e.set.buf, e.cfg.Domain)
	e.set.buf = append(e.set.buf, samplerID, 2) // mode 2: random sampling
	e.set.buf = be.AppendUint32(e.set.buf, e.cfg.SamplingRate)
	e.set.close()
	e.count += 4
}

func (e *v9) Flush(now int64) error {
	if e.count == 0 {
		return nil
	}
	e.set.close()
	b, be := e.set.buf, binary.BigEndian
	be.PutUint16(b[0:], 9)
	be.PutUint16(b[2:], uint16(e.count))
	be.PutUint32(b[4:], uptime(e.boot, now))
	be.PutUint32(b[8:], uint32(now/1e9))
	be.PutUint32(b[12:], e.seq) // of datagrams (RFC 3954 §5.1)
	be.PutUint32(b[16:], e.cfg.Domain)
	n := e.flows
	e.seq++
	e.refresh.datagrams++
	e.flows, e.count = 0, 0
	e.set.buf = b[:v9HeaderLen]
	return e.emit(b, n)
}

func appendAddrs(b []byte, f *Flow, v6 bool) []byte {
	if v6 {
		src, dst := f.Src.As16(), f.Dst.As16()
		b = append(b, src[:]...)
		return append(b, dst[:]...)
	}
	src, dst := f.Src.As4(), f.Dst.As4()
	b = append(b, src[:]...)
	return append(b, dst[:]...)
}

// icmpTypeCode is the value of icmpTypeCodeIPv4 and icmpTypeCodeIPv6: type
// times 256 plus code, zero for other protocols.
func icmpTypeCode(f *Flow) uint16 {
	if f.IPProto != flow.ProtoICMP && f.IPProto != flow.ProtoICMPv6 {
		return 0
	}
	return uint16(f.ICMPType)<<8 | uint16(f.ICMPCode)
}
