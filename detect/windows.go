package detect

import (
	"context"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Windows gives the sums of stored windows over ranges of event time. Several
// sampling rates are brought to the thinnest, see flow.ServiceStat; bounds are
// on the counts as exported. The order of an answer means nothing.
type Windows interface {
	ScanWindows
	FloodWindows
	PeerRows
	GuardRows
	// HostStats returns the totals of the tenants given; nil: of all.
	HostStats(ctx context.Context, r flow.Range, tenants []netip.Addr) ([]flow.HostStat, error)
}

// ScanWindows are sums by tenant and service port.
type ScanWindows interface {
	// ServiceStats returns the tenants' client side of each service port with
	// at least minAttempts attempts.
	ServiceStats(ctx context.Context, r flow.Range, ipProto uint8, minAttempts uint64) ([]flow.ServiceStat, error)
	// ServiceTotals is ServiceStats for either side and for the ports asked for:
	// one row for each (tenant, port) of the query's protocol, role and ports
	// whose outgoing packets, unscaled, are at least q.MinOutPackets. Distinct
	// and Attempts are 0 for a server.
	ServiceTotals(ctx context.Context, r flow.Range, q flow.ServiceQuery) ([]flow.ServiceStat, error)
	// AttemptStats returns the tenants' client side over all service ports, for
	// those with at least minAttempts attempts that stand for at least minScaled
	// (each times its row's sampling rate).
	AttemptStats(ctx context.Context, r flow.Range, ipProto uint8, minAttempts, minScaled uint64) ([]flow.AttemptStat, error)
}

// FloodWindows are sums by tenant and remote.
type FloodWindows interface {
	// PairStats returns the pairs with at least minOutPackets outgoing packets
	// or minPorts distinct ports of outgoing SYNs; 0 disables a condition.
	PairStats(ctx context.Context, r flow.Range, ipProto uint8, minOutPackets, minPorts uint64) ([]flow.PairStat, error)
	// OtherPairStats returns the pairs with at least minOutPackets outgoing
	// packets of all protocols but TCP and UDP taken together. IPProto is the
	// protocol with the most outgoing packets, the lowest of equals; Ports is 0.
	OtherPairStats(ctx context.Context, r flow.Range, minOutPackets uint64) ([]flow.PairStat, error)
	// OneWay returns the tenants' totals of one protocol over all ports, for those
	// whose outgoing packets stand for minScaled and get at most back times as many
	// in return.
	OneWay(ctx context.Context, r flow.Range, ipProto uint8, minScaled uint64, back float64) ([]flow.ServiceStat, error)
	// TopPrefixes returns the networks that the tenants given sent most to, from
	// stored flow rows.
	TopPrefixes(ctx context.Context, r flow.Range, tenants []netip.Addr, ipProto uint8) ([]flow.PrefixStat, error)
}

// PeerRows are questions to the stored flow rows of one tenant, or of few.
type PeerRows interface {
	// KnownPeerShare returns the share of the distinct attempt destinations in
	// r that had established traffic within lookback before r.
	KnownPeerShare(ctx context.Context, tenant netip.Addr, ipProto uint8, svcPort uint16, r flow.Range, lookback time.Duration) (float64, error)
	// Peers says whom tenants sent to on service ports, in the order of the
	// questions, which differ in these two only. Without a stored row it is zeros
	// and no error.
	Peers(ctx context.Context, of []flow.PeerQuery) ([]flow.Peers, error)
	// Exchanged returns what a tenant and a remote exchanged over established TCP
	// connections, one Exchange for each step of r in which there was any.
	Exchanged(ctx context.Context, tenant, remote netip.Addr, r flow.Range, step time.Duration) ([]flow.Exchange, error)
	// Answered says to how many remotes a tenant sent by a protocol in r, and how
	// many of them (Known) had sent it something within lookback before.
	Answered(ctx context.Context, tenant netip.Addr, ipProto uint8, r flow.Range, lookback time.Duration) (flow.Peers, error)
	// Usual says to how many remotes a tenant sends in a step of the query's range;
	// its Lookback and Settled mean nothing here.
	Usual(ctx context.Context, q flow.PeerQuery, step time.Duration) (flow.Usual, error)
	// SpoofStats returns the attachments by which at least minRecords records
	// with sources that are not theirs came in.
	SpoofStats(ctx context.Context, r flow.Range, minRecords uint64) ([]flow.SpoofStat, error)
}

// GuardRows are what the guards ask: who saw a finding's traffic, and how the
// fleet is doing.
type GuardRows interface {
	// Sources returns nothing where no rows are stored.
	Sources(ctx context.Context, q flow.SourceQuery) ([]flow.SourceStat, error)
	// SharedFlows compares what two exporters saw of a finding.
	SharedFlows(ctx context.Context, q flow.SourceQuery, a, b netip.Addr) (flow.SharedFlows, error)
	// FleetAnswers compares now with base, which ends where now begins. The
	// connections of the tenants in except do not count.
	FleetAnswers(ctx context.Context, base, now flow.Range, except []netip.Addr) (flow.FleetAnswers, error)
	// RateChecks counts handshakes, for claimed rates of at least 1:least.
	RateChecks(ctx context.Context, r flow.Range, least uint32) ([]flow.RateCheck, error)
}
