package load

import (
	"bytes"
	"context"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
	gosflow "github.com/netsampler/goflow2/v2/decoders/sflow"

	"github.com/flowcordon/flowcordon/cmd/flowbench/machine"
	"github.com/flowcordon/flowcordon/flow"
)

var protocols = []flow.Protocol{flow.NetFlow5, flow.NetFlow9, flow.IPFIX, flow.SFlow5}

func config(p flow.Protocol) Config {
	return Config{Protocol: p, Target: netip.MustParseAddrPort("127.0.0.1:9"), Exporters: 2, Hosts: 1000, Remotes: 20,
		Duration: RouterDurations, Ring: 50, Seed: 1}
}

// seen is a record as goflow2 reads it.
type seen struct {
	src, dst       netip.Addr
	proto          uint8
	packets, bytes uint64
	start, end     int64 // ms since the epoch
}

// reader decodes datagrams with goflow2 and keeps what must be consecutive.
type reader struct {
	t         *testing.T
	templates netflow.NetFlowTemplateSystem
	records   []seen
	sampling  uint64
	seq       uint32
	begun     bool
}

func (r *reader) sequence(got, step uint32) {
	r.t.Helper()
	if r.begun && got != r.seq {
		r.t.Fatalf("sequence %d, want %d", got, r.seq)
	}
	r.seq, r.begun = got+step, true
}

func (r *reader) read(d []byte, p flow.Protocol) {
	r.t.Helper()
	switch p {
	case flow.NetFlow5:
		r.readV5(d)
	case flow.SFlow5:
		r.readSFlow(d)
	default:
		r.readTemplated(d)
	}
}

func (r *reader) readV5(d []byte) {
	var p netflowlegacy.PacketNetFlowV5
	if err := netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(d), &p); err != nil {
		r.t.Fatal(err)
	}
	r.sequence(p.FlowSequence, uint32(p.Count))
	r.sampling = uint64(p.SamplingInterval & 0x3fff)
	boot := int64(p.UnixSecs)*1000 + int64(p.UnixNSecs)/1e6 - int64(p.SysUptime)
	for _, x := range p.Records {
		r.records = append(r.records, seen{addr(uint32(x.SrcAddr)), addr(uint32(x.DstAddr)), x.Proto, uint64(x.DPkts), uint64(x.DOctets), boot + int64(x.First), boot + int64(x.Last)})
	}
}

func addr(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}

func (r *reader) readTemplated(d []byte) {
	var v9 netflow.NFv9Packet
	var ipfix netflow.IPFIXPacket
	if err := netflow.DecodeMessageVersion(bytes.NewBuffer(d), r.templates, &v9, &ipfix); err != nil {
		r.t.Fatal(err)
	}
	boot, n := int64(v9.UnixSeconds)*1000-int64(v9.SystemUptime), uint32(0)
	for _, set := range append(v9.FlowSets, ipfix.FlowSets...) {
		switch set := set.(type) {
		case netflow.OptionsDataFlowSet:
			n++
			for _, v := range set.Records[0].OptionsValues {
				if v.Type == ieSamplingInterval {
					r.sampling = number(v.Value)
				}
			}
		case netflow.DataFlowSet:
			n += uint32(len(set.Records))
			for _, rec := range set.Records {
				r.records = append(r.records, fields(rec.Values, boot))
			}
		}
	}
	if v9.Version == 9 {
		r.sequence(v9.SequenceNumber, 1)
	} else {
		r.sequence(ipfix.SequenceNumber, n)
	}
}

func fields(vs []netflow.DataField, boot int64) (s seen) {
	for _, v := range vs {
		switch n := number(v.Value); v.Type {
		case ieSrc:
			s.src = addr(uint32(n))
		case ieDst:
			s.dst = addr(uint32(n))
		case ieProtocol:
			s.proto = uint8(n)
		case iePackets:
			s.packets = n
		case ieBytes:
			s.bytes = n
		case ieFirst:
			s.start = boot + int64(n)
		case ieLast:
			s.end = boot + int64(n)
		case ieStartMs:
			s.start = int64(n)
		case ieEndMs:
			s.end = int64(n)
		}
	}
	return s
}

