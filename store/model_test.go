package store_test

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(envWriter) != "" {
		os.Exit(writerMain())
	}
	os.Exit(storetest.Main(m))
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// epoch is where the tests' event time begins: not today, so that nothing
// depends on the clock.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// generator makes batches out of small sets of keys, so that rows of one key
// are plentiful, from several windows, rates and address families.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 7))} }

func (g generator) tenant() netip.Addr {
	if g.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, byte(g.IntN(5))})
	}
	return netip.AddrFrom4([4]byte{198, 18, 0, byte(g.IntN(12))})
}

func (g generator) remote() netip.Addr {
	if g.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0x2a, 0, 0, byte(g.IntN(9)), 15: 1})
	}
	return netip.AddrFrom4([4]byte{203, 0, 113, byte(g.IntN(40))})
}

func (g generator) key() flow.Key {
	return flow.Key{
		Start:  epoch.Unix() + int64(g.IntN(30))*flow.WindowSeconds,
		Tenant: g.tenant(),
		Rate:   []uint32{1, 1000, 4096}[g.IntN(3)],
	}
}

func (g generator) n(max int) uint64 {
	if g.IntN(3) == 0 {
		return 0
	}
	return uint64(g.IntN(max))
}

func (g generator) counts() flow.Counts {
	return flow.Counts{
		OutRecords: g.n(50), InRecords: g.n(50), OutPackets: g.n(500), InPackets: g.n(500),
		OutBytes: g.n(1 << 40), InBytes: g.n(1 << 20),
	}
}

func (g generator) classes() flow.Classes {
	return flow.Classes{
		SYNOut: g.n(9), EstOut: g.n(9), SYNACKOut: g.n(9), RSTOut: g.n(9), SYNIn: g.n(9), EstIn: g.n(9),
		SYNACKIn: g.n(9), RSTIn: g.n(9), RawSYN: g.n(9), NoFlags: g.n(9),
	}
}

func (g generator) host() flow.HostWindow {
	return flow.HostWindow{
		Key: g.key(), Counts: g.counts(), Classes: g.classes(), UDPOutPackets: g.n(9), ICMPOutPackets: g.n(9),
		ICMPErrOut: g.n(9), BogonOut: g.n(9), SpoofOut: g.n(9),
	}
}

func (g generator) service() flow.ServiceWindow {
	w := flow.ServiceWindow{
		Key: g.key(), Counts: g.counts(), Classes: g.classes(),
		IPProto: []uint8{6, 17}[g.IntN(2)], Role: flow.Role(g.IntN(3)), SvcPort: []uint16{22, 443, 65535}[g.IntN(3)],
	}
	for range g.IntN(6) {
		w.Remotes = append(w.Remotes, g.Uint64N(60)*0x9e3779b97f4a7c15)
	}
	slices.Sort(w.Remotes)
	w.Remotes = slices.Compact(w.Remotes)
	w.Attempts = uint64(len(w.Remotes)) + uint64(len(w.Remotes))*g.n(3)
	if g.IntN(8) == 0 { // a sample of very many
		w.RemotesLevel = uint8(1 + g.IntN(3))
		w.Remotes = slices.DeleteFunc(w.Remotes, func(h uint64) bool { return h%(1<<w.RemotesLevel) != 0 })
	}
	return w
}

func (g generator) pair() flow.PairWindow {
	w := flow.PairWindow{
		Key: g.key(), Counts: g.counts(), Classes: g.classes(), Remote: g.remote(), IPProto: []uint8{6, 17}[g.IntN(2)],
		SYNPackets: g.n(9), EstOutPackets: g.n(9), RSTInPackets: g.n(9),
	}
	for range g.IntN(5) {
		w.Ports = append(w.Ports, uint16(g.IntN(30)*2000))
	}
	slices.Sort(w.Ports)
	w.Ports = slices.Compact(w.Ports)
	return w
}

