package decode

import (
	"encoding/binary"
	"math"
)

// set takes the value of an information element (IANA IPFIX registry; NetFlow
// v9 field types are the same up to 127).
func (f *fields) set(id uint16, b []byte) {
	switch id {
	case 8:
		f.copied(fSrc4, f.src4[:], b)
	case 12:
		f.copied(fDst4, f.dst4[:], b)
	case 27:
		f.copied(fSrc6, f.src6[:], b)
	case 28:
		f.copied(fDst6, f.dst6[:], b)
	case 60:
		f.u8(fIPVersion, &f.ipVersion, b)
	case 7, 180, 182: // source port; of UDP, of TCP
		f.u16(fSrcPort, &f.srcPort, b)
	case 11, 181, 183:
		f.u16(fDstPort, &f.dstPort, b)
	case 4:
		f.u8(fProto, &f.proto, b)
	case 6: // one byte, or two with the high bits of RFC 7125
		if n, ok := uintMax(b, math.MaxUint16); ok {
			f.flags = uint8(n)
			f.has |= fFlags
		}
	case 32, 139:
		f.u16(fICMPTypeCode, &f.icmpTypeCode, b)
	case 176, 178:
		f.u8(fICMPType, &f.icmpType, b)
	case 177, 179:
		f.u8(fICMPCode, &f.icmpCode, b)
	case 192:
		f.u8(fTTL, &f.ttl, b)
	case 52:
		f.u8(fMinTTL, &f.minTTL, b)
	case 53:
		f.u8(fMaxTTL, &f.maxTTL, b)
	case 190, 224:
		f.u16(fIPLen, &f.ipLen, b)
	case 88:
		f.u16(fFragOffset, &f.fragOffset, b)
	case 10:
		f.u32(fInIf, &f.inIf, b)
	case 14:
		f.u32(fOutIf, &f.outIf, b)
	case 252:
		f.u32(fInPhys, &f.inPhys, b)
	case 253:
		f.u32(fOutPhys, &f.outPhys, b)
	case 56:
		f.copied(fSrcMAC, f.srcMAC[:], b)
	case 81:
		f.copied(fPostSrcMAC, f.postSrcMAC[:], b)
	case 58:
		f.u16(fVLAN, &f.vlan, b)
	case 243:
		f.u16(fDot1qVLAN, &f.dot1qVLAN, b)
	case 313:
		f.ipSection = b
		f.has |= fIPSection
	case 104, 315: // layer2packetSectionData (older), dataLinkFrameSection
		f.frame = b
		f.has |= fFrame
	case 312:
		f.u32(fFrameSize, &f.frameSize, b)
	default:
		if !f.setCounter(id, b) && !f.setTime(id, b) && !f.setTranslated(id, b) {
			f.setSampling(id, b)
		}
	}
}

// setTranslated takes what NAT made of the ends (RFC 8158), and what tells flows
// apart beside their ends.
func (f *fields) setTranslated(id uint16, b []byte) bool {
	switch id {
	case 225:
		f.copied(fPostSrc4, f.postSrc4[:], b)
	case 226:
		f.copied(fPostDst4, f.postDst4[:], b)
	case 281:
		f.copied(fPostSrc6, f.postSrc6[:], b)
	case 282:
		f.copied(fPostDst6, f.postDst6[:], b)
	case 227:
		f.u16(fPostSrcPort, &f.postSrcPort, b)
	case 228:
		f.u16(fPostDstPort, &f.postDstPort, b)
	case 5, 61, 80, 148, 234: // class of service, direction, destination MAC, flow id, VRF
		if n, ok := uintOf(b); ok {
			f.also = (f.also ^ n ^ uint64(id)<<48) * 0x9e3779b97f4a7c15
		}
	case 136: // YAF sets the highest bit on one-way flows
		if n, ok := uintMax(b, math.MaxUint8); ok {
			f.endReason = uint8(n) &^ 0x80
		}
	case 233: // Cisco NSEL has events instead: 2 is the end of a connection
		if n, ok := uintMax(b, math.MaxUint8); ok && n == 2 {
			f.endReason = endOfFlow
		}
	default:
		return false
	}
	return true
}

// reads says whether set knows an information element: compiled plans leave the
// others out.
func reads(id uint16) bool {
	switch id {
	case 1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 14, 21, 22, 23, 24, 27, 28, 32, 34, 48, 50, 52, 53, 56, 58, 60, 61,
		80, 81, 85, 86, 88, 104, 136, 139, 145, 148, 150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 161, 162,
		176, 177, 178, 179, 180, 181, 182, 183, 190, 192, 224, 225, 226, 227, 228, 231, 232, 233, 234, 243, 252, 253,
		281, 282, 298, 299, 302, 304, 305, 306, 309, 310, 311, 312, 313, 315, 322, 323, 324, 325:
		return true
	}
	return false
}

