package libvirt

import (
	"context"
	"fmt"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// domainLocks let one operation at a time change a domain: marks of several
// NICs stand in one metadata element, which is read, changed and written.
type domainLocks struct {
	mu   sync.Mutex
	held map[golibvirt.UUID]*domainLock
}

type domainLock struct {
	free chan struct{} // holds one token while nobody has the domain
	refs int           // holder and waiters
}

// lock waits for the domain; unlock must be called if err is nil.
func (l *domainLocks) lock(ctx context.Context, id golibvirt.UUID) (unlock func(), err error) {
	l.mu.Lock()
	d := l.held[id]
	if d == nil {
		d = &domainLock{free: make(chan struct{}, 1)}
		d.free <- struct{}{}
		l.held[id] = d
	}
	d.refs++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if d.refs--; d.refs == 0 {
			delete(l.held, id)
		}
	}
	select {
	case <-d.free:
		return func() { d.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("wait for an earlier operation on the domain: %w", context.Cause(ctx))
	}
}
