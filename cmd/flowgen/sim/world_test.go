package sim

import (
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/export/exporttest"
	"github.com/flowcordon/flowcordon/flow"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// lab is a world in simulated time whose routers' datagrams are decoded.
type lab struct {
	*World
	t    *testing.T
	a, b *exporttest.Reader
	cut  map[string]bool
	at   time.Time
}

func newLab(t *testing.T, edit func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, a: exporttest.New(t), b: exporttest.New(t), cut: map[string]bool{}, at: start}
	cfg := Config{
		Seed: 1, Tenants: 2000, Start: start, AgentB: netip.MustParseAddr("127.0.0.12"),
		A:   func(b []byte, _ int) error { l.a.Read(b); return nil },
		B:   func(b []byte, _ int) error { l.b.Read(b); return nil },
		Cut: func(mac string) bool { return l.cut[mac] },
	}
	if edit != nil {
		edit(&cfg)
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.World = w
	return l
}

func (l *lab) run(d time.Duration) {
	l.t.Helper()
	for end := l.at.Add(d); l.at.Before(end); {
		l.at = l.at.Add(TickInterval)
		if err := l.Tick(l.at); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lab) clear() { l.a.Flows, l.b.Flows = nil, nil }

func count(flows []export.Flow, match func(export.Flow) bool) (n int) {
	for _, f := range flows {
		if match(f) {
			n++
		}
	}
	return n
}

// TestRates holds the demo to what two cores carry: at most 15,000 records/s
// of NetFlow and 5,000 sFlow samples/s, attacks included.
func TestRates(t *testing.T) {
	l := newLab(t, nil)
	l.run(25 * time.Second)
	l.clear()
	l.run(10 * time.Second)
	quietA, quietB := len(l.a.Flows)/10, len(l.b.Flows)/10
	l.StartAttacks(l.at)
	l.run(18 * time.Second)
	l.clear()
	l.run(10 * time.Second)
	a, b := len(l.a.Flows)/10, len(l.b.Flows)/10
	t.Logf("router A: %d records/s, %d under attack; router B: %d samples/s, %d", quietA, a, quietB, b)
	if quietA < 1000 || a > 15_000 || a < quietA+1500 {
		t.Errorf("router A: %d and %d records/s", quietA, a)
	}
	if quietB < 50 || b > 5_000 {
		t.Errorf("router B: %d and %d samples/s", quietB, b)
	}
	if a, b := l.a.Sampling["50"], l.b.Sampling["rate"]; a != 1 || b != 256 {
		t.Errorf("announced rates %d and %d, want 1 and 256", a, b)
	}
}

func TestAttackShapes(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Tenants = 100 })
	l.run(time.Second)
	l.StartAttacks(l.at)
	l.run(50 * time.Second)
	syn := func(f export.Flow) bool {
		return f.Src == l.Scanner.Addr && f.DstPort == 22 && f.TCPFlags == flow.SYN && f.Packets == 1 && f.Bytes == 44
	}
	// 50 s less the inactive timeout, of 1,500/s, less one in a hundred open.
	if n := count(l.a.Flows, syn); n < 48_000 || n > 53_000 {
		t.Errorf("%d SYN records of the scanner", n)
	}
	dst := map[netip.Addr]bool{}
	for _, f := range l.a.Flows {
		if syn(f) {
			dst[f.Dst] = true
			if d := f.End - f.Start; d != 0 {
				t.Fatalf("a single packet lasts %d ns", d)
			}
		}
	}
	if len(dst) < 47_000 {
		t.Errorf("%d distinct destinations", len(dst))
	}
	flood := func(f export.Flow) bool {
		return f.Src == l.Flooder.Addr && f.Dst == FloodVictim && f.IPProto == flow.ProtoUDP && f.Bytes == floodSize
	}
	want := 50 * 80_000 / 256
	if n := count(l.b.Flows, flood); n < want*9/10 || n > want*11/10 {
		t.Errorf("%d samples of the flood, want about %d", n, want)
	}
	if n := count(l.b.Flows, func(f export.Flow) bool { return f.Src == FloodVictim }); n != 0 {
		t.Errorf("the victim answered %d times", n)
	}
	for _, tn := range []*Tenant{l.Scanner, l.Flooder} {
		if tn.FirstExport.IsZero() || tn.FirstExport.Before(start.Add(time.Second)) {
			t.Errorf("%s: first export at %s", tn.VDS, tn.FirstExport)
		}
	}
	if wait := l.Scanner.FirstExport.Sub(start.Add(time.Second)); wait > 3*time.Second {
		t.Errorf("first record of the scan (an answered one) came after %s", wait)
	}
}

