package decode

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// present has one bit for each field that a record carried.
type present uint64

const (
	fSrc4 present = 1 << iota
	fDst4
	fSrc6
	fDst6
	fIPVersion
	fSrcPort
	fDstPort
	fProto
	fFlags
	fICMPTypeCode
	fICMPType
	fICMPCode
	fTTL
	fMinTTL
	fMaxTTL
	fIPLen
	fInIf
	fOutIf
	fInPhys
	fOutPhys
	fSrcMAC
	fPostSrcMAC
	fVLAN
	fDot1qVLAN
	fFragOffset
	fPackets
	fPacketsTotal
	fPacketsPost
	fBytes
	fBytesTotal
	fBytesPost
	fStartUptime
	fEndUptime
	fStart
	fEnd
	fStartDelta
	fEndDelta
	fDuration
	fObserved
	fSystemInit
	fSamplerID
	fSelectorID
	fSamplingInterval
	fRandomInterval
	fPacketInterval
	fPacketSpace
	fSize
	fProbability
	fTemplateRef
	fFrame
	fIPSection
	fRevPackets
	fRevBytes
	fRevFlags
	fRevPacketsTotal
	fRevBytesTotal
	fPostSrc4
	fPostDst4
	fPostSrc6
	fPostDst6
	fPostSrcPort
	fPostDstPort
	fFrameSize
)

// fields are the values of one NetFlow or IPFIX record that we use, in the
// units of the wire. It is what every plan fills in, whatever it decodes with.
// Frame and section alias the datagram and are valid during the visit only.
type fields struct {
	has present

	src4, dst4 [4]byte
	src6, dst6 [16]byte
	ipVersion  uint8

	srcPort, dstPort   uint16
	proto, flags       uint8
	icmpTypeCode       uint16
	icmpType, icmpCode uint8

	ttl, minTTL, maxTTL uint8
	ipLen               uint16
	fragOffset          uint16

	inIf, outIf, inPhys, outPhys uint32
	srcMAC, postSrcMAC           [6]byte
	vlan, dot1qVLAN              uint16

	packets, packetsTotal, packetsPost uint64
	bytes, bytesTotal, bytesPost       uint64
	initiatorPackets, initiatorBytes   uint64
	revPackets, revBytes               uint64
	revPacketsTotal, revBytesTotal     uint64
	revFlags                           uint8
	endReason                          uint8  // IE 136, 0: not told
	also                               uint64 // what else tells flows apart, hashed

	postSrc4, postDst4       [4]byte // after translation
	postSrc6, postDst6       [16]byte
	postSrcPort, postDstPort uint16

	startUptime, endUptime uint32 // ms
	start, end, observed   int64  // ns since the epoch
	startDelta, endDelta   uint64 // µs before the export time
	duration               uint64 // ns
	systemInit             int64  // ms since the epoch

	samplerID, selectorID       uint64
	samplingInterval            uint64
	randomInterval              uint64
	packetInterval, packetSpace uint64
	size, population, algorithm uint64
	probability                 float64
	templateRef                 uint64
	frame, ipSection            []byte
	frameSize                   uint32 // of the frame that frame is the start of
}

// uintOf reads an unsigned number of 1 to 8 bytes: exporters may shorten any of
// them (reduced-size encoding, RFC 7011 §6.2).
func uintOf(b []byte) (uint64, bool) {
	switch len(b) {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), true
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), true
	case 8:
		return binary.BigEndian.Uint64(b), true
	case 3, 5, 6, 7:
		var n uint64
		for _, c := range b {
			n = n<<8 | uint64(c)
		}
		return n, true
	}
	return 0, false
}

// uintMax reads a number and refuses one above limit: a value that does not fit
// its meaning is not the field it says.
func uintMax(b []byte, limit uint64) (uint64, bool) {
	n, ok := uintOf(b)
	return n, ok && n <= limit
}

func (f *fields) u8(bit present, dst *uint8, b []byte) {
	if n, ok := uintMax(b, math.MaxUint8); ok {
		*dst = uint8(n)
		f.has |= bit
	}
}

func (f *fields) u16(bit present, dst *uint16, b []byte) {
	if n, ok := uintMax(b, math.MaxUint16); ok {
		*dst = uint16(n)
		f.has |= bit
	}
}

func (f *fields) u32(bit present, dst *uint32, b []byte) {
	if n, ok := uintMax(b, math.MaxUint32); ok {
		*dst = uint32(n)
		f.has |= bit
	}
}

func (f *fields) u64(bit present, dst *uint64, b []byte) {
	if n, ok := uintOf(b); ok {
		*dst = n
		f.has |= bit
	}
}

// copied stores b where its length is exactly that of the field.
func (f *fields) copied(bit present, dst, b []byte) {
	if len(b) == len(dst) {
		copy(dst, b)
		f.has |= bit
	}
}

// ntpFormat as the unit of a time: RFC 7011 §6.1.9 and 6.1.10.
const ntpFormat = 0

// absolute reads a time of unit ns since the epoch. 0 is "not filled in".
func absolute(n, unit uint64) (int64, bool) {
	switch {
	case n == 0:
		return 0, false
	case unit == ntpFormat:
		return ntp(n), true
	}
	hi, ns := bits.Mul64(n, unit)
	return int64(ns), hi == 0 && ns <= math.MaxInt64
}

// at stores an absolute time.
func (f *fields) at(bit present, dst *int64, b []byte, unit uint64) {
	if n, ok := uintOf(b); ok && (unit != ntpFormat || len(b) == 8) {
		if at, ok := absolute(n, unit); ok {
			*dst = at
			f.has |= bit
		}
	}
}

// ntp reads a time in NTP format (RFC 7011 §6.1.9, 6.1.10): seconds since 1900
// and a binary fraction. Seconds with the top bit clear are of the era that
// begins in 2036.
func ntp(n uint64) int64 {
	const unixEpoch = 2_208_988_800 // seconds from 1900 to 1970
	sec, frac := int64(n>>32), n&0xffffffff
	if sec < 1<<31 {
		sec += 1 << 32
	}
	return (sec-unixEpoch)*1e9 + int64(frac*1e9>>32)
}
