package export_test

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/flowgen/export/exporttest"
	"github.com/flowcordon/flowcordon/flow"
)

func v4(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}

var epoch = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// random flows with times on whole milliseconds, which all protocols carry.
func randomFlows(n int, v6 bool, sample bool) []export.Flow {
	r := rand.New(rand.NewPCG(1, 2))
	flows := make([]export.Flow, n)
	for i := range flows {
		f := &flows[i]
		f.Src, f.Dst = v4(0xc6120000+r.Uint32N(1<<17)), v4(0x0b000000+r.Uint32N(1<<24))
		if v6 && r.IntN(3) == 0 {
			f.Src = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte(r.Uint32()), 0, 15: 7})
			f.Dst = netip.AddrFrom16([16]byte{0x26, 8, 1, 1, byte(r.Uint32()), 15: byte(r.Uint32())})
		}
		switch r.IntN(3) {
		case 0:
			f.IPProto, f.TCPFlags = flow.ProtoTCP, uint8(r.Uint32())
			f.SrcPort, f.DstPort = uint16(r.Uint32()), uint16(r.Uint32())
		case 1:
			f.IPProto = flow.ProtoUDP
			f.SrcPort, f.DstPort = uint16(r.Uint32()), uint16(r.Uint32())
		case 2:
			f.IPProto, f.ICMPType, f.ICMPCode = flow.ProtoICMP, 3, uint8(r.IntN(10))
			if !f.Src.Is4() {
				f.IPProto, f.ICMPType, f.ICMPCode = flow.ProtoICMPv6, 1, uint8(r.IntN(5))
			}
		}
		f.Packets = 1 + r.Uint64N(5000)
		f.Bytes = f.Packets * (40 + r.Uint64N(1400))
		f.End = epoch.Add(time.Duration(i) * time.Millisecond).UnixNano()
		f.Start = f.End - int64(r.IntN(60_000))*1e6
		f.InIf, f.OutIf = 1+r.Uint32N(4), 10+r.Uint32N(400)
		if sample {
			f.Packets, f.Bytes = 1, 80+r.Uint64N(1400)
			f.TTL, f.VLAN = uint8(1+r.IntN(255)), uint16(r.IntN(3)*100)
			f.SrcMAC, f.DstMAC = [6]byte{0x52, 0x54, 0, 1, 2, byte(i)}, [6]byte{2, 0, 0, 0, 0, 1}
			f.Start, f.End = 0, 0
		}
	}
	return flows
}

