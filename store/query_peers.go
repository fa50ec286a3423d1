package store

import (
	"context"
	"net/netip"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

const peerSums = `count() AS records,
	sumIf(packets * rate, dir = 1) AS est_out_packets, sumIf(packets * rate, dir = 2) AS est_in_packets,
	sumIf(bytes * rate, dir = 1) AS est_out_bytes, sumIf(bytes * rate, dir = 2) AS est_in_bytes,
	countIf(dir = 1 AND role = 1 AND class != 4) AS not_established`

const peersOrder = ` ORDER BY est_out_packets + est_in_packets DESC, not_established DESC, `

const hostPeersSQL = `SELECT remote, toUInt8(0), toUInt16(0), toUInt64(0), ` + peerSums + `, count() OVER () AS total
FROM flows WHERE tenant = {tenant:IPv6} AND ` + inTimeRange + ` AND NOT spoofed
GROUP BY remote` + peersOrder + `remote LIMIT {limit:UInt32}`

const hostPortsSQL = `SELECT toIPv6('::'), ip_proto, svc_port, uniqExact(remote), ` + peerSums + `, count() OVER () AS total
FROM flows WHERE tenant = {tenant:IPv6} AND ` + inTimeRange + ` AND NOT spoofed
GROUP BY ip_proto, svc_port` + peersOrder + `ip_proto, svc_port LIMIT {limit:UInt32}`

// HostPeers sums the flow rows of a tenant whose time is in r by their remote and by
// their service port: the largest limit of each (0: 25, at most 10,000), and how
// many there are. Rows with a forged source are nobody's peers.
func (s *Store) HostPeers(ctx context.Context, tenant netip.Addr, r flow.Range, limit int) (flow.PeerSums, error) {
	if limit <= 0 {
		limit = 25
	}
	args := nanoArgs(r, namedAddr("tenant", tenant), named("limit", min(limit, maxTop)))
	of := func(what, sql string, total *uint64) ([]flow.PeerSum, error) {
		return query(ctx, s, what, sql, args, func(rows driver.Rows, v *flow.PeerSum) error {
			err := rows.Scan(&v.Remote, &v.IPProto, &v.SvcPort, &v.Remotes, &v.Records, &v.EstOutPackets, &v.EstInPackets, &v.EstOutBytes, &v.EstInBytes, &v.NotEstablished, total)
			if v.Remote = unmap(v.Remote); v.Remote.IsUnspecified() {
				v.Remote = netip.Addr{}
			}
			return err
		})
	}
	var p flow.PeerSums
	var err error
	if p.Ports, err = of("ports of a host", hostPortsSQL, &p.TotalPorts); err != nil {
		return p, err
	}
	p.Remotes, err = of("peers of a host", hostPeersSQL, &p.TotalRemotes)
	return p, err
}