func (g generator) flow() flow.FlowRow {
	end := epoch.UnixNano() + g.Int64N(int64(8*time.Hour)) // two or three partitions
	r := flow.FlowRow{
		Time: end, End: end, Start: end - g.Int64N(int64(time.Minute)),
		Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: g.tenant(), Remote: g.remote(),
		HostPort: uint16(g.Uint32()), RemotePort: uint16(g.Uint32()), SvcPort: []uint16{22, 443}[g.IntN(2)],
		Dir: flow.Direction(1 + g.IntN(2)), IPProto: []uint8{1, 6, 17}[g.IntN(3)], Role: flow.Role(g.IntN(3)),
		Class: flow.Class(g.IntN(9)), TCPFlags: uint8(g.Uint32()), ICMPType: uint8(g.Uint32()), ICMPCode: uint8(g.Uint32()),
		Packets: g.n(1000), Bytes: g.n(1 << 40), IPLen: uint16(g.Uint32()), TTL: uint8(g.Uint32()), Rate: g.Uint32(),
		InIf: g.Uint32(), OutIf: g.Uint32(), SrcMAC: [6]byte{2, byte(g.Uint32()), 0, 0xff, 0, byte(g.Uint32())},
		VLAN: uint16(g.IntN(4096)), Bogon: g.IntN(5) == 0, Spoofed: g.IntN(9) == 0,
	}
	r.Host = r.Tenant.Next()
	return r
}

// batch has n rows of each kind.
func (g generator) batch(n int) *flow.Batch {
	b := &flow.Batch{}
	for range n {
		b.Hosts = append(b.Hosts, g.host())
		b.Services = append(b.Services, g.service())
		b.Pairs = append(b.Pairs, g.pair())
		b.Flows = append(b.Flows, g.flow())
	}
	return b
}

// model holds every row and computes in Go what the queries should return.
type model struct{ flow.Batch }

func (m *model) add(b *flow.Batch) {
	m.Hosts = append(m.Hosts, b.Hosts...)
	m.Services = append(m.Services, b.Services...)
	m.Pairs = append(m.Pairs, b.Pairs...)
	m.Flows = append(m.Flows, b.Flows...)
}

func in(r flow.Range, start int64) bool {
	t := time.Unix(start, 0)
	return !t.Before(r.From) && t.Before(r.To)
}

// scaled returns v with every counter times n; thin takes them back to the
// sampling rate n, rounded.
func scaled[T any](v T, n uint32) T {
	eachCounter(reflect.ValueOf(&v).Elem(), func(x uint64) uint64 { return x * uint64(n) })
	return v
}

func thin[T any](v T, n uint32) T {
	eachCounter(reflect.ValueOf(&v).Elem(), func(x uint64) uint64 { return thinned(x, n) })
	return v
}

func thinned(x uint64, n uint32) uint64 { return (x + uint64(n)/2) / uint64(n) }

func eachCounter(v reflect.Value, fn func(uint64) uint64) {
	for i := range v.NumField() {
		v.Field(i).SetUint(fn(v.Field(i).Uint()))
	}
}

func (m *model) services(r flow.Range, proto uint8, min uint64) []flow.ServiceStat {
	type key struct {
		a netip.Addr
		p uint16
	}
	type acc struct {
		flow.ServiceStat // scaled until the end
		remotes          map[uint64]bool
		tries            uint64 // as exported
		rate             uint32
		level            uint8
	}
	sums := map[key]*acc{}
	for _, w := range m.Services {
		if !in(r, w.Start) || w.IPProto != proto || w.Role != flow.RoleClient {
			continue
		}
		k := key{w.Tenant, w.SvcPort}
		if sums[k] == nil {
			sums[k] = &acc{remotes: map[uint64]bool{}, ServiceStat: flow.ServiceStat{Tenant: w.Tenant, IPProto: proto, SvcPort: w.SvcPort}}
		}
		s := sums[k]
		s.Counts.Add(scaled(w.Counts, w.Rate))
		s.Classes.Add(scaled(w.Classes, w.Rate))
		s.Attempts += w.Attempts * uint64(w.Rate)
		s.tries, s.rate, s.level = s.tries+w.Attempts, max(s.rate, w.Rate), max(s.level, w.RemotesLevel)
		for _, h := range w.Remotes {
			s.remotes[h] = true
		}
	}
	var l []flow.ServiceStat
	for _, s := range sums {
		if s.tries < min {
			continue
		}
		s.Counts, s.Classes = thin(s.Counts, s.rate), thin(s.Classes, s.rate)
		s.Attempts, s.Rate = thinned(s.Attempts, s.rate), float64(s.rate)
		maps.DeleteFunc(s.remotes, func(h uint64, _ bool) bool { return h%(1<<s.level) != 0 })
		s.Distinct = uint64(len(s.remotes)) << s.level * s.Attempts / max(s.tries, 1)
		l = append(l, s.ServiceStat)
	}
	slices.SortFunc(l, byService)
	return l
}

func byService(a, b flow.ServiceStat) int {
	return cmp.Or(a.Tenant.Compare(b.Tenant), cmp.Compare(a.SvcPort, b.SvcPort))
}