func TestEncodersAgainstGoflow2(t *testing.T) {
	for _, tc := range []struct {
		name     string
		cfg      export.Config
		v6       bool
		seq      func(h exporttest.Header) uint32 // by how much a datagram moves the sequence
		first    uint32
		sampling map[string]uint32
		timeErr  time.Duration // times may come this much early
	}{
		{"v5", export.Config{Protocol: flow.NetFlow5, SamplingRate: 1}, false,
			func(h exporttest.Header) uint32 { return uint32(h.Records) }, 0, map[string]uint32{"mode": 1, "interval": 1}, 0},
		{"v5 sampled", export.Config{Protocol: flow.NetFlow5, SamplingRate: 1000}, false,
			func(h exporttest.Header) uint32 { return uint32(h.Records) }, 0, map[string]uint32{"mode": 1, "interval": 1000}, 0},
		{"v9", export.Config{Protocol: flow.NetFlow9, SamplingRate: 1}, true,
			func(exporttest.Header) uint32 { return 1 }, 0, map[string]uint32{"48": 1, "49": 2, "50": 1}, time.Second},
		{"ipfix", export.Config{Protocol: flow.IPFIX, SamplingRate: 1}, true,
			func(h exporttest.Header) uint32 { return uint32(h.Records + h.Options) }, 0, map[string]uint32{"304": 1, "305": 1, "306": 0}, 0},
		{"ipfix sampled", export.Config{Protocol: flow.IPFIX, SamplingRate: 512}, true,
			func(h exporttest.Header) uint32 { return uint32(h.Records + h.Options) }, 0, map[string]uint32{"304": 1, "305": 1, "306": 511}, 0},
		{"ipfix legacy", export.Config{Protocol: flow.IPFIX, SamplingRate: 64, LegacySampling: true}, true,
			func(h exporttest.Header) uint32 { return uint32(h.Records + h.Options) }, 0, map[string]uint32{"34": 64, "35": 1}, 0},
		{"sflow", export.Config{Protocol: flow.SFlow5, SamplingRate: 256, Agent: netip.MustParseAddr("127.0.0.12")}, true,
			func(exporttest.Header) uint32 { return 1 }, 1, map[string]uint32{"rate": 256}, 0},
		{"sflow v6 agent", export.Config{Protocol: flow.SFlow5, SamplingRate: 1, Agent: netip.MustParseAddr("2001:db8::1")}, true,
			func(exporttest.Header) uint32 { return 1 }, 1, map[string]uint32{"rate": 1}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Boot, tc.cfg.Domain, tc.cfg.TemplateEvery = epoch.Add(-time.Hour), 42, 20
			r := exporttest.New(t)
			stated := 0
			enc, err := export.New(tc.cfg, func(b []byte, n int) error {
				if len(b) > export.MaxDatagram {
					t.Errorf("datagram of %d bytes", len(b))
				}
				stated += n
				r.Read(b)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want := randomFlows(5000, tc.v6, tc.cfg.Protocol == flow.SFlow5)
			now := epoch.UnixNano()
			for i := range want {
				now = epoch.UnixNano() + int64(i)*1e6
				if err := enc.Add(&want[i], now); err != nil {
					t.Fatal(err)
				}
			}
			if err := enc.Flush(now); err != nil {
				t.Fatal(err)
			}
			if stated != len(want) {
				t.Errorf("emit was told of %d records, want %d", stated, len(want))
			}
			compare(t, want, r.Flows, tc.timeErr)
			if diff := cmp.Diff(tc.sampling, r.Sampling); diff != "" {
				t.Errorf("announced sampling (-want +got):\n%s", diff)
			}
			checkHeaders(t, r, tc.first, tc.seq)
			if p := tc.cfg.Protocol; (p == flow.NetFlow9 || p == flow.IPFIX) && r.Templates < 3*(len(r.Headers)/20) {
				t.Errorf("%d template records in %d datagrams, want them again every 20", r.Templates, len(r.Headers))
			}
		})
	}
}

// compare wants the same flows in the same order; times may be early by up to
// timeErr, both of a flow by the same.
func compare(t *testing.T, want, got []export.Flow, timeErr time.Duration) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d flows decoded of %d", len(got), len(want))
	}
	for i := range want {
		w, g := want[i], got[i]
		if early := time.Duration(w.End - g.End); early > 0 && early <= timeErr {
			g.Start, g.End = g.Start+int64(early), g.End+int64(early)
		}
		if g != w {
			t.Fatalf("flow %d (-want +got):\n%s", i, cmp.Diff(w, g, cmpopts.EquateComparable(netip.Addr{})))
		}
	}
}

func checkHeaders(t *testing.T, r *exporttest.Reader, first uint32, step func(exporttest.Header) uint32) {
	t.Helper()
	next := first
	for i, h := range r.Headers {
		if h.Seq != next {
			t.Fatalf("datagram %d: sequence %d, want %d", i, h.Seq, next)
		}
		next += step(h)
	}
}

func TestFirstDatagramDescribesItself(t *testing.T) {
	for _, p := range []flow.Protocol{flow.NetFlow9, flow.IPFIX} {
		r := exporttest.New(t)
		enc, err := export.New(export.Config{Protocol: p, Boot: epoch, SamplingRate: 7}, func(b []byte, _ int) error { r.Read(b); return nil })
		if err != nil {
			t.Fatal(err)
		}
		f := randomFlows(1, false, false)[0]
		f.Start, f.End = epoch.UnixNano(), epoch.UnixNano()
		for range 3 { // the third is due again by time
			if err := errors.Join(enc.Add(&f, epoch.UnixNano()), enc.Flush(epoch.UnixNano())); err != nil {
				t.Fatal(err)
			}
		}
		if r.Templates != 3 || len(r.Sampling) == 0 {
			t.Errorf("%s: %d templates, sampling %v after three datagrams", p, r.Templates, r.Sampling)
		}
		later := epoch.Add(10 * time.Second).UnixNano()
		if err := errors.Join(enc.Add(&f, later), enc.Flush(later)); err != nil {
			t.Fatal(err)
		}
		if r.Templates != 6 {
			t.Errorf("%s: %d templates ten seconds later, want 6", p, r.Templates)
		}
	}
}

