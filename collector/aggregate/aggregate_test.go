package aggregate

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	sec = int64(time.Second)
	t0  = int64(1_800_000_000) * sec // a window starts here
)

var (
	exporter1 = netip.MustParseAddr("192.0.2.250")
	tenantA   = netip.MustParseAddr("198.18.0.1")
	tenantB   = netip.MustParseAddr("198.18.0.2")
	remote1   = netip.MustParseAddr("9.9.9.9")
)

func testConfig() Config {
	return Config{Internal: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("2001:db8::/32")}}
}

// rec is a SYN sample from tenantA at t0, changed by mods.
func rec(mods ...func(*flow.Record)) *flow.Record {
	r := &flow.Record{
		Exporter: exporter1, Protocol: flow.SFlow5, Received: t0, Start: t0, End: t0,
		Src: tenantA, Dst: remote1, SrcPort: 40000, DstPort: 22, IPProto: flow.ProtoTCP, TCPFlags: flow.SYN,
		Packets: 1, Bytes: 44, IPLen: 44, SamplingRate: 1, SamplingSource: flow.SamplingRecord,
		Has: flow.HasPorts | flow.HasTCPFlags | flow.HasIPLen | flow.HasIPProto,
	}
	for _, m := range mods {
		m(r)
	}
	return r
}

func at(received int64) func(*flow.Record) {
	return func(r *flow.Record) { r.Received, r.Start, r.End = received, received, received }
}

func to(a netip.Addr) func(*flow.Record)   { return func(r *flow.Record) { r.Dst = a } }
func from(a netip.Addr) func(*flow.Record) { return func(r *flow.Record) { r.Src = a } }
func rate(n uint32) func(*flow.Record)     { return func(r *flow.Record) { r.SamplingRate = n } }

// conversation makes it a flow record of a whole conversation.
func conversation(packets, bytes uint64) func(*flow.Record) {
	return func(r *flow.Record) {
		r.Protocol, r.Packets, r.Bytes, r.IPLen = flow.NetFlow9, packets, bytes, 0
		r.TCPFlags = flow.SYN | flow.ACK | flow.PSH | flow.FIN
	}
}

// sink keeps copies of all rows.
type sink struct{ flow.Batch }

func (s *sink) write(b *flow.Batch) {
	if b.Rows() > ChunkRows {
		panic("a chunk is too large")
	}
	s.Hosts, s.Flows = append(s.Hosts, b.Hosts...), append(s.Flows, b.Flows...)
	for _, r := range b.Services {
		r.Remotes = slices.Clone(r.Remotes)
		s.Services = append(s.Services, r)
	}
	for _, r := range b.Pairs {
		r.Ports = slices.Clone(r.Ports)
		s.Pairs = append(s.Pairs, r)
	}
}

// take returns what came since the last call.
func (s *sink) take() *flow.Batch {
	b := s.Batch
	s.Batch = flow.Batch{}
	return &b
}

func run(t *testing.T, cfg Config, recs ...*flow.Record) (*flow.Batch, Stats) {
	t.Helper()
	var rows sink
	a := NewLocal(cfg, rows.write)
	for _, r := range recs {
		a.Add(r)
	}
	a.Flush(0, true)
	b := &rows.Batch
	s := a.Stats()
	var dropped uint64
	for _, n := range s.Dropped {
		dropped += n
	}
	if s.Records != s.Aggregated+dropped {
		t.Errorf("records %d != aggregated %d + dropped %v", s.Records, s.Aggregated, s.Dropped)
	}
	return b, s
}

func remote(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{45, byte(i >> 16), byte(i >> 8), byte(i)})
}

var diffAddr = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

