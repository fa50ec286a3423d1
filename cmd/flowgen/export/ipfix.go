package export

import (
	"encoding/binary"
)

// IPFIX as in RFC 7011, sampling as in RFC 5477 §8.2.
const (
	ipfixHeaderLen   = 16
	ieICMPv6         = 139
	ieDomainID       = 149
	ieStartMs        = 152
	ieEndMs          = 153
	ieSelectorID     = 302
	ieSelectorAlgo   = 304
	ieSamplingPktIvl = 305
	ieSamplingPktSpc = 306
)

var (
	ipfixCommon = []field{
		{ieSrcPort, 2}, {ieDstPort, 2}, {ieProtocol, 1}, {ieTCPFlags, 2}, {ieTOS, 1},
		{ieInIf, 4}, {ieOutIf, 4}, {iePackets, 8}, {ieBytes, 8}, {ieStartMs, 8}, {ieEndMs, 8},
	}
	ipfixV4 = append(append([]field{{ieSrcV4, 4}, {ieDstV4, 4}}, ipfixCommon...), field{ieICMP, 2})
	ipfixV6 = append(append([]field{{ieSrcV6, 16}, {ieDstV6, 16}}, ipfixCommon...), field{ieICMPv6, 2})
	// With PSAMP sampling each data record names its selector.
	ipfixSelector = field{ieSelectorID, 8}

	ipfixPSAMPScope    = []field{{ieSelectorID, 8}}
	ipfixPSAMPOptions  = []field{{ieSelectorAlgo, 2}, {ieSamplingPktIvl, 4}, {ieSamplingPktSpc, 4}}
	ipfixLegacyScope   = []field{{ieDomainID, 4}}
	ipfixLegacyOptions = []field{{ieSamplingIntvl, 4}, {ieSamplingAlgo, 1}}
)

type ipfix struct {
	cfg        Config
	emit       Emit
	v4, v6     []field
	len4, len6 int
	set        sets
	refresh    refresh
	flows      int
	options    int // options data records of the pending message
	pending    bool
	seq        uint32
}

func newIPFIX(cfg Config, emit Emit) *ipfix {
	e := &ipfix{cfg: cfg, emit: emit, refresh: newRefresh(cfg), v4: ipfixV4, v6: ipfixV6}
	if !cfg.LegacySampling {
		e.v4 = append(e.v4[:len(e.v4):len(e.v4)], ipfixSelector)
		e.v6 = append(e.v6[:len(e.v6):len(e.v6)], ipfixSelector)
	}
	e.len4, e.len6 = setLen(e.v4), setLen(e.v6)
	e.set = sets{buf: make([]byte, ipfixHeaderLen, MaxDatagram), open: -1}
	return e
}

func (e *ipfix) Sequence() uint32 { return e.seq }

func (e *ipfix) Add(f *Flow, now int64) error {
	v6, err := sameFamily(f)
	if err != nil {
		return err
	}
	id, n := uint16(tidV4), e.len4
	if v6 {
		id, n = tidV6, e.len6
	}
	if e.pending && !e.set.room(id, n) {
		if err := e.Flush(now); err != nil {
			return err
		}
	}
	if !e.pending && e.refresh.due(now) {
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
	b = append(b, f.IPProto, 0, f.TCPFlags, 0)
	b = be.AppendUint32(b, f.InIf)
	b = be.AppendUint32(b, f.OutIf)
	b = be.AppendUint64(b, f.Packets)
	b = be.AppendUint64(b, f.Bytes)
	b = be.AppendUint64(b, uint64(f.Start/1e6))
	b = be.AppendUint64(b, uint64(f.End/1e6))
	b = be.AppendUint16(b, icmpTypeCode(f))
	if !e.cfg.LegacySampling {
		b = be.AppendUint64(b, samplerID)
	}
	e.set.buf = b
	e.flows++
	e.pending = true
	return nil
}

func (e *ipfix) templates() {
	be := binary.BigEndian
	e.set.begin(2)
	e.set.buf = appendTemplate(e.set.buf, tidV4, e.v4)
	e.set.buf = appendTemplate(e.set.buf, tidV6, e.v6)
	scope, opts := ipfixPSAMPScope, ipfixPSAMPOptions
	if e.cfg.LegacySampling {
		scope, opts = ipfixLegacyScope, ipfixLegacyOptions
	}
	e.set.begin(3)
	e.set.buf = be.AppendUint16(e.set.buf, tidOptions)
	e.set.buf = be.AppendUint16(e.set.buf, uint16(len(scope)+len(opts)))
	e.set.buf = be.AppendUint16(e.set.buf, uint16(len(scope)))
	e.set.buf = appendFields(e.set.buf, scope)
	e.set.buf = appendFields(e.set.buf, opts)
	e.set.begin(tidOptions)
	if e.cfg.LegacySampling {
		e.set.buf = be.AppendUint32(e.set.buf, e.cfg.Domain)
		e.set.buf = be.AppendUint32(e.set.buf, e.cfg.SamplingRate)
		e.set.buf = append(e.set.buf, 1) // samplingAlgorithm 1: deterministic
	} else {
		// One packet in, rate−1 packets out: systematic count-based sampling
		// (RFC 5477 §8.2.2 and 8.2.3).
		e.set.buf = be.AppendUint64(e.set.buf, samplerID)
		e.set.buf = be.AppendUint16(e.set.buf, 1)
		e.set.buf = be.AppendUint32(e.set.buf, 1)
		e.set.buf = be.AppendUint32(e.set.buf, e.cfg.SamplingRate-1)
	}
	e.set.close()
	e.options++
	e.pending = true
}

func (e *ipfix) Flush(now int64) error {
	if !e.pending {
		return nil
	}
	e.set.close()
	b, be := e.set.buf, binary.BigEndian
	be.PutUint16(b[0:], 10)
	be.PutUint16(b[2:], uint16(len(b)))
	be.PutUint32(b[4:], uint32(now/1e9))
	be.PutUint32(b[8:], e.seq) // of data records before this message (RFC 7011 §3.1)
	be.PutUint32(b[12:], e.cfg.Domain)
	n := e.flows
	e.seq += uint32(e.flows + e.options)
	e.refresh.datagrams++
	e.flows, e.options, e.pending = 0, 0, false
	e.set.buf = b[:ipfixHeaderLen]
	return e.emit(b, n)
}
