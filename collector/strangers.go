package collector

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// strangers tells the operator of senders that are not allowed, without being
// led by them: anyone can send to an open UDP port from any source address.
type strangers struct {
	log     *zap.Logger
	mu      sync.Mutex
	seen    map[netip.Addr]time.Time // last line
	limit   *rate.Limiter
	skipped uint64
}

const (
	// maxStrangers is how many are remembered; a flood of forged senders fills
	// it, and then lines come by the limiter alone.
	maxStrangers = 1024
	// strangerAgain is how long one sender is not mentioned again.
	strangerAgain = 10 * time.Minute
)

func newStrangers(log *zap.Logger) *strangers {
	return &strangers{log: log, seen: map[netip.Addr]time.Time{}, limit: rate.NewLimiter(rate.Every(time.Second), 5)}
}

// met takes note of a datagram of a sender that is not allowed.
func (s *strangers) met(addr netip.Addr, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.seen[addr]; ok && now.Sub(last) < strangerAgain {
		return
	}
	if !s.limit.AllowN(now, 1) {
		s.skipped++
		return
	}
	if len(s.seen) >= maxStrangers {
		clear(s.seen)
	}
	s.seen[addr] = now
	s.log.Warn("datagrams from an exporter that is not allowed are dropped",
		zap.Stringer("exporter", addr),
		zap.String("to_allow_it_write", fmt.Sprintf("exporters: {allow: [%s]}", netip.PrefixFrom(addr, addr.BitLen()))),
		zap.Uint64("others_not_shown", s.skipped))
	s.skipped = 0
}
