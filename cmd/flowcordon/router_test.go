package main

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

func loadSite(s *site) (config.Config, error) { return config.Load(s.config) }

// router exports records at 1:1 over UDP as NetFlow v9. It is safe for
// concurrent use.
type router struct {
	mu   sync.Mutex
	udp  *export.UDP
	enc  export.Encoder
	sent uint64 // records
}

func newRouter(t *testing.T, source string, target netip.AddrPort) *router {
	t.Helper()
	r := &router{}
	var err error
	if r.udp, err = export.DialUDP(netip.AddrPortFrom(netip.MustParseAddr(source), 0), target); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.udp.Close() })
	r.enc, err = export.New(export.Config{
		Protocol: flow.NetFlow9, Domain: 1, SamplingRate: 1, Boot: time.Now().Add(-24 * time.Hour),
		TemplateInterval: time.Second, // whoever restarts must not wait for templates
	}, func(b []byte, n int) error {
		r.sent += uint64(n)
		return r.udp.Send(b)
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// export sends the flows now.
func (r *router) export(t *testing.T, flows ...export.Flow) {
	t.Helper()
	if err := r.try(flows...); err != nil {
		t.Error(err)
	}
}

func (r *router) try(flows ...export.Flow) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UnixNano()
	for i := range flows {
		if err := r.enc.Add(&flows[i], now); err != nil {
			return err
		}
	}
	if err := r.enc.Flush(now); err != nil {
		return err
	}
	return r.udp.Flush()
}

// scanFlow is the n-th SYN of a scan: each to an address of its own in
// 26.0.0.0/8, which the bogon list does not have and nobody is behind.
func scanFlow(scanner netip.Addr, n uint32, at time.Time) export.Flow {
	return export.Flow{
		Src: scanner, Dst: netip.AddrFrom4([4]byte{26, byte(n >> 16), byte(n >> 8), byte(n)}),
		SrcPort: uint16(32768 + n%28000), DstPort: 22, IPProto: flow.ProtoTCP, TCPFlags: flow.SYN,
		Packets: 1, Bytes: 44, Start: at.UnixNano(), End: at.UnixNano(), InIf: 2, OutIf: 1,
	}
}

// scanMinute is a scan of the last minute, as a router with a long timeout
// tells it: 6,000 SYNs in one go.
func scanMinute(scanner netip.Addr) []export.Flow {
	out := make([]export.Flow, 6000)
	end := time.Now()
	for i := range out {
		out[i] = scanFlow(scanner, uint32(i)+uint32(scanner.As4()[3])<<16, end.Add(-time.Minute*time.Duration(len(out)-i)/time.Duration(len(out))))
	}
	return out
}

// ordinaryFlow is the n-th of any number of records that are all different and
// that no rule objects to: a web server's conversations, each as two records,
// one in 64 of them long enough to be kept as a pair.
func ordinaryFlow(server netip.Addr, n uint64, at time.Time) export.Flow {
	talk := n / 2
	packets := 3 + talk%5
	if talk%64 == 0 {
		packets += 600
	}
	f := export.Flow{
		Src: server, Dst: netip.AddrFrom4([4]byte{11, byte(talk >> 16), byte(talk >> 8), byte(talk)}),
		SrcPort: 443, DstPort: uint16(1024 + (talk>>24)%60000), IPProto: flow.ProtoTCP,
		TCPFlags: flow.SYN | flow.ACK | flow.PSH | flow.FIN, Packets: packets, Bytes: 100 * packets,
		Start: at.Add(-time.Duration(n%900) * time.Millisecond).UnixNano(), End: at.UnixNano(), InIf: 2, OutIf: 1,
	}
	if n%2 == 1 {
		f.Src, f.Dst, f.SrcPort, f.DstPort, f.InIf, f.OutIf = f.Dst, f.Src, f.DstPort, f.SrcPort, f.OutIf, f.InIf
	}
	return f
}

// internal is the end of a flow that is a tenant of the tests' sites.
func internal(f *export.Flow) netip.Addr {
	if f.Src.As4()[0] == 198 {
		return f.Src
	}
	return f.Dst
}
