package aggregate

import "github.com/flowcordon/flowcordon/flow"

// The service-port table decides who is the server where TCP flags do not. It
// holds ports that services listen on and clients seldom send from: the port
// classes of the detection rules (abuse-prone, web, peer-to-peer, amplifiers)
// and common services above 1023; every port below 1024 is in it by range.
// A source: IANA service names, as far as in real use.
var (
	tcpServices = portSet(1, 1023, []uint16{
		1080, 1194, 1433, 1434, 1521, 1701, 1723, 1883, 2049, 2082, 2083, 2086, 2087, 2095, 2096, 2181, 2222, 2323, 2375, 2376, 2379, 2380,
		3000, 3128, 3260, 3306, 3389, 4001, 4369, 4443, 4899, 5000, 5001, 5060, 5061, 5201, 5222, 5269, 5432, 5555, 5601, 5672, 5900, 5901, 5984, 5985, 5986,
		6379, 6443, 6667, 6697, 6881, 6882, 6883, 6884, 6885, 6886, 6887, 6888, 6889, 7001, 7547, 8000, 8006, 8008, 8080, 8081, 8086, 8088, 8123, 8291, 8333, 8443, 8444, 8728, 8883, 8888,
		9000, 9001, 9030, 9042, 9090, 9092, 9100, 9200, 9300, 9418, 9735, 9993, 10000, 10250, 11211, 15672, 18080, 25565, 26656, 27015, 27017, 30303, 30304, 37215, 51413, 52869, 60001,
	})
	udpServices = portSet(1, 1023, []uint16{
		1194, 1434, 1645, 1646, 1701, 1812, 1813, 1900, 2049, 2055, 3283, 3389, 3478, 3479, 3702, 4001, 4500, 4739, 4789, 5060, 5061, 5353, 5355, 5683,
		6081, 6343, 6881, 6882, 6883, 6884, 6885, 6886, 6887, 6888, 6889, 8472, 9987, 9993, 9995, 10001, 11211, 17185, 19132, 20000, 25565, 27015, 27016, 30303, 30304, 33848, 37810, 41641, 51413, 51820,
	})
)

// amplifiers are the UDP ports of services that answer much to little
// (detection.md §4). No system gives them to clients.
var amplifiers = portSet(17, 17, []uint16{
	19, 53, 69, 111, 123, 137, 161, 389, 427, 520, 1434, 1900, 3283, 3478, 3702, 5353, 10001, 11211, 27015,
})

// ownAmplifier reports whether the host of it is the server on a port of its
// own, whatever the port of the other side. Forged questions come from the port
// that is to be hit, 80 or 443, and byPorts takes the lower for the service.
// Only a host's own port tells so much: strangers behind a NAT ask from any.
func ownAmplifier(r *flow.Record, own uint16, it *Item) bool {
	if r.IPProto != flow.ProtoUDP || r.SrcPort == r.DstPort || !amplifiers.has(own) || !hasPorts(r) {
		return false
	}
	it.svc = own
	return true
}

type ports [1024]uint64

func portSet(from, to uint16, more []uint16) *ports {
	var s ports
	for p := from; p <= to; p++ {
		s[p/64] |= 1 << (p % 64)
	}
	for _, p := range more {
		s[p/64] |= 1 << (p % 64)
	}
	return &s
}

func (s *ports) has(p uint16) bool { return s[p/64]&(1<<(p%64)) != 0 }

// byPorts decides from the ports alone what the sender is, and the service
// port: a known service port if only one end has one, else the lower. Equal
// ports (NTP peers, name servers among each other) leave the role open: an
// attempt must not be read into them.
func byPorts(services *ports, src, dst uint16) (sender flow.Role, svc uint16) {
	srcKnown, dstKnown := services.has(src), services.has(dst)
	switch {
	case src == dst:
		return flow.RoleUnknown, src
	case srcKnown && !dstKnown:
		return flow.RoleServer, src
	case dstKnown && !srcKnown:
		return flow.RoleClient, dst
	case src < dst:
		return flow.RoleServer, src
	default:
		return flow.RoleClient, dst
	}
}