func TestOneSYN(t *testing.T) {
	b, _ := run(t, testConfig(), rec(rate(100)))
	key := flow.Key{Start: t0 / sec, Tenant: tenantA, Rate: 100}
	counts := flow.Counts{OutRecords: 1, OutPackets: 1, OutBytes: 44}
	classes := flow.Classes{SYNOut: 1, RawSYN: 1}
	want := &flow.Batch{
		Hosts: []flow.HostWindow{{Key: key, Counts: counts, Classes: classes}},
		Services: []flow.ServiceWindow{{Key: key, IPProto: 6, Role: client, SvcPort: 22, Counts: counts, Classes: classes,
			Attempts: 1, Remotes: []uint64{hashRemote(ipOf(remote1))}}},
		Pairs: []flow.PairWindow{{Key: key, Remote: remote1, IPProto: 6, Counts: counts, Classes: classes, SYNPackets: 1, Ports: []uint16{22}}},
		Flows: []flow.FlowRow{{Time: t0, Start: t0, End: t0, Exporter: exporter1, Tenant: tenantA, Host: tenantA, Remote: remote1,
			HostPort: 40000, RemotePort: 22, SvcPort: 22, Dir: flow.Out, IPProto: 6, Role: client, Class: flow.ClassSYN,
			TCPFlags: flow.SYN, Packets: 1, Bytes: 44, IPLen: 44, Rate: 100}},
	}
	if d := cmp.Diff(want, b, diffAddr); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestDirection(t *testing.T) {
	b, _ := run(t, testConfig(), rec(to(tenantB)))
	var got []string
	for _, s := range b.Services {
		got = append(got, fmt.Sprint(s.Tenant, s.Role, s.SvcPort, s.OutRecords, s.InRecords, s.SYNOut, s.SYNIn, s.Attempts))
	}
	want := []string{"198.18.0.1 client 22 1 0 1 0 1", "198.18.0.2 server 22 0 1 0 1 0"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("between two tenants (-want +got)\n%s", d)
	}

	b, _ = run(t, testConfig(), rec(from(remote1), to(tenantA), func(r *flow.Record) { r.SrcPort, r.DstPort, r.TCPFlags = 22, 40000, flow.SYN|flow.ACK }))
	s := b.Services[0]
	if s.Role != client || s.SvcPort != 22 || s.SYNACKIn != 1 || s.InRecords != 1 || s.OutRecords != 0 || s.Attempts != 0 || len(s.Remotes) != 0 {
		t.Errorf("an answer to the tenant: %+v", s)
	}
	f := b.Flows[0]
	if f.Dir != flow.In || f.HostPort != 40000 || f.RemotePort != 22 || f.Remote != remote1 || f.Role != client {
		t.Errorf("flow row of an answer: %+v", f)
	}
}

func TestDropped(t *testing.T) {
	old := t0 - int64(time.Hour)
	for _, c := range []struct {
		name, reason string
		rec          *flow.Record
	}{
		{"no source", ReasonNoAddress, rec(from(netip.Addr{}))},
		{"no destination", ReasonNoAddress, rec(to(netip.Addr{}))},
		{"rate unknown", ReasonSamplingUnknown, rec(rate(0))},
		{"transit", ReasonNotInternal, rec(from(remote1), to(remote(1)))},
		{"older than an hour", ReasonTooLate, rec(func(r *flow.Record) { r.Start, r.End = old-2*sec, old-1 })},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, s := run(t, testConfig(), c.rec)
			if s.Dropped[c.reason] != 1 || b.Rows() != 0 {
				t.Errorf("dropped %v, rows %d; want %s", s.Dropped, b.Rows(), c.reason)
			}
		})
	}
	if b, s := run(t, testConfig(), rec(func(r *flow.Record) { r.Start, r.End = old, old })); len(b.Hosts) != 1 {
		t.Errorf("exactly an hour old: dropped %v", s.Dropped)
	}
	_, s := run(t, testConfig(), rec(rate(0)), rec(rate(0)))
	if got := s.Exporters[exporter1].SamplingUnknown; got != 2 {
		t.Errorf("sampling_unknown of the exporter: %d, want 2", got)
	}
}

