package detect

import (
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func TestUDPCarpetBoundaries(t *testing.T) {
	five := flow.Range{From: epoch, To: epoch.Add(5 * time.Minute)}
	const small, large = 15_000_000, 30_000_000 // what 50,000/s and 100,000/s are in five minutes
	at30, at30large := minExcessCount(small, 30), minExcessCount(large, 30)
	for _, c := range []struct {
		name                   string
		out, size, in, remotes uint64
		n                      float64
		net, host              flow.Tier // of one network, and over all of them
	}{
		{"small packets", at30, 400, 0, 8, 1, flow.TierSuspend, flow.TierSuspend},
		{"below 50,000/s", small, 400, 0, 8, 1, flow.TierNotify, flow.TierNone},
		{"large packets", at30, 401, 0, 8, 1, flow.TierNotify, flow.TierNotify},
		{"just below 100,000/s", at30large - 1, 401, 0, 8, 1, flow.TierNotify, flow.TierNotify},
		{"100,000/s into silence", at30large, 1400, 0, 8, 1, flow.TierSuspend, flow.TierSuspend},
		{"seven addresses of one network", at30large, 1400, 0, 7, 1, flow.TierNone, flow.TierSuspend},
		{"four, of which none gets 15,000/s", at30, 100, 0, 4, 1, flow.TierNone, flow.TierSuspend},
		{"three are judged alone", at30large, 1400, 0, 3, 1, flow.TierNone, flow.TierNone},
		{"1 in 1,000 comes back: media", at30large, 1400, at30large / 1000, 300, 1, flow.TierNotify, flow.TierNotify},
		{"and it goes to 320", at30large, 1400, at30large / 1000, 320, 1, flow.TierNotify, flow.TierSuspend},
		{"RTP's reports, 1 in 1,700, in 130,000 samples", 130_000, 1356, 76, 300, 256, flow.TierNotify, flow.TierNotify},
		{"too few samples to prove silence", 14_000, 1400, 0, 50, 4096, flow.TierNotify, flow.TierNotify},
		{"enough", 14_008, 1400, 0, 50, 4096, flow.TierSuspend, flow.TierSuspend},
		{"2 in 100 come back", at30, 100, at30/50 + 1, 50, 1, flow.TierNotify, flow.TierNotify},
		{"5 in 100", at30, 100, at30 / 20, 50, 1, flow.TierNone, flow.TierNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultUDPFlood()
			p := flow.PrefixStat{Tenant: tenant4, Prefix: netip.MustParsePrefix("22.0.0.0/24"), OutPackets: c.out, OutBytes: c.out * c.size, InPackets: c.in, Remotes: c.remotes, Rate: c.n}
			if f, _ := carpet(&cfg, &p, five); f.Tier != c.net {
				t.Errorf("one network: %s (score %.2f), want %s", f.Tier, f.Score, c.net)
			}
			s := flow.ServiceStat{Tenant: tenant4, IPProto: flow.ProtoUDP, Rate: c.n, Counts: flow.Counts{OutPackets: c.out, OutBytes: c.out * c.size, InPackets: c.in}}
			if f, _ := hostFlood(&cfg, &s, c.remotes, five); f.Tier != c.host {
				t.Errorf("all networks: %s (score %.2f), want %s", f.Tier, f.Score, c.host)
			}
		})
	}
}

func TestBurstsAreLeftOutWhereverTheyLie(t *testing.T) {
	for _, c := range []struct {
		name    string
		ns      []float64
		stretch int
		times   int
		want    float64
	}{
		{"nothing", nil, 1, 2, 0},
		{"two parts are left out", []float64{1, 9, 2, 8, 3, 4}, 1, 2, 10},
		{"neighbours, too", []float64{1, 9, 8, 2, 3, 4}, 1, 2, 10},
		{"three bursts that lie across edges", []float64{0, 5, 5, 0, 5, 5, 0, 5, 5, 0}, 2, 2, 10},
		{"three of them are left out", []float64{0, 5, 5, 0, 5, 5, 0, 5, 5, 0}, 2, 3, 0},
		{"a stretch is not left out twice", []float64{9, 9, 9, 1, 1, 1}, 2, 2, 2},
		{"steady", []float64{3, 3, 3, 3, 3, 3, 3, 3, 3, 3}, 2, 2, 18},
		{"steady, three", []float64{3, 3, 3, 3, 3, 3, 3, 3, 3, 3}, 2, 3, 12},
		{"too short for two", []float64{3, 3, 3}, 2, 2, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := withoutStrongest(c.ns, c.stretch, c.times); got != c.want {
				t.Errorf("%g are left, want %g", got, c.want)
			}
		})
	}
	for _, c := range []struct {
		ns   []float64
		want bool
	}{{nil, false}, {[]float64{0, 0, 0}, false}, {[]float64{5, 5}, false}, {[]float64{0, 4, 5, 6, 0}, true}, {[]float64{5, 1, 5, 5, 1, 5}, false}, {[]float64{9, 4, 5, 5}, true}, {[]float64{3, 3, 3}, false}, {[]float64{3, 3, 9}, false}, {[]float64{4, 4, 99}, true}} {
		if got := even(c.ns, 3, 4); got != c.want {
			t.Errorf("%g has three alike: %t", c.ns, got)
		}
	}
	for length, want := range map[time.Duration][2]int{time.Minute: {6, 1}, 5 * time.Minute: {10, 2}, 30 * time.Minute: {12, 2}} {
		parts, stretch := floodParts(flow.Range{From: epoch, To: epoch.Add(length)}, length)
		if len(parts) != want[0] || stretch != want[1] || parts[len(parts)-1].To != epoch.Add(length) {
			t.Errorf("%s: %d parts, %d of them a sixth, to %s", length, len(parts), stretch, parts[len(parts)-1].To)
		}
	}
}

func TestReflectorSparesClientsOfLongStanding(t *testing.T) {
	serves := func(port uint16, out, size, in, asked uint64) *flow.ServiceStat {
		return &flow.ServiceStat{SvcPort: port, Counts: flow.Counts{OutPackets: out, OutBytes: out * size, InPackets: in, InBytes: in * asked}}
	}
	for _, c := range []struct {
		name           string
		s              *flow.ServiceStat
		remotes, known uint64
		want           bool
	}{
		{"texts and keys for known clients", serves(53, 10_000, 430, 10_000, 78), 28, 28, true},
		{"three of ten are known", serves(53, 10_000, 430, 10_000, 78), 30, 9, true},
		{"fewer", serves(53, 10_000, 430, 10_000, 78), 30, 8, false},
		{"twenty times the question", serves(53, 10_000, 1400, 10_000, 70), 28, 28, false},
		{"few samples do not prove that it is", serves(53, 100, 1400, 100, 70), 28, 28, true},
		{"ten times in two packets", serves(53, 20_000, 390, 10_000, 78), 28, 28, true},
		{"NTP has answers of one size", serves(123, 10_000, 430, 10_000, 78), 28, 28, false},
		{"no question seen", serves(53, 10_000, 430, 0, 0), 28, 28, false},
		{"nobody known to the store", serves(53, 10_000, 430, 10_000, 78), 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultReflector()
			if got := cfg.serves(c.s, flow.Peers{Remotes: c.remotes, Known: c.known}, 0.3); got != c.want {
				t.Errorf("%t, want %t", got, c.want)
			}
		})
	}
}
