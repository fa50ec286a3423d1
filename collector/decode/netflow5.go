package decode

import (
	"bytes"
	"encoding/binary"

	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"

	"github.com/flowcordon/flowcordon/flow"
)

// NetFlow v5, Cisco "NetFlow Export Datagram Format".
const (
	v5HeaderLen = 24
	v5RecordLen = 48
)

// netflow5 decodes a NetFlow v5 datagram. A header that counts more records
// than there are bytes for is refused whole: nothing else in it can be trusted.
func (d *Decoder) netflow5(dg Datagram) reason {
	b := dg.Payload
	if len(b) < v5HeaderLen {
		return d.reject(dg, rShort)
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n == 0 || v5HeaderLen+n*v5RecordLen > len(b) {
		return d.reject(dg, rV5Count)
	}
	e := d.exporterOf(dg, flow.NetFlow5)
	if len(b) > v5HeaderLen+n*v5RecordLen {
		e.count(d, nTrailing)
	}
	sec, nsec := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	if nsec >= 1e9 {
		nsec = 0
	}
	o := &d.origin
	*o = origin{
		exporter: e,
		// Engine type and id tell the streams of one router apart, as the
		// source id does in v9.
		domain:      d.domainOf(e, domainKey{version: 5, id: uint32(binary.BigEndian.Uint16(b[20:]))}),
		protocol:    flow.NetFlow5,
		received:    dg.Received,
		uptime:      binary.BigEndian.Uint32(b[4:]),
		export:      int64(sec)*1e9 + int64(nsec),
		uptimeKnown: true,
	}
	e.timing.header(o.export, o.received)
	rate := v5HeaderRate(binary.BigEndian.Uint16(b[22:]))
	o.headerRate = rate
	if err := d.v5records(o, b[:v5HeaderLen+n*v5RecordLen]); err != nil {
		d.out = d.out[:0]
		e.count(d, rDataBad)
	}
	d.flush(o)
	d.track(o, binary.BigEndian.Uint32(b[16:]), uint32(n), true)
	return accepted
}

// v5records reads the records with goflow2; b is exactly header and records.
func (d *Decoder) v5records(o *origin, b []byte) error {
	var p netflowlegacy.PacketNetFlowV5
	if err := netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(b), &p); err != nil {
		return err
	}
	f := &d.f
	for i := range p.Records {
		r := &p.Records[i]
		*f = fields{
			has: fSrc4 | fDst4 | fSrcPort | fDstPort | fProto | fFlags | fInIf | fOutIf |
				fPackets | fBytes | fStartUptime | fEndUptime,
			srcPort:     r.SrcPort,
			dstPort:     r.DstPort,
			proto:       r.Proto,
			flags:       r.TCPFlags,
			inIf:        uint32(r.Input),
			outIf:       uint32(r.Output),
			packets:     uint64(r.DPkts),
			bytes:       uint64(r.DOctets),
			startUptime: r.First,
			endUptime:   r.Last,
		}
		binary.BigEndian.PutUint32(f.src4[:], uint32(r.SrcAddr))
		binary.BigEndian.PutUint32(f.dst4[:], uint32(r.DstAddr))
		d.build(o, f)
	}
	return nil
}
