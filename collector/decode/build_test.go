package decode

// Hand-built pieces that several tests use.

// tplBasic is template 256: src, dst, ports, proto, flags, packets, bytes,
// first, last.
var tplBasic = wire{}.u16(256, 10).u16(8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 6, 1, 2, 4, 1, 4, 22, 4, 21, 4)

// dataBasic is one record of it: a SYN that began 3 s and ended 1 s before the
// export.
var dataBasic = rec("192.0.2.1", "198.51.100.1", 40000, 22, 6, 0x02, 3, 132, testUptime-3000, testUptime-1000)

func rec(src, dst string, sport, dport uint16, proto, flags uint8, packets, bytes, first, last uint32) wire {
	return wire{}.ip(src, dst).u16(sport, dport).u8(proto, flags).u32(packets, bytes, first, last)
}

func v5msg(seq uint32, sampling uint16, recs ...[]byte) []byte {
	return wire{}.u16(5, uint16(len(recs))).u32(testUptime, testSec, 500_000_000, seq).u8(1, 2).u16(sampling).raw(recs...)
}

func v5rec(src, dst string, sport, dport uint16, proto, flags uint8, packets, bytes uint32) wire {
	return wire{}.ip(src, dst, "0.0.0.0").u16(3, 4).u32(packets, bytes, testUptime-3000, testUptime-1000).
		u16(sport, dport).u8(0, flags, proto, 0).u16(0, 0).u8(24, 24).u16(0)
}

// ethTCP is a SYN of 44 bytes with TTL 255, in a frame of 60 bytes with VLAN 7.
var ethTCP = wire{}.raw([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}).u16(0x8100, 7, 0x0800).raw(ipv4TCP)

var ipv4TCP = ipv4(6, 44, 0, wire{}.u16(40000, 22).u32(1, 0).u8(0x60, 0x02).u16(1024, 0, 0).u32(0x020405b4))

func ipv4(proto uint8, length uint16, frag uint16, payload []byte) wire {
	return wire{}.u8(0x45, 0).u16(length, 1, frag).u8(255, proto).u16(0).ip("192.0.2.1", "198.51.100.1").raw(payload)
}

func ipv6(next uint8, payload []byte) wire {
	return wire{}.u32(0x60000000).u16(uint16(len(payload))).u8(next, 64).ip("2001:db8::1", "2001:db8::2").raw(payload)
}

func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// rawRecord is an sFlow flow record of type 1.
func rawRecord(protocol uint32, header []byte) wire {
	body := wire{}.u32(protocol, uint32(len(header)+4), 4, uint32(len(header))).raw(pad4(append(wire{}, header...)))
	return wire{}.u32(1, uint32(len(body))).raw(body)
}

// flowSampleOf is a compact flow sample with interfaces 1 and 2.
func flowSampleOf(rate uint32, records ...[]byte) wire {
	body := wire{}.u32(1, 3, rate, 5000, 0, 1, 2, uint32(len(records))).raw(records...)
	return wire{}.u32(1, uint32(len(body))).raw(body)
}

func flowSampleRaw(rate, protocol uint32, header []byte) wire {
	return flowSampleOf(rate, rawRecord(protocol, header))
}
