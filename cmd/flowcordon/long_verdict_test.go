package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

// TestLongVerdictTimes measures, in the service as it is installed but within
// this process, from the first datagram of an attack by sFlow to the verdict at
// the API, for attacks that begin at eight moments between two slots, and says
// of what that time consists. Nothing is asserted about time: the machine may be
// busy. On an idle one the figures are those of docs/detectors.md.
func TestLongVerdictTimes(t *testing.T) {
	long(t)
	const interval = 5 * time.Second
	s := newSite(t, siteOptions{Interval: interval.String()})
	l := s.start(t)
	l.awaitDatabase(t)
	c := s.client(l.listener.Addr().String())
	udp, err := export.DialUDP(netip.MustParseAddrPort("127.0.0.1:0"), l.sflow())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	for k, kind := range []struct {
		name    string
		rate    uint32
		perTick int // samples each 100 ms
		proto   uint8
		port    uint16
		length  uint64
		sweep   bool
	}{
		{"UDP flood, 100,000/s at 1:1000", 1000, 10, flow.ProtoUDP, 80, 1400, false},
		{"SYN flood, 20,000/s at 1:1000", 1000, 2, flow.ProtoTCP, 80, 44, false},
		{"masscan, 10,000/s at 1:1000", 1000, 1, flow.ProtoTCP, 22, 44, true},
	} {
		enc, err := export.New(export.Config{Protocol: flow.SFlow5, Domain: uint32(k), SamplingRate: kind.rate, Boot: time.Now().Add(-time.Hour), Agent: netip.MustParseAddr("127.0.0.1")},
			func(b []byte, _ int) error { return udp.Send(b) })
		if err != nil {
			t.Fatal(err)
		}
		var all, slots, after []time.Duration
		for phase := range 8 {
			tenant := netip.AddrFrom4([4]byte{198, 18, byte(10 + k), byte(10 + phase)})
			begin := time.Now().Truncate(interval).Add(interval + interval*time.Duration(phase)/8)
			time.Sleep(time.Until(begin))
			first := time.Now()
			n := uint32(0)
			for next := first; ; next = next.Add(100 * time.Millisecond) {
				for range kind.perTick {
					f := export.Flow{Src: tenant, Dst: netip.AddrFrom4([4]byte{26, 1, 1, 1}), SrcPort: uint16(32768 + n%20000), DstPort: kind.port, IPProto: kind.proto,
						Packets: 1, Bytes: kind.length, InIf: 2, OutIf: 1, TTL: 250}
					if kind.sweep {
						f.Dst = netip.AddrFrom4([4]byte{26, byte(n >> 16), byte(n >> 8), byte(n)})
					}
					if kind.proto == flow.ProtoTCP {
						f.TCPFlags = flow.SYN
					}
					n++
					if err := enc.Add(&f, time.Now().UnixNano()); err != nil {
						t.Fatal(err)
					}
				}
				if err := enc.Flush(time.Now().UnixNano()); err != nil {
					t.Fatal(err)
				}
				_ = udp.Flush()
				found := time.Time{}
				for time.Now().Before(next.Add(100 * time.Millisecond)) {
					m, err := c.incidents()
					if err != nil {
						t.Fatal(err)
					}
					if i := m[tenant]; len(i) > 0 {
						found = i[0].Opened
						break
					}
					time.Sleep(25 * time.Millisecond)
				}
				if !found.IsZero() {
					now := time.Now()
					all, slots, after = append(all, now.Sub(first)), append(slots, found.Sub(first)), append(after, now.Sub(found))
					break
				}
				if time.Since(first) > 2*time.Minute {
					t.Fatalf("%s: not found", kind.name)
				}
			}
		}
		m, err := c.scrape()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: named after %s; from the first datagram to the slot %s, from the slot to the API %s; ticks of %.0f ms in the mean; %.0f inserts so far",
			kind.name, spread(all), spread(slots), spread(after),
			1000*m.sum("flowcordon_detect_tick_seconds_sum")/m.sum("flowcordon_detect_tick_seconds_count"), m.sum("flowcordon_store_insert_seconds_count"))
	}
}

// spread is the least, the median and the most of ds.
func spread(ds []time.Duration) string {
	slices.Sort(ds)
	return fmt.Sprintf("%.2f, %.2f, %.2f s", ds[0].Seconds(), ds[len(ds)/2].Seconds(), ds[len(ds)-1].Seconds())
}
