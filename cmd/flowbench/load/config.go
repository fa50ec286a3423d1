package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Config says what is offered, and to whom.
type Config struct {
	Protocol flow.Protocol
	Target   netip.AddrPort // IPv4, on this host
	// Exporters is the number of source addresses: 127.0.1.1, 127.0.1.2 and so
	// on, 250 to a /24. 0: 4.
	Exporters int
	// Hosts is the number of internal addresses, the first of Prefix. 0: 50,000.
	Hosts  int
	Prefix netip.Prefix // zero: PrefixFor(Hosts)
	// Remotes is how many remotes a host talks to, the first of them a quarter of
	// the time and so on as Zipf's law has it; each of these conversations keeps
	// its protocol, port and role. 0: a new remote with each record.
	Remotes int
	// Paired: both directions of a conversation are exported, with flags that fit
	// (not of sFlow). Otherwise directions and flags are drawn for each record.
	Paired bool
	// Duration is how long every record lasts; RouterDurations: as in a router
	// with an active timeout of 60 s and an inactive one of 15 s.
	Duration time.Duration
	// Templates is the number of different templates that each exporter uses
	// in turn (v9 and IPFIX). 0: 1.
	Templates int
	// Ring is the number of different datagrams of each exporter. 0: 80,000
	// over all exporters, and at least 16 each.
	Ring int
	// Sampling is the rate 1:N that is announced. 0: 1.
	Sampling uint32
	// GSO lets the kernel cut batches into datagrams only when it delivers them:
	// a third of the cost for the sender.
	GSO bool
	// Realtime runs Run's thread before all others of its CPU, where that is
	// allowed. The goroutine that calls Run must then end with it.
	Realtime bool
	Seed     uint64
}

// RouterDurations stands for the mix of durations that a router's cache makes.
const RouterDurations time.Duration = -1

const (
	defaultExporters = 4
	defaultHosts     = 50_000
	defaultRing      = 80_000 // of 1,400 bytes: 110 MB, far beyond every cache, as are a router's datagrams
	leastRing        = 16
	maxExporters     = 60_000 // what 127.0.1.0 to 127.0.240.255 hold
)

// PrefixFor is the smallest of our test prefixes that holds hosts: as small as
// may be, because fastnetmon has a counter for every address of it.
func PrefixFor(hosts int) netip.Prefix {
	for _, bits := range []int{16, 15} {
		if hosts <= 1<<(32-bits) {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), bits) // RFC 2544
		}
	}
	bits := 8
	for bits < 32 && hosts <= 1<<(31-bits) {
		bits++
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), bits)
}

func (c *Config) check() error {
	for v, d := range map[*int]int{&c.Exporters: defaultExporters, &c.Hosts: defaultHosts, &c.Templates: 1} {
		if *v == 0 {
			*v = d
		}
	}
	if !c.Prefix.IsValid() {
		c.Prefix = PrefixFor(c.Hosts)
	}
	if c.Sampling == 0 {
		c.Sampling = 1
	}
	if c.Ring == 0 && c.Exporters > 0 {
		c.Ring = max(defaultRing/c.Exporters, leastRing, c.Templates)
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Protocol {
	case flow.NetFlow5, flow.SFlow5:
		if c.Templates != 1 {
			bad("templates: %s has none", c.Protocol)
		}
		if c.Protocol == flow.NetFlow5 && c.Sampling >= 1<<14 {
			bad("sampling: NetFlow v5 has 14 bits for it")
		}
	case flow.NetFlow9, flow.IPFIX:
	default:
		bad("protocol: choose one of v5, v9, ipfix, sflow")
	}
	if !c.Target.IsValid() || !c.Target.Addr().Is4() || !c.Target.Addr().IsLoopback() {
		bad("target: %s is not in 127.0.0.0/8; datagrams come from made-up routers there", c.Target)
	}
	if c.Exporters < 1 || c.Exporters > maxExporters {
		bad("exporters: %d is not between 1 and %d", c.Exporters, maxExporters)
	}
	if c.Templates < 1 || c.Templates > 4096 {
		bad("templates: %d is not between 1 and 4096", c.Templates)
	}
	if c.Ring < c.Templates {
		bad("ring: %d datagrams cannot show %d templates", c.Ring, c.Templates)
	}
	if !c.Prefix.Addr().Is4() || c.Hosts < 1 || c.Hosts > 1<<(32-c.Prefix.Bits()) {
		bad("hosts: %d addresses do not fit in %s", c.Hosts, c.Prefix)
	}
	if c.Remotes < 0 || c.Remotes > 1<<16 {
		bad("remotes: %d is not between 0 and 65536", c.Remotes)
	}
	if c.Duration != RouterDurations && (c.Duration < 0 || c.Duration > time.Hour) {
		bad("duration: %s is not between 0 and 1h", c.Duration)
	}
	return errors.Join(errs...)
}

// Source is the address of exporter i.
func Source(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte(1 + i/250), byte(1 + i%250)})
}
