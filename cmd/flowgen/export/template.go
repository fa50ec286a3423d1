package export

import (
	"encoding/binary"
	"time"
)

// field is one entry of a template: information element and length in bytes.
type field struct{ id, length uint16 }

// Information elements that both v9 (RFC 3954 §8) and IPFIX (IANA registry)
// number alike.
const (
	ieBytes           = 1
	iePackets         = 2
	ieProtocol        = 4
	ieTOS             = 5
	ieTCPFlags        = 6
	ieSrcPort         = 7
	ieSrcV4           = 8
	ieInIf            = 10
	ieDstPort         = 11
	ieDstV4           = 12
	ieOutIf           = 14
	ieLastSwitched    = 21
	ieFirstSwitched   = 22
	ieSrcV6           = 27
	ieDstV6           = 28
	ieICMP            = 32
	ieSamplingIntvl   = 34
	ieSamplingAlgo    = 35
	ieSamplerID       = 48
	ieSamplerMode     = 49
	ieSamplerInterval = 50
)

// Template ids. 256 is the lowest that is allowed (RFC 7011 §3.4.1).
const (
	tidV4      = 256
	tidV6      = 257
	tidOptions = 258
)

// samplerID is what data records name as their sampler or selector.
const samplerID = 1

// setLen is the length of one record of the template.
func setLen(fields []field) int {
	n := 0
	for _, f := range fields {
		n += int(f.length)
	}
	return n
}

// appendTemplate appends a template record; both protocols write it alike.
func appendTemplate(b []byte, id uint16, fields []field) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, uint16(len(fields)))
	return appendFields(b, fields)
}

func appendFields(b []byte, fields []field) []byte {
	for _, f := range fields {
		b = binary.BigEndian.AppendUint16(b, f.id)
		b = binary.BigEndian.AppendUint16(b, f.length)
	}
	return b
}

// sets collects the sets of one message: it opens and closes them, pads them
// to four bytes and knows when the message is full.
type sets struct {
	buf    []byte
	open   int    // offset of the open set's header; -1: none
	openID uint16 // its id
}

func (s *sets) begin(id uint16) {
	s.close()
	s.open, s.openID = len(s.buf), id
	s.buf = binary.BigEndian.AppendUint16(s.buf, id)
	s.buf = binary.BigEndian.AppendUint16(s.buf, 0)
}

func (s *sets) close() {
	if s.open < 0 {
		return
	}
	for (len(s.buf)-s.open)%4 != 0 {
		s.buf = append(s.buf, 0)
	}
	binary.BigEndian.PutUint16(s.buf[s.open+2:], uint16(len(s.buf)-s.open))
	s.open = -1
}

// room reports whether a record of n bytes for set id still fits, with the
// set header and the padding that it may need.
func (s *sets) room(id uint16, n int) bool {
	need := n + 3
	if s.open < 0 || s.openID != id {
		need += 4 + 3
	}
	return len(s.buf)+need <= MaxDatagram
}

// refresh decides when templates are due again.
type refresh struct {
	every     int
	interval  int64
	datagrams int
	last      int64
	sent      bool
}

func newRefresh(cfg Config) refresh {
	return refresh{every: cfg.TemplateEvery, interval: int64(cfg.TemplateInterval / time.Nanosecond)}
}

func (r *refresh) due(now int64) bool {
	return !r.sent || r.datagrams >= r.every || now-r.last >= r.interval
}

func (r *refresh) done(now int64) { r.sent, r.datagrams, r.last = true, 0, now }
