package capture

import "encoding/binary"

// splitRaw cuts a raw file into datagrams. A NetFlow v5 header's count and an
// IPFIX header's length say where a datagram ends; where exactly there another
// header of the same protocol stands that again fits into what remains, the
// file is cut. Anything else is one datagram to the end of the file: NetFlow v9
// and sFlow headers do not tell their length, and bytes that do not fit are for
// the decoder to judge.
func splitRaw(b []byte) []Datagram {
	var out []Datagram
	for {
		n := datagramLen(b)
		if n == 0 || n >= len(b) || datagramLen(b[n:]) == 0 || b[n+1] != b[1] {
			return append(out, rawDatagram(b))
		}
		out = append(out, rawDatagram(b[:n:n]))
		b = b[n:]
	}
}

// datagramLen is the length that the header at the start of b states; 0 where
// it states none or one that b cannot hold.
func datagramLen(b []byte) int {
	if len(b) < 16 {
		return 0
	}
	n := 0
	switch binary.BigEndian.Uint16(b) {
	case 5: // header of 24 bytes, records of 48
		if count := int(binary.BigEndian.Uint16(b[2:])); count > 0 {
			n = 24 + 48*count
		}
	case 10: // RFC 7011 §3.1; RFC 5655 files are messages one after the other
		if n = int(binary.BigEndian.Uint16(b[2:])); n < 16 {
			n = 0
		}
	}
	if n > len(b) {
		return 0
	}
	return n
}

func rawDatagram(b []byte) Datagram {
	return Datagram{Exporter: RawExporter, Time: headerTime(b), Payload: b}
}

// headerTime is the time of export in the datagram's header, ns since the
// epoch. sFlow has no clock but the agent's uptime: its datagrams are timed
// from the epoch on, which keeps their distances.
func headerTime(b []byte) int64 {
	if len(b) < 16 {
		return 0
	}
	sec := func(off int) int64 { return int64(binary.BigEndian.Uint32(b[off:])) * 1e9 }
	switch binary.BigEndian.Uint16(b) {
	case 5:
		ns := int64(binary.BigEndian.Uint32(b[12:]))
		if ns >= 1e9 {
			ns = 0
		}
		return sec(8) + ns
	case 9:
		return sec(8)
	case 10:
		return sec(4)
	case 0:
		if binary.BigEndian.Uint16(b[2:]) != 5 {
			return 0
		}
		off := 4 + 4 + 8 // version, address type, sub-agent, sequence
		switch binary.BigEndian.Uint32(b[4:]) {
		case 1:
			off += 4
		case 2:
			off += 16
		}
		if len(b) >= off+4 {
			return int64(binary.BigEndian.Uint32(b[off:])) * 1e6
		}
	}
	return 0
}