func (f *fields) setCounter(id uint16, b []byte) bool {
	switch id {
	case 2:
		f.u64(fPackets, &f.packets, b)
	case 86:
		f.u64(fPacketsTotal, &f.packetsTotal, b)
	case 24:
		f.u64(fPacketsPost, &f.packetsPost, b)
	case 1:
		f.u64(fBytes, &f.bytes, b)
	case 85:
		f.u64(fBytesTotal, &f.bytesTotal, b)
	case 23:
		f.u64(fBytesPost, &f.bytesPost, b)
	case 231: // Cisco NSEL: both directions of a connection in one record
		if n, ok := uintOf(b); ok {
			f.initiatorBytes = n
		}
	case 298:
		if n, ok := uintOf(b); ok {
			f.initiatorPackets = n
		}
	case 232:
		f.u64(fRevBytes, &f.revBytes, b)
	case 299:
		f.u64(fRevPackets, &f.revPackets, b)
	default:
		return false
	}
	return true
}

func (f *fields) setTime(id uint16, b []byte) bool {
	switch id {
	case 22:
		f.u32(fStartUptime, &f.startUptime, b)
	case 21:
		f.u32(fEndUptime, &f.endUptime, b)
	case 150:
		f.at(fStart, &f.start, b, 1e9)
	case 151:
		f.at(fEnd, &f.end, b, 1e9)
	case 152:
		f.at(fStart, &f.start, b, 1e6)
	case 153:
		f.at(fEnd, &f.end, b, 1e6)
	case 154, 156:
		f.at(fStart, &f.start, b, ntpFormat)
	case 155, 157:
		f.at(fEnd, &f.end, b, ntpFormat)
	case 158:
		f.u64(fStartDelta, &f.startDelta, b)
	case 159:
		f.u64(fEndDelta, &f.endDelta, b)
	case 160:
		if n, ok := uintMax(b, math.MaxInt64/1_000_000); ok && n > 0 {
			f.systemInit = int64(n)
			f.has |= fSystemInit
		}
	case 161, 162:
		unit := uint64(1e6)
		if id == 162 {
			unit = 1e3
		}
		if n, ok := uintMax(b, math.MaxInt64/unit); ok {
			f.duration = n * unit
			f.has |= fDuration
		}
	case 322:
		f.at(fObserved, &f.observed, b, 1e9)
	case 323:
		f.at(fObserved, &f.observed, b, 1e6)
	case 324, 325:
		f.at(fObserved, &f.observed, b, ntpFormat)
	default:
		return false
	}
	return true
}

func (f *fields) setSampling(id uint16, b []byte) {
	switch id {
	case 34:
		f.u64(fSamplingInterval, &f.samplingInterval, b)
	case 48:
		f.u64(fSamplerID, &f.samplerID, b)
	case 50:
		f.u64(fRandomInterval, &f.randomInterval, b)
	case 304:
		if n, ok := uintOf(b); ok {
			f.algorithm = n
		}
	case 302:
		f.u64(fSelectorID, &f.selectorID, b)
	case 305:
		f.u64(fPacketInterval, &f.packetInterval, b)
	case 306:
		f.u64(fPacketSpace, &f.packetSpace, b)
	case 309:
		f.u64(fSize, &f.size, b)
	case 310:
		if n, ok := uintOf(b); ok {
			f.population = n
		}
	case 311:
		switch len(b) {
		case 4:
			f.probability = float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
			f.has |= fProbability
		case 8:
			f.probability = math.Float64frombits(binary.BigEndian.Uint64(b))
			f.has |= fProbability
		}
	case 145:
		f.u64(fTemplateRef, &f.templateRef, b)
	}
}

// setReverse takes a reverse information element (RFC 5103 §6.1, PEN 29305).
func (f *fields) setReverse(id uint16, b []byte) {
	switch id {
	case 2:
		f.u64(fRevPackets, &f.revPackets, b)
	case 1:
		f.u64(fRevBytes, &f.revBytes, b)
	case 86:
		f.u64(fRevPacketsTotal, &f.revPacketsTotal, b)
	case 85:
		f.u64(fRevBytesTotal, &f.revBytesTotal, b)
	case 6:
		if n, ok := uintMax(b, math.MaxUint16); ok {
			f.revFlags = uint8(n)
			f.has |= fRevFlags
		}
	}
}

// readsReverse says whether setReverse knows an element.
func readsReverse(id uint16) bool {
	switch id {
	case 1, 2, 6, 85, 86:
		return true
	}
	return false
}
