package export

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/flowcordon/flowcordon/flow"
)

func TestSampledHeaderIsARealPacket(t *testing.T) {
	src, dst := netip.MustParseAddr("198.18.0.7"), netip.MustParseAddr("11.0.0.1")
	src6, dst6 := netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2608::1")
	for _, tc := range []struct {
		name        string
		f           Flow
		header, len int // sampled bytes, frame length without FCS
		tcpOptions  int
	}{
		{"raw SYN padded to the Ethernet minimum", Flow{Src: src, Dst: dst, IPProto: 6, TCPFlags: flow.SYN, Bytes: 44, TTL: 255}, 60, 60, 1},
		{"kernel SYN", Flow{Src: src, Dst: dst, IPProto: 6, TCPFlags: flow.SYN, Bytes: 60}, 74, 74, 5},
		{"data longer than the sample", Flow{Src: src, Dst: dst, IPProto: 6, TCPFlags: flow.ACK, Bytes: 1500}, 128, 1514, 3},
		{"udp v6 tagged", Flow{Src: src6, Dst: dst6, IPProto: 17, Bytes: 100, VLAN: 12}, 118, 118, 0},
		{"tcp v6", Flow{Src: src6, Dst: dst6, IPProto: 6, TCPFlags: flow.SYN | flow.ACK, Bytes: 80}, 94, 94, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, n := appendPacket(nil, &tc.f, !tc.f.Src.Is4())
			if len(b) != tc.header || n != tc.len {
				t.Fatalf("%d bytes of a frame of %d, want %d of %d", len(b), n, tc.header, tc.len)
			}
			pkt := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
			if len(b) == n {
				for _, l := range pkt.Layers() {
					if c, ok := l.(interface {
						SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
					}); ok {
						if err := c.SetNetworkLayerForChecksum(pkt.NetworkLayer()); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err, bad := pkt.VerifyChecksums(); err != nil || len(bad) > 0 {
					t.Errorf("checksums: %v %+v", err, bad)
				}
			}
			if tcp, ok := pkt.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && len(tcp.Options) != tc.tcpOptions {
				t.Errorf("%d TCP options, want %d: %v", len(tcp.Options), tc.tcpOptions, tcp.Options)
			}
		})
	}
}