func TestSpoofed(t *testing.T) {
	cfg := testConfig()
	cfg.External = []Interface{{Exporter: exporter1, IfIndex: 7}}
	in := func(i uint32, has flow.Has) func(*flow.Record) {
		return func(r *flow.Record) { r.InIf, r.Has = i, r.Has|has }
	}
	b, _ := run(t, cfg, rec(in(7, flow.HasInIf), func(r *flow.Record) { r.Start = t0 - 60*sec }))
	want := []flow.HostWindow{{Key: flow.Key{Start: t0 / sec, Tenant: tenantA, Rate: 1}, SpoofOut: 1}}
	if d := cmp.Diff(want, b.Hosts, diffAddr); d != "" {
		t.Errorf("hosts (-want +got)\n%s", d)
	}
	if len(b.Services)+len(b.Pairs) != 0 || len(b.Flows) != 1 || !b.Flows[0].Spoofed {
		t.Errorf("spoofed record in services %v, pairs %v, flows %+v", b.Services, b.Pairs, b.Flows)
	}
	for name, r := range map[string]*flow.Record{
		"other interface":      rec(in(8, flow.HasInIf)),
		"interface not known":  rec(in(7, 0)),
		"other exporter":       rec(in(7, flow.HasInIf), func(r *flow.Record) { r.Exporter = remote1 }),
		"inbound is not spoof": rec(in(7, flow.HasInIf), from(remote1), to(tenantA)),
	} {
		if b, _ := run(t, cfg, r); b.Hosts[0].SpoofOut != 0 || len(b.Services) != 1 {
			t.Errorf("%s: %+v", name, b.Hosts)
		}
	}
	// The victim of the forged packet did receive it.
	b, _ = run(t, cfg, rec(in(7, flow.HasInIf), to(tenantB)))
	if len(b.Services) != 1 || b.Services[0].Tenant != tenantB || b.Services[0].SYNIn != 1 {
		t.Errorf("receiver of a spoofed packet: %+v", b.Services)
	}
}

func TestBogon(t *testing.T) {
	for _, addr := range []string{"10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.1.1", "172.31.255.255", "192.168.0.1", "0.1.2.3",
		"192.0.0.8", "192.0.2.9", "224.0.0.251", "239.1.1.1", "255.255.255.255", "198.51.100.7", "203.0.113.7",
		"::1", "fe80::1", "fc00::1", "fd12::1", "ff02::fb", "100::1", "3fff::1", "5f00::1", "64:ff9b:1::1"} {
		r := rec(to(netip.MustParseAddr(addr)))
		b, _ := run(t, testConfig(), r)
		h := b.Hosts[0]
		if h.BogonOut != 1 || h.OutRecords != 1 || h.OutPackets != 1 || h.Classes != (flow.Classes{}) || len(b.Services)+len(b.Pairs) != 0 || !b.Flows[0].Bogon {
			t.Errorf("%s is not treated as a bogon: %+v", addr, b)
		}
	}
	for _, addr := range []string{"9.9.9.9", "100.63.255.255", "100.128.0.0", "172.32.0.0", "11.0.0.0", "223.255.255.255", "198.17.255.255", "198.20.0.0", "192.0.3.0",
		"2606:4700::1", "2a00::1", "64:ff9b::808:808", "2001:4860::1"} {
		b, _ := run(t, testConfig(), rec(to(netip.MustParseAddr(addr))))
		if b.Hosts[0].BogonOut != 0 || len(b.Services) != 1 || b.Services[0].Attempts != 1 {
			t.Errorf("%s is treated as a bogon", addr)
		}
	}
	// 198.18.0.0/15 is a bogon and internal here: internal wins.
	if b, _ := run(t, testConfig(), rec(to(tenantB))); b.Hosts[0].BogonOut != 0 || b.Services[0].Attempts != 1 {
		t.Error("an internal destination is treated as a bogon")
	}
	cfg := testConfig()
	cfg.Bogons = []netip.Prefix{netip.MustParsePrefix("9.0.0.0/8")}
	if b, _ := run(t, cfg, rec(), rec(to(netip.MustParseAddr("203.0.113.1")))); b.Hosts[0].BogonOut != 1 {
		t.Error("a configured list does not replace the default")
	}
	cfg.Bogons = []netip.Prefix{}
	if b, _ := run(t, cfg, rec(to(netip.MustParseAddr("10.0.0.1")))); b.Hosts[0].BogonOut != 0 {
		t.Error("an empty list does not switch bogons off")
	}
	// Answers from a bogon count as traffic only, too.
	b, _ := run(t, testConfig(), rec(from(netip.MustParseAddr("10.0.0.1")), to(tenantA)))
	if h := b.Hosts[0]; h.InPackets != 1 || h.SYNIn != 0 || h.BogonOut != 0 {
		t.Errorf("from a bogon: %+v", h)
	}
}

