package scenario

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A Scenario is a file testdata/<name>.scenario that says what one tenant does
// and what the detector must say about it, one statement a line:
//
//	title TEXT
//	length 600s                what is simulated; at 1:1 less, see budget
//	max none|notify            benign: no finding above that at any rate
//	by 1:256 suspend 90s RULE  abusive: this tier at this rate within this time
//	                           of the first packet; a rate without a line is
//	                           simulated and reported, but nothing is asked;
//	                           of this rule, or without one of any
//	by 1:1/sflow suspend 90s   the same, by sFlow only
//	tag mail                   the tenant's role tags
//	known 0.9                  share of the destinations that are known peers
//	met 300                    packets/s exchanged with each remote for hours before
//	rates 1:1 1:256            only these; the default is all four
//	export sflow|netflow       only this; the default is both
//	phase 3s                   when in a window it begins; the default is random
//	outonly                    what the tenant receives is not exported
//	tcp|udp|icmp|stream KEY=VALUE…  a source of traffic
//
// Keys of every source: rate (conversations/s; packets/s of a stream), from, to,
// port (22 or 80,443 or random or 1-65535, one after the other), dst (any,
// bogon, v6, or the size of a pool, of which the first ok·size are up),
// server (the remote opens), own (the tenant's port), v6 (the tenant is, and a
// pool), noflags, spoofed (comes in from outside with the tenant's address),
// forged (leaves by the tenant's port with any source, or with the one given),
// every and on (pulses: on for so long, every so often), spread (the pool lies in
// as many networks as it has addresses), second (another tenant sends it).
// tcp: ok, rst, half (answered and reset by the kernel, as raw SYNs are),
// silent (answered, nothing follows), scatter (SYN-ACKs for nobody, reset);
// the rest gets no answer and is tried syn times. out and in are the packets
// of a whole conversation, len and ttl those of the SYN, size and insize of
// data packets, dur its seconds.
// udp: ok (share answered), out and in packets of an exchange, size, insize,
// icmp (the tenant answers by ICMP unreachable), errors (routers on the way
// answer with ICMP errors).
// icmp: as udp; the packets are echo requests and replies.
// stream: proto (udp, tcp, icmp or an IP protocol number), dst (number of flows), ok (packets back per
// packet sent), size, insize, active (the exporter's active timeout), flags (of
// the tenant's TCP packets: syn, ack, fin, rst, psh, joined by +).
type Scenario struct {
	Name, Title string
	Length      time.Duration
	Max         flow.Tier // a benign tenant's highest finding
	Benign      bool
	By          map[uint32]Expectation // of an abusive one, by the N of 1:N
	BySFlow     map[uint32]Expectation // instead of By's, where sFlow differs
	Rates       []uint32
	Export      string // "sflow" or "netflow": only by that; empty: by both
	OutOnly     bool
	Tags        []string
	Known       float64
	Met         float64
	Phase       time.Duration // of the first packet within a window; -1: random
	Sources     []Source
}

// Expectation is a tier that must be reached.
type Expectation struct {
	Tier   flow.Tier
	Within time.Duration
	Rule   flow.Rule // empty: any
}

// AllRates are the sampling rates (1:N) of a scenario that names none.
var AllRates = []uint32{1, 256, 1000, 4096}

// Read reads a scenario from a file; an error says file and line.
func Read(path string) (*Scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &Scenario{Name: strings.TrimSuffix(filepath.Base(path), ".scenario"), By: map[uint32]Expectation{}, BySFlow: map[uint32]Expectation{}, Rates: AllRates, Length: 10 * time.Minute, Phase: -1}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := s.statement(words); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	if !s.Benign && len(s.By) == 0 {
		return nil, fmt.Errorf("%s: neither max nor by", path)
	}
	until(s.Sources, s.Length)
	return s, sc.Err()
}

// until ends at length the sources that say no end.
func until(sources []Source, length time.Duration) {
	for i := range sources {
		if sources[i].to == 0 {
			sources[i].to = length
		}
	}
}

