package decode

import (
	"encoding/binary"

	"github.com/flowcordon/flowcordon/flow"
)

// slot is where a number of a record stands. Its zero value stands for a field
// that the template has not: it reads as 0.
type slot struct {
	end   uint16 // of its last byte + 1, from the record's start
	width uint8  // bytes, at most 8; 16 for an IPv6 address; 0: absent
	after uint8  // how many variable-length fields come before it
}

// widthMask cuts the last bytes out of eight.
var widthMask = [16]uint64{
	0, 1<<8 - 1, 1<<16 - 1, 1<<24 - 1, 1<<32 - 1, 1<<40 - 1, 1<<48 - 1, 1<<56 - 1, 1<<64 - 1,
}

// num reads a number of up to 8 bytes; rec has lead bytes before the record.
func (s slot) num(rec []byte) uint64 {
	return binary.BigEndian.Uint64(rec[s.end:]) & widthMask[s.width&15]
}

// v4 reads an IPv4 address.
func (s slot) v4(rec []byte) [4]byte { return [4]byte(rec[s.end+lead-4:]) }

// v6 reads an IPv6 address.
func (s slot) v6(rec []byte) [16]byte { return [16]byte(rec[s.end+lead-16:]) }

// The slots that a record is filled from, and behind them those that stand in
// for one of the first while a template is compiled.
const (
	sSrc4 = iota
	sDst4
	sSrc6
	sDst6
	sIPVersion
	sSrcPort
	sDstPort
	sProto
	sFlags
	sICMPTypeCode
	sICMPType
	sICMPCode
	sFragOffset
	sIPLen
	sTTL
	sInIf
	sOutIf
	sSrcMAC
	sVLAN
	sDot1qVLAN
	sPackets
	sPacketsPost
	sBytes
	sBytesPost
	sStart
	sEnd
	sInterval
	sSamplerID
	sSelectorID
	sSystemInit
	numSlots

	sMinTTL = iota - 1
	sMaxTTL
	sInPhys
	sOutPhys
	sPostSrcMAC
	sInitiatorPackets
	sInitiatorBytes
	sStartUptime
	sEndUptime
	sStartDelta
	sEndDelta
	numSlotsCompiled
)

// slotOf names the slot of an information element and its widest encoding;
// exact: it has no other. 0 bytes: it has none.
func slotOf(id uint16) (s int, width uint16, exact bool) {
	switch id {
	case 8:
		return sSrc4, 4, true
	case 12:
		return sDst4, 4, true
	case 27:
		return sSrc6, 16, true
	case 28:
		return sDst6, 16, true
	case 60:
		return sIPVersion, 1, false
	case 7, 180, 182:
		return sSrcPort, 2, false
	case 11, 181, 183:
		return sDstPort, 2, false
	case 4:
		return sProto, 1, false
	case 6:
		return sFlags, 2, false
	case 32, 139:
		return sICMPTypeCode, 2, false
	case 176, 178:
		return sICMPType, 1, false
	case 177, 179:
		return sICMPCode, 1, false
	case 88:
		return sFragOffset, 2, false
	case 190, 224:
		return sIPLen, 2, false
	case 192:
		return sTTL, 1, false
	case 52:
		return sMinTTL, 1, false
	case 53:
		return sMaxTTL, 1, false
	case 10:
		return sInIf, 4, false
	case 14:
		return sOutIf, 4, false
	case 252:
		return sInPhys, 4, false
	case 253:
		return sOutPhys, 4, false
	case 56:
		return sSrcMAC, 6, true
	case 81:
		return sPostSrcMAC, 6, true
	case 58:
		return sVLAN, 2, false
	case 243:
		return sDot1qVLAN, 2, false
	}
	return slotOfNumber(id)
}

// slotOfNumber is slotOf for counters, times and sampling.
func slotOfNumber(id uint16) (s int, width uint16, exact bool) {
	switch id {
	case 2:
		return sPackets, 8, false
	case 24:
		return sPacketsPost, 8, false
	case 298:
		return sInitiatorPackets, 8, false
	case 1:
		return sBytes, 8, false
	case 23:
		return sBytesPost, 8, false
	case 231:
		return sInitiatorBytes, 8, false
	case 22:
		return sStartUptime, 4, false
	case 21:
		return sEndUptime, 4, false
	case 158:
		return sStartDelta, 8, false
	case 159:
		return sEndDelta, 8, false
	case 160:
		return sSystemInit, 8, false
	case 150, 152:
		return sStart, 8, false
	case 151, 153:
		return sEnd, 8, false
	case 154, 156: // NTP format
		return sStart, 8, true
	case 155, 157:
		return sEnd, 8, true
	case 34:
		return sInterval, 8, false
	case 48:
		return sSamplerID, 8, false
	case 302:
		return sSelectorID, 8, false
	}
	return 0, 0, false
}

// timeUnit is the ns that a time is counted in; 0: NTP format.
func timeUnit(id uint16) uint32 {
	switch id {
	case 150, 151:
		return 1e9
	case 152, 153:
		return 1e6
	}
	return 0
}

// upperHas says of each IP protocol whether it has ports and TCP flags.
var upperHas = func() (t [256]flow.Has) {
	for i := range t {
		if hasPorts(uint8(i)) {
			t[i] |= flow.HasPorts
		}
	}
	t[flow.ProtoTCP] |= flow.HasTCPFlags
	return t
}()