func TestIPv6Tenant(t *testing.T) {
	a, b6 := netip.MustParseAddr("2001:db8:1:2:aaaa::1"), netip.MustParseAddr("2001:db8:1:2:bbbb::2")
	d1, d2, d3 := netip.MustParseAddr("2606:4700::1"), netip.MustParseAddr("2606:4700::2"), netip.MustParseAddr("2606:4700:0:1::2")
	b, _ := run(t, testConfig(), rec(from(a), to(d1)), rec(from(b6), to(d2)), rec(from(a), to(d3)))
	if len(b.Services) != 1 {
		t.Fatalf("one /64 has %d service rows", len(b.Services))
	}
	s := b.Services[0]
	if s.Tenant != netip.MustParseAddr("2001:db8:1:2::") || s.Attempts != 3 || len(s.Remotes) != 2 {
		t.Errorf("tenant %s, attempts %d, %d remotes; want the /64, 3, 2 (remotes by /64)", s.Tenant, s.Attempts, len(s.Remotes))
	}
	if b.Flows[0].Host != a || b.Flows[1].Host != b6 || b.Flows[0].Tenant != s.Tenant {
		t.Errorf("flow rows lost the host: %+v", b.Flows)
	}
	for bits, want := range map[int]string{56: "2001:db8:1::", 60: "2001:db8:1::", 63: "2001:db8:1:2::", 128: "2001:db8:1:2:aaaa::1", 48: "2001:db8:1::", 1: "::"} {
		mask := maskOf(bits)
		if got := ipOf(a).tenant(mask).addr(); got != netip.MustParseAddr(want) {
			t.Errorf("/%d: %s, want %s", bits, got, want)
		}
		if got := ipOf(tenantA).tenant(mask).addr(); got != tenantA {
			t.Errorf("/%d: v4 tenant became %s", bits, got)
		}
	}
}

func TestAnsweredConversation(t *testing.T) {
	b, _ := run(t, testConfig(),
		rec(conversation(10, 1000), func(r *flow.Record) { r.DstPort = 443 }),
		rec(conversation(10, 9000), from(remote1), to(tenantA), func(r *flow.Record) { r.SrcPort, r.DstPort = 443, 40000 }))
	s := b.Services[0]
	if len(b.Services) != 1 || s.EstOut != 1 || s.EstIn != 1 || s.SYNACKIn != 1 || s.SYNOut != 0 || s.Attempts != 0 {
		t.Errorf("a conversation as client: %+v", b.Services)
	}
	// A half-open scan in 1:1 flow records: attempt, with its own reset.
	b, _ = run(t, testConfig(), rec(func(r *flow.Record) {
		r.Protocol, r.Packets, r.Bytes, r.IPLen, r.TCPFlags = flow.NetFlow9, 2, 84, 0, flow.SYN|flow.RST
	}))
	s = b.Services[0]
	if s.Attempts != 1 || s.SYNOut != 1 || s.RSTOut != 1 || s.RawSYN != 1 || b.Hosts[0].SYNOut != 1 {
		t.Errorf("half-open scan: %+v", s)
	}
}

