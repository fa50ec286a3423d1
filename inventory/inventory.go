// Package inventory knows who holds an address, and since when. A YAML or CSV
// file comes in: a prefix or address, the tenant and VDS behind it, where the
// VDS runs, its NICs, whom to write to, and from when to when that is true.
// Out goes flow.Holder for an address and a moment, because a complaint of last
// week is about last week's holder.
//
// The package starts no goroutine; Holder and Reload may be called from any. It
// imports flow and nothing else of ours.
package inventory

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Config says where the inventory comes from.
type Config struct {
	Path string // .yaml, .yml or .csv; empty: there is none, and nobody holds anything
}

// Deps is what the inventory needs from outside. All fields may be nil.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Inventory is the file in force. Replace the file by rename and call Reload.
type Inventory struct {
	cfg     Config
	log     *zap.Logger
	now     func() time.Time
	metrics metrics

	mu      sync.Mutex // one Reload at a time
	current atomic.Pointer[loaded]
}

type loaded struct {
	table *Table
	at    time.Time
}

// New gives an inventory without entries; Reload loads the file.
func New(cfg Config, deps Deps) *Inventory {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	i := &Inventory{cfg: cfg, log: deps.Log.Named("inventory"), now: deps.Now, metrics: newMetrics(deps.Registerer)}
	i.current.Store(&loaded{table: &Table{}})
	return i
}

// Reload reads the file and puts it in force in one step. An entry without from:
// whose holder is another than before the reload begins with it. On an error (of type
// Issues when it is about the contents) what was in force stays.
func (i *Inventory) Reload() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cfg.Path == "" {
		i.metrics.success.Set(1)
		return nil
	}
	t, err := Load(i.cfg.Path)
	if err != nil {
		i.metrics.success.Set(0)
		return err
	}
	at := i.now().UTC()
	t.follow(i.current.Load().table, at)
	i.current.Store(&loaded{t, at})
	i.metrics.success.Set(1)
	i.metrics.entries.Set(float64(t.Len()))
	i.metrics.loaded.Set(float64(at.UnixNano()) / 1e9)
	for n, w := range t.Warnings() {
		if n == maxShown {
			i.log.Warn("more inventory warnings not shown", zap.Int("count", len(t.Warnings())-n))
			break
		}
		i.log.Warn("inventory warning", zap.String("warning", w.String()))
	}
	i.log.Info("inventory loaded", zap.String("file", i.cfg.Path), zap.Int("entries", t.Len()))
	return nil
}

// Holder tells who held ip at the moment at; see Table.Holder.
func (i *Inventory) Holder(ip netip.Addr, at time.Time) (flow.Holder, bool) {
	return i.current.Load().table.Holder(ip, at)
}

// Len is the number of entries in force.
func (i *Inventory) Len() int { return i.current.Load().table.Len() }

// Servers is the number of different VDS in force.
func (i *Inventory) Servers() int { return i.current.Load().table.Servers() }

// Warnings are those of the file in force.
func (i *Inventory) Warnings() []Issue { return i.current.Load().table.Warnings() }

// LoadedAt is when the file in force was loaded; zero before the first time.
func (i *Inventory) LoadedAt() time.Time { return i.current.Load().at }
