package detect

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Config says which rules run and how often. Take Defaults and change it.
type Config struct {
	// Interval is the length of a slot; ticks are at its multiples. It divides
	// a minute. 0: 5 s.
	Interval time.Duration `yaml:"interval"`
	// Rules holds the mode of each rule; a rule that is not in it runs. Only
	// flow.ModeOff matters here, the other modes are the responder's.
	Rules map[flow.Rule]RuleConfig `yaml:"rules"`
	// Thresholds of all rules; the zero value means the defaults.
	Thresholds Thresholds `yaml:"thresholds"`
	// Overrides change thresholds and modes for some tenants.
	Overrides []Override `yaml:"overrides"`
}

// RuleConfig is what may be done about a rule's findings.
type RuleConfig struct {
	Mode flow.Mode `yaml:"mode"`
}

// Thresholds are the numbers of the rules. Their sources are in
// docs/detectors.md.
type Thresholds struct {
	PortClasses PortClasses       `yaml:"port_classes"`
	Netscan     NetscanConfig     `yaml:"netscan"`
	Portscan    PortscanConfig    `yaml:"portscan"`
	Blockscan   BlockscanConfig   `yaml:"blockscan"`
	UDPSweep    UDPSweepConfig    `yaml:"udp_sweep"`
	ICMPSweep   ICMPSweepConfig   `yaml:"icmp_sweep"`
	SYNFlood    SYNFloodConfig    `yaml:"syn_flood"`
	UDPFlood    UDPFloodConfig    `yaml:"udp_flood"`
	ICMPFlood   ICMPFloodConfig   `yaml:"icmp_flood"`
	PacketFlood PacketFloodConfig `yaml:"packet_flood"`
	Reflector   ReflectorConfig   `yaml:"reflector"`
	Spam        SpamConfig        `yaml:"spam"`
	Bruteforce  BruteforceConfig  `yaml:"bruteforce"`
	BlockedPort BlockedPortConfig `yaml:"blocked_port"`
	Spoofed     SpoofedConfig     `yaml:"spoofed_source"`
	Gates       GateConfig        `yaml:"gates"`
	Guards      GuardConfig       `yaml:"guards"`
}

const defaultInterval = 5 * time.Second

// rules are those with code in this release: all there are.
var rules = []flow.Rule{flow.RuleNetscan, flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep,
	flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RuleICMPFlood, flow.RulePacketFlood,
	flow.RuleReflector, flow.RuleSpam, flow.RuleBruteforce, flow.RuleBlockedPort, flow.RuleSpoofed}

// Defaults returns the configuration that runs without any: every rule in
// observe.
func Defaults() Config {
	c := Config{Interval: defaultInterval, Rules: map[flow.Rule]RuleConfig{}, Thresholds: Thresholds{
		PortClasses: defaultPortClasses(), Netscan: defaultNetscan(), Portscan: defaultPortscan(),
		Blockscan: defaultBlockscan(), UDPSweep: defaultUDPSweep(), ICMPSweep: defaultICMPSweep(),
		SYNFlood: defaultSYNFlood(), UDPFlood: defaultUDPFlood(), ICMPFlood: defaultICMPFlood(), PacketFlood: defaultPacketFlood(),
		Reflector: defaultReflector(), Spam: defaultSpam(), Bruteforce: defaultBruteforce(), BlockedPort: defaultBlockedPort(),
		Spoofed: defaultSpoofed(), Gates: defaultGates(), Guards: defaultGuards(),
	}}
	for _, r := range rules {
		c.Rules[r] = RuleConfig{Mode: flow.ModeObserve}
	}
	return c
}

// withDefaults fills in what was left out as a whole.
func (c Config) withDefaults() Config {
	d := Defaults()
	if c.Interval == 0 {
		c.Interval = d.Interval
	}
	t, dt := &c.Thresholds, d.Thresholds
	if t.PortClasses.OtherRate == 0 && t.PortClasses.AbuseProne.Ports == nil && t.PortClasses.Web.Ports == nil && t.PortClasses.P2P.Ports == nil {
		t.PortClasses = dt.PortClasses
	}
	orDefault(&t.Netscan, dt.Netscan, t.Netscan.WindowsS)
	orDefault(&t.Portscan, dt.Portscan, t.Portscan.WindowsS)
	orDefault(&t.Blockscan, dt.Blockscan, t.Blockscan.WindowsS)
	orDefault(&t.UDPSweep, dt.UDPSweep, t.UDPSweep.WindowsS)
	orDefault(&t.ICMPSweep, dt.ICMPSweep, t.ICMPSweep.WindowsS)
	orDefault(&t.SYNFlood, dt.SYNFlood, t.SYNFlood.WindowsS)
	orDefault(&t.UDPFlood, dt.UDPFlood, t.UDPFlood.WindowsS)
	orDefault(&t.ICMPFlood, dt.ICMPFlood, t.ICMPFlood.WindowsS)
	orDefault(&t.PacketFlood, dt.PacketFlood, t.PacketFlood.WindowsS)
	orDefault(&t.Reflector, dt.Reflector, t.Reflector.WindowsS)
	orDefault(&t.Spam, dt.Spam, t.Spam.WindowsS)
	orDefault(&t.Bruteforce, dt.Bruteforce, t.Bruteforce.WindowsS)
	orDefault(&t.BlockedPort, dt.BlockedPort, t.BlockedPort.WindowsS)
	orDefault(&t.Spoofed, dt.Spoofed, t.Spoofed.WindowsS)
	if t.Gates == (GateConfig{}) {
		t.Gates = dt.Gates
	}
	if t.Guards.FleetS == 0 && t.Guards.SettleS == 0 {
		t.Guards = dt.Guards
	}
	return c
}

