package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// Rows of nobody's, whose source is not internal, are found like those with a
// tenant's source: by the unspecified address.
func TestForgedSourcesOfNobody(t *testing.T) {
	s := storetest.New(t)
	nobody, exporter := netip.IPv6Unspecified(), netip.MustParseAddr("192.0.2.1")
	at := epoch.Add(time.Minute)
	b := flow.Batch{Hosts: []flow.HostWindow{{Key: flow.Key{Start: at.Unix() / flow.WindowSeconds * flow.WindowSeconds, Tenant: nobody, Rate: 256}, SpoofOut: 12}}}
	for i := range 12 {
		b.Flows = append(b.Flows, flow.FlowRow{Time: at.UnixNano(), Start: at.UnixNano(), End: at.UnixNano(), Exporter: exporter, Tenant: nobody,
			Host: netip.AddrFrom4([4]byte{8, 1, 2, byte(i / 2)}), Remote: netip.MustParseAddr("9.9.9.9"), Dir: flow.Out, IPProto: 6, Packets: 2,
			Rate: 256, InIf: 7, SrcMAC: [6]byte{2, 0, 0, 0, 0, 7}, Spoofed: true})
	}
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	got, err := s.SpoofStats(within(t, 2*time.Minute), flow.Range{From: epoch, To: epoch.Add(5 * time.Minute)}, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := flow.SpoofStat{Attachment: flow.Attachment{Exporter: exporter, InIf: 7, SrcMAC: [6]byte{2, 0, 0, 0, 0, 7}}, Records: 12, Packets: 24, Sources: 6, Remotes: 1, Rate: 256}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
