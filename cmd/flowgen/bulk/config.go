// Package bulk sends many random flow records with known totals: the truth
// that a collector's store is compared with. What comes in is a Config, what
// goes out are datagrams to one target and the Truth per internal address. It
// runs in the caller's goroutine and imports flow and flowgen's export.
package bulk

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Config says what to send, where and how fast.
type Config struct {
	Protocol flow.Protocol
	Target   netip.AddrPort
	// Source is the exporter's address; the zero Addr leaves it to the system.
	Source  netip.Addr
	Records uint64
	// Hosts is the number of internal addresses, v4 and v6 together.
	Hosts int
	// Rate is in records per second; 0: as fast as it goes.
	Rate uint64
	Seed uint64
	// V6Share is the share of hosts, and so of records, with IPv6 (0 to 1).
	V6Share float64
	// Prefix4 and Prefix6 are where internal addresses come from; zero:
	// 198.18.0.0/15 and 2001:db8::/32. Each v6 host has a /64 of its own.
	Prefix4, Prefix6 netip.Prefix
	// MaxDuration is the longest that a record lasts; 0: all are instants
	// within the last second. sFlow samples have no duration.
	MaxDuration time.Duration
	Domain      uint32
	// LegacySampling is export.Config's.
	LegacySampling bool
	// Pace is called after every PaceEvery datagrams (0: 64) with the number
	// of records sent so far; it may block, which is a test's flow control.
	Pace      func(sentRecords uint64)
	PaceEvery int
	// Write takes the datagrams in place of Target, when set.
	Write func(datagram []byte) error
	// Now is the clock that the records' times are made from; nil: time.Now.
	Now func() time.Time
}

// Defaults of the internal networks: benchmarking (RFC 2544) and documentation
// (RFC 3849) space.
var (
	DefaultPrefix4 = netip.MustParsePrefix("198.18.0.0/15")
	DefaultPrefix6 = netip.MustParsePrefix("2001:db8::/32")
)

// check fills defaults in and returns all that is wrong.
func (c *Config) check() error {
	if !c.Prefix4.IsValid() {
		c.Prefix4 = DefaultPrefix4
	}
	if !c.Prefix6.IsValid() {
		c.Prefix6 = DefaultPrefix6
	}
	if c.PaceEvery <= 0 {
		c.PaceEvery = 64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Protocol {
	case flow.NetFlow5:
		if c.V6Share > 0 {
			bad("v6-share: NetFlow v5 has no IPv6")
		}
	case flow.NetFlow9, flow.IPFIX, flow.SFlow5:
	default:
		bad("protocol: choose one of v5, v9, ipfix, sflow")
	}
	if c.Write == nil && !c.Target.IsValid() {
		bad("target: needs an address and a port, as in 127.0.0.1:2055")
	}
	if c.Target.IsValid() && c.Source.IsValid() && c.Target.Addr().Is4() != c.Source.Is4() {
		bad("source: %s and target %s differ in address family", c.Source, c.Target)
	}
	if c.Records == 0 {
		bad("records: must be at least 1")
	}
	if c.V6Share < 0 || c.V6Share > 1 {
		bad("v6-share: %g is not between 0 and 1", c.V6Share)
	}
	if !c.Prefix4.Addr().Is4() || c.Prefix4.Bits() > 30 {
		bad("prefix4: %s is not an IPv4 prefix of /30 or wider", c.Prefix4)
	}
	if !c.Prefix6.Addr().Is6() || c.Prefix6.Bits() > 32 {
		bad("prefix6: %s is not an IPv6 prefix of /32 or wider", c.Prefix6)
	}
	n4, _ := c.split()
	if c.Hosts < 1 {
		bad("hosts: must be at least 1")
	} else if c.Prefix4.IsValid() && c.Prefix4.Bits() <= 30 && n4 > 1<<(32-c.Prefix4.Bits())-2 {
		bad("hosts: %d IPv4 hosts do not fit in %s", n4, c.Prefix4)
	}
	if c.MaxDuration < 0 || c.MaxDuration > 12*time.Hour {
		bad("max-duration: %s is not between 0 and 12h", c.MaxDuration)
	}
	return errors.Join(errs...)
}

// split is the number of hosts of each family.
func (c *Config) split() (n4, n6 int) {
	n6 = int(float64(c.Hosts)*c.V6Share + 0.5)
	if c.V6Share > 0 && n6 == 0 {
		n6 = 1
	}
	return c.Hosts - n6, n6
}