func number(v any) (n uint64) {
	for _, b := range v.([]byte) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) readSFlow(d []byte) {
	var p gosflow.Packet
	if err := gosflow.DecodeMessageVersion(bytes.NewBuffer(d), &p); err != nil {
		r.t.Fatal(err)
	}
	r.sequence(p.SequenceNumber, 1)
	for _, s := range p.Samples {
		s := s.(gosflow.FlowSample)
		h := s.Records[0].Data.(gosflow.SampledHeader)
		if len(h.HeaderData) != sampledBytes {
			r.t.Fatalf("header of %d bytes", len(h.HeaderData))
		}
		if s.SamplePool != s.Header.SampleSequenceNumber*s.SamplingRate {
			r.t.Fatalf("pool %d of sample %d", s.SamplePool, s.Header.SampleSequenceNumber)
		}
		r.sampling = uint64(s.SamplingRate)
		ip := h.HeaderData[14:]
		r.records = append(r.records, seen{addr(be.Uint32(ip[12:])), addr(be.Uint32(ip[16:])), ip[9], 1, uint64(be.Uint16(ip[2:])), 0, 0})
	}
}

// rounds renews every datagram of the first exporter as at each of the times.
func rounds(t *testing.T, l *Load, p flow.Protocol, times ...time.Time) *reader {
	t.Helper()
	r := &reader{t: t, templates: netflow.CreateTemplateSystem()}
	x := l.exporters[0]
	for _, at := range times {
		for i := range x.announce {
			x.renew(&x.announce[i], at.UnixNano(), true)
			r.read(x.announce[i].bytes, p)
		}
		for i := range x.ring {
			x.renew(&x.ring[i], at.UnixNano(), false)
			r.read(x.ring[i].bytes, p)
		}
	}
	return r
}

func TestDatagramsAreARoutersOfNow(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 123e6, time.UTC)
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			cfg := config(p)
			cfg.Sampling = 100
			if p == flow.NetFlow9 || p == flow.IPFIX {
				cfg.Templates = 40
			}
			l, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := rounds(t, l, p, now, now.Add(75*time.Second))
			if r.sampling != 100 {
				t.Errorf("sampling 1:%d announced, want 1:100", r.sampling)
			}
			perRound := len(r.records) / 2
			if want := int(l.PerDatagram() * 50); perRound != want || len(r.records) != 2*want {
				t.Fatalf("%d records, want 2 × %d", len(r.records), want)
			}
			hosts, protos, shorter := map[netip.Addr]bool{}, map[uint8]int{}, 0
			for i, s := range r.records {
				in, out := PrefixFor(1000).Contains(s.dst), PrefixFor(1000).Contains(s.src)
				if in == out {
					t.Fatalf("record from %s to %s", s.src, s.dst)
				}
				if protos[s.proto]++; out {
					hosts[s.src] = true
				}
				if s.packets == 0 || s.bytes == 0 {
					t.Fatalf("%+v", s)
				}
				if p == flow.SFlow5 {
					continue
				}
				at := now.UnixMilli()
				if i >= perRound {
					at += 75_000
				}
				// v9 gives whole seconds.
				if ago := at - s.end; ago < 0 || ago > 17_000 || s.end-s.start > 60_000 || s.start > s.end {
					t.Fatalf("record ended %d ms ago and lasted %d ms", ago, s.end-s.start)
				}
				if s.end-s.start <= 5000 {
					shorter++
				}
			}
			if len(hosts) < 100 || len(protos) != 3 {
				t.Errorf("%d hosts send, protocols %v", len(hosts), protos)
			}
			if p != flow.SFlow5 && shorter*100 < len(r.records)*80 {
				t.Errorf("%d of %d records lasted at most 5 s", shorter, len(r.records))
			}
		})
	}
}

func TestTemplatesDiffer(t *testing.T) {
	cfg := config(flow.IPFIX)
	cfg.Templates, cfg.Ring = 50, 50
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	layouts := map[string]bool{}
	for _, y := range l.exporters[0].codec.(*templated).layouts {
		var key []byte
		for _, f := range y.fields {
			key = appendShorts(key, f.id)
		}
		layouts[string(key)] = true
	}
	if len(layouts) != 50 {
		t.Errorf("%d layouts, want 50", len(layouts))
	}
}

func TestRemotesOfAHost(t *testing.T) {
	for _, tc := range []struct {
		remotes, least, most int
	}{{20, 19, 20}, {1, 1, 1}, {0, 990, 1000}} {
		cfg := config(flow.NetFlow9)
		cfg.Hosts, cfg.Remotes = 1, tc.remotes
		if err := cfg.check(); err != nil {
			t.Fatal(err)
		}
		m := newMix(&cfg, 0)
		remotes := map[uint32]int{}
		var r record
		for range 1000 {
			m.next(&r)
			remotes[r.src^r.dst^m.base]++
		}
		if len(remotes) < tc.least || len(remotes) > tc.most {
			t.Errorf("%d remotes with Remotes %d, want %d to %d", len(remotes), tc.remotes, tc.least, tc.most)
		}
	}
}

