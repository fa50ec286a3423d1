package flow

import (
	"encoding/binary"
	"net/netip"
)

// RemoteHash is the value that stands for a destination in ServiceWindow.Remotes:
// of a v4 address by itself, of a v6 address by its /64. It is what the aggregator
// stores, the same in every version, so that a stored set can be asked whether an
// address is in it.
func RemoteHash(a netip.Addr) uint64 {
	var hi, lo uint64
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		lo = 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:])) // as ::ffff:a.b.c.d
	} else {
		b := a.As16()
		hi = binary.BigEndian.Uint64(b[:8])
	}
	return RemoteHashOf(hi, lo)
}

// RemoteHashOf is RemoteHash of an address by its halves: ::ffff:a.b.c.d, or the /64
// and 0. For either family the map is one-to-one.
func RemoteHashOf(hi, lo uint64) uint64 { return Mix64(Mix64(hi+0x9e3779b97f4a7c15) ^ lo) }

// Mix64 is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection.
func Mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