func TestTorrentHostIsMostlyUnanswered(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Tenants = 2 })
	l.run(120 * time.Second)
	mine := func(f export.Flow) bool {
		return f.Src == l.Honest.Addr && f.IPProto == flow.ProtoTCP && f.SrcPort != 6881
	}
	dials := count(l.a.Flows, mine)
	failed := count(l.a.Flows, func(f export.Flow) bool { return mine(f) && f.TCPFlags == flow.SYN })
	if dials < 5000 || failed < dials*6/10 || failed > dials*7/10 {
		t.Errorf("%d of %d dials were not answered, want 60 to 70 %%", failed, dials)
	}
	if n := count(l.a.Flows, func(f export.Flow) bool { return f.Src == l.Honest.Addr && f.SrcPort == 6881 && f.IPProto == 17 }); n < 9000 {
		t.Errorf("%d DHT queries", n)
	}
}

func TestCutStopsTrafficAtOnce(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Tenants = 100 })
	l.StartAttacks(l.at.Add(time.Second))
	l.run(30 * time.Second)
	attackers := []*Tenant{l.Scanner, l.Flooder}
	for _, tn := range attackers {
		l.cut[tn.MAC] = true
	}
	cutAt := l.at.Add(TickInterval)
	l.run(TickInterval)
	sent := []uint64{l.Scanner.Sent, l.Flooder.Sent}
	honest := l.Honest.Sent
	l.run(20 * time.Second) // longer than the inactive timeout
	for i, tn := range attackers {
		if tn.Sent != sent[i] || tn.LastSent.After(cutAt) {
			t.Errorf("%s: sent %d packets after the cut, the last at %s", tn.VDS, tn.Sent-sent[i], tn.LastSent)
		}
		if !tn.Down() {
			t.Errorf("%s: not down", tn.VDS)
		}
	}
	if l.Honest.Sent-honest < 1000 {
		t.Errorf("the honest host sent %d packets meanwhile", l.Honest.Sent-honest)
	}
	for name, flows := range map[string][]export.Flow{"A": l.a.Flows, "B": l.b.Flows} {
		n := count(flows, func(f export.Flow) bool {
			return (f.Src == l.Scanner.Addr || f.Src == l.Flooder.Addr) && f.End > cutAt.UnixNano()
		})
		if n > 0 {
			t.Errorf("router %s: %d records of cut tenants end after the cut", name, n)
		}
	}
	l.clear()
	l.run(20 * time.Second)
	out := count(append(l.a.Flows, l.b.Flows...), func(f export.Flow) bool { return f.Src == l.Scanner.Addr || f.Src == l.Flooder.Addr })
	in := count(l.a.Flows, func(f export.Flow) bool { return f.Dst == l.Scanner.Addr })
	if out != 0 || in == 0 {
		t.Errorf("once the caches are empty: %d records from cut tenants, want none; %d to the scanner, want some", out, in)
	}
	for _, tn := range attackers { // given back: the attack goes on, as a real one would
		l.cut[tn.MAC] = false
	}
	l.run(TickInterval)
	l.run(2 * time.Second)
	for i, tn := range attackers {
		if rate := tn.Sent - sent[i]; rate < 2000 || rate > 200_000 {
			t.Errorf("%s: %d packets in two seconds after the release", tn.VDS, rate)
		}
	}
}

func TestCleanOnRelease(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Tenants, c.CleanOnRelease = 2, true })
	l.StartAttacks(l.at)
	l.run(time.Second)
	l.cut[l.Scanner.MAC] = true
	l.run(time.Second)
	l.cut[l.Scanner.MAC] = false
	sent := l.Scanner.Sent
	l.run(30 * time.Second)
	if n := l.Scanner.Sent - sent; n == 0 || n > 20_000 {
		t.Errorf("%d packets in 30 s after the release, want the web server's only", n)
	}
	if l.Flooder.Sent < 30*80_000 {
		t.Errorf("the flooder, never cut, sent %d packets", l.Flooder.Sent)
	}
}

