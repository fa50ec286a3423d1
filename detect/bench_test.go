package detect

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// fixedWindows answers at once, so that only the detector's own work is timed.
type fixedWindows struct {
	services []flow.ServiceStat
	asked    []flow.ServiceStat
	attempts []flow.AttemptStat
	tcp, udp []flow.PairStat
}

// ServiceStats has clients of TCP, and answered ones of UDP.
func (f *fixedWindows) ServiceStats(_ context.Context, _ flow.Range, p uint8, _ uint64) ([]flow.ServiceStat, error) {
	switch p {
	case flow.ProtoTCP:
		return f.services, nil
	case flow.ProtoUDP:
		return f.asked, nil
	}
	return nil, nil
}

func (f *fixedWindows) PairStats(_ context.Context, _ flow.Range, p uint8, _, _ uint64) ([]flow.PairStat, error) {
	switch p {
	case flow.ProtoTCP:
		return f.tcp, nil
	case flow.ProtoUDP:
		return f.udp, nil
	}
	return nil, nil
}

func (f *fixedWindows) ServiceTotals(_ context.Context, _ flow.Range, q flow.ServiceQuery) ([]flow.ServiceStat, error) {
	if q.Role == flow.RoleServer || q.IPProto != flow.ProtoTCP {
		return nil, nil
	}
	return f.services, nil // of more ports than any rule asks for
}

func (f *fixedWindows) AttemptStats(context.Context, flow.Range, uint8, uint64, uint64) ([]flow.AttemptStat, error) {
	return f.attempts, nil
}

func (f *fixedWindows) OtherPairStats(context.Context, flow.Range, uint64) ([]flow.PairStat, error) {
	return nil, nil
}

func (f *fixedWindows) Peers(_ context.Context, of []flow.PeerQuery) ([]flow.Peers, error) {
	return make([]flow.Peers, len(of)), nil
}

func (f *fixedWindows) SpoofStats(context.Context, flow.Range, uint64) ([]flow.SpoofStat, error) {
	return nil, nil
}

func (f *fixedWindows) HostStats(_ context.Context, _ flow.Range, ts []netip.Addr) ([]flow.HostStat, error) {
	out := make([]flow.HostStat, len(ts))
	for i, a := range ts {
		out[i] = flow.HostStat{Tenant: a}
	}
	return out, nil
}

func (f *fixedWindows) KnownPeerShare(context.Context, netip.Addr, uint8, uint16, flow.Range, time.Duration) (float64, error) {
	return 0, nil
}

func (f *fixedWindows) Exchanged(context.Context, netip.Addr, netip.Addr, flow.Range, time.Duration) ([]flow.Exchange, error) {
	return nil, nil
}

func (f *fixedWindows) Answered(context.Context, netip.Addr, uint8, flow.Range, time.Duration) (flow.Peers, error) {
	return flow.Peers{}, nil
}

func (f *fixedWindows) Usual(context.Context, flow.PeerQuery, time.Duration) (flow.Usual, error) {
	return flow.Usual{}, nil
}

func (f *fixedWindows) OneWay(context.Context, flow.Range, uint8, uint64, float64) ([]flow.ServiceStat, error) {
	return nil, nil
}

func (f *fixedWindows) TopPrefixes(context.Context, flow.Range, []netip.Addr, uint8) ([]flow.PrefixStat, error) {
	return nil, nil
}

func (f *fixedWindows) Sources(context.Context, flow.SourceQuery) ([]flow.SourceStat, error) {
	return nil, nil
}

func (f *fixedWindows) SharedFlows(context.Context, flow.SourceQuery, netip.Addr, netip.Addr) (flow.SharedFlows, error) {
	return flow.SharedFlows{}, nil
}

func (f *fixedWindows) FleetAnswers(context.Context, flow.Range, flow.Range, []netip.Addr) (flow.FleetAnswers, error) {
	return flow.FleetAnswers{}, nil
}

func (f *fixedWindows) RateChecks(context.Context, flow.Range, uint32) ([]flow.RateCheck, error) {
	return nil, nil
}

// BenchmarkTick is one tick in which every length is due, the statistics of
// 100,000 tenants having passed the screens (two ports and two pairs each), one
// in a thousand of them a scanner.
func BenchmarkTick(b *testing.B) {
	const tenants = 100_000
	rng := rand.New(rand.NewPCG(1, 1))
	f := &fixedWindows{}
	for i := range uint32(tenants) {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 198<<24|18<<16+i)
		t := netip.AddrFrom4(a)
		for _, port := range []uint16{443, uint16(1024 + rng.UintN(60000))} {
			n := uint64(12 + rng.UintN(200))
			s := flow.ServiceStat{Tenant: t, IPProto: flow.ProtoTCP, SvcPort: port, Attempts: n, Distinct: n / 2, Rate: 1000}
			s.Classes = flow.Classes{SYNOut: n, EstOut: 6 * n, SYNACKIn: n, EstIn: 6 * n}
			if i%1000 == 0 {
				s.Distinct, s.Classes = n, flow.Classes{SYNOut: n, RawSYN: n}
			}
			f.services = append(f.services, s)
			u := flow.ServiceStat{Tenant: t, IPProto: flow.ProtoUDP, SvcPort: 443, Attempts: n, Distinct: n / 2, Rate: 1000, Counts: flow.Counts{OutRecords: n, OutPackets: n, OutBytes: 400 * n, InRecords: n}}
			f.asked = append(f.asked, u)
		}
		at := flow.AttemptStat{Tenant: t, IPProto: flow.ProtoTCP, Pairs: 200, Remotes: 100, Ports: 2, TopDistinct: 90, Rate: 1000}
		at.Classes = flow.Classes{SYNOut: 400, EstOut: 2400, SYNACKIn: 400, EstIn: 2400}
		f.attempts = append(f.attempts, at)
		for j := range byte(2) {
			n := uint64(21 + rng.UintN(500))
			p := flow.PairStat{Tenant: t, Remote: netip.AddrFrom4([4]byte{151, 101, j, 1}), IPProto: flow.ProtoTCP, Rate: 1000, Ports: 2,
				Counts: flow.Counts{OutPackets: n, InPackets: n, OutBytes: 500 * n}, SYNPackets: n / 10, EstOutPackets: n}
			p.Classes = flow.Classes{SYNOut: n / 10, EstOut: n, EstIn: n, SYNACKIn: n / 10}
			f.tcp = append(f.tcp, p)
			p.IPProto = flow.ProtoUDP
			f.udp = append(f.udp, p)
		}
	}
	d := New(Config{}, Deps{Windows: f})
	b.ReportAllocs()
	found := 0
	for b.Loop() {
		fs, err := d.Tick(context.Background(), epoch)
		if err != nil {
			b.Fatal(err)
		}
		found = len(fs)
	}
	if found == 0 {
		b.Fatal("no finding")
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/tick")
	b.ReportMetric(float64(found), "findings")
}