func TestV9CountsTemplatesInItsHeader(t *testing.T) {
	r := exporttest.New(t)
	enc, _ := export.New(export.Config{Protocol: flow.NetFlow9, Boot: epoch}, func(b []byte, _ int) error { r.Read(b); return nil })
	f := randomFlows(1, false, false)[0]
	f.Start, f.End = epoch.UnixNano(), epoch.UnixNano()
	_ = enc.Add(&f, epoch.UnixNano())
	_ = enc.Flush(epoch.UnixNano())
	// RFC 3954 §5.1: the sum of options, template and data records: two
	// templates, one options template, one options record, one flow.
	if got := r.Headers[0].Count; got != 5 {
		t.Errorf("count = %d, want 5", got)
	}
}

func TestSFlowCountersComeNowAndThen(t *testing.T) {
	r := exporttest.New(t)
	enc, _ := export.New(export.Config{Protocol: flow.SFlow5, Boot: epoch, Agent: netip.MustParseAddr("127.0.0.1")},
		func(b []byte, _ int) error { r.Read(b); return nil })
	f := randomFlows(1, false, true)[0]
	for i := range 100 {
		now := epoch.Add(time.Duration(i) * time.Second).UnixNano()
		if err := errors.Join(enc.Add(&f, now), enc.Flush(now)); err != nil {
			t.Fatal(err)
		}
	}
	if r.Counters != 4 {
		t.Errorf("%d counter samples in 100 s at one per 20 s, want 4", r.Counters)
	}
}

func TestAddRefuses(t *testing.T) {
	v4a, v6a := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("2001:db8::1")
	good := export.Flow{Src: v4a, Dst: v4a, IPProto: 17, Packets: 1, Bytes: 100}
	for _, tc := range []struct {
		name  string
		proto flow.Protocol
		edit  func(*export.Flow)
		want  error
	}{
		{"v5 v6", flow.NetFlow5, func(f *export.Flow) { f.Src, f.Dst = v6a, v6a }, export.ErrFamily},
		{"v5 bytes", flow.NetFlow5, func(f *export.Flow) { f.Bytes = 1 << 32 }, export.ErrRange},
		{"v5 interface", flow.NetFlow5, func(f *export.Flow) { f.InIf = 1 << 16 }, export.ErrRange},
		{"v9 mixed", flow.NetFlow9, func(f *export.Flow) { f.Dst = v6a }, export.ErrFamily},
		{"ipfix no address", flow.IPFIX, func(f *export.Flow) { f.Dst = netip.Addr{} }, export.ErrFamily},
		{"sflow short", flow.SFlow5, func(f *export.Flow) { f.Bytes = 27 }, export.ErrRange},
		{"sflow long", flow.SFlow5, func(f *export.Flow) { f.Bytes = 65536 }, export.ErrRange},
	} {
		t.Run(tc.name, func(t *testing.T) {
			enc, err := export.New(export.Config{Protocol: tc.proto, Boot: epoch, Agent: v4a}, func([]byte, int) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			f := good
			if err := enc.Add(&f, epoch.UnixNano()); err != nil {
				t.Fatalf("the unchanged flow: %v", err)
			}
			tc.edit(&f)
			if err := enc.Add(&f, epoch.UnixNano()); !errors.Is(err, tc.want) {
				t.Errorf("err = %v, want %v", err, tc.want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]export.Config{
		"no boot":        {Protocol: flow.NetFlow9},
		"no protocol":    {Boot: epoch},
		"v5 rate 16384":  {Protocol: flow.NetFlow5, Boot: epoch, SamplingRate: 1 << 14},
		"sflow no agent": {Protocol: flow.SFlow5, Boot: epoch},
	} {
		if _, err := export.New(cfg, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, p := range []flow.Protocol{flow.NetFlow5, flow.NetFlow9, flow.IPFIX, flow.SFlow5} {
		b.Run(p.String(), func(b *testing.B) {
			flows := randomFlows(1024, p != flow.NetFlow5, p == flow.SFlow5)
			enc, err := export.New(export.Config{Protocol: p, Boot: epoch.Add(-time.Hour), Agent: netip.MustParseAddr("127.0.0.1")},
				func([]byte, int) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i, now := 0, epoch.UnixNano()
			for b.Loop() {
				if err := enc.Add(&flows[i&1023], now); err != nil {
					b.Fatal(err)
				}
				i++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
