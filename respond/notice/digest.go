package notice

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Batch is what one digest tells.
type Batch struct {
	Key      string // depends on the notices only
	From, To time.Time
	Notices  []flow.Notice // oldest first
}

func newBatch(ns []flow.Notice) Batch {
	slices.SortFunc(ns, func(a, b flow.Notice) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Key, b.Key)) })
	keys := make([]string, len(ns))
	for i, n := range ns {
		keys[i] = n.Key
	}
	slices.Sort(keys)
	sum := sha256.Sum256([]byte(strings.Join(keys, "\n")))
	return Batch{Key: "digest/" + hex.EncodeToString(sum[:8]), From: ns[0].At, To: ns[len(ns)-1].At, Notices: ns}
}

// digestView is what the template staff-digest may use.
type digestView struct {
	Batch
	Company string
	Count   int
	Tenants int         // different addresses
	Kinds   []countOf   // most first
	Rules   []countOf   // most first
	Items   []digestRow // at most maxDigestRows, oldest first
	More    int
}

type countOf struct {
	Name  string
	Count int
}

type digestRow struct {
	At                               time.Time
	Kind, ID, IP, Server, URL, State string
	Rules                            []flow.Rule
}

// maxDigestRows bounds a digest's length: who must read more looks it up.
const maxDigestRows = 100

// WriteDigest renders a digest for staff.
func (w *Writer) WriteDigest(b Batch, language string) (Message, error) {
	v := digestView{Batch: b, Company: w.cfg.Company, Count: len(b.Notices)}
	kinds, rules, tenants := map[string]int{}, map[string]int{}, map[string]bool{}
	for i, n := range b.Notices {
		kinds[n.Kind]++
		tenants[n.Incident.Tenant.String()] = true
		for _, r := range n.Incident.Rules {
			rules[string(r)]++
		}
		if i < maxDigestRows {
			inc := n.Incident
			v.Items = append(v.Items, digestRow{
				At: n.At, Kind: n.Kind, ID: inc.ID, IP: inc.Tenant.String(), Server: inc.Holder.VDS, State: string(inc.State),
				URL: strings.ReplaceAll(w.cfg.PortalURL, "{id}", inc.ID), Rules: inc.Rules,
			})
		}
	}
	v.More, v.Tenants, v.Kinds, v.Rules = v.Count-len(v.Items), len(tenants), counted(kinds), counted(rules)
	m, err := w.render(w.language(language), staffDigest, v)
	if err != nil {
		return m, fmt.Errorf("write %s: %w", b.Key, err)
	}
	return m, nil
}

func counted(m map[string]int) []countOf {
	var out []countOf
	for name, n := range m {
		out = append(out, countOf{name, n})
	}
	slices.SortFunc(out, func(a, b countOf) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Name, b.Name)) })
	return out
}

// Sender is a Notifier that can tell of many notices in one message.
type Sender interface {
	Notifier
	NotifyDigest(ctx context.Context, b Batch) error
}

// DigestConfig says when many notices become one.
type DigestConfig struct {
	Max    int           // that go one by one within Window; 10
	Window time.Duration // 10 min; also how long the others are gathered
	// Never are the kinds that always go at once; nil: frozen, orphan, escalated,
	// failed and unverified, which ask for a person now.
	Never []string
	Now   func() time.Time // nil: time.Now
}

// Digest makes one message of the notices beyond Max in Window. What it holds
// back it has not taken: Notify returns an error that is worth a retry until
// the digest has gone, so whoever owes a notice owes it over a restart, too,
// and nothing is lost with the process. It is safe for concurrent use.
type Digest struct {
	to  Sender
	cfg DigestConfig

	mu    sync.Mutex
	sent  []time.Time            // singles within the window
	held  map[string]flow.Notice // by key
	since time.Time              // of the first held
	told  map[string]time.Time   // keys that went with a digest, and when
	busy  bool                   // a digest is on its way
}

// NewDigest puts a digest before a sender.
func NewDigest(to Sender, cfg DigestConfig) *Digest {
	if cfg.Max <= 0 {
		cfg.Max = 10
	}
	if cfg.Window <= 0 {
		cfg.Window = 10 * time.Minute
	}
	if cfg.Never == nil {
		cfg.Never = []string{"frozen", "orphan", "escalated", "failed", "unverified"}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Digest{to: to, cfg: cfg, held: map[string]flow.Notice{}, told: map[string]time.Time{}}
}

// Name is the sender's.
func (d *Digest) Name() string { return d.to.Name() }

// Wants asks the sender, if it chooses.
func (d *Digest) Wants(kind string, inc flow.Incident) bool {
	s, ok := d.to.(interface {
		Wants(kind string, inc flow.Incident) bool
	})
	return !ok || s.Wants(kind, inc)
}

// toldFor is how long a key that went with a digest is known: whoever owes the
// notice asks again within its own longest wait.
const toldFor = 72 * time.Hour

// waiting is a notice that is held for the digest.
type waiting struct{ left time.Duration }

// Error says until when.
func (w *waiting) Error() string {
	return fmt.Sprintf("held for a digest, for another %s", w.left.Round(time.Second))
}

// RetryAfter is when the digest goes.
func (w *waiting) RetryAfter() time.Duration { return w.left }

// Notify sends a notice by itself, or with the digest.
func (d *Digest) Notify(ctx context.Context, n flow.Notice) error {
	if slices.Contains(d.cfg.Never, n.Kind) {
		return d.to.Notify(ctx, n)
	}
	batch, single, err := d.take(n)
	switch {
	case err != nil:
		return err
	case single:
		if err := d.to.Notify(ctx, n); err != nil {
			d.giveBack()
			return err
		}
		return nil
	case batch == nil:
		return nil // it went with an earlier digest
	case len(batch) == 1:
		err = d.to.Notify(ctx, batch[0])
	default:
		err = d.to.NotifyDigest(ctx, newBatch(batch))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	if err != nil {
		return err
	}
	now := d.cfg.Now()
	for _, b := range batch {
		delete(d.held, b.Key)
		d.told[b.Key] = now
	}
	// What came while the digest was on its way begins the next one.
	if d.since = (time.Time{}); len(d.held) > 0 {
		d.since = now
	}
	return nil
}

// take decides what becomes of a notice: it goes alone, all that is held goes,
// or it waits.
func (d *Digest) take(n flow.Notice) (batch []flow.Notice, single bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	for k, at := range d.told {
		if now.Sub(at) > toldFor {
			delete(d.told, k)
		}
	}
	if _, ok := d.told[n.Key]; ok {
		return nil, false, nil
	}
	d.sent = slices.DeleteFunc(d.sent, func(t time.Time) bool { return now.Sub(t) >= d.cfg.Window })
	_, known := d.held[n.Key]
	if !known && len(d.held) == 0 && len(d.sent) < d.cfg.Max {
		d.sent = append(d.sent, now)
		return nil, true, nil
	}
	if d.held[n.Key] = n; d.since.IsZero() {
		d.since = now
	}
	left := d.since.Add(d.cfg.Window).Sub(now)
	if left > 0 || d.busy {
		return nil, false, &waiting{max(left, time.Second)}
	}
	d.busy = true
	for _, h := range d.held {
		batch = append(batch, h)
	}
	return batch, false, nil
}

// giveBack frees the place of a notice that did not go.
func (d *Digest) giveBack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.sent); n > 0 {
		d.sent = d.sent[:n-1]
	}
}