func TestAnswersAreNeverAttempts(t *testing.T) {
	// A flooded server answers a million forged sources; a scanned host refuses;
	// a host under UDP flood sends unreachables.
	var recs []*flow.Record
	for i := range 1000 {
		recs = append(recs,
			rec(to(remote(i)), func(r *flow.Record) { r.SrcPort, r.DstPort, r.TCPFlags = 80, 40000, flow.SYN|flow.ACK }),
			rec(to(remote(i)), func(r *flow.Record) { r.SrcPort, r.DstPort, r.TCPFlags = 50000, 99, flow.SYN|flow.ACK }),
			rec(to(remote(i)), func(r *flow.Record) { r.SrcPort, r.DstPort, r.TCPFlags = 81, 40000, flow.RST|flow.ACK }),
			rec(to(remote(i)), func(r *flow.Record) { r.IPProto, r.ICMPType, r.Has = 1, 3, flow.HasICMP }),
			rec(to(remote(i)), func(r *flow.Record) { r.IPProto, r.SrcPort, r.DstPort = 17, 53, 40000 }))
	}
	b, _ := run(t, testConfig(), recs...)
	for _, s := range b.Services {
		if s.Attempts != 0 || len(s.Remotes) != 0 || s.SYNOut != 0 {
			t.Errorf("answers count as attempts: %+v", s)
		}
	}
	if h := b.Hosts[0]; h.SYNACKOut != 2000 || h.RSTOut != 1000 || h.ICMPErrOut != 1000 || h.ICMPOutPackets != 1000 || h.UDPOutPackets != 1000 {
		t.Errorf("host: %+v", h)
	}
}

func TestClockAhead(t *testing.T) {
	ahead := func(d int64) *flow.Record { return rec(func(r *flow.Record) { r.Start, r.End = t0+d-sec, t0+d }) }
	b, s := run(t, testConfig(), ahead(60*sec))
	if s.ClockAhead != 0 || b.Flows[0].End != t0+60*sec {
		t.Errorf("60 s ahead: %d, end %d", s.ClockAhead, b.Flows[0].End-t0)
	}
	b, s = run(t, testConfig(), ahead(60*sec+1))
	if s.ClockAhead != 1 || b.Flows[0].End != t0 || b.Flows[0].Start != t0 || b.Hosts[0].Start != t0/sec || s.Exporters[exporter1].ClockAhead != 1 {
		t.Errorf("just above 60 s ahead: %d, %+v", s.ClockAhead, b.Flows[0])
	}
}

func TestFlowPolicy(t *testing.T) {
	udpOut := rec(func(r *flow.Record) { r.IPProto, r.DstPort = 17, 53 })
	udpSrv := rec(func(r *flow.Record) { r.IPProto, r.SrcPort, r.DstPort = 17, 53, 40000 })
	est := rec(conversation(9, 900))
	bogon := rec(conversation(9, 900), to(netip.MustParseAddr("10.0.0.1")))
	for policy, want := range map[FlowPolicy]int{FlowAll: 5, "": 5, FlowAttempts: 3, FlowOff: 0} {
		cfg := testConfig()
		cfg.FlowPolicy = policy
		b, _ := run(t, cfg, rec(), udpOut, udpSrv, est, bogon)
		if len(b.Flows) != want || len(b.Hosts) != 1 || b.Hosts[0].OutRecords != 5 {
			t.Errorf("%q: %d flow rows, want %d", policy, len(b.Flows), want)
		}
	}
}

func TestFlushTimes(t *testing.T) {
	var rows sink
	a := NewLocal(testConfig(), rows.write)
	flush := func(now int64) *flow.Batch { a.Flush(now, false); b := rows.take(); b.Flows = nil; return b }
	a.Add(rec(at(t0 + sec)))
	if b := flush(t0 + 15*sec - 1); b.Rows() != 0 {
		t.Errorf("before the end of lateness: %+v", b)
	}
	if b := flush(t0 + 15*sec); len(b.Hosts) != 1 || len(b.Services) != 1 || len(b.Pairs) != 0 {
		t.Errorf("at the end of lateness: %d rows", b.Rows())
	}
	// A late record opens the window again, for its length and Lateness from then on.
	late := rec(at(t0 + sec))
	late.Received = t0 + 20*sec
	a.Add(late)
	if b := flush(t0 + 35*sec - 1); b.Rows() != 0 {
		t.Errorf("a late row was not coalesced: %+v", b)
	}
	if b := flush(t0 + 35*sec); len(b.Hosts) != 1 || b.Hosts[0].Start != t0/sec {
		t.Errorf("late row: %+v", b)
	}
	if s := a.Stats(); s.Windows != 0 || s.Keys != 0 {
		t.Errorf("%d windows, %d keys left", s.Windows, s.Keys)
	}
}

