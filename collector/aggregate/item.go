package aggregate

import (
	"encoding/binary"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// Item is one side of a record: turned towards one internal endpoint and
// classified. It has no pointers, so that blocks of items cost the garbage
// collector nothing when they go from one goroutine to another.
type Item struct {
	host, remote, exporter ip
	hash                   uint64 // of the tenant and the rate
	start, end, received   int64  // ns
	packets, bytes         uint64

	rate, inIf, outIf     uint32
	hostPort, remotePort  uint16
	svc, ipLen, vlan, set uint16 // set: bits, see below
	mac                   [6]byte
	proto, tcpFlags       uint8
	icmpType, icmpCode    uint8
	ttl                   uint8
	class                 flow.Class
	counter               uint8 // of classes that the class counts in; noCounter: in none
	role                  flow.Role
	dir                   uint8 // out or in
}

// Block is a run of items. The Front appends, the Aggregator reads; who passes
// it on sets its length to 0 before it is used again.
type Block struct{ Items []Item }

// Directions as indexes of counters.
const (
	out = 0
	in  = 1
)

// The bits of Item.set.
const (
	itemPrimary  = 1 << iota // the record is counted by this side
	itemBogon                // the remote is not routable on the Internet
	itemSpoofed              // came in from outside with an internal source
	itemAttempt              // outgoing, and tries something
	itemAnswered             // holds a SYN-ACK beside its class
	itemReset                // holds a RST beside its class
	itemRawSYN               // no kernel's connect() sends such a SYN
	itemSYN                  // all packets are SYNs
	itemHalfSYN              // half of the packets, rounded up, are SYNs
	itemPort                 // remotePort is the port of an outgoing SYN
	itemForged               // came in from a tenant with a source that is not internal: counts for nobody
)

// next returns the next free item of b, to be filled.
func (b *Block) next() *Item {
	n := len(b.Items)
	if n == cap(b.Items) {
		b.Items = append(b.Items, Item{})
	} else {
		b.Items = b.Items[:n+1]
	}
	return &b.Items[n]
}

// ip is an address without pointers, v4 mapped: 16 bytes in two words.
type ip struct{ hi, lo uint64 }

func ipOf(a netip.Addr) ip {
	if a.Is4() { // by its 4 bytes: the processor stalls on 8 that were written as 16
		b := a.As4()
		return ip{lo: v4Prefix | uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return ip{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// tenant is the tenant that the item counts for. Sources that are not ours have
// one in common, the unspecified address: each by itself would be a host.
func (it *Item) tenant(mask ip) ip {
	if it.set&itemForged != 0 {
		return ip{}
	}
	return it.host.tenant(mask)
}

const v4Prefix = 0xffff << 32 // the low word's upper half of a mapped v4 address

func (a ip) is4() bool { return a.hi == 0 && a.lo>>32 == 0xffff }

func (a ip) addr() netip.Addr {
	if a.is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

// hashRemote maps a remote to the 64-bit value that stands for it in
// ServiceWindow.Remotes: a v4 address by itself, a v6 address by its /64, since
// one host may use any address of it. It is the same in every process and
// version, because hashes of different rows are united in the store. For
// either family the map is one-to-one, so that counting it counts exactly.
func hashRemote(a ip) uint64 {
	var lo uint64
	if a.is4() {
		lo = a.lo
	}
	return flow.RemoteHashOf(a.hi, lo)
}

const golden = 0x9e3779b97f4a7c15

// hashTenant spreads tenants over shards and tables.
func hashTenant(t ip) uint64 { return flow.Mix64(t.hi*golden ^ t.lo) }

// hashHost is the hash of a host's key, given its tenant's.
func hashHost(tenant uint64, rate uint32) uint64 {
	return tenant ^ uint64(rate)*0xd6e8feb86659fd93
}

// hashService is the hash of a service's key, given its host's.
func hashService(host uint64, svc uint16, proto uint8, role flow.Role) uint64 {
	x := (host ^ (uint64(svc)<<16 | uint64(proto)<<8 | uint64(role))) * 0xbf58476d1ce4e5b9
	return x ^ x>>29
}

// hashPair is the hash of a pair's key, given its host's.
func hashPair(host uint64, remote ip, proto uint8) uint64 {
	x := (remote.lo ^ uint64(proto)<<56 ^ remote.hi*golden) * 0x94d049bb133111eb
	x = (x ^ x>>32 ^ host) * 0xbf58476d1ce4e5b9
	return x ^ x>>29
}
