package bgp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Run reads the marks, announces them anew, brings the sessions up and keeps
// them until ctx ends. A file of marks that cannot be read is an error: going on
// without would open what is cut.
func (a *Adapter) Run(ctx context.Context) error {
	if a.invalid != nil {
		return fmt.Errorf("bgp %s: %w", a.cfg.Name, a.invalid)
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	err := a.start(ctx)
	sp := a.speaker
	<-a.turn
	if ctx.Err() != nil && sp == nil {
		return nil // ended while it began
	}
	if err != nil {
		return fmt.Errorf("bgp %s: %w", a.cfg.Name, err)
	}
	a.keep(ctx)
	select {
	case a.turn <- struct{}{}:
		a.speaker = nil
		<-a.turn
	case <-time.After(stopGrace): // an operation hangs at the disk; what it announces yet is refused
	}
	sp.stop()
	for _, p := range a.cfg.Peers {
		a.metrics.up.WithLabelValues(p.Address.String()).Set(0)
	}
	return nil
}

func (a *Adapter) start(ctx context.Context) error {
	if err := os.Mkdir(a.cfg.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("dir: %w", err)
	}
	m, err := loadMarks(a.cfg.marksPath())
	if err != nil {
		return err
	}
	if err := m.save(a.cfg.marksPath()); err != nil { // a Dir that cannot be written shows now, not at the first flood
		return err
	}
	sp, err := newSpeaker(ctx, a.cfg, a.log)
	if err != nil {
		return err
	}
	a.marks, a.speaker = m, sp
	a.metrics.limit.Set(float64(a.cfg.MaxRules))
	a.announceAll()
	up := map[netip.Addr]bool{}
	err = sp.watch(ctx, func(p netip.Addr, isUp, overLimit bool, why string) { a.session(up, p, isUp, overLimit, why) })
	for _, p := range a.cfg.Peers {
		a.metrics.up.WithLabelValues(p.Address.String()).Set(0)
		if err == nil {
			err = sp.addPeer(ctx, p)
		}
	}
	if err != nil {
		a.speaker = nil
		sp.stop()
	}
	return err
}

// keep returns when ctx ends. Until then a peer that was closed for what it
// sent is tried again each minute.
func (a *Adapter) keep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return
		case a.turn <- struct{}{}:
			a.revive(ctx)
			<-a.turn
		}
	}
}

func (a *Adapter) revive(ctx context.Context) {
	peers, err := a.speaker.peers(ctx)
	if err != nil {
		return
	}
	for _, p := range peers {
		if p.overLimit {
			if err := a.speaker.reopen(ctx, p.Peer); err != nil {
				a.log.Warn("peer cannot be tried again", zap.Stringer("peer", p.Address), zap.Error(err))
			}
		}
	}
}

// announceAll puts every mark in force that still may be.
func (a *Adapter) announceAll() {
	refused := 0
	for _, source := range slices.SortedFunc(maps.Keys(a.marks), netip.Prefix.Compare) {
		h := a.marks[source]
		want, err := h.rules(a.cfg)
		if err == nil {
			err = a.cfg.guard(source)
		}
		if err == nil && len(a.speaker.announced)+len(want) > a.cfg.MaxRules {
			err = fmt.Errorf("max_rules is %d", a.cfg.MaxRules)
		}
		if err == nil {
			err = a.speaker.set(source, want)
		}
		if err != nil {
			refused++
			a.log.Error("mark is not announced", zap.Stringer("source", source), zap.String("vds", h.NIC.VDS), zap.Error(err))
		}
	}
	a.metrics.refused.Set(float64(refused))
	a.metrics.rules.Set(float64(len(a.speaker.announced)))
	if len(a.marks) > 0 {
		a.log.Info("marks announced anew", zap.Int("sources", len(a.marks)-refused), zap.Int("rules", len(a.speaker.announced)))
	}
}

// session takes note of a change of a session. Calls do not overlap.
func (a *Adapter) session(up map[netip.Addr]bool, p netip.Addr, isUp, overLimit bool, why string) {
	if overLimit {
		a.log.Error("peer sent too many routes and was closed; let it export nothing to us",
			zap.Stringer("peer", p), zap.Int("limit", maxReceived))
	}
	if up[p] == isUp {
		return
	}
	up[p] = isUp
	if isUp {
		a.metrics.up.WithLabelValues(p.String()).Set(1)
		a.log.Info("session established", zap.Stringer("peer", p))
	} else {
		a.metrics.up.WithLabelValues(p.String()).Set(0)
		a.metrics.lost.WithLabelValues(p.String()).Inc()
		a.log.Warn("session lost", zap.Stringer("peer", p), zap.String("reason", why))
	}
	a.mu.Lock()
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()
}