// TestLateWindowsGoEarlierWithoutRoom: one that was opened again does not wait for
// more while pairs give way to others.
func TestLateWindowsGoEarlierWithoutRoom(t *testing.T) {
	var rows sink
	cfg := testConfig()
	cfg.MaxPairs = 16
	a := NewLocal(cfg, rows.write)
	late := func(now int64) (n int) {
		a.Flush(now, false)
		for _, h := range rows.take().Hosts {
			if h.Start == t0/sec {
				n++
			}
		}
		return n
	}
	for _, pairs := range []int{1, 200} {
		a.Flush(t0+100*sec, true)
		rows.take()
		r := rec(at(t0 + sec))
		r.Received = t0 + 20*sec
		a.Add(r)
		for i := range pairs {
			a.Add(rec(at(t0+21*sec), to(remote(i))))
		}
		want := 0
		if pairs > cfg.MaxPairs {
			want = 1
		}
		if n := late(t0 + 25*sec); n != want {
			t.Errorf("%d pairs: %d rows of the late window after 5 s, want %d", pairs, n, want)
		}
	}
}

func TestHot(t *testing.T) {
	var rows sink
	a := NewLocal(testConfig(), rows.write)
	flush := func(now int64) *flow.Batch { a.Flush(now, false); b := rows.take(); b.Flows = nil; return b }
	for i := range 7 {
		a.Add(rec(to(remote(i))))
	}
	if b := flush(t0 + sec); b.Rows() != 0 {
		t.Errorf("7 attempts: %+v", b)
	}
	a.Add(rec(to(remote(7))))
	b := flush(t0 + 2*sec)
	if len(b.Services) != 1 || b.Services[0].Attempts != 8 || len(b.Services[0].Remotes) != 8 || len(b.Hosts) != 1 || len(b.Pairs) != 0 {
		t.Errorf("8 attempts: %+v", b)
	}
	if b := flush(t0 + 3*sec); b.Rows() != 0 {
		t.Errorf("again without anything new: %+v", b)
	}
	a.Add(rec(to(remote(0))))
	if b := flush(t0 + 4*sec); b.Rows() != 0 {
		t.Errorf("one more: %+v", b)
	}
	if b := flush(t0 + 15*sec); len(b.Services) != 1 || b.Services[0].Attempts != 1 || len(b.Services[0].Remotes) != 1 {
		t.Errorf("the rest at close: %+v", b.Services)
	}

	// Volume, in estimated packets.
	big := func(packets uint64, rate uint32) *flow.Record {
		return rec(at(t0+30*sec), conversation(packets, packets*100), func(r *flow.Record) { r.SamplingRate = rate })
	}
	for _, c := range []struct {
		packets              uint64
		rate                 uint32
		hosts, services, prs int
	}{
		{4999, 1, 0, 0, 0}, {5000, 1, 0, 0, 1}, {19_999, 1, 0, 0, 1}, {20_000, 1, 1, 1, 1}, {5, 1000, 0, 0, 1}, {20, 1000, 1, 1, 1},
	} {
		a = NewLocal(testConfig(), rows.write)
		a.Add(big(c.packets, c.rate))
		if b := flush(t0 + 31*sec); len(b.Hosts) != c.hosts || len(b.Services) != c.services || len(b.Pairs) != c.prs {
			t.Errorf("%d packets at 1:%d: %d hosts, %d services, %d pairs; want %d, %d, %d", c.packets, c.rate, len(b.Hosts), len(b.Services), len(b.Pairs), c.hosts, c.services, c.prs)
		}
	}
}

// What acquits a tenant of a UDP flood must not come later than what accuses it,
// nor where the two have different ports: VXLAN's packets go to 4789 both ways.
func TestHotByWhatComesIn(t *testing.T) {
	for _, c := range []struct {
		proto    uint8
		packets  uint64
		services int
	}{{flow.ProtoUDP, 19_999, 0}, {flow.ProtoUDP, 20_000, 1}, {flow.ProtoTCP, 20_000, 0}} {
		var rows sink
		a := NewLocal(testConfig(), rows.write)
		a.Add(rec(conversation(c.packets, c.packets*100), func(r *flow.Record) {
			r.Src, r.Dst, r.SrcPort, r.DstPort, r.IPProto = r.Dst, r.Src, 51000, 4789, c.proto
		}))
		a.Flush(t0+sec, false)
		if b := rows.take(); len(b.Services) != c.services {
			t.Errorf("protocol %d, %d packets in: %d services went out, want %d", c.proto, c.packets, len(b.Services), c.services)
		}
	}
}

