package collector

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// keeper is a Sink that keeps every row, as far as it is not told to refuse.
type keeper struct {
	mu     sync.Mutex
	b      flow.Batch
	refuse error
}

func (k *keeper) Write(b *flow.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		return k.refuse
	}
	k.b.Hosts = append(k.b.Hosts, b.Hosts...)
	k.b.Services = append(k.b.Services, b.Services...)
	k.b.Pairs = append(k.b.Pairs, b.Pairs...)
	k.b.Flows = append(k.b.Flows, b.Flows...)
	return nil
}

func (k *keeper) setRefuse(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = err
}

// sums adds the host rows up by tenant.
func (k *keeper) sums() map[netip.Addr]flow.Counts {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[netip.Addr]flow.Counts{}
	for _, h := range k.b.Hosts {
		c := out[h.Tenant]
		c.Add(h.Counts)
		out[h.Tenant] = c
	}
	return out
}

// harness is a running Collector on loopback.
type harness struct {
	*Collector
	t    *testing.T
	sink *keeper
	reg  *prometheus.Registry
	logs *observer.ObservedLogs
	stop func() // ends Run and waits; may be called twice
}

func testConfig() Config {
	return Config{
		Listen: []Listen{{Protocol: decode.KindNetFlow, Address: "127.0.0.1:0"}},
		Allow:  []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Decode: decode.Config{Sampling: []decode.SamplingRule{
			{Exporter: netip.MustParsePrefix("0.0.0.0/0"), Default: 1}, {Exporter: netip.MustParsePrefix("::/0"), Default: 1}}},
		Aggregate: aggregate.Config{Internal: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}},
		Workers:   3,
	}
}

// start runs a Collector with the changes of mods.
func start(t *testing.T, mods ...func(*Config, *Deps)) *harness {
	t.Helper()
	return startWith(t, func(*Collector) {}, mods...)
}

// startWith is start with a change to the Collector before it runs: calls to
// the kernel that fail.
func startWith(t *testing.T, change func(*Collector), mods ...func(*Config, *Deps)) *harness {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	h := &harness{t: t, sink: &keeper{}, reg: prometheus.NewRegistry(), logs: logs}
	cfg, deps := testConfig(), Deps{Sink: h.sink, Log: zap.New(core), Registerer: h.reg}
	for _, m := range mods {
		m(&cfg, &deps)
	}
	c, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	h.Collector = c
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	select {
	case <-c.Ready():
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(time.Minute): // hang guard
				t.Error("Run did not end")
			}
		})
	}
	t.Cleanup(h.stop)
	return h
}

// send sends datagrams from the source address to the socket at index.
func (h *harness) send(index int, from string, datagrams ...[]byte) {
	h.t.Helper()
	to := h.Addrs()[index].(*net.UDPAddr)
	if to.IP.IsUnspecified() {
		to = &net.UDPAddr{IP: net.ParseIP("127.0.0.1"), Port: to.Port}
		if strings.Contains(from, ":") {
			to.IP = net.ParseIP("::1")
		}
	}
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, to)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	for _, d := range datagrams {
		if _, err := conn.Write(d); err != nil {
			h.t.Fatal(err)
		}
	}
}

// metric returns a metric's value; labels are name, value pairs.
func (h *harness) metric(name string, labels ...string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "flowcordon_collector_"+name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			got := map[string]string{}
			for _, l := range m.GetLabel() {
				got[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if got[labels[i]] != labels[i+1] {
					continue metrics
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

// checkSum asserts received = decoded + Σ dropped for datagrams, and for
// records = aggregated + Σ dropped.
func (h *harness) checkSum() {
	h.t.Helper()
	t := h.totals()
	sum := t.decoded
	for _, n := range t.dropped {
		sum += n
	}
	if t.received != sum {
		h.t.Errorf("received %d, decoded %d + dropped %v = %d", t.received, t.decoded, t.dropped, sum)
	}
	sum = t.agg.Aggregated
	for _, n := range t.agg.Dropped {
		sum += n
	}
	if t.records != sum || t.records != t.agg.Records {
		h.t.Errorf("%d records, %d routed, aggregated %d + dropped %v = %d", t.records, t.agg.Records, t.agg.Aggregated, t.agg.Dropped, sum)
	}
}

func (h *harness) eventually(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("never: %s", what)
		}
	}
}

// v5 is a NetFlow v5 datagram (Cisco, "NetFlow Export Datagram Format") with n
// records of one SYN each from tenant to different hosts.
func v5(seq uint32, tenant string, n int) []byte {
	now := time.Now()
	b := binary.BigEndian.AppendUint16(nil, 5)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = binary.BigEndian.AppendUint32(b, 1_000_000) // uptime, ms
	b = binary.BigEndian.AppendUint32(b, uint32(now.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(now.Nanosecond()))
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0)
	src := netip.MustParseAddr(tenant).As4()
	for i := range n {
		b = append(b, src[:]...)
		b = append(b, 9, 9, byte(i>>8), byte(i))
		b = append(b, 0, 0, 0, 0, 0, 1, 0, 2)
		b = binary.BigEndian.AppendUint32(b, 2)   // packets
		b = binary.BigEndian.AppendUint32(b, 120) // bytes
		b = binary.BigEndian.AppendUint32(b, 999_000)
		b = binary.BigEndian.AppendUint32(b, 999_500)
		b = binary.BigEndian.AppendUint16(b, 40000)
		b = binary.BigEndian.AppendUint16(b, 22)
		b = append(b, 0, flow.SYN, flow.ProtoTCP, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return b
}

// v9 wraps flow sets into a NetFlow v9 datagram (RFC 3954 §5.1) of source 7.
func v9(seq uint32, count int, sets ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, 9)
	b = binary.BigEndian.AppendUint16(b, uint16(count))
	b = binary.BigEndian.AppendUint32(b, 1_000_000)
	b = binary.BigEndian.AppendUint32(b, uint32(time.Now().Unix()))
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, 7)
	for _, s := range sets {
		b = append(b, s...)
	}
	return b
}

// v9Template describes template 300: source, destination, ports, protocol,
// flags, packets, bytes.
func v9Template() []byte {
	fields := []uint16{8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 6, 1, 2, 4, 1, 4}
	b := []byte{0, 0, 0, byte(8 + 2*len(fields)), 300 >> 8, 300 & 0xff, 0, byte(len(fields) / 2)}
	for _, f := range fields {
		b = binary.BigEndian.AppendUint16(b, f)
	}
	return b
}

// v9Data is one record of template 300: a SYN of the tenant.
func v9Data(tenant string) []byte {
	src := netip.MustParseAddr(tenant).As4()
	b := []byte{300 >> 8, 300 & 0xff, 0, 28}
	b = append(b, src[:]...)
	b = append(b, 9, 9, 9, 9, 0x9c, 0x40, 0, 22, flow.ProtoTCP, flow.SYN, 0, 0, 0, 1, 0, 0, 0, 60)
	return append(b, 0, 0) // padding to 32 bits
}
