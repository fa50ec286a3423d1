package load

import (
	"encoding/binary"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// codec writes the datagrams of one exporter and renews them. Times in a
// datagram that was just encoded are as at epoch.
type codec interface {
	// encode appends a datagram of layout number variant.
	encode(b []byte, m *mix, variant int) (out []byte, records int)
	// announce returns datagrams with templates and sampling rates, if the
	// protocol has any; each holds the given number of data records.
	announce() (datagrams [][]byte, records []int)
	// renew writes header clock and sequence for now (ns since the Unix epoch)
	// and moves the times of the records by ms. Announcements have no times.
	renew(d []byte, records, variant int, now int64, ms uint64, announcement bool)
}

// epoch is when the datagrams of a ring were encoded, as far as they know:
// renew moves their times to the present.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// bootUptime is the router's uptime at epoch, in ms: a day.
const bootUptime = 24 * 3600 * 1000

func newCodec(c *Config, exporter int) codec {
	switch c.Protocol {
	case flow.NetFlow5:
		return &v5{sampling: uint16(c.Sampling)}
	case flow.SFlow5:
		return &sflow{agent: Source(exporter), rate: c.Sampling}
	}
	return newTemplated(c, uint32(1+exporter))
}

// move adds ms to the four-byte number at the start of b.
func move(b []byte, ms uint32) { be.PutUint32(b, be.Uint32(b)+ms) }

var be = binary.BigEndian

// NetFlow v5 as in Cisco's "NetFlow Export Datagram Format", tables B-3 and B-4.
const (
	v5Header  = 24
	v5Record  = 48
	v5Records = 30 // 1,464 bytes: what an Ethernet path carries
	// Sampling mode 1 in the upper two bits: packet interval sampling.
	v5ModeInterval = 1 << 14
)

type v5 struct {
	sampling uint16
	seq      uint32 // records sent
}

func (e *v5) encode(b []byte, m *mix, _ int) ([]byte, int) {
	b = be.AppendUint16(b, 5)
	b = be.AppendUint16(b, v5Records)
	b = be.AppendUint32(b, bootUptime)
	b = append(b, make([]byte, 8+4+2)...) // clock, sequence, engine
	b = be.AppendUint16(b, v5ModeInterval|e.sampling)
	var r record
	for range v5Records {
		m.next(&r)
		dport := r.dport
		if r.proto == flow.ProtoICMP {
			dport = r.icmp
		}
		b = be.AppendUint32(b, r.src)
		b = be.AppendUint32(b, r.dst)
		b = be.AppendUint32(b, nextHop)
		b = be.AppendUint16(b, r.inIf)
		b = be.AppendUint16(b, r.outIf)
		b = be.AppendUint32(b, r.packets)
		b = be.AppendUint32(b, r.bytes)
		b = be.AppendUint32(b, bootUptime-r.startAgo)
		b = be.AppendUint32(b, bootUptime-r.endAgo)
		b = be.AppendUint16(b, r.sport)
		b = be.AppendUint16(b, dport)
		b = append(b, 0, r.flags, r.proto, 0)
		b = append(b, make([]byte, 8)...) // AS numbers, masks
	}
	return b, v5Records
}

// nextHop is 192.0.2.1: fastnetmon counts records without one apart.
const nextHop = 192<<24 | 2<<8 | 1

func (e *v5) announce() ([][]byte, []int) { return nil, nil }

func (e *v5) renew(d []byte, records, _ int, now int64, ms uint64, _ bool) {
	move(d[4:], uint32(ms))
	be.PutUint32(d[8:], uint32(now/1e9))
	be.PutUint32(d[12:], uint32(now%1e9))
	be.PutUint32(d[16:], e.seq)
	e.seq += uint32(records)
	for r := d[v5Header:]; len(r) >= v5Record; r = r[v5Record:] {
		move(r[24:], uint32(ms))
		move(r[28:], uint32(ms))
	}
}
