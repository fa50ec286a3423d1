// Package export encodes flow records and packet samples the way routers do:
// NetFlow v5, NetFlow v9, IPFIX and sFlow v5. What comes in are Flows with a
// clock reading, what goes out are datagrams of at most MaxDatagram bytes, in
// the order of the Flows, with the sequence numbers, templates and sampling
// announcements of a well-behaved exporter.
//
// It is a test tool's half of the wire: the collector never imports it, so
// that an error here cannot hide the same error there. It starts no goroutine
// and imports flow only.
package export

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// MaxDatagram is the longest datagram that an Encoder emits: below the payload
// that an Ethernet path with one tunnel carries unfragmented.
const MaxDatagram = 1400

// Flow is one unidirectional flow record or, for sFlow, one sampled packet.
type Flow struct {
	Src, Dst         netip.Addr // of one family, v4 never mapped
	SrcPort, DstPort uint16
	IPProto          uint8
	TCPFlags         uint8
	ICMPType         uint8
	ICMPCode         uint8
	TTL              uint8 // sFlow only; 0 means 64
	Packets          uint64
	Bytes            uint64 // IP bytes; sFlow: the packet's IP total length
	Start, End       int64  // ns since the epoch
	InIf, OutIf      uint32
	SrcMAC, DstMAC   [6]byte // sFlow only
	VLAN             uint16  // sFlow only; 0: untagged
}

// Config describes one simulated exporter process.
type Config struct {
	Protocol flow.Protocol
	// Domain is the source id (v9), observation domain (IPFIX), sub-agent
	// (sFlow), or engine type and id in the low 16 bits (v5).
	Domain uint32
	// SamplingRate is the 1:N that is announced; at least 1.
	SamplingRate uint32
	// Boot is when the router's system uptime was zero. Flows must not begin
	// before it: v5 and v9 cannot say so.
	Boot time.Time
	// Agent is the sFlow agent address.
	Agent netip.Addr
	// TemplateEvery is the number of datagrams after which templates and
	// options are sent again; 0: 500.
	TemplateEvery int
	// TemplateInterval is the time after which they are sent again whatever
	// the number of datagrams; 0: 10 s.
	TemplateInterval time.Duration
	// LegacySampling makes IPFIX announce its rate in samplingInterval (34)
	// for the whole domain rather than as a PSAMP selector (302, 305, 306).
	LegacySampling bool
	// CounterInterval is the time between sFlow counter samples; 0: 20 s.
	CounterInterval time.Duration
}

// Errors of Add.
var (
	// ErrFamily: source and destination differ in family, or the protocol
	// has no place for IPv6 (NetFlow v5).
	ErrFamily = errors.New("address family not encodable")
	// ErrRange: a counter does not fit its field.
	ErrRange = errors.New("counter does not fit")
)

// Encoder turns Flows into datagrams. It is not safe for concurrent use.
type Encoder interface {
	// Add encodes f. When the pending datagram is full it is emitted first.
	// now is the router's clock in ns since the epoch.
	Add(f *Flow, now int64) error
	// Flush emits the pending datagram, if any.
	Flush(now int64) error
	// Sequence is the sequence number that the next datagram will carry.
	Sequence() uint32
}

// Emit takes a finished datagram, which it must not keep, and the number of
// flow records or samples in it.
type Emit func(datagram []byte, records int) error

// New returns the encoder for cfg.Protocol.
func New(cfg Config, emit Emit) (Encoder, error) {
	if cfg.SamplingRate == 0 {
		cfg.SamplingRate = 1
	}
	if cfg.TemplateEvery <= 0 {
		cfg.TemplateEvery = 500
	}
	if cfg.TemplateInterval <= 0 {
		cfg.TemplateInterval = 10 * time.Second
	}
	if cfg.CounterInterval <= 0 {
		cfg.CounterInterval = 20 * time.Second
	}
	if cfg.Boot.IsZero() {
		return nil, errors.New("export: Boot is not set")
	}
	switch cfg.Protocol {
	case flow.NetFlow5:
		if cfg.SamplingRate > maxV5Interval {
			return nil, fmt.Errorf("export: NetFlow v5 has 14 bits for the sampling interval, %d is more", cfg.SamplingRate)
		}
		return newV5(cfg, emit), nil
	case flow.NetFlow9:
		return newV9(cfg, emit), nil
	case flow.IPFIX:
		return newIPFIX(cfg, emit), nil
	case flow.SFlow5:
		if !cfg.Agent.IsValid() {
			return nil, errors.New("export: sFlow needs an agent address")
		}
		return newSFlow(cfg, emit), nil
	}
	return nil, fmt.Errorf("export: no encoder for %s", cfg.Protocol)
}

// uptime is t on a router's millisecond clock; it wraps after 49.7 days as on
// a real one.
func uptime(boot, t int64) uint32 { return uint32((t - boot) / int64(time.Millisecond)) }

// sameFamily reports whether f can be encoded at all, and whether it is v6.
func sameFamily(f *Flow) (v6 bool, err error) {
	if f.Src.Is4() != f.Dst.Is4() || !f.Src.IsValid() || !f.Dst.IsValid() {
		return false, fmt.Errorf("%w: %s to %s", ErrFamily, f.Src, f.Dst)
	}
	return !f.Src.Is4(), nil
}