// TestServicesOfAHost: as a server a host offers one or two services, and what
// it uses as a client is mostly the web.
func TestServicesOfAHost(t *testing.T) {
	cfg := config(flow.NetFlow9)
	cfg.Hosts, cfg.Remotes = 1, 500
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	m := newMix(&cfg, 0)
	served, used, protos := map[uint16]int{}, map[uint16]int{}, map[uint8]int{}
	var r record
	const n = 20_000
	for range n {
		m.next(&r)
		protos[r.proto]++
		local, remote := r.sport, r.dport
		if r.dst == m.base {
			local, remote = remote, local
		}
		if r.proto != flow.ProtoICMP {
			if local < 32768 || local == 51820 {
				served[local]++
			} else {
				used[remote]++
			}
		}
	}
	if len(served) < 1 || len(served) > 2 {
		t.Errorf("it serves %v", served)
	}
	if web := used[443]; web < n/6 || len(used) < 5 {
		t.Errorf("it uses %v", used)
	}
	if protos[flow.ProtoTCP] < n/4 || protos[flow.ProtoUDP] < n/10 || protos[flow.ProtoICMP] == 0 || protos[flow.ProtoICMP] > n/10 {
		t.Errorf("protocols %v", protos)
	}
}

func TestSeed(t *testing.T) {
	ring := func(seed uint64) []byte {
		cfg := config(flow.SFlow5)
		cfg.Seed = seed
		l, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return l.exporters[1].ring[49].bytes
	}
	if !bytes.Equal(ring(1), ring(1)) || bytes.Equal(ring(1), ring(2)) {
		t.Error("the same seed must give the same datagrams, another one others")
	}
}

func TestPrefixFor(t *testing.T) {
	for hosts, want := range map[int]string{
		1: "198.18.0.0/16", 65536: "198.18.0.0/16", 65537: "198.18.0.0/15", 131072: "198.18.0.0/15", 131073: "10.0.0.0/14", 500_000: "10.0.0.0/13",
	} {
		if got := PrefixFor(hosts); got.String() != want {
			t.Errorf("PrefixFor(%d) = %s, want %s", hosts, got, want)
		}
	}
}

