package flow

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// Sign is a kind of thing that a slot of time can show of a tenant. Each is a
// bound: what a rule can find over a range that slots cover is never above the
// sum of what they show, since each is the positive part of a sum over keys.
type Sign uint8

// Of services, then of pairs. The scans are the log-likelihood ratios of
// detection.md §2.3 and §4 with attempts for destinations, at the thinnest
// sampling rate of each key in the slot, summed over the tenant's ports or
// remotes. The floods are packets times their sampling rates above the slot's
// ScreenQuery rate.
const (
	SignTCPScan   Sign = iota // of client ports
	SignUDPSweep              // of client ports
	SignEchoSweep             // of ICMP and ICMPv6
	SignOpened                // SYNs and SYN-ACKs, as exported, to and from ScreenQuery.Logins
	SignOpenings              // SignOpened times the sampling rates
	SignMail                  // packets, as exported, to ScreenQuery.Mail
	SignClosedTCP             // attempts and established, as exported, to ScreenQuery.ClosedTCP
	SignClosedUDP             // attempts, as exported, to ScreenQuery.ClosedUDP
	SignAnswers               // packets, as exported, from ScreenQuery.UDPServer
	SignAnswered              // those times their sampling rates and by the ports' AnswerWeights
	SignOneWay                // UDP packets of all ports
	SignHostSYNs              // SYNs to all ports
	SignPortScan              // of pairs
	SignSYNs                  // SYNs of a pair
	SignTCP                   // TCP packets of a pair
	SignUDP                   // UDP packets of a pair, or bytes that weigh more
	SignEchoes                // ICMP and ICMPv6 of a pair
	SignOther                 // protocols but TCP and UDP of a pair
	SignCount
)

// ScreenQuery asks what slots of time show.
type ScreenQuery struct {
	// Range is cut into slots that begin at multiples of Step, itself one of a
	// window; both ends are on such a multiple.
	Range Range
	Step  time.Duration
	// Service ports that count: tenants are clients of all but UDPServer.
	Logins, Mail, ClosedTCP, ClosedUDP, UDPServer []uint16
	AnswerWeights                                 []float64 // of UDPServer
	// Packets per second, times their sampling rates, that are nothing.
	OneWay, SYN, TCP, UDP, Echo, Other float64
	// ByteWeight times the bytes of UDP stand for packets where that is more.
	ByteWeight float64
}

// ScreenRow is what one slot shows of one tenant: what is above 0 of any kind.
type ScreenRow struct {
	Start  int64 // of the slot, Unix seconds
	Tenant netip.Addr
	Shows  [SignCount]float32
}

// RowCounts are the stored rows of a slot, by table.
type RowCounts struct{ Services, Pairs uint64 }

type amongKey struct{}

// Among returns a context under which sums by tenant are wanted of these tenants
// only. A store may leave out the others, and need not.
func Among(ctx context.Context, tenants []netip.Addr) context.Context {
	return context.WithValue(ctx, amongKey{}, tenants)
}

// WantedOf returns the tenants of Among, in order, and whether there was one.
func WantedOf(ctx context.Context) (tenants []netip.Addr, ok bool) {
	l, ok := ctx.Value(amongKey{}).([]netip.Addr)
	if ok && !slices.IsSortedFunc(l, netip.Addr.Compare) {
		l = slices.SortedFunc(slices.Values(l), netip.Addr.Compare)
	}
	return l, ok
}
