package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Method is how a cut is announced.
type Method string

// The methods. Only FlowSpec knows ports and rates, and only it stops what a
// tenant sends by itself.
const (
	// MethodFlowSpec matches packets by their source address (RFC 8955, 8956).
	MethodFlowSpec Method = "flowspec"
	// MethodRTBH is a blackhole route to the tenant (RFC 7999): what is sent to
	// it is dropped, what it sends is not.
	MethodRTBH Method = "rtbh"
	// MethodSRTBH is the same route where the routers check sources by unicast
	// reverse path (RFC 5635 §4): what the tenant sends is dropped as well.
	MethodSRTBH Method = "srtbh"
)

const (
	// defaultTimeout bounds one operation, which takes some milliseconds.
	defaultTimeout = 10 * time.Second

	// defaultMaxRules is what the smallest edge routers hold beside the rules
	// of others: their tables are hundreds to some thousands of entries.
	defaultMaxRules = 200

	familyV4, familyV6 = "ipv4", "ipv6"

	defaultV6Length = 64
	defaultPort     = 179
	defaultHold     = 90 * time.Second

	// maxReceived bounds what a peer may send us, which we have no use for. A
	// router without an export filter would fill our memory with its table.
	maxReceived = 10_000
)

// Peer is a router that our routes go to.
type Peer struct {
	Address  netip.Addr
	Port     uint16 // 0: 179
	AS       uint32
	LocalAS  uint32     // 0: Config.AS
	Local    netip.Addr // source of the session; unset: as the kernel routes
	Password []byte     // RFC 2385 (TCP MD5); empty: none
	Multihop uint8      // TTL of an eBGP session that is not on the link; 0: on the link
	Passive  bool       // it connects to us; needs Config.ListenPort
	// Families are what the router is asked to take, ipv4 and ipv6; nil: both.
	Families []string
	// TTLSecurity takes only packets that no router has passed on (RFC 5082);
	// the router must be told so, too.
	TTLSecurity bool
}

// Config says who we are in BGP, which routers are told, and what may be announced.
type Config struct {
	Name string // of the adapter; the inventory's hypervisor field, or the controller's fallback, refers to it
	// Dir holds bgp-<name>.json with our marks: a router keeps none.
	Dir        string
	AS         uint32
	RouterID   netip.Addr   // an IPv4 address of ours, unique among the routers
	Listen     []netip.Addr // where ListenPort is bound
	ListenPort uint16       // 0: we only connect
	Peers      []Peer
	Method     Method // empty: flowspec
	// OwnPrefixes are the only sources that may ever be announced.
	OwnPrefixes []netip.Prefix
	// V6Length is how long the prefix of a tenant's IPv6 address is; 0: 64. An
	// IPv4 tenant is always a /32.
	V6Length int
	MaxRules int // that are announced at once, by all incidents together; 0: 200
	// RequirePeers is how many sessions must be up for an act to count; 0: 1.
	RequirePeers int
	// Communities of RTBH routes, "65535:666" or "no-export"; nil: both of
	// these. NextHop4 and NextHop6 are their next hops, which the routers
	// discard; unset: 192.0.2.1 and 100::1 (RFC 5635 §3, RFC 6666).
	Communities        []string
	NextHop4, NextHop6 netip.Addr
	// GracefulRestart is how long routers keep our routes when our process
	// ends (RFC 4724); 0: not at all, the routes go with the session.
	GracefulRestart time.Duration
	HoldTime        time.Duration // of the sessions; 0: 90 s, at least 3 s
	ConnectRetry    time.Duration // 0: 10 s
	Timeout         time.Duration // of one operation; 0: 10 s
}

func (c Config) withDefaults() Config {
	if c.Method == "" {
		c.Method = MethodFlowSpec
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&c.V6Length, defaultV6Length}, {&c.MaxRules, defaultMaxRules}, {&c.RequirePeers, 1}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.HoldTime, defaultHold}, {&c.ConnectRetry, 10 * time.Second}, {&c.Timeout, defaultTimeout}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Communities == nil {
		c.Communities = []string{"65535:666", "no-export"}
	}
	if !c.NextHop4.IsValid() {
		c.NextHop4 = netip.MustParseAddr("192.0.2.1")
	}
	if !c.NextHop6.IsValid() {
		c.NextHop6 = netip.MustParseAddr("100::1")
	}
	c.Peers = slices.Clone(c.Peers)
	for i := range c.Peers {
		if c.Peers[i].Port == 0 {
			c.Peers[i].Port = defaultPort
		}
		if c.Peers[i].LocalAS == 0 {
			c.Peers[i].LocalAS = c.AS
		}
	}
	return c
}

