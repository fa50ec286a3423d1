// Package login keeps one login at an API for all who use it, and makes another
// when it has ended. It imports the standard library only and starts no goroutine.
package login

import (
	"context"
	"errors"
	"sync"
)

// Keeper keeps one login. Its methods may be called from any goroutine.
type Keeper[L any] struct {
	open  func(context.Context) (*L, error)
	ended func(error) bool
	free  func(*L)
	turn  chan struct{} // holds one token while somebody logs in

	mu  sync.Mutex // guards cur
	cur *L
}

// New returns a Keeper that has no login yet. open logs in; ended says of an error
// that the login is not taken any more; free gives back what a dropped login holds here,
// and may be called for it again.
func New[L any](open func(context.Context) (*L, error), ended func(error) bool, free func(*L)) *Keeper[L] {
	return &Keeper[L]{open: open, ended: ended, free: free, turn: make(chan struct{}, 1)}
}

// With runs fn with a login. fn runs a second time if the login that was kept turns
// out to have ended: operations are idempotent for that.
func (k *Keeper[L]) With(ctx context.Context, fn func(context.Context, *L) error) error {
	for {
		l, fresh, err := k.Get(ctx)
		if err != nil {
			return err
		}
		err = fn(ctx, l)
		if !k.ended(err) {
			return err
		}
		k.Drop(l)
		if fresh {
			return err
		}
	}
}

// Current is the login that is kept, or nil.
func (k *Keeper[L]) Current() *L {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cur
}

// Get gives the login that is kept, or logs in; of many who ask at once one does.
func (k *Keeper[L]) Get(ctx context.Context) (l *L, fresh bool, err error) {
	if l = k.Current(); l != nil {
		return l, false, nil
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, false, errors.New("wait for the login under way")
	}
	if l = k.Current(); l != nil {
		return l, false, nil
	}
	if l, err = k.open(ctx); err != nil {
		return nil, false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cur = l
	return l, true, nil
}

// Drop forgets a login, so that the next Get makes another, unless one was made since.
func (k *Keeper[L]) Drop(l *L) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.free(l)
	if k.cur == l {
		k.cur = nil
	}
}
