package detect

import (
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A flood of ACKs over several addresses: what each of them sends back, how many
// there are and how large the packets are decide.
func TestPacketCarpet(t *testing.T) {
	cfg := defaultPacketFlood()
	minute := flow.Range{From: epoch, To: epoch.Add(time.Minute)}
	for _, c := range []struct {
		name              string
		remotes           int
		out, in, rst, len uint64 // of each remote at 1:256
		want              flow.Tier
	}{
		{"20 silent ones", 20, 3500, 0, 0, 40, flow.TierSuspend},
		{"they reset each", 20, 3500, 3500, 3500, 40, flow.TierSuspend},
		{"one in a hundred comes back", 20, 3500, 35, 0, 40, flow.TierNone},
		{"data of uploads", 20, 3500, 0, 0, 1400, flow.TierNone},
		{"three", 3, 11_000, 0, 0, 40, flow.TierNone},
		{"too little in all", 20, 1500, 0, 0, 40, flow.TierNone},
		{"too few samples of each", 60, 1200, 0, 0, 40, flow.TierNone},
		{"each is judged alone", 20, 12_000, 0, 0, 40, flow.TierNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &packetCarpetSum{tenant: tenant4, remotes: map[netip.Addr]bool{}}
			a := remote
			for range c.remotes {
				p := &flow.PairStat{Tenant: tenant4, Remote: a, IPProto: flow.ProtoTCP, Rate: 256, RSTInPackets: c.rst,
					Counts: flow.Counts{OutPackets: c.out, OutBytes: c.out * c.len, InPackets: c.in}}
				if cfg.silentFew(p, minute) {
					s.add(p)
				}
				a = a.Next()
			}
			f, _ := packetCarpet(&cfg, s, minute)
			if f.Tier != c.want {
				t.Errorf("%s (score %.1f), want %s", f.Tier, f.Score, c.want)
			}
		})
	}
}