// orDefault replaces a rule's thresholds that were left out as a whole, which is
// known by their lengths.
func orDefault[T any](cfg *T, def T, windowsS []int) {
	if windowsS == nil {
		*cfg = def
	}
}

func (c *Config) on(r flow.Rule) bool { return c.Rules[r].Mode != flow.ModeOff }

// Validate returns all errors at once, each with the path of the key (below
// "detect") and what to write. Parts left zero as a whole are the defaults and
// pass.
func (c Config) Validate() error {
	v := &validator{}
	c = c.withDefaults()
	if c.Interval < time.Second || time.Minute%c.Interval != 0 {
		v.add("interval", "is %v: write a duration from 1s to 60s that divides a minute, as 5s", c.Interval)
	}
	c.validateRules(v)
	t := &c.Thresholds
	v.rate("thresholds.port_classes.abuse_prone.rate", t.PortClasses.AbuseProne.Rate)
	v.rate("thresholds.port_classes.web.rate", t.PortClasses.Web.Rate)
	v.rate("thresholds.port_classes.p2p.rate", t.PortClasses.P2P.Rate)
	v.rate("thresholds.port_classes.other_rate", t.PortClasses.OtherRate)

	for _, p := range []struct {
		rule     flow.Rule
		validate func(*validator, string)
	}{
		{flow.RuleNetscan, t.Netscan.validate}, {flow.RulePortscan, t.Portscan.validate}, {flow.RuleBlockscan, t.Blockscan.validate},
		{flow.RuleUDPSweep, t.UDPSweep.validate}, {flow.RuleICMPSweep, t.ICMPSweep.validate},
		{flow.RuleSYNFlood, t.SYNFlood.validate}, {flow.RuleUDPFlood, t.UDPFlood.validate},
		{flow.RuleICMPFlood, t.ICMPFlood.validate}, {flow.RulePacketFlood, t.PacketFlood.validate},
		{flow.RuleReflector, t.Reflector.validate}, {flow.RuleSpam, t.Spam.validate}, {flow.RuleBruteforce, t.Bruteforce.validate},
		{flow.RuleBlockedPort, t.BlockedPort.validate}, {flow.RuleSpoofed, t.Spoofed.validate},
	} {
		p.validate(v, "thresholds."+string(p.rule))
	}

	g := &t.Gates
	v.atLeast1("thresholds.gates.min_samples", g.MinSamples)
	v.share("thresholds.gates.no_flags_share", g.NoFlagsShare)
	v.share("thresholds.gates.known_peers", g.KnownPeers)
	if g.KnownPeerDays < 1 {
		v.add("thresholds.gates.known_peer_days", "is %d: write 1 or more, as 30", g.KnownPeerDays)
	}
	t.Guards.validate(v, "thresholds.guards")
	c.validateOverrides(v)
	return errors.Join(v.errs...)
}

func (c *Config) validateRules(v *validator) {
	names := make([]flow.Rule, 0, len(c.Rules))
	for r := range c.Rules {
		names = append(names, r)
	}
	slices.Sort(names)
	for _, r := range names {
		switch m := c.Rules[r].Mode; {
		case !slices.Contains(rules, r) && m != flow.ModeOff:
			v.add("rules."+string(r), "has no detector in this release: remove it or write mode off; there are %v", rules)
		case !slices.Contains([]flow.Mode{"", flow.ModeOff, flow.ModeObserve, flow.ModeNotify, flow.ModeApprove, flow.ModeEnforce}, m):
			v.add("rules."+string(r)+".mode", "is %q: write off, observe, notify, approve or enforce", m)
		}
	}
}

type validator struct{ errs []error }

func (v *validator) add(path, format string, a ...any) {
	v.errs = append(v.errs, fmt.Errorf("%s %s", path, fmt.Sprintf(format, a...)))
}

