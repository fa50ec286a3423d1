package inventory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gaissmai/bart"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory/discover"
)

// Lister reads all that one source knows, or gives an error: never half a list.
type Lister interface {
	Discover(ctx context.Context) ([]discover.Entry, error)
}

// SourceConfig is one source beside the file, and how often it is read.
type SourceConfig struct {
	Name   string
	Lister Lister
	// Written says that people or a panel wrote it for us: it outweighs what
	// others discover, as the file does.
	Written bool
	Every   time.Duration // between two readings
	// MaxAge is how old the last good reading may be; what is known by an older
	// one is not acted on.
	MaxAge time.Duration
}

// Problem is why a source could not be read.
type Problem string

// The problems of a source.
const (
	ProblemTimeout Problem = "timeout"
	ProblemNetwork Problem = "network" // refused, unreachable, no such name
	ProblemTLS     Problem = "tls"     // a certificate that is not trusted
	ProblemAnswer  Problem = "answer"  // what it says cannot be used, or it refuses to say it
	ProblemShrunk  Problem = "shrunk"  // most of what it listed before is missing
)

// SourceHealth is how a source does, for people.
type SourceHealth struct {
	Name    string        `json:"name"`
	Entries int           `json:"entries"`
	Seen    time.Time     `json:"seen,omitzero"` // of the last good reading; zero: none yet
	Age     time.Duration `json:"age"`           // of it, in ns
	Stale   bool          `json:"stale"`         // older than it may be
	Problem Problem       `json:"problem,omitempty"`
	Error   string        `json:"error,omitempty"` // of the last reading, if it failed
}

// source is a source with its last good reading.
type source struct {
	SourceConfig

	mu      sync.Mutex
	entries []discover.Entry
	seen    time.Time // zero: never read
	known   bool      // a reading is in force already: what comes now is a change
	problem Problem
	err     string
	failed  int // readings in a row
}

// shrinkFrom and shrinkTo are when a reading is taken for a broken one: a source
// of some size that all at once lists less than half of what it did. After
// shrinkAfter such readings in a row it is believed.
const (
	shrinkFrom  = 20
	shrinkTo    = 0.5
	shrinkAfter = 3
)

// retryFirst is how soon a failed reading is repeated; it grows up to Every.
const retryFirst = 30 * time.Second

// read reads the source once and reports whether the reading was good.
func (s *source) read(ctx context.Context, now func() time.Time) error {
	began := now().UTC()
	got, err := s.Lister.Discover(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && len(s.entries) >= shrinkFrom && float64(len(got)) < shrinkTo*float64(len(s.entries)) &&
		(s.problem != ProblemShrunk || s.failed < shrinkAfter-1) {
		err = &shrunkError{len(s.entries), len(got)}
	}
	if err != nil {
		if s.problem = problemOf(err); s.problem != ProblemShrunk {
			s.failed = 0
		}
		s.failed++
		s.err = err.Error()
		return err
	}
	s.entries, s.seen, s.problem, s.err, s.failed = got, began, "", "", 0
	return nil
}

type shrunkError struct{ had, got int }

func (e *shrunkError) Error() string {
	return fmt.Sprintf("lists %d entries, and %d before; believed when it says so %d times in a row", e.got, e.had, shrinkAfter)
}

func problemOf(err error) Problem {
	var (
		shrunk *shrunkError
		ne     net.Error
		oe     *net.OpError
		dns    *net.DNSError
		ca     x509.UnknownAuthorityError
		host   x509.HostnameError
		cert   x509.CertificateInvalidError
		verify *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &shrunk):
		return ProblemShrunk
	case errors.As(err, &verify), errors.As(err, &ca), errors.As(err, &host), errors.As(err, &cert):
		return ProblemTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return ProblemTimeout
	case errors.As(err, &oe), errors.As(err, &dns):
		return ProblemNetwork
	}
	return ProblemAnswer
}

func (s *source) health(now time.Time) SourceHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := SourceHealth{Name: s.Name, Entries: len(s.entries), Seen: s.seen, Problem: s.problem, Error: s.err}
	if !s.seen.IsZero() {
		h.Age = now.Sub(s.seen)
	}
	h.Stale = s.seen.IsZero() || s.MaxAge > 0 && h.Age > s.MaxAge
	return h
}

// Run reads every source on its own schedule until ctx ends, and returns when
// all of its goroutines have ended. Without sources it only waits.
func (i *Inventory) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range i.sources {
		wg.Go(func() { i.runSource(ctx, s) })
	}
	wg.Go(func() { i.runClock(ctx) })
	wg.Wait()
	<-ctx.Done() // a stage that ends by itself ends the service; without sources there is nothing to do
	return nil
}

