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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

// Config says where the inventory comes from.
type Config struct {
	Path string // .yaml, .yml or .csv; empty: there is none
	// Sources are read beside it, in the order in which they complete each other.
	Sources []SourceConfig
	// Dir is where the sources' last good answers and who held what are kept
	// over restarts; empty: nowhere.
	Dir      string
	ReadOnly bool // nothing is written there
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

	mu      sync.Mutex // one Reload or merge at a time
	current atomic.Pointer[loaded]
	sources []*source
	history history // under mu
}

type loaded struct {
	table   *Table
	at      time.Time
	view    *view // nil: nothing was discovered
	found   *bart.Table[found]
	servers int
	nics    map[server]nics
	turn    uint64  // rises with each that comes into force
	moments []int64 // momentsOf it
}

// New gives an inventory without entries; Reload loads the file.
func New(cfg Config, deps Deps) *Inventory {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	i := &Inventory{cfg: cfg, log: deps.Log.Named("inventory"), now: deps.Now, metrics: newMetrics(deps.Registerer), history: history{}}
	i.current.Store(&loaded{table: &Table{}})
	for _, sc := range cfg.Sources {
		i.sources = append(i.sources, &source{SourceConfig: sc})
	}
	i.metrics.watch(i)
	return i
}

// Recall takes what was kept of the sources into force, before Run reads them
// anew. An error tells what could not be read of it; the rest is in force.
func (i *Inventory) Recall() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	err := i.recall()
	i.merge()
	return err
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
	was := i.current.Load()
	t.follow(was.table, at)
	t.followFound(was, at)
	next := *was
	next.table, next.at = t, at
	next.nics = i.nicsOf(&next)
	i.enforce(&next)
	i.merge()
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

// Holder tells who held ip at the moment at. What the file says outweighs what
// the sources do; where it leaves hypervisor or NICs open, a source that knows
// the same server completes it. See Table.Holder and flow.Doubt.
func (i *Inventory) Holder(ip netip.Addr, at time.Time) (flow.Holder, bool) {
	l := i.current.Load()
	h, ok := l.table.Holder(ip, at)
	if l.view == nil || ok && h.Hypervisor != "" && len(h.NICs) > 0 {
		return h, ok
	}
	ip = ip.Unmap().WithZone("")
	if !ok {
		return l.view.holder(ip, at, i.now())
	}
	return l.complete(h, ip, i.now()), true
}

// complete adds where the server of a file's entry runs, and its NIC, from what
// was found of the same server at the same address.
func (l *loaded) complete(h flow.Holder, ip netip.Addr, now time.Time) flow.Holder {
	f, ok := l.found.Lookup(ip)
	if !ok || f.doubt != "" || h.VDS == "" || !strings.EqualFold(f.h.VDS, h.VDS) ||
		h.Hypervisor != "" && h.Hypervisor != f.h.Hypervisor {
		return h
	}
	h.Hypervisor = f.h.Hypervisor
	if len(h.NICs) == 0 {
		h.NICs = f.h.NICs
	}
	h.Doubt, h.DoubtWhy = l.view.stalest(f.sources, now)
	return h
}

// Age is how long ago what is in force was last known to be right: of file and
// sources the one that is the oldest. It is for a bound over all of them; each
// source has one of its own.
func (i *Inventory) Age() time.Duration {
	now, age := i.now(), time.Duration(0)
	if i.cfg.Path != "" || len(i.sources) == 0 {
		age = now.Sub(i.LoadedAt())
	}
	for _, s := range i.Sources() {
		age = max(age, now.Sub(s.Seen))
	}
	return age
}

// Len is the number of entries of the file in force.
func (i *Inventory) Len() int { return i.current.Load().table.Len() }

// Servers is the number of different VDS in force.
func (i *Inventory) Servers() int {
	l := i.current.Load()
	return max(l.table.Servers(), l.servers)
}

// Warnings are those of the file in force.
func (i *Inventory) Warnings() []Issue { return i.current.Load().table.Warnings() }

// LoadedAt is when the file in force was loaded; zero before the first time.
func (i *Inventory) LoadedAt() time.Time { return i.current.Load().at }