// Validate reports every mistake in the configuration at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !goodName(c.Name) {
		bad("name: %q; write letters, digits, - and _: it is part of a file's name, and the inventory's hypervisor field refers to it", c.Name)
	}
	if c.Dir == "" {
		bad("dir: missing; write the directory that keeps the marks over a restart")
	}
	if c.AS == 0 {
		bad("as: missing; write our autonomous system's number")
	}
	if !c.RouterID.Is4() || c.RouterID.IsUnspecified() {
		bad("router_id: write an IPv4 address of ours that no other router has for its id")
	}
	if c.ListenPort != 0 && len(c.Listen) == 0 {
		bad("listen: missing beside listen_port; write the addresses to bind, such as 10.0.0.5")
	}
	if !slices.Contains([]Method{"", MethodFlowSpec, MethodRTBH, MethodSRTBH}, c.Method) {
		bad("method: %q; write flowspec, rtbh or srtbh", c.Method)
	}
	if c.V6Length != 0 && (c.V6Length < 32 || c.V6Length > 128) {
		bad("v6_length: %d; write 32 to 128, the length of a tenant's IPv6 prefix", c.V6Length)
	}
	if c.MaxRules < 0 {
		bad("max_rules: %d is negative", c.MaxRules)
	}
	if c.RequirePeers < 0 || c.RequirePeers > len(c.Peers) {
		bad("require_peers: %d, but %d peers are configured", c.RequirePeers, len(c.Peers))
	}
	for name, d := range map[string]time.Duration{
		"graceful_restart": c.GracefulRestart, "hold_time": c.HoldTime, "connect_retry": c.ConnectRetry, "timeout": c.Timeout,
	} {
		if d < 0 {
			bad("%s: %v is negative; write a duration such as 90s", name, d)
		}
	}
	if c.HoldTime != 0 && c.HoldTime < 3*time.Second {
		bad("hold_time: %v; BGP allows 3s or more", c.HoldTime)
	}
	if c.GracefulRestart >= 4096*time.Second {
		bad("graceful_restart: %v; BGP allows up to 4095s", c.GracefulRestart)
	}
	if _, err := communities(c.Communities); err != nil {
		errs = append(errs, err)
	}
	if c.NextHop4.IsValid() && !c.NextHop4.Is4() {
		bad("next_hop_v4: %s is no IPv4 address", c.NextHop4)
	}
	if c.NextHop6.IsValid() && !c.NextHop6.Is6() {
		bad("next_hop_v6: %s is no IPv6 address", c.NextHop6)
	}
	return errors.Join(append(append(errs, c.checkOwn()...), c.checkPeers()...)...)
}

func (c Config) checkOwn() []error {
	if len(c.OwnPrefixes) == 0 {
		return []error{errors.New("own_prefixes: missing; write the networks whose addresses may be announced")}
	}
	var errs []error
	for i, p := range c.OwnPrefixes {
		switch {
		case !p.IsValid():
			errs = append(errs, fmt.Errorf("own_prefixes[%d]: not a prefix; write one such as 11.0.0.0/22", i))
		case p != p.Masked():
			errs = append(errs, fmt.Errorf("own_prefixes[%d]: %s has host bits; write %s", i, p, p.Masked()))
		case p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16:
			errs = append(errs, fmt.Errorf("own_prefixes[%d]: %s is wider than any provider's network", i, p))
		case p.Addr().Is6() && c.withDefaults().V6Length < p.Bits():
			errs = append(errs, fmt.Errorf("own_prefixes[%d]: %s is longer than v6_length %d, so nothing in it can be announced", i, p, c.withDefaults().V6Length))
		}
	}
	return errs
}

func (c Config) checkPeers() []error {
	if len(c.Peers) == 0 {
		return []error{errors.New("peers: missing; write at least one router")}
	}
	var errs []error
	seen := map[netip.Addr]bool{}
	for i, p := range c.Peers {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("peers[%d]%s", i, fmt.Sprintf(format, args...)))
		}
		if !p.Address.IsValid() {
			bad(".address: missing; write the router's address")
		} else if seen[p.Address] {
			bad(".address: %s twice; one session for each router", p.Address)
		}
		seen[p.Address] = true
		if p.AS == 0 {
			bad(".as: missing; write the router's autonomous system")
		}
		if p.Local.IsValid() && p.Local.Is4() != p.Address.Is4() {
			bad(".local_address: %s and %s are of different families", p.Local, p.Address)
		}
		if len(p.Password) > 80 {
			bad(".password_file: TCP MD5 keys have at most 80 bytes")
		}
		if p.Passive && c.ListenPort == 0 {
			bad(".passive: needs listen_port, or neither side connects")
		}
		local := p.LocalAS
		if local == 0 {
			local = c.AS
		}
		for j, f := range p.Families {
			if f != familyV4 && f != familyV6 || slices.Contains(p.Families[:j], f) {
				bad(".families[%d]: %q; write ipv4 or ipv6, each once", j, f)
			}
		}
		if p.Multihop != 0 && p.TTLSecurity {
			bad(".ttl_security: not together with multihop")
		}
		if p.Multihop != 0 && p.AS == local {
			bad(".multihop: only eBGP sessions need it, and this one is iBGP")
		}
	}
	return errs
}

func goodName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// communities parses "65535:666", RFC 1997's names and RFC 7999's.
func communities(in []string) ([]uint32, error) {
	var out []uint32
	for i, s := range in {
		switch s {
		case "blackhole":
			out = append(out, 65535<<16|666)
			continue
		case "no-export":
			out = append(out, 0xFFFFFF01)
			continue
		case "no-advertise":
			out = append(out, 0xFFFFFF02)
			continue
		}
		hi, lo, _ := strings.Cut(s, ":")
		a, err1 := strconv.ParseUint(hi, 10, 16)
		b, err2 := strconv.ParseUint(lo, 10, 16)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("communities[%d]: %q; write 65535:666, blackhole, no-export or no-advertise", i, s)
		}
		out = append(out, uint32(a<<16|b))
	}
	return out, nil
}
