package detect

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

var _ Screener = (*store.Store)(nil)

// fleetOf makes rows that are near the thresholds of the rules, over seconds up to
// to: scans, sweeps, floods and logins with more or fewer answers, of one sampling
// rate or several.
func fleetOf(rng *rand.Rand, tenants int, from, to time.Time) *flow.Batch {
	b := &flow.Batch{}
	for i := range tenants {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 11<<24|uint32(i+1))
		rates := []uint32{1, 100, 1000}[i%3:][:1]
		if i%5 == 0 {
			rates = []uint32{10, 1000}
		}
		strength, answered := rng.Float64()*40, rng.Float64()*0.5
		began := from.Add(time.Duration(rng.Int64N(int64(to.Sub(from)))))
		for at := floorTo(began, window); at.Before(to); at = at.Add(window) {
			k := flow.Key{Start: at.Unix(), Tenant: netip.AddrFrom4(a), Rate: rates[rng.IntN(len(rates))]}
			addRows(b, rng, k, i, 1+uint64(strength*rng.Float64()), answered)
			if i%3 == 1 {
				addLogins(b, rng, k, i, strength/40)
			}
		}
	}
	return b
}

// addRows adds one window of one tenant.
func addRows(b *flow.Batch, rng *rand.Rand, k flow.Key, kind int, n uint64, answered float64) {
	some := func(share float64) uint64 { return uint64(share * float64(n) * rng.Float64()) }
	s := flow.ServiceWindow{Key: k, Role: flow.RoleClient, IPProto: flow.ProtoTCP, SvcPort: []uint16{22, 443, 8333, 6000}[kind%4], Attempts: n}
	for range n {
		s.Remotes = append(s.Remotes, rng.Uint64()>>uint(rng.IntN(3)*28)&^7)
	}
	s.OutRecords, s.InRecords, s.OutPackets, s.InPackets, s.OutBytes, s.InBytes = n, some(answered), n, some(answered), 60*n, 60*n
	switch kind % 6 {
	case 0, 1, 2:
		s.SYNOut, s.RawSYN, s.SYNACKIn, s.EstOut, s.EstIn = n, []uint64{0, n, n / 2}[kind%3], some(answered), some(answered), some(answered)
		if kind%4 == 3 { // many ports
			s.SvcPort = uint16(1024 + rng.IntN(4))
		}
	case 3:
		s.IPProto, s.SvcPort = flow.ProtoUDP, 161
	case 4:
		s.IPProto, s.SvcPort = flow.ProtoICMP, 0
	case 5:
		s.Role, s.IPProto, s.SvcPort, s.Attempts, s.Remotes, s.OutBytes = flow.RoleServer, flow.ProtoUDP, 53, 0, nil, 3000*n
	}
	if kind%7 == 6 && s.Remotes != nil {
		s.RemotesLevel = 3
	}
	p := flow.PairWindow{Key: k, Remote: netip.AddrFrom4([4]byte{22, 0, 0, byte(kind)}), IPProto: []uint8{flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP, 47}[kind%4]}
	// About the rate of the protocol's flood, in ten seconds.
	p.OutPackets = uint64(float64(10*[]uint64{500, 15_000, 300, 50_000}[kind%4])*float64(n)/15) / uint64(k.Rate)
	p.OutRecords, p.OutBytes, p.InPackets = p.OutPackets, []uint64{60, 900}[kind%2]*p.OutPackets, uint64(answered*float64(p.OutPackets)/20)
	if p.IPProto == flow.ProtoTCP {
		p.SYNPackets, p.SYNOut = p.OutPackets, p.OutPackets
		for i := range min(n, p.SYNOut) {
			p.Ports = append(p.Ports, uint16(100*n+i))
		}
	}
	h := flow.HostWindow{Key: k, Counts: s.Counts, Classes: s.Classes}
	h.Counts.Add(p.Counts)
	b.Services, b.Pairs, b.Hosts = append(b.Services, s), append(b.Pairs, p), append(b.Hosts, h)
}