// Sources reads the sources of a tenant who is at work for length, one a line.
func Sources(lines string, length time.Duration) ([]Source, error) {
	var all []Source
	for line := range strings.Lines(lines) {
		if words := strings.Fields(line); len(words) > 0 {
			s, err := parseSource(words)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	until(all, length)
	return all, nil
}

// Begin is when the first source starts.
func (s *Scenario) Begin() time.Duration {
	d := s.Length
	for i := range s.Sources {
		d = min(d, s.Sources[i].from)
	}
	return d
}

// Expects returns what is asked of the detector at 1:n by a protocol.
func (s *Scenario) Expects(n uint32, protocol flow.Protocol) (Expectation, bool) {
	if e, ok := s.BySFlow[n]; ok && protocol == flow.SFlow5 {
		return e, true
	}
	e, ok := s.By[n]
	return e, ok
}

// Exports says by which protocols the scenario is exported.
func (s *Scenario) Exports() []flow.Protocol {
	switch s.Export {
	case "sflow":
		return []flow.Protocol{flow.SFlow5}
	case "netflow":
		return []flow.Protocol{flow.NetFlow9}
	}
	return []flow.Protocol{flow.SFlow5, flow.NetFlow9}
}

func (s *Scenario) statement(w []string) (err error) {
	switch w[0] {
	case "title":
		s.Title = strings.Join(w[1:], " ")
	case "length":
		s.Length, err = time.ParseDuration(w[1])
	case "max":
		s.Benign = true
		err = parseTier(w[1], &s.Max)
	case "by":
		var e Expectation
		var n uint32
		rate, sflow := strings.CutSuffix(w[1], "/sflow")
		if n, err = parseRate(rate); err != nil {
			return err
		}
		if err = parseTier(w[2], &e.Tier); err != nil {
			return err
		}
		if e.Within, err = time.ParseDuration(w[3]); len(w) > 4 {
			e.Rule = flow.Rule(w[4])
		}
		if sflow {
			s.BySFlow[n] = e
		} else {
			s.By[n] = e
		}
	case "rates":
		s.Rates = nil
		for _, x := range w[1:] {
			n, err := parseRate(x)
			if err != nil {
				return err
			}
			s.Rates = append(s.Rates, n)
		}
	case "export":
		s.Export = w[1]
	case "phase":
		s.Phase, err = time.ParseDuration(w[1])
	case "outonly":
		s.OutOnly = true
	case "tag":
		s.Tags = w[1:]
	case "met":
		s.Met, err = strconv.ParseFloat(w[1], 64)
	case "known":
		s.Known, err = strconv.ParseFloat(w[1], 64)
	case "tcp", "udp", "icmp", "stream":
		var src Source
		if src, err = parseSource(w); err == nil {
			s.Sources = append(s.Sources, src)
		}
	default:
		err = fmt.Errorf("unknown statement %q", w[0])
	}
	return err
}

func parseTier(s string, t *flow.Tier) error {
	_ = t.UnmarshalText([]byte(s))
	if t.String() != s {
		return fmt.Errorf("unknown tier %q", s)
	}
	return nil
}

func parseRate(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "1:"), 10, 32)
	return uint32(n), err
}

func parseSource(w []string) (Source, error) {
	s := Source{proto: flow.ProtoTCP, dst: "any", active: ActiveTimeout, randomPort: true,
		tcp: shape{syn: 1, out: 6, in: 5, length: 60, ttl: 64, size: 100, insize: 600, dur: 0.5},
		udp: udpShape{out: 1, in: 1, size: 80, insize: 120}}
	switch w[0] {
	case "udp":
		s.proto = flow.ProtoUDP
	case "icmp":
		s.proto, s.udp.size, s.udp.insize = flow.ProtoICMP, 84, 84
	}
	if w[0] == "stream" {
		s.proto, s.stream, s.dst = flow.ProtoUDP, true, "1"
		s.udp.size, s.udp.insize = 1400, 80
	}
	for _, kv := range w[1:] {
		k, v, _ := strings.Cut(kv, "=")
		if err := s.set(k, v); err != nil {
			return s, fmt.Errorf("%s: %w", kv, err)
		}
	}
	if s.proto == flow.ProtoICMP && s.v6 {
		s.proto = flow.ProtoICMPv6
	}
	if s.dst != "any" && s.dst != "bogon" && s.dst != "v6" {
		n, err := strconv.Atoi(s.dst)
		if err != nil {
			return s, err
		}
		s.pool = n
	}
	return s, nil
}