// runClock looks at entries that begin or end by themselves.
func (i *Inventory) runClock(ctx context.Context) {
	if len(i.sources) == 0 {
		return
	}
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			i.mu.Lock()
			i.merge()
			i.mu.Unlock()
		}
	}
}

// clockEvery is how late an entry's own from and to may be noticed.
const clockEvery = 30 * time.Second

func (i *Inventory) runSource(ctx context.Context, s *source) {
	wait := i.firstWait(s)
	retry := retryFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if wait = s.Every; i.ReadSource(ctx, s.Name) != nil {
			wait, retry = min(retry, s.Every), min(2*retry, s.Every)
		} else {
			retry = retryFirst
		}
	}
}

// firstWait is zero unless what was kept is younger than a reading.
func (i *Inventory) firstWait(s *source) time.Duration {
	h := s.health(i.now())
	if h.Seen.IsZero() {
		return 0
	}
	return min(max(s.Every-h.Age, 0), s.Every)
}

// ReadSource reads one source now, and puts what it says in force. On an error
// the last good reading stays, and grows older.
func (i *Inventory) ReadSource(ctx context.Context, name string) error {
	for _, s := range i.sources {
		if s.Name != name {
			continue
		}
		before := s.health(i.now())
		err := s.read(ctx, i.now)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			h := s.health(i.now())
			i.metrics.failed.WithLabelValues(name, string(h.Problem)).Inc()
			if before.Error != h.Error {
				i.log.Warn("inventory source cannot be read; its last good answer stays in force",
					zap.String("source", name), zap.String("problem", string(h.Problem)), zap.Time("last_good", h.Seen), zap.Error(err))
			}
			return err
		}
		if before.Error != "" {
			i.log.Info("inventory source can be read again", zap.String("source", name))
		}
		i.keepSource(s)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.merge()
		return nil
	}
	return fmt.Errorf("inventory: no source %q", name)
}

// merge puts what file and sources say now in force. The caller holds mu.
func (i *Inventory) merge() {
	if len(i.sources) == 0 {
		return
	}
	ts := i.now().UTC()
	was := i.current.Load()
	var all []listing
	stale := map[string]staleness{}
	for _, s := range i.sources {
		s.mu.Lock()
		all = append(all, listing{name: s.Name, written: s.Written, known: s.known, entries: s.entries})
		s.known = s.known || !s.seen.IsZero()
		st := staleness{read: !s.seen.IsZero()}
		if s.MaxAge > 0 {
			st.till = s.seen.Add(s.MaxAge)
		}
		s.mu.Unlock()
		stale[s.Name] = st
	}
	now := combine(all, ts)
	covered := func(p netip.Prefix) bool { _, ok := was.table.Holder(p.Addr(), ts); return ok }
	unread := func(name string) bool { st, ok := stale[name]; return ok && !st.read }
	if i.history.step(now, ts, covered, unread) {
		i.keepHistory()
	}
	next := *was
	next.view = &view{byPrefix: i.history.table(), stale: stale}
	next.found = &bart.Table[found]{}
	servers := map[string]bool{}
	for p, f := range now {
		next.found.Insert(p, f)
		if f.h.VDS != "" {
			servers[f.h.Hypervisor+"/"+f.h.VDS] = true
		}
	}
	next.servers = len(servers)
	next.nics = i.nicsOf(&next)
	i.enforce(&next)
	i.tellDoubts(now, was)
}

// tellDoubts logs disputes that are new, and counts all.
func (i *Inventory) tellDoubts(now map[netip.Prefix]found, was *loaded) {
	count := map[flow.Doubt]int{flow.DoubtDisputed: 0, flow.DoubtForgeable: 0}
	shown := 0
	for p, f := range now {
		if f.doubt == "" {
			continue
		}
		count[f.doubt]++
		if f.doubt != flow.DoubtDisputed {
			continue
		}
		if was.found != nil {
			if old, ok := was.found.Get(p); ok && old.doubt == f.doubt && old.why == f.why {
				continue
			}
		}
		if shown++; shown <= maxShown {
			i.log.Error("inventory sources contradict each other: nobody is acted on for this address", zap.Stringer("prefix", p), zap.String("why", f.why))
		}
	}
	if shown > maxShown {
		i.log.Error("more contradictions of inventory sources not shown", zap.Int("count", shown-maxShown))
	}
	for d, n := range count {
		i.metrics.doubtful.WithLabelValues(string(d)).Set(float64(n))
	}
}

// Sources are how the sources do, in the order of the configuration.
func (i *Inventory) Sources() []SourceHealth {
	now := i.now()
	out := make([]SourceHealth, 0, len(i.sources))
	for _, s := range i.sources {
		out = append(out, s.health(now))
	}
	return out
}