func TestOrdinaryTrafficLooksOrdinary(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Tenants = 600 })
	l.run(60 * time.Second)
	tcp := func(f export.Flow) bool {
		return f.IPProto == flow.ProtoTCP && f.Src != l.Honest.Addr && f.Dst != l.Honest.Addr
	}
	all := count(l.a.Flows, tcp)
	if n := count(l.a.Flows, func(f export.Flow) bool { return tcp(f) && f.TCPFlags == whole }); n < all*6/10 {
		t.Errorf("%d of %d TCP records are whole conversations", n, all)
	}
	if n := count(l.a.Flows, func(f export.Flow) bool { return tcp(f) && f.TCPFlags == flow.SYN }); n == 0 {
		t.Error("no dead conversations at all")
	}
	if n := count(l.b.Flows, func(f export.Flow) bool { return !f.Src.Is4() }); n == 0 {
		t.Error("router B: no IPv6")
	}
	if n := count(l.a.Flows, func(f export.Flow) bool { return !f.Src.Is4() }); n < len(l.a.Flows)/100 {
		t.Errorf("router A: %d of %d records are IPv6", n, len(l.a.Flows))
	}
	internal := netip.MustParsePrefix("198.18.0.0/15")
	for _, f := range append(l.a.Flows, l.b.Flows...) {
		if f.Src.Is4() && internal.Contains(f.Src) == internal.Contains(f.Dst) {
			t.Fatalf("from %s to %s: not across the border", f.Src, f.Dst)
		}
		if f.End < f.Start || f.Packets == 0 || f.Bytes/f.Packets < 28 {
			t.Fatalf("impossible record %+v", f)
		}
	}
	for _, tn := range l.Tenants() {
		if tn.Profile == "switched off" && tn.Sent > 0 {
			t.Errorf("%s is switched off and sent %d packets", tn.VDS, tn.Sent)
		}
	}
}

func TestLongTalksAreCutByTheActiveTimeout(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Tenants = 2 })
	tn := l.Scanner
	k := l.begin(tn, l.now, true, flow.ProtoTCP)
	k.remote = FloodVictim
	l.tcp(k, 873, 1<<20, 1000, 150*time.Second)
	var packets uint64
	l.run(200 * time.Second)
	n := 0
	for _, f := range l.a.Flows {
		if f.Src == tn.Addr && f.DstPort == 873 {
			n++
			packets += f.Packets
			if f.End-f.Start > int64(61*time.Second) {
				t.Errorf("a record lasts %s", time.Duration(f.End-f.Start))
			}
		}
	}
	want, _ := tcpVolume(1<<20, 1000)
	if n != 3 || packets != want.packets {
		t.Errorf("%d records with %d packets, want 3 with %d", n, packets, want.packets)
	}
}

func TestSameSeedSameTraffic(t *testing.T) {
	run := func() (int, int, uint64) {
		l := newLab(t, func(c *Config) { c.Tenants = 200 })
		l.StartAttacks(l.at)
		l.run(20 * time.Second)
		return len(l.a.Flows), len(l.b.Flows), l.Honest.Sent
	}
	a1, b1, s1 := run()
	a2, b2, s2 := run()
	if a1 != a2 || b1 != b2 || s1 != s2 {
		t.Errorf("two runs: %d/%d/%d and %d/%d/%d", a1, b1, s1, a2, b2, s2)
	}
}

func BenchmarkTick(b *testing.B) {
	drop := func([]byte, int) error { return nil }
	w, err := New(Config{Tenants: 2000, Start: start, AgentB: netip.MustParseAddr("127.0.0.12"), A: drop, B: drop})
	if err != nil {
		b.Fatal(err)
	}
	w.StartAttacks(start)
	at := start
	for b.Loop() {
		at = at.Add(TickInterval)
		if err := w.Tick(at); err != nil {
			b.Fatal(err)
		}
	}
}