// TestRate sends over UDP: all of it arrives that the kernel has room for, evenly,
// and at the rate.
func TestRate(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadBuffer(1 << 20)
	cfg := config(flow.NetFlow9)
	cfg.Target = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	l.SetRate(20_000)
	ended := make(chan error, 1)
	got, buf, sources := uint64(0), make([]byte, 2000), map[netip.Addr]int{}
	began := time.Now()
	read := make(chan struct{})
	go func() { // what is sent to a socket is in it at once: an empty datagram is behind all of it
		ended <- l.Run(ctx)
		end, err := net.DialUDP("udp", nil, conn.LocalAddr().(*net.UDPAddr))
		if err != nil {
			_ = conn.Close()
			return
		}
		defer end.Close()
		for {
			_, _ = end.Write(nil) // there may be no room for it yet
			select {
			case <-read:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			close(read)
			break
		}
		got++
		sources[from.Addr()]++
	}
	took := time.Since(began)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	records, datagrams := l.Sent()
	u, err := machine.UDPPort(cfg.Target.Port())
	if err != nil || u.Sockets == 0 { // others may have the port on other addresses
		t.Fatalf("%+v, %v", u, err)
	}
	if got > datagrams || got+u.Drops < datagrams {
		t.Errorf("%d datagrams arrived of %d, and the kernel dropped %d", got, datagrams, u.Drops)
	}
	if u.Drops != 0 {
		t.Logf("the kernel dropped %d datagrams of %d: this machine is too busy to tell more", u.Drops, datagrams)
		return
	}
	if sources[Source(0)]+sources[Source(1)] != int(got) || math.Abs(float64(sources[Source(0)]-sources[Source(1)])) > 1 {
		t.Errorf("sources %v", sources)
	}
	// Some 14,000; a busy machine may have kept it from sending most of them.
	if records == 0 || float64(records) > 20_000*took.Seconds()+1_000 {
		t.Errorf("%d records in %v", records, took)
	}
}

// TestBatches: batches arrive as the datagrams that they are made of, whichever
// way they are handed to the kernel.
func TestBatches(t *testing.T) {
	for _, gso := range []bool{false, true} {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		cfg := config(flow.IPFIX)
		cfg.Target, cfg.Exporters, cfg.GSO, cfg.Ring = conn.LocalAddr().(*net.UDPAddr).AddrPort(), 1, gso, 100
		l, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.open(); err != nil {
			t.Fatal(err)
		}
		defer l.close()
		s := newSender(l)
		const n = 60 // more than maxSegments
		if err := s.turn(l.exporters[0], n, time.Now().UnixNano()); err != nil {
			t.Fatal(err)
		}
		r := &reader{t: t, templates: netflow.CreateTemplateSystem()}
		buf := make([]byte, 65536)
		for i := range n + len(l.exporters[0].announce) {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			size, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("GSO %v, datagram %d: %v", gso, i, err)
			}
			r.read(buf[:size], flow.IPFIX) // in order, by their sequence
		}
		if want := int(l.PerDatagram() * n); len(r.records) != want {
			t.Errorf("GSO %v: %d records, want %d", gso, len(r.records), want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Config)
	}{
		{"no protocol", func(c *Config) { c.Protocol = 0 }},
		{"beyond loopback", func(c *Config) { c.Target = netip.MustParseAddrPort("192.0.2.1:2055") }},
		{"hosts", func(c *Config) { c.Hosts, c.Prefix = 257, netip.MustParsePrefix("198.18.0.0/24") }},
		{"v5 with templates", func(c *Config) { c.Protocol, c.Templates = flow.NetFlow5, 2 }},
		{"ring", func(c *Config) { c.Templates = 51 }},
		{"exporters", func(c *Config) { c.Exporters = 60_001 }},
		{"duration", func(c *Config) { c.Duration = -2 }},
		{"remotes", func(c *Config) { c.Remotes = -1 }},
	} {
		cfg := config(flow.NetFlow9)
		if tc.edit(&cfg); newErr(cfg) == nil {
			t.Errorf("%s: accepted", tc.name)
		}
	}
}

// newErr is New's error.
func newErr(cfg Config) error {
	_, err := New(cfg)
	return err
}

// BenchmarkRenew is what a datagram costs before the system call.
func BenchmarkRenew(b *testing.B) {
	for _, p := range protocols {
		b.Run(p.String(), func(b *testing.B) {
			cfg := config(p)
			cfg.Ring = 20_000
			l, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			x, i, now := l.exporters[0], 0, time.Now().UnixNano()
			for b.Loop() {
				x.renew(&x.ring[i%len(x.ring)], now, false)
				i++
				now += 1000
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i)/l.mean, "ns/record")
		})
	}
}

// TestPairs: what a client sends is answered once, somewhat later, by flags that
// fit, but for one in some dozens.
func TestPairs(t *testing.T) {
	cfg := config(flow.NetFlow9)
	cfg.Hosts, cfg.Remotes, cfg.Paired, cfg.Duration = 5000, 20, true, RouterDurations
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	m := newMix(&cfg, 0)
	type key struct {
		src, dst     uint32
		sport, dport uint16
		proto        uint8
	}
	open := map[key]record{}
	var r record
	var asked, answered, refused int
	for range 100_000 {
		if m.next(&r); r.proto == flow.ProtoICMP {
			continue // nothing tells two of them apart
		}
		k := key{r.src, r.dst, r.sport, r.dport, r.proto}
		c, ok := open[key{r.dst, r.src, r.dport, r.sport, r.proto}]
		if !ok {
			if r.proto == flow.ProtoTCP && r.flags&flow.RST != 0 && r.flags&flow.SYN == 0 {
				t.Fatalf("%+v resets what nobody has sent", r)
			}
			open[k], asked = r, asked+1
			continue
		}
		answered++
		if r.endAgo != c.endAgo || r.startAgo != c.startAgo || r.packets == 0 || r.bytes == 0 {
			t.Fatalf("%+v answers %+v", r, c)
		}
		if r.flags == flow.RST|flow.ACK {
			refused++
			if c.flags != flow.SYN {
				t.Fatalf("%+v refuses %+v", r, c)
			}
		}
		delete(open, key{r.dst, r.src, r.dport, r.sport, r.proto})
	}
	if silent := asked - answered; silent < asked/50 || silent > asked/20 || refused < asked/100 || refused > asked/25 {
		t.Errorf("%d asked, %d answered, %d refused", asked, answered, refused)
	}
}