// addLogins adds one window of a client of a login, mail or closed port, about as
// often as bruteforce, spam and blocked_port begin to see.
func addLogins(b *flow.Batch, rng *rand.Rand, k flow.Key, kind int, strength float64) {
	n := uint64(rng.Float64() * 12 * strength)
	s := flow.ServiceWindow{Key: k, Role: flow.RoleClient, IPProto: flow.ProtoTCP, SvcPort: []uint16{3389, 25, 445, 5900}[kind/3%4], Attempts: n}
	s.OutRecords, s.InRecords, s.OutPackets, s.InPackets, s.OutBytes, s.InBytes = 2*n, n, 15*n, 12*n, 1500*n, 1500*n
	s.SYNOut, s.EstOut, s.SYNACKIn, s.EstIn = n, n, n, n
	if kind%2 == 0 { // samples
		s.OutRecords = s.OutPackets
	}
	for i := range n {
		remote := netip.AddrFrom4([4]byte{26, byte(kind), byte(rng.IntN(2)), byte(rng.IntN(250))})
		s.Remotes = append(s.Remotes, flow.RemoteHash(remote))
		at := (k.Start + int64(i%10)) * 1e9
		b.Flows = append(b.Flows, flow.FlowRow{Time: at, Start: at, End: at, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: k.Tenant, Host: k.Tenant, Remote: remote,
			HostPort: 40_000, RemotePort: s.SvcPort, SvcPort: s.SvcPort, Dir: flow.Out, IPProto: s.IPProto, Role: s.Role, Class: flow.ClassSYN, Packets: 15, Bytes: 1500, Rate: k.Rate})
	}
	b.Services = append(b.Services, s)
}

// What bruteforce finds, of rows at one rate or several, loginBound lets pass.
func TestLoginBound(t *testing.T) {
	cfg := defaultBruteforce()
	rng := rand.New(rand.NewPCG(3, 4))
	found, stopped := 0, 0
	for range 200_000 {
		r := flow.Range{From: epoch, To: epoch.Add([]time.Duration{5 * time.Minute, 30 * time.Minute}[rng.IntN(2)])}
		rates := []uint64{1, 2, 3, 10, 100, 256, 1000, 4096, 65536, 1 << 22}
		rates = rates[rng.IntN(len(rates)):]
		rates = rates[:1+rng.IntN(min(3, len(rates)))]
		var syns, acks, scaledSYNs, scaledACKs, n uint64
		for range 1 + rng.IntN(20) {
			rate := rates[rng.IntN(len(rates))]
			most := 1 + uint64(rng.ExpFloat64()*20*cfg.Rate*r.Seconds()/20/float64(rate))
			x, y := rng.Uint64N(most+1), rng.Uint64N(most+1)
			syns, acks, scaledSYNs, scaledACKs, n = syns+x, acks+y, scaledSYNs+x*rate, scaledACKs+y*rate, max(n, rate)
		}
		s := flow.ServiceStat{IPProto: flow.ProtoTCP, SvcPort: 22, Rate: float64(n)}
		s.SYNOut, s.SYNACKIn = thinTo(scaledSYNs, n), thinTo(scaledACKs, n)
		s.OutRecords = s.SYNOut + s.SYNACKIn
		if rng.IntN(2) == 0 { // packets of flows, else samples
			s.OutPackets = 10 * s.SYNACKIn
		} else {
			s.OutPackets, s.OutRecords = 5*s.OutRecords, 5*s.OutRecords
		}
		s.OutBytes = 150 * s.OutPackets
		b := loginBound(&cfg, r)
		opened, openings := float64(syns+acks), float64(scaledSYNs+scaledACKs)
		passes := openings >= b.least && b.enough(openings, opened)
		if _, ok := bruteforce(&cfg, &s, r); ok {
			found++
			if !passes {
				t.Fatalf("%d of %v and %d of %v at 1:%d over %s are found and not asked for", syns, scaledSYNs, acks, scaledACKs, n, r.To.Sub(r.From))
			}
		}
		if !passes {
			stopped++
		}
	}
	if found < 1000 || stopped < 1000 {
		t.Errorf("%d found and %d not asked for: nothing is shown", found, stopped)
	}
}