func TestPortsAreExactAndBounded(t *testing.T) {
	var rows sink
	a := NewLocal(testConfig(), rows.write)
	for p := range 2*maxSet + 100 {
		for range 2 {
			a.Add(rec(func(r *flow.Record) { r.DstPort = uint16(20000 + p*7) }))
		}
	}
	a.Flush(t0, true)
	if len(rows.Pairs) != 3 {
		t.Errorf("%d rows, want 3", len(rows.Pairs))
	}
	ports := map[uint16]bool{}
	for _, p := range rows.Pairs {
		if len(p.Ports) > maxSet || !slices.IsSorted(p.Ports) {
			t.Errorf("%d ports in a row, sorted %v", len(p.Ports), slices.IsSorted(p.Ports))
		}
		for _, x := range p.Ports {
			ports[x] = true
		}
	}
	if len(ports) != 2*maxSet+100 {
		t.Errorf("union of ports %d, want %d", len(ports), 2*maxSet+100)
	}
}

func TestPairFloor(t *testing.T) {
	udp := func(r *flow.Record) { r.IPProto = flow.ProtoUDP }
	reset := func(r *flow.Record) { r.TCPFlags = flow.RST | flow.ACK }
	for _, c := range []struct {
		name string
		recs []*flow.Record
		want int
	}{
		{"one syn at 1:1", []*flow.Record{rec()}, 0},
		{"one syn at 1:63", []*flow.Record{rec(rate(63))}, 0},
		{"one syn at 1:64", []*flow.Record{rec(rate(64))}, 1},
		{"two syns to one port", []*flow.Record{rec(), rec()}, 0},
		{"two syns to two ports", []*flow.Record{rec(), rec(func(r *flow.Record) { r.DstPort = 23 })}, 1},
		{"499 packets", []*flow.Record{rec(conversation(499, 50_000))}, 0},
		{"500 packets", []*flow.Record{rec(conversation(500, 50_000))}, 1},
		{"two packets at 1:1000", []*flow.Record{rec(conversation(2, 200), rate(1000))}, 0},
		{"three packets at 1:1000", []*flow.Record{rec(conversation(3, 300), rate(1000))}, 1},
		// The packets that these answer went out by another router.
		{"499 packets in", []*flow.Record{rec(conversation(499, 50_000), from(remote1), to(tenantA))}, 0},
		{"500 packets in", []*flow.Record{rec(conversation(500, 50_000), from(remote1), to(tenantA))}, 1},
		{"two packets in at 1:1000", []*flow.Record{rec(conversation(2, 200), rate(1000), from(remote1), to(tenantA))}, 0},
		{"three packets in at 1:1000", []*flow.Record{rec(conversation(3, 300), rate(1000), from(remote1), to(tenantA))}, 1},
		{"one datagram in at 1:63", []*flow.Record{rec(udp, rate(63), from(remote1), to(tenantA))}, 0},
		{"one datagram in at 1:64", []*flow.Record{rec(udp, rate(64), from(remote1), to(tenantA))}, 1},
		{"one datagram out at 1:64", []*flow.Record{rec(udp, rate(64))}, 0},
		{"one reset in at 1:63", []*flow.Record{rec(reset, rate(63), from(remote1), to(tenantA))}, 0},
		{"one reset in at 1:64", []*flow.Record{rec(reset, rate(64), from(remote1), to(tenantA))}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, s := run(t, testConfig(), c.recs...)
			if len(b.Pairs) != c.want || s.PairsBelowFloor != uint64(1-c.want) {
				t.Errorf("%d pairs, %d below the floor; want %d", len(b.Pairs), s.PairsBelowFloor, c.want)
			}
		})
	}
	// Once emitted, the rest goes out too, or the sum would be short.
	var b sink
	a := NewLocal(testConfig(), b.write)
	a.Add(rec(conversation(6000, 600_000)))
	a.Flush(t0, false)
	a.Add(rec(conversation(1, 100)))
	a.Flush(t0+15*sec, false)
	if len(b.Pairs) != 2 || b.Pairs[0].OutPackets+b.Pairs[1].OutPackets != 6001 {
		t.Errorf("pairs: %+v", b.Pairs)
	}
	// A slot that is used again does not remember that.
	a.Add(rec(at(t0+20*sec), conversation(1, 100)))
	b.take()
	a.Flush(t0+100*sec, false)
	if len(b.Pairs) != 0 {
		t.Errorf("a new window's pair below the floor was emitted: %+v", b.Pairs)
	}
}

