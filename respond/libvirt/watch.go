package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"go.uber.org/zap"
)

const (
	// watchPing is how often an idle connection is asked for a sign of life; a
	// node that lost its network sends no end of the connection either.
	watchPing = 30 * time.Second

	watchRetryMin = time.Second
	watchRetryMax = 30 * time.Second
)

// Watch tells of each domain of the node that is defined, started, stopped,
// migrated, saved or deleted, by all names that the inventory may have for it:
// name, UUID and the id in its metadata. When the connection was lost anything
// may have changed, so vds is empty then, as it is for a domain that cannot be
// read and was never seen. Watch uses a connection of its own, connects again
// by itself and returns nil when ctx ends; changed is called from one goroutine.
func (a *Adapter) Watch(ctx context.Context, changed func(vds string)) error {
	wait := watchRetryMin
	for {
		begin := time.Now()
		err := a.watchOnce(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(begin) > watchRetryMax {
			wait = watchRetryMin // it had worked
		}
		a.log.Warn("events of the node lost", zap.Error(err), zap.Duration("retry_in", wait))
		a.metrics.Observe("watch", result(classify("watch", err)), time.Since(begin))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, watchRetryMax)
	}
}

// watchOnce watches over one connection until that or ctx ends.
func (a *Adapter) watchOnce(ctx context.Context, changed func(string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	open, done := context.WithTimeoutCause(ctx, a.cfg.timeout(), errDeadline)
	s, err := a.link.open(open)
	done()
	if err != nil {
		return err
	}
	defer s.conn.kill()
	// It frees every call below, and with them go-libvirt's goroutine of the stream.
	defer context.AfterFunc(ctx, s.conn.kill)()
	w := watch{a: a, s: s, changed: changed, names: map[golibvirt.UUID][]string{}}
	var events <-chan golibvirt.DomainEventLifecycleMsg
	if err := w.within(func() (err error) {
		events, err = s.l.LifecycleEvents(ctx)
		return err
	}); err != nil {
		return fmt.Errorf("subscribe to events: %w", err)
	}
	defer func() {
		s.conn.kill()
		cancel()
		for range events { // until go-libvirt closes it
		}
	}()
	if err := w.within(w.learn); err != nil {
		return err
	}
	changed("")
	ping := time.NewTicker(watchPing)
	defer ping.Stop()
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return errors.New("connection lost")
			}
			w.tell(ev)
		case <-ping.C:
			if err := w.within(func() error { _, err := s.l.ConnectGetLibVersion(); return err }); err != nil {
				return fmt.Errorf("no sign of life: %w", err)
			}
		case <-s.conn.gone:
			return errors.New("connection lost")
		}
	}
}

// watch is one connection's watch.
type watch struct {
	a       *Adapter
	s       *session
	changed func(string)
	names   map[golibvirt.UUID][]string // of the node's domains, for when one is gone
}

// within frees a call that takes too long by ending the connection.
func (w *watch) within(f func() error) error {
	t := time.AfterFunc(w.a.cfg.timeout(), w.s.conn.kill)
	defer t.Stop()
	return f()
}

// learn reads the names of all domains.
func (w *watch) learn() error {
	all, err := list(w.s, nil)
	for _, c := range all {
		w.names[c.dom.UUID] = c.doc.aliases(w.a.cfg.metadataID())
	}
	return err
}

func (w *watch) tell(ev golibvirt.DomainEventLifecycleMsg) {
	id := ev.Dom.UUID
	w.a.finder.forget() // before anybody acts on what the event changed
	if golibvirt.DomainEventType(ev.Event) == golibvirt.DomainEventUndefined {
		defer delete(w.names, id)
	} else {
		var raw string
		if err := w.within(func() (err error) {
			raw, err = w.s.l.DomainGetXMLDesc(ev.Dom, 0)
			return err
		}); err == nil {
			if doc, err := parseDocument(raw); err == nil {
				w.names[id] = doc.aliases(w.a.cfg.metadataID())
			}
		}
	}
	names := w.names[id]
	if len(names) == 0 {
		names = []string{""}
	}
	for _, n := range names {
		w.changed(n)
	}
}
