package complaint_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// BenchmarkMatch matches complaints of one and of a thousand lines about a busy
// host, among others' traffic of three days. p99 is the metric that counts.
func BenchmarkMatch(b *testing.B) {
	st := storetest.New(b)
	host := netip.MustParseAddr("198.18.0.7")
	const hosts, each = 100, 20_000 // 2 million rows
	for h := range hosts {
		batch := &flow.Batch{}
		a := netip.AddrFrom4([4]byte{198, 18, 0, byte(h)})
		for i := range each {
			at := day.Add(-36*time.Hour + time.Duration(i)*72*time.Hour/each)
			t := at.UnixNano()
			batch.Flows = append(batch.Flows, flow.FlowRow{Time: t, Start: t, End: t, Exporter: netip.MustParseAddr("192.0.2.1"), Tenant: a, Host: a,
				Remote: netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), HostPort: uint16(32768 + i), RemotePort: 22, SvcPort: 22, Dir: flow.Out, IPProto: 6, Role: flow.RoleClient, Class: flow.ClassSYN, Packets: 1, Rate: 1000})
			if i%4 == 0 {
				active(batch, a, at, 1000)
			}
		}
		if err := st.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	if err := st.Sync(ctx); err != nil {
		b.Fatal(err)
	}
	m := matcher(b, st, nil)
	for _, lines := range []int{1, 1000} {
		b.Run(fmt.Sprintf("lines=%d", lines), func(b *testing.B) {
			var text strings.Builder
			for i := range lines {
				n := 10_000 + i*3
				fmt.Fprintf(&text, "%s %s:%d -> 203.0.%d.%d:22 tcp\n", day.Add(-36*time.Hour+time.Duration(n)*72*time.Hour/each).Format(time.RFC3339), host, 32768+n, byte(n>>8), byte(n))
			}
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				res, err := m.Match(ctx, complaint.Request{Data: []byte(text.String()), Received: day.Add(48 * time.Hour)})
				if err != nil || res.Counts[complaint.Confirmed] != lines {
					b.Fatalf("%v, %v", res.Counts, err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "ms-p99")
		})
	}
}
