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
	seen := map[flow.Rule]bool{}
	at := start
	for i, step := range []time.Duration{5 * time.Minute, 5 * time.Second, 25 * time.Second, 14*time.Minute + 30*time.Second} {
		write(fleetOf(rng, 60, at, at.Add(step)))
		at = at.Add(step)
		if i == 3 {
			write(fleetOf(rng, 40, start, start.Add(2*time.Minute))) // late
		}
		want := tick(all, at)
		same(at.String(), want, tick(some, at))
		for _, f := range want {
			seen[f.Rule] = true
		}
	}
	same("after a restart", tick(plain(), at), tick(screened(), at))
	for _, r := range []flow.Rule{flow.RuleNetscan, flow.RulePortscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RulePacketFlood} {
		if !seen[r] {
			t.Errorf("no finding of %s: nothing is shown of it", r)
		}
	}
	if n := len(some.screen.suspects["clients 6"]); n == 0 || n >= 40 {
		t.Errorf("%d suspects of TCP scans: the screen does not tell anybody apart", n)
	}
}
