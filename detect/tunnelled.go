package detect

import (
	"fmt"
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// A server behind a scrubbing service gets what its clients send out of a tunnel,
// and answers them directly: its export shows thousands of addresses that get
// packets and send none. What says so is the tunnel.

// throughTunnel holds a finding about many addresses where packets came to the
// tenant by other protocols than TCP, UDP and ICMP, as GRE, IP in IP and ESP, at
// the rate at least that a conversation's answers have.
func (t *tickState) throughTunnel(f *flow.Finding, r flow.Range) error {
	who := []netip.Addr{f.Tenant}
	hosts, err := t.d.deps.Windows.HostStats(t.ctx, r, who)
	if err != nil {
		return fmt.Errorf("totals of one who may have a tunnel: %w", err)
	}
	var in float64
	for i := range hosts {
		in += float64(hosts[i].InPackets) * effectiveRate(hosts[i].Rate)
	}
	for _, proto := range []uint8{flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP, flow.ProtoICMPv6} {
		// Who sent nothing by a protocol is not in the answer: what he got by it then
		// counts as a tunnel's, which is little unless it is errors by ICMP.
		stats, err := t.d.deps.Windows.OneWay(flow.Among(t.ctx, who), r, proto, 1, everything)
		if err != nil {
			return fmt.Errorf("incoming packets by protocol: %w", err)
		}
		for i := range stats {
			if stats[i].Tenant == f.Tenant {
				in -= float64(stats[i].InPackets) * effectiveRate(stats[i].Rate)
			}
		}
	}
	if in >= t.th(f.Tenant).UDPFlood.NotifyReturn*f.EstRate*r.Seconds() {
		hold(f, GateNoIncoming)
	}
	return nil
}

// everything is more than anybody gets for a packet.
const everything = 1e12