func TestTableFull(t *testing.T) {
	cfg := testConfig()
	cfg.MaxKeys, cfg.MaxPairs = 3, 3
	var recs []*flow.Record
	for i := range 5 {
		recs = append(recs, rec(to(remote(i))), rec(to(remote(i)), func(r *flow.Record) { r.DstPort = 23 }))
	}
	b, s := run(t, cfg, recs...)
	if h := b.Hosts[0]; h.OutRecords != 10 || s.Dropped[ReasonTableFull] != 0 {
		t.Errorf("the host lost records to its pairs: %+v, dropped %v", h, s.Dropped)
	}
	if s.TableFull["pairs"] != 0 || s.TableFull["services"] != 0 || s.RowsPairs != 5 || s.PairsEvicted != 0 {
		t.Errorf("table full: %v, %d pairs, %d evicted; want 5, those above the floor being stored when they give way", s.TableFull, s.RowsPairs, s.PairsEvicted)
	}
	recs = nil
	for i := range 5 {
		recs = append(recs, rec(from(netip.AddrFrom4([4]byte{198, 18, 1, byte(i)}))))
	}
	b, s = run(t, cfg, recs...)
	if len(b.Hosts) != 3 || len(b.Services) != 3 || s.Dropped[ReasonTableFull] != 2 || s.LostPackets != 2 || s.TableFull["hosts"] != 2 {
		t.Errorf("hosts %d, services %d, dropped %v, lost %d", len(b.Hosts), len(b.Services), s.Dropped, s.LostPackets)
	}
}

func TestReconfigure(t *testing.T) {
	var b sink
	a := NewLocal(testConfig(), b.write)
	a.Add(rec())
	if err := a.Reconfigure(Config{V6TenantBits: 200}); err == nil {
		t.Error("a wrong configuration was taken")
	}
	a.Add(rec())
	if err := a.Reconfigure(Config{Internal: []netip.Prefix{netip.MustParsePrefix("9.0.0.0/8")}}); err != nil {
		t.Fatal(err)
	}
	a.Add(rec())
	a.Flush(t0, true)
	if len(b.Hosts) != 2 || b.Hosts[0].OutRecords != 2 || b.Hosts[1].Tenant != remote1 {
		t.Errorf("hosts: %+v", b.Hosts)
	}
}

func TestValidate(t *testing.T) {
	bad := Config{Internal: []netip.Prefix{{}}, Bogons: []netip.Prefix{{}}, External: []Interface{{}}, V6TenantBits: 129,
		Lateness: -1, MaxAge: 7 * time.Hour, MaxKeys: -1, MaxPairs: -1, FlowPolicy: "some"}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 9 {
		t.Errorf("%d errors, want all 9:\n%v", n, err)
	}
	if err := testConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestHashRemoteIsStable(t *testing.T) {
	// Stored hashes of different versions are united: these must never change.
	for addr, want := range map[string]uint64{
		"9.9.9.9":              0x1d3938eca8030644,
		"2606:4700::1":         0xd34ba4284e1b060a,
		"2606:4700::ffff:ffff": 0xd34ba4284e1b060a,
	} {
		if got := hashRemote(ipOf(netip.MustParseAddr(addr))); got != want {
			t.Errorf("%s: %#x, want %#x", addr, got, want)
		}
	}
}
