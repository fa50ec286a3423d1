package aggregate

import "net/netip"

// DefaultBogons returns the prefixes that do not appear on the Internet: those
// of the IANA special-purpose registries (RFC 6890) that are not globally
// reachable, multicast (RFC 5771, RFC 4291 §2.7), reserved space (RFC 1112 §4),
// and IPv6 outside 2000::/3, from which alone unicast is assigned.
//
// Peer-to-peer software dials such addresses because it was told of them, and
// mails about it are the best-known false alarm of a large hoster; what goes
// there never leaves the network anyway. 64:ff9b::/96 (NAT64, RFC 6052) is not
// among them: behind it is the real Internet.
func DefaultBogons() []netip.Prefix {
	out := make([]netip.Prefix, len(defaultBogons))
	for i, s := range defaultBogons {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

var defaultBogons = [...]string{
	"0.0.0.0/8",       // this network, RFC 791 §3.2
	"10.0.0.0/8",      // private use, RFC 1918
	"100.64.0.0/10",   // shared address space, RFC 6598
	"127.0.0.0/8",     // loopback, RFC 1122 §3.2.1.3
	"169.254.0.0/16",  // link local, RFC 3927
	"172.16.0.0/12",   // private use, RFC 1918
	"192.0.0.0/24",    // IETF protocol assignments, RFC 6890
	"192.0.2.0/24",    // documentation, RFC 5737
	"192.88.99.0/24",  // former 6to4 relays, RFC 7526
	"192.168.0.0/16",  // private use, RFC 1918
	"198.18.0.0/15",   // benchmarking, RFC 2544
	"198.51.100.0/24", // documentation, RFC 5737
	"203.0.113.0/24",  // documentation, RFC 5737
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, and the limited broadcast address

	"::/32",          // unspecified, loopback, v4-mapped and v4-compatible, RFC 4291 §2.5
	"64:ff9b:1::/48", // local-use translation, RFC 8215
	"100::/8",        // discard only, RFC 6666, and its unassigned surroundings
	"200::/7",
	"400::/6",
	"800::/5",
	"1000::/4",
	"2001:2::/48",   // benchmarking, RFC 5180
	"2001:10::/28",  // former ORCHID, RFC 4843
	"2001:db8::/32", // documentation, RFC 3849
	"3fff::/20",     // documentation, RFC 9637
	"4000::/2",
	"8000::/1", // with fc00::/7, fe80::/10, ff00::/8
}
