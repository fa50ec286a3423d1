package exempt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	// maxText of owner and reason, in characters.
	maxOwner, maxReason = 100, 1000
	// maxSpan: an exemption is for a pentest or a known scanner; whoever wants it for
	// longer looks at it once a year.
	maxSpan = 366 * 24 * time.Hour
)

// check returns everything that is wrong, with what to write instead.
func check(e *flow.Exemption, as bool) error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if !e.Tenant.IsValid() && e.Holder == "" {
		bad("neither tenant nor customer is there, which would exempt everybody: write one of them")
	}
	for _, p := range []struct {
		key string
		p   netip.Prefix
	}{{"tenant", e.Tenant}, {"remote", e.Remote}} {
		switch {
		case !p.p.IsValid():
		case p.p.Addr().Is4In6():
			bad("%s is %s, mapped into IPv6: write it as IPv4", p.key, p.p)
		case p.p != p.p.Masked():
			bad("%s is %s: write %s", p.key, p.p, p.p.Masked())
		}
	}
	if e.Tenant.IsValid() && e.Tenant.Bits() == 0 {
		bad("tenant is %s, which would exempt everybody: write the tenant's prefix", e.Tenant)
	}
	if e.Remote.IsValid() && e.RemoteAS != 0 {
		bad("has remote and remote_as: write one of them")
	}
	if e.RemoteAS != 0 && !as {
		bad("remote_as needs a table of AS numbers, respond.as_table of the configuration: write remote instead")
	}
	text := func(key, s string, n int, what string) {
		if l := utf8.RuneCountInString(s); strings.TrimSpace(s) == "" || l > n || !utf8.ValidString(s) {
			bad("%s has %d characters: write %s, 1 to %d", key, l, what, n)
		}
	}
	text("owner", e.Owner, maxOwner, "who answers for it")
	text("reason", e.Reason, maxReason, "why, for those who come after you")
	return errors.Join(errs...)
}

// checkNew is check for what people write while the service runs: it has to end.
func (b *Book) checkNew(e *flow.Exemption, ts time.Time) error {
	err := check(e, b.cfg.ASOf != nil)
	switch {
	case e.Expires.IsZero():
		err = errors.Join(err, errors.New("expires is missing: write when it ends, such as "+ts.Add(72*time.Hour).UTC().Format(time.RFC3339)))
	case e.Expired(ts):
		err = errors.Join(err, fmt.Errorf("expires is %s, which is past: write a later time", e.Expires.UTC().Format(time.RFC3339)))
	case e.Expires.After(ts.Add(maxSpan)):
		err = errors.Join(err, fmt.Errorf("expires is %s: write at most a year from now", e.Expires.UTC().Format(time.RFC3339)))
	}
	if err != nil {
		return fmt.Errorf("%w: %s", ErrInvalid, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// Create stores a new exemption under an id of its own and returns it as it then is.
func (b *Book) Create(ctx context.Context, e flow.Exemption, actor string, ts time.Time) (Status, error) {
	if err := b.log.Begin(ctx); err != nil {
		return Status{}, err
	}
	defer b.log.End()
	if err := b.checkNew(&e, ts); err != nil {
		return Status{}, err
	}
	if b.count(ts) >= maxEntries {
		return Status{}, fmt.Errorf("%w: %d count already; remove some", ErrFull, maxEntries)
	}
	e.Name = newID()
	return b.put(ctx, KindCreated, actor, e.Reason, ts, Entry{Exemption: e, Source: SourceAPI, Version: 1, Created: ts.UTC(), CreatedBy: actor})
}

// Change replaces everything but the id. version is that of the exemption which
// the caller has seen: ErrVersion if it is another by now.
func (b *Book) Change(ctx context.Context, id string, version int, e flow.Exemption, actor string, ts time.Time) (Status, error) {
	if err := b.log.Begin(ctx); err != nil {
		return Status{}, err
	}
	defer b.log.End()
	old, err := b.editable(id, version)
	if err == nil {
		err = b.checkNew(&e, ts)
	}
	if err != nil {
		return Status{}, err
	}
	e.Name, old.Exemption = id, e
	old.Exemption.Name = id
	old.Version++
	old.Updated, old.UpdatedBy = ts.UTC(), actor
	return b.put(ctx, KindChanged, actor, e.Reason, ts, old)
}

// Remove ends an exemption at once. It stays listed as removed.
func (b *Book) Remove(ctx context.Context, id string, version int, actor, reason string, ts time.Time) (Status, error) {
	if err := b.log.Begin(ctx); err != nil {
		return Status{}, err
	}
	defer b.log.End()
	old, err := b.editable(id, version)
	if err != nil {
		return Status{}, err
	}
	if strings.TrimSpace(reason) == "" || utf8.RuneCountInString(reason) > maxReason {
		return Status{}, fmt.Errorf("%w: reason: write why, 1 to %d characters", ErrInvalid, maxReason)
	}
	old.Version++
	old.Updated, old.UpdatedBy, old.Removed, old.Why = ts.UTC(), actor, ts.UTC(), reason
	return b.put(ctx, KindRemoved, actor, reason, ts, old)
}

// editable is the entry that a person may change.
func (b *Book) editable(id string, version int) (Entry, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.find(id)
	switch {
	case e == nil:
		return Entry{}, fmt.Errorf("%w: %.60q", ErrUnknown, id)
	case e.Source == SourceConfig:
		return Entry{}, ErrFixed
	case e.Version != version:
		return Entry{}, fmt.Errorf("%w: it is version %d, by %s", ErrVersion, e.Version, e.UpdatedBy)
	case !e.Removed.IsZero():
		return Entry{}, ErrRemoved
	}
	return e.Entry, nil
}

func (b *Book) put(ctx context.Context, kind, actor, reason string, ts time.Time, e Entry) (Status, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return Status{}, fmt.Errorf("encode exemption: %w", err)
	}
	if err := b.log.Append(ctx, flow.Event{Time: ts.UTC(), Incident: e.Name, Kind: kind, Actor: actor, Reason: reason, Body: body}); err != nil {
		return Status{}, err
	}
	s, _ := b.Get(e.Name, ts)
	return s, nil
}
