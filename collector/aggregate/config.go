package aggregate

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// FlowPolicy says which records are kept as flow rows for evidence.
type FlowPolicy string

// The policies; the empty string is FlowAll.
const (
	FlowAll      FlowPolicy = "all"
	FlowAttempts FlowPolicy = "attempts" // attempts, answers, bogon destinations and spoofed sources
	FlowOff      FlowPolicy = "off"
)

// Interface names a router's interface by its SNMP index.
type Interface struct {
	Exporter netip.Addr
	IfIndex  uint32
}

// Config is what an Aggregator works by. The zero values of all but Internal
// are replaced by the defaults named here.
type Config struct {
	// Internal are the prefixes whose addresses are tenants.
	Internal []netip.Prefix
	// External are interfaces that face outside. A record that came in there
	// with an internal source is spoofed.
	External []Interface
	// Bogons are destinations that no router carries: they count as traffic,
	// never as an attempt. nil: DefaultBogons; empty but not nil: none.
	// Internal prefixes win over it.
	Bogons []netip.Prefix
	// V6TenantBits is the length of the prefix delegated to one tenant: 64.
	V6TenantBits int
	// Lateness is how long a closed window waits for late records: 5 s. One that
	// a later record opens again waits as long from then on, and a window's length
	// more while there is room for all pairs.
	Lateness time.Duration
	// MaxAge is how far before its arrival a record may reach: 1 h.
	MaxAge time.Duration
	// FlowPolicy selects the flow rows: FlowAll.
	FlowPolicy FlowPolicy
	// MaxKeys bounds the hosts, and the services, that an Aggregator holds over
	// all windows: 4,000,000. What finds no room is refused and counted.
	MaxKeys int
	// MaxPairs bounds the pairs over all windows: 1,000,000, at most about 130 MB. Beyond
	// it a newcomer takes the place of the pair that is worth least.
	MaxPairs int
}

// Defaults of Config.
const (
	DefaultV6TenantBits = 64
	DefaultLateness     = 5 * time.Second
	DefaultMaxAge       = time.Hour
	DefaultMaxKeys      = 4_000_000
	DefaultMaxPairs     = 1_000_000
)

// maxKeysLimit keeps the number of a host's row in the 23 bits that a pair has
// for it.
const maxKeysLimit = 8_000_000

// maxAgeLimit bounds MaxAge: one record may touch MaxAge/10 s windows, and that
// is the work that a single forged record can cause.
const maxAgeLimit = 6 * time.Hour

// Validate returns every mistake of c at once, nil if there is none.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, p := range c.Internal {
		if !p.IsValid() || p.Addr().Is4In6() {
			bad("networks.internal: %s is not a prefix; write it like 192.0.2.0/24 or 2001:db8::/32", p)
		}
	}
	for _, p := range c.Bogons {
		if !p.IsValid() || p.Addr().Is4In6() {
			bad("networks.bogons: %s is not a prefix; write it like 10.0.0.0/8", p)
		}
	}
	for _, i := range c.External {
		if !i.Exporter.IsValid() {
			bad("networks.external: interface %d has no exporter address", i.IfIndex)
		}
	}
	if c.V6TenantBits < 0 || c.V6TenantBits > 128 {
		bad("networks.ipv6_tenant_prefix: %d is not between 1 and 128; 64 is usual", c.V6TenantBits)
	}
	if c.Lateness < 0 {
		bad("lateness %s is negative", c.Lateness)
	}
	if c.MaxAge < 0 || c.MaxAge > maxAgeLimit {
		bad("max_age %s is not between 0 and %s", c.MaxAge, maxAgeLimit)
	}
	if c.MaxKeys < 0 {
		bad("max_keys %d is negative", c.MaxKeys)
	}
	if c.MaxPairs < 0 || c.MaxPairs > maxKeysLimit || c.MaxKeys > maxKeysLimit {
		bad("max_keys %d and max_pairs %d are not between 0 and %d", c.MaxKeys, c.MaxPairs, maxKeysLimit)
	}
	switch c.FlowPolicy {
	case "", FlowAll, FlowAttempts, FlowOff:
	default:
		bad("flow policy %q is unknown; write all, attempts or off", c.FlowPolicy)
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Bogons == nil {
		c.Bogons = DefaultBogons()
	}
	if c.V6TenantBits == 0 {
		c.V6TenantBits = DefaultV6TenantBits
	}
	if c.Lateness == 0 {
		c.Lateness = DefaultLateness
	}
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.FlowPolicy == "" {
		c.FlowPolicy = FlowAll
	}
	if c.MaxKeys == 0 {
		c.MaxKeys = DefaultMaxKeys
	}
	if c.MaxPairs == 0 {
		c.MaxPairs = DefaultMaxPairs
	}
	return c
}

// The thresholds at which a key is emitted before its window closes, so that
// the detector need not wait for it.
const (
	hotAttempts   = 8      // attempts of a host or service since its last row: a scan at 4/s shows at the next flush
	hotPorts      = 8      // distinct SYN ports of a pair since its last row
	hotOutPackets = 20_000 // estimated outgoing packets of a host or service since its last row
	hotPairOut    = 5_000  // estimated outgoing packets of a pair since its last row
	hotPairIn     = 1_000  // estimated UDP packets or resets that a pair answered with: what acquits must not come later than what accuses
)

// maxSet is the number of remotes or ports that one row may carry. Of more
// remotes a sample is kept (flow.ServiceWindow.RemotesLevel); a pair that reaches
// as many ports is emitted at once.
const maxSet = 4096

// The floor below which pairs are not stored, see PairFloor.
const (
	pairFloorPackets = 3
	pairFloorEst     = 500
	pairFloorPorts   = 2
	pairFloorRate    = 64
)

// PairDid is what a pair did in a window, as far as PairFloor asks.
type PairDid struct {
	Rate                  uint32
	IPProto               uint8
	OutPackets, InPackets uint64
	SYNPackets, RSTIn     uint64 // packets out, packets in
	SYNPorts              int
}

// PairFloor reports whether a pair that did this much in a window is stored: at
// least 3 packets in one direction that stand for 500, or SYNs to 2 ports, or,
// where the sampling rate makes one packet stand for many, any SYN and any
// answer that a flood is acquitted by (RST, UDP). Nearly all pairs are an
// ordinary client's few packets; no rule can use them, and they would be most
// of the rows.
//
// The answers count on their own: they may come by another router than the
// packets they answer (another shard, another sampling rate) or in a flow record
// that ends later. Dropped, they make a flood of every upload.
func PairFloor(d PairDid) bool {
	return enough(d.OutPackets, d.Rate) || enough(d.InPackets, d.Rate) ||
		d.SYNPorts >= pairFloorPorts ||
		d.Rate >= pairFloorRate && (d.SYNPackets >= 1 || d.RSTIn >= 1 || d.IPProto == flow.ProtoUDP && d.InPackets >= 1)
}

func enough(packets uint64, rate uint32) bool {
	return packets >= pairFloorPackets && packets*uint64(rate) >= pairFloorEst
}

// maxAhead is how far an exporter's clock may run ahead of ours before its
// times are replaced by the time of arrival.
const maxAhead = int64(60 * time.Second)

const windowNS = int64(flow.WindowSeconds) * int64(time.Second)
