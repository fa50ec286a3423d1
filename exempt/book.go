package exempt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/journal"
)

// Log is the append-only log (store). Of an event, Incident is the exemption's id.
// AppendExemptions returns when the events are stored for good; ExemptionEvents
// calls fn with all of them in the order of Seq.
type Log interface {
	AppendExemptions(ctx context.Context, ev []flow.Event) error
	ExemptionEvents(ctx context.Context, fn func(flow.Event) error) error
}

// The kinds of events. Body is the entry as it is after the event, without what is
// computed; of KindHits it is Hits.
const (
	KindCreated = "exemption_created"
	KindChanged = "exemption_changed"
	KindRemoved = "exemption_removed"
	KindHits    = "exemption_hits"
)

// Errors that callers branch on.
var (
	ErrUnknown = errors.New("no such exemption")
	ErrFixed   = errors.New("the exemption is in the configuration file: change respond.exempt there")
	ErrVersion = errors.New("the exemption was changed meanwhile")
	ErrRemoved = errors.New("the exemption was removed already")
	ErrInvalid = errors.New("invalid exemption")
	ErrFull    = errors.New("too many exemptions")
	ErrLog     = errors.New("the log of exemptions cannot be written")
)

// maxEntries bounds those that count at once: each finding is held against all of them.
const maxEntries = 2000

// Sources of an entry.
const (
	SourceConfig = "config"
	SourceAPI    = "api"
)

// Entry is an exemption with what became of it.
type Entry struct {
	flow.Exemption
	Source    string    `json:"source"`
	Version   int       `json:"version"` // rises with each change
	Created   time.Time `json:"created,omitzero"`
	CreatedBy string    `json:"created_by,omitempty"`
	Updated   time.Time `json:"updated,omitzero"`
	UpdatedBy string    `json:"updated_by,omitempty"`
	Removed   time.Time `json:"removed,omitzero"`
	Why       string    `json:"removed_why,omitempty"`
}

// Hits is how often an exemption was needed.
type Hits struct {
	Findings uint64    `json:"findings"`    // ticks
	Days     uint64    `json:"tenant_days"` // distinct tenants and days
	Last     time.Time `json:"last,omitzero"`
}

// ASOf tells the AS of an address.
type ASOf func(netip.Addr) (uint32, bool)

// Config is what does not change while the service runs.
type Config struct {
	Fixed []flow.Exemption // of the configuration; Name is given by New where it is empty
	ASOf  ASOf             // nil: exemptions cannot name an AS
	Since time.Time        // when counting begins; what nothing needed is told of by it
	Log   *zap.Logger      // nil: none
}

// Book holds the exemptions. Its methods may be called from any goroutine.
type Book struct {
	cfg Config
	log *journal.Journal

	mu      sync.RWMutex
	entries []*entry // in the order in which they were made
	version uint64   // rises with each change, counts of hits included
}

type entry struct {
	Entry
	hits    Hits
	unsaved bool                  // hits has more than the log
	today   map[netip.Addr]string // the day that a tenant was last counted on
}

// New checks the exemptions of the configuration; Load reads the others. log may be
// nil: nothing is kept over a restart then.
func New(cfg Config, log Log) (*Book, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	b := &Book{cfg: cfg}
	var kept journal.Log
	if log != nil {
		kept = journal.Log{Append: log.AppendExemptions, Read: log.ExemptionEvents}
	}
	b.log = journal.New("exemption", ErrLog, kept, journal.State{Anew: b.anew, Stored: b.stored})
	var errs []error
	for i, e := range cfg.Fixed {
		if e.Name == "" {
			e.Name = fixedName(e)
		}
		if err := check(&e, cfg.ASOf != nil); err != nil {
			errs = append(errs, fmt.Errorf("exemption %d: %w", i, err))
		}
		if b.find(e.Name) == nil { // the same line twice is one
			b.entries = append(b.entries, newEntry(Entry{Exemption: e, Source: SourceConfig, Version: 1, Created: cfg.Since}))
		}
	}
	return b, errors.Join(errs...)
}

// fixedName stays the same when lines are added before it, so that its hits do.
func fixedName(e flow.Exemption) string {
	e.Owner, e.Reason, e.Expires = "", "", time.Time{}
	text, _ := json.Marshal(e) // values only, it cannot fail
	sum := sha256.Sum256(text)
	return "cfg-" + hex.EncodeToString(sum[:5])
}

func newEntry(e Entry) *entry { return &entry{Entry: e, today: map[netip.Addr]string{}} }

func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "ex-" + hex.EncodeToString(b[:])
}

func (b *Book) find(id string) *entry {
	if i := slices.IndexFunc(b.entries, func(e *entry) bool { return e.Name == id }); i >= 0 {
		return b.entries[i]
	}
	return nil
}

// Load reads the log. It may be called again: the counts go on from what is stored.
func (b *Book) Load(ctx context.Context) error { return b.log.Load(ctx) }

// anew is the state before the first event: the entries of the configuration.
func (b *Book) anew() (fold func(flow.Event) error, replace func()) {
	next := &Book{cfg: b.cfg}
	b.mu.RLock()
	for _, e := range b.entries {
		if e.Source == SourceConfig {
			c := *e
			next.entries = append(next.entries, &c)
		}
	}
	b.mu.RUnlock()
	return next.fold, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range next.entries { // what was counted since the counts were stored
			if old := b.find(e.Name); old != nil && old.hits.Findings > e.hits.Findings {
				e.hits, e.today, e.unsaved = old.hits, old.today, true
			}
		}
		b.entries = next.entries
		b.version++
	}
}

// Version is another number after each change of what List tells at ts.
func (b *Book) Version(ts time.Time) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	h := fnv.New64a()
	_, _ = fmt.Fprintln(h, b.version) // a hash takes everything
	for _, e := range b.entries {
		s := b.statusOf(e, ts) // what changes with the clock
		_, _ = fmt.Fprintln(h, s.Status, s.Warning)
	}
	return h.Sum64()
}

func (b *Book) fold(ev flow.Event) error {
	switch ev.Kind {
	case KindCreated, KindChanged, KindRemoved:
		var n Entry
		if err := json.Unmarshal(ev.Body, &n); err != nil {
			return err
		}
		if e := b.find(ev.Incident); e != nil {
			e.Entry = n
		} else {
			b.entries = append(b.entries, newEntry(n))
		}
	case KindHits:
		e := b.find(ev.Incident)
		if e == nil {
			return nil // of a line that is not in the configuration any more
		}
		return json.Unmarshal(ev.Body, &e.hits)
	}
	return nil // kinds of later releases are left alone
}

// stored folds what was appended.
func (b *Book) stored(evs []flow.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version++
	for _, ev := range evs {
		if ev.Kind == KindHits {
			continue // what was counted meanwhile stays
		}
		if err := b.fold(ev); err != nil {
			return err
		}
	}
	return nil
}