func (v *validator) rate(path string, x float64) {
	if !(x > 0) || x > 1e12 {
		v.add(path, "is %g: write a number above 0", x)
	}
}

func (v *validator) share(path string, x float64) {
	if !(x > 0) || x > 1 {
		v.add(path, "is %g: write a number above 0 and at most 1", x)
	}
}

func (v *validator) atLeast1(path string, x uint64) {
	if x == 0 {
		v.add(path, "is 0: write 1 or more")
	}
}

func (v *validator) ordered(path string, notify, suspend uint64) {
	if suspend < notify {
		v.add(path, "is %d: write at least what notify needs (%d)", suspend, notify)
	}
}

func (v *validator) scores(path string, notify, suspend float64) {
	v.rate(path+".notify_score", notify)
	if !(suspend >= notify) {
		v.add(path+".suspend_score", "is %g: write at least notify_score (%g)", suspend, notify)
	}
}

// maxWindowS is what the windows' sums can be asked for in one tick without
// reading hours of rows, maxHoursS what the sums of hours are asked for.
const (
	maxWindowS = 1800
	maxHoursS  = 6 * 3600
)

func (v *validator) windows(path string, ws []int) {
	if len(ws) == 0 {
		v.add(path, "is empty: write lengths in seconds, as [60, 300, 1800]")
	}
	for _, w := range ws {
		if w < flow.WindowSeconds || w > maxWindowS || w%flow.WindowSeconds != 0 {
			v.add(path, "holds %d: write multiples of %d from %d to %d; only netscan is judged over hours", w, flow.WindowSeconds, flow.WindowSeconds, maxWindowS)
		}
	}
}

// windowsOrHours allows whole hours, too, beside a length of windows.
func (v *validator) windowsOrHours(path string, ws []int) {
	if len(ws) == 0 {
		v.windows(path, nil)
		return
	}
	short := 0
	for _, w := range ws {
		switch {
		case w >= flow.WindowSeconds && w <= maxWindowS && w%flow.WindowSeconds == 0:
			short++
		case w <= maxWindowS || w > maxHoursS || w%3600 != 0:
			v.add(path, "holds %d: write multiples of %d from %d to %d, or whole hours from 3600 to %d", w, flow.WindowSeconds, flow.WindowSeconds, maxWindowS, maxHoursS)
		}
	}
	if short == 0 {
		v.add(path, "has no length of %d or less: write one beside the hours, as [60, 300, 1800]", maxWindowS)
	}
}

// hash is stable over runs and machines: what a finding was computed with, in
// 12 hex digits. The mode is not part of it, the rule's version is.
func (t *Thresholds) hash(r flow.Rule) string {
	in := struct {
		Rule    flow.Rule
		Version int
		Config  any
		Ports   *PortClasses `json:",omitempty"`
		Gates   GateConfig
		Guards  GuardConfig
	}{Rule: r, Gates: t.Gates, Guards: t.Guards}
	switch r {
	case flow.RuleNetscan:
		in.Version, in.Config, in.Ports = netscanVersion, t.Netscan, &t.PortClasses
	case flow.RulePortscan:
		in.Version, in.Config = portscanVersion, t.Portscan
	case flow.RuleBlockscan:
		in.Version, in.Config = blockscanVersion, t.Blockscan
	case flow.RuleUDPSweep:
		in.Version, in.Config, in.Ports = udpSweepVersion, t.UDPSweep, &t.PortClasses
	case flow.RuleICMPSweep:
		in.Version, in.Config = icmpSweepVersion, t.ICMPSweep
	case flow.RuleSYNFlood:
		in.Version, in.Config = synFloodVersion, t.SYNFlood
	case flow.RuleUDPFlood:
		in.Version, in.Config = udpFloodVersion, t.UDPFlood
	case flow.RuleICMPFlood:
		in.Version, in.Config = icmpFloodVersion, t.ICMPFlood
	case flow.RulePacketFlood:
		in.Version, in.Config = packetFloodVersion, t.PacketFlood
	case flow.RuleReflector:
		in.Version, in.Config = reflectorVersion, t.Reflector
	case flow.RuleSpam:
		in.Version, in.Config = spamVersion, t.Spam
	case flow.RuleBruteforce:
		in.Version, in.Config = bruteforceVersion, t.Bruteforce
	case flow.RuleBlockedPort:
		in.Version, in.Config = blockedPortVersion, t.BlockedPort
	case flow.RuleSpoofed:
		in.Version, in.Config = spoofedVersion, t.Spoofed
	}
	b, err := json.Marshal(in)
	if err != nil {
		panic("detect: thresholds cannot be encoded: " + err.Error()) // plain numbers always can, unless NaN, which Validate refuses
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
