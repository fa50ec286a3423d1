package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/store/storetest"
)

// benchAddr is the n-th tenant of the benchmark's fleet.
func benchAddr(n uint32) netip.Addr {
	n += 198<<24 | 18<<16
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// fillFleet writes half an hour of windows that end at end, and the flow rows of
// the last five minutes: each tenant talks to the web and asks resolvers, one in
// three has a busy remote, one in 10,000 scans port 22. Rows are as the
// aggregator makes them of 6 samples a tenant and window at 1:1000.
func fillFleet(b *testing.B, database string, end time.Time, tenants int) {
	b.Helper()
	conn := dialEngine(b, storetest.Engine(b))
	defer conn.Close()
	const windows, flowWindows = 180, 30
	ip := "toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(3323068416 + n))))"
	for w := range windows {
		start := end.Unix() + int64(w-windows)*10
		queries := []string{
			fmt.Sprintf(`INSERT INTO %[1]s.service_window (start, tenant, rate, ip_proto, role, svc_port, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_out, synack_in, est_in, raw_syn, attempts, remotes)
				SELECT %[2]d, %[3]s, 1000, if(k = 1, 17, 6), 1, if(scans, 22, [443, 53][k + 1]), a + 1 + h %% 2, 1 + h %% 3, a + 1 + h %% 2, if(scans, 0, 1 + h %% 3), 900, 1500,
				if(k = 0, a, 0), if(k = 0 AND NOT scans, 1 + h %% 2, 0), if(k = 0 AND NOT scans, a, 0), if(k = 0 AND NOT scans, 1 + h %% 2, 0), if(scans, a, 0), a,
				arrayMap(i -> sipHash64(n, %[4]d * scans, i + h %% 40), range(a))
				FROM (SELECT intDiv(number, 2) AS n, number %% 2 AS k, sipHash64(number, %[4]d) AS h, n %% 10000 = 7 AND k = 0 AS scans,
					toUInt64(if(scans, 20, if(k = 1, h %% 2, h %% 8 = 0))) AS a FROM numbers(%[5]d))`, database, start, ip, w, 2*tenants),
			fmt.Sprintf(`INSERT INTO %[1]s.pair_window (start, tenant, rate, remote, ip_proto, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_out, est_in, syn_packets, est_out_packets, ports)
				SELECT %[2]d, %[3]s, 1000, toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(sipHash64(n))))), if(n %% 2 = 0, 6, 17), 1, 1, 1 + h %% 3, 1 + h %% 3, 3000, 900,
				h %% 2, if(n %% 2 = 0, 1, 0), if(n %% 2 = 0, 1, 0), h %% 2, if(n %% 2 = 0, 1, 0), arrayMap(i -> toUInt16(443), range(toUInt64(h %% 2)))
				FROM (SELECT number * 3 AS n, sipHash64(number, %[4]d) AS h FROM numbers(%[5]d))`, database, start, ip, w, tenants/3),
			fmt.Sprintf(`INSERT INTO %[1]s.host_window (start, tenant, rate, out_records, in_records, out_packets, in_packets, out_bytes, in_bytes, syn_out, est_out, synack_in, est_in, udp_out_packets)
				SELECT %[2]d, %[3]s, 1000, 3, 3, 3, 3, 2000, 3000, if(n %% 10000 = 7, 20, 0), 1, 0, 1, 1 FROM (SELECT number AS n FROM numbers(%[4]d))`, database, start, ip, tenants),
		}
		if w >= windows-flowWindows {
			queries = append(queries, fmt.Sprintf(`INSERT INTO %[1]s.flows (time, start, end, exporter, in_if, out_if, src_mac, vlan, tenant, host, remote, host_port, remote_port, svc_port, dir, ip_proto, role, class, tcp_flags, packets, bytes, ip_len, ttl, rate)
				SELECT fromUnixTimestamp64Nano(toInt64(%[2]d * 1000000000 + h %% 10000000000), 'UTC') AS t, t, t, toIPv6('::ffff:192.0.2.1'), 1, 2, 0, 0, %[3]s, %[3]s,
				toIPv6(concat('::ffff:', IPv4NumToString(toUInt32(h)))), 40000, if(n %% 10000 = 7, 22, 443), if(n %% 10000 = 7, 22, 443), if(n %% 10000 = 7 OR h %% 2 = 0, 1, 2), 6, 1,
				if(n %% 10000 = 7, 1, 4), if(n %% 10000 = 7, 2, 16), 1, 44, 44, 255, 1000
				FROM (SELECT intDiv(number, 6) AS n, sipHash64(number, %[4]d) AS h FROM numbers(%[5]d))`, database, start, ip, w, 6*tenants))
		}
		for _, q := range queries {
			if err := conn.Exec(b.Context(), q); err != nil {
				b.Fatal(err)
			}
		}
	}
}