func (s *Source) set(k, v string) (err error) {
	var f float64
	switch k {
	case "port", "dst", "proto", "server", "v6", "noflags", "spoofed", "icmp", "from", "to", "active", "every", "on", "forged", "errors", "spread", "second", "flags":
	default:
		if f, err = strconv.ParseFloat(v, 64); err != nil {
			return err
		}
	}
	switch k {
	case "rate":
		s.rate = f
	case "from":
		s.from, err = time.ParseDuration(v)
	case "to":
		s.to, err = time.ParseDuration(v)
	case "active":
		s.active, err = time.ParseDuration(v)
	case "port":
		err = s.setPorts(v)
	case "dst":
		s.dst = v
	case "own":
		s.own = uint16(f)
	case "proto":
		switch v {
		case "tcp":
			s.proto = flow.ProtoTCP
		case "udp":
		case "icmp":
			s.proto = flow.ProtoICMP
		default:
			var p uint64
			p, err = strconv.ParseUint(v, 10, 8)
			s.proto = uint8(p)
		}
	case "server":
		s.server = true
	case "v6":
		s.v6 = true
	case "noflags":
		s.noFlags = true
	case "spoofed":
		s.spoofed = true
	case "icmp":
		s.udp.icmp = true
	case "errors":
		s.udp.errors = true
	case "spread":
		s.spread = true
	case "second":
		s.second = true
	case "flags":
		s.flags, err = parseFlags(v)
	case "forged":
		s.forged = v
	case "every":
		s.every, err = time.ParseDuration(v)
	case "on":
		s.on, err = time.ParseDuration(v)
	case "ok":
		s.tcp.ok, s.udp.ok = f, f
	case "rst":
		s.tcp.rst = f
	case "half":
		s.tcp.half = f
	case "silent":
		s.tcp.silent = f
	case "scatter":
		s.tcp.scatter = f
	case "syn":
		s.tcp.syn = int(f)
	case "out":
		s.tcp.out, s.udp.out = int(f), int(f)
	case "in":
		s.tcp.in, s.udp.in = int(f), int(f)
	case "len":
		s.tcp.length = uint16(f)
	case "ttl":
		s.tcp.ttl = uint8(f)
	case "size":
		s.tcp.size, s.udp.size = uint16(f), int(f)
	case "insize":
		s.tcp.insize, s.udp.insize = uint16(f), int(f)
	case "dur":
		s.tcp.dur = f
	default:
		return fmt.Errorf("unknown key")
	}
	return err
}

func parseFlags(v string) (flags uint8, err error) {
	for _, name := range strings.Split(v, "+") {
		f, ok := map[string]uint8{"syn": flow.SYN, "ack": flow.ACK, "fin": flow.FIN, "rst": flow.RST, "psh": flow.PSH}[name]
		if !ok {
			return 0, fmt.Errorf("unknown flag %q: write syn, ack, fin, rst or psh", name)
		}
		flags |= f
	}
	return flags, nil
}

func (s *Source) setPorts(v string) error {
	if v == "random" {
		return nil
	}
	s.randomPort = false
	sep := ","
	if strings.Contains(v, "-") {
		s.sequential, sep = true, "-"
	}
	for _, x := range strings.Split(v, sep) {
		p, err := strconv.ParseUint(x, 10, 16)
		if err != nil {
			return err
		}
		s.ports = append(s.ports, uint16(p))
	}
	return nil
}