// What reflector finds, excessBound lets pass.
func TestAnswersBound(t *testing.T) {
	cfg := defaultReflector()
	rng := rand.New(rand.NewPCG(5, 6))
	found, stopped := 0, 0
	for range 100_000 {
		r := flow.Range{From: epoch, To: epoch.Add([]time.Duration{time.Minute, 5 * time.Minute}[rng.IntN(2)])}
		port := []uint16{53, 123, 1900}[rng.IntN(3)]
		benign := cfg.service(port).Rate * r.Seconds()
		rates := []uint64{1, 2, 10, 256, 4096, 1 << 20}
		rates = rates[rng.IntN(len(rates)):]
		rates = rates[:1+rng.IntN(min(2, len(rates)))]
		var packets, scaled, n uint64
		for range 1 + rng.IntN(10) {
			rate := rates[rng.IntN(len(rates))]
			x := uint64(rng.ExpFloat64() * benign / 5 / float64(rate))
			packets, scaled, n = packets+x, scaled+x*rate, max(n, rate)
		}
		s := flow.ServiceStat{IPProto: flow.ProtoUDP, SvcPort: port, Rate: float64(n)}
		s.OutPackets = thinTo(scaled, n)
		s.OutBytes = 1400 * s.OutPackets
		b := excessBound(flow.SignAnswered, flow.SignAnswers, cfg.NotifyScore, r.Seconds())
		stands := float64(scaled) / cfg.service(port).Rate
		passes := stands >= b.least && b.enough(stands, float64(packets))
		if _, ok := reflector(&cfg, &s, r); ok {
			found++
			if !passes {
				t.Fatalf("%d packets of port %d, which stand for %d, at 1:%d over %s are found and not asked for", packets, port, scaled, n, r.To.Sub(r.From))
			}
		}
		if !passes {
			stopped++
		}
	}
	if found < 1000 || stopped < 1000 {
		t.Errorf("%d found and %d not asked for: nothing is shown", found, stopped)
	}
}

// Who is asked for only because slots show something is found as if everybody
// were: while a detector goes on, when rows come late for windows long past, and
// by a detector that has just started.
func TestScreenLosesNothing(t *testing.T) {
	ctx := context.Background()
	s := storetest.New(t)
	rng := rand.New(rand.NewPCG(1, 2))
	start := epoch.Add(time.Hour)
	write := func(b *flow.Batch) {
		t.Helper()
		if err := s.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	tick := func(d *Detector, ts time.Time) []flow.Finding {
		t.Helper()
		fs, err := d.Tick(ctx, ts)
		if err != nil {
			t.Fatal(err)
		}
		return fs
	}
	plain := func() *Detector { return New(Config{}, Deps{Windows: struct{ Windows }{s}}) }
	screened := func() *Detector { return New(Config{}, Deps{Windows: s}) }
	all, some := plain(), screened()
	if all.screen != nil || some.screen == nil {
		t.Fatal("the detectors do not differ")
	}
	same := func(what string, want, got []flow.Finding) {
		t.Helper()
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("%s (-everybody +suspects):\n%s", what, d)
		}
	}
	seen, logins := map[flow.Rule]bool{}, 0
	at := start
	for i, step := range []time.Duration{5 * time.Minute, 5 * time.Second, 25 * time.Second, 14*time.Minute + 30*time.Second} {
		write(fleetOf(rng, 60, at, at.Add(step)))
		at = at.Add(step)
		if i == 3 {
			write(fleetOf(rng, 40, start, start.Add(2*time.Minute))) // late
		}
		want := tick(all, at)
		same(at.String(), want, tick(some, at))
		logins = max(logins, len(some.screen.suspects["totals 6 client"]))
		for _, f := range want {
			seen[f.Rule] = true
		}
	}
	same("after a restart", tick(plain(), at), tick(screened(), at))
	for _, r := range []flow.Rule{flow.RuleNetscan, flow.RulePortscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RulePacketFlood,
		flow.RuleSpam, flow.RuleBruteforce, flow.RuleBlockedPort} {
		if !seen[r] {
			t.Errorf("no finding of %s: nothing is shown of it", r)
		}
	}
	if n := len(some.screen.suspects["clients 6"]); n == 0 || n >= 40 {
		t.Errorf("%d suspects of TCP scans: the screen does not tell anybody apart", n)
	}
	if logins == 0 || logins >= 30 { // clients of such ports
		t.Errorf("%d suspects at logins: the screen does not tell anybody apart", logins)
	}
}