func (m *model) pairs(r flow.Range, proto uint8, minPackets, minPorts uint64) []flow.PairStat {
	type acc struct {
		flow.PairStat // scaled until the end
		ports         map[uint16]bool
		windows       map[int64]bool
		out, syn      uint64 // as exported
		rate          uint32
	}
	sums := map[[2]netip.Addr]*acc{}
	for _, w := range m.Pairs {
		if !in(r, w.Start) || w.IPProto != proto {
			continue
		}
		k := [2]netip.Addr{w.Tenant, w.Remote}
		if sums[k] == nil {
			sums[k] = &acc{ports: map[uint16]bool{}, windows: map[int64]bool{}, PairStat: flow.PairStat{Tenant: w.Tenant, Remote: w.Remote, IPProto: proto}}
		}
		s := sums[k]
		s.Counts.Add(scaled(w.Counts, w.Rate))
		s.Classes.Add(scaled(w.Classes, w.Rate))
		s.SYNPackets += w.SYNPackets * uint64(w.Rate)
		s.EstOutPackets += w.EstOutPackets * uint64(w.Rate)
		s.RSTInPackets += w.RSTInPackets * uint64(w.Rate)
		s.out, s.syn, s.rate = s.out+w.OutPackets, s.syn+w.SYNOut, max(s.rate, w.Rate)
		for _, p := range w.Ports {
			s.ports[p] = true
		}
		if at := time.Unix(w.Start, 0).UTC(); w.OutPackets > 0 {
			s.windows[w.Start] = true
			if s.First.IsZero() || at.Before(s.First) {
				s.First = at
			}
			if at.After(s.Last) {
				s.Last = at
			}
		}
	}
	var l []flow.PairStat
	for _, s := range sums {
		ports := uint64(len(s.ports))
		s.Counts, s.Classes = thin(s.Counts, s.rate), thin(s.Classes, s.rate)
		s.SYNPackets, s.EstOutPackets, s.RSTInPackets = thinned(s.SYNPackets, s.rate), thinned(s.EstOutPackets, s.rate), thinned(s.RSTInPackets, s.rate)
		s.Ports, s.Windows, s.Rate = ports*s.SYNOut/max(s.syn, 1), uint64(len(s.windows)), float64(s.rate)
		all := minPackets == 0 && minPorts == 0
		if all || minPackets > 0 && s.out >= minPackets || minPorts > 0 && ports >= minPorts {
			l = append(l, s.PairStat)
		}
	}
	slices.SortFunc(l, byPair)
	return l
}

func byPair(a, b flow.PairStat) int {
	return cmp.Or(a.Tenant.Compare(b.Tenant), a.Remote.Compare(b.Remote))
}

func (m *model) hosts(r flow.Range, keep func(netip.Addr) bool) []flow.HostStat {
	sums := map[netip.Addr]*flow.HostStat{}
	for _, w := range m.Hosts {
		if !in(r, w.Start) || !keep(w.Tenant) {
			continue
		}
		if sums[w.Tenant] == nil {
			sums[w.Tenant] = &flow.HostStat{Tenant: w.Tenant}
		}
		s := sums[w.Tenant]
		s.Counts.Add(scaled(w.Counts, w.Rate))
		s.Classes.Add(scaled(w.Classes, w.Rate))
		n := uint64(w.Rate)
		s.UDPOutPackets += w.UDPOutPackets * n
		s.ICMPOutPackets += w.ICMPOutPackets * n
		s.ICMPErrOut += w.ICMPErrOut * n
		s.BogonOut += w.BogonOut * n
		s.SpoofOut += w.SpoofOut * n
		s.Rate = max(s.Rate, float64(w.Rate))
	}
	var l []flow.HostStat
	for _, s := range sums {
		n := uint32(s.Rate)
		s.Counts, s.Classes = thin(s.Counts, n), thin(s.Classes, n)
		s.UDPOutPackets, s.ICMPOutPackets, s.ICMPErrOut = thinned(s.UDPOutPackets, n), thinned(s.ICMPOutPackets, n), thinned(s.ICMPErrOut, n)
		s.BogonOut, s.SpoofOut = thinned(s.BogonOut, n), thinned(s.SpoofOut, n)
		l = append(l, *s)
	}
	slices.SortFunc(l, byHost)
	return l
}

func byHost(a, b flow.HostStat) int { return a.Tenant.Compare(b.Tenant) }
