package notice

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Delivery is one try to deliver a notice: what went where, when, and what the
// other side said. It holds no secret and no text of the notice.
type Delivery struct {
	Notice   string    `json:"notice"` // its key; of a digest, the digest's
	Incident string    `json:"incident,omitempty"`
	Kind     string    `json:"kind"`
	Notifier string    `json:"notifier"`
	At       time.Time `json:"at"`
	To       []string  `json:"to"`                // addresses, a department, a channel
	Refused  []string  `json:"refused,omitempty"` // of To
	Server   string    `json:"server,omitempty"`
	ID       string    `json:"id,omitempty"`       // what it is called there: Message-ID, number of the ticket
	Response string    `json:"response,omitempty"` // at most MaxResponse bytes
	Error    string    `json:"error,omitempty"`    // empty: delivered
	// Permanent: the other side refused for good, or nothing can be written.
	Permanent bool `json:"permanent,omitempty"`
}

// MaxResponse bounds what is kept of an answer.
const MaxResponse = 300

// Clip keeps the beginning of what somebody else said, on one line.
func Clip(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > MaxResponse {
		s = strings.ToValidUTF8(s[:MaxResponse], "")
	}
	return s
}

// DeliveryLog keeps deliveries. It is called after each try, before the
// notifier returns, and must not block for long; what it cannot keep it counts.
type DeliveryLog interface {
	Delivered(ctx context.Context, d Delivery)
}

// Error is a notice that was not taken, with whether it ever will be.
type Error struct {
	Channel string // mail, ticket, slack, …
	Status  int    // HTTP or SMTP; 0: no answer
	Err     error  // without secrets
	Perm    bool
	After   time.Duration // that the receiver asks to wait; 0: it said nothing
}

// Error says what was tried.
func (e *Error) Error() string { return "post to " + e.Channel + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports that trying again cannot help.
func (e *Error) Permanent() bool { return e.Perm }

// RetryAfter is how long the receiver asks to wait; 0: it said nothing.
func (e *Error) RetryAfter() time.Duration { return e.After }

// maxRetryAfter bounds what a receiver may ask for: one hour without notices is
// long enough for any of them.
const maxRetryAfter = time.Hour

// RetryAfter reads the header of that name, in seconds or as a date (RFC 9110
// §10.2.3). 0: there is none that makes sense.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	var d time.Duration
	if s, err := strconv.ParseUint(text, 10, 32); err == nil {
		d = time.Duration(s) * time.Second
	} else if t, err := http.ParseTime(text); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// Gate stays closed while a receiver asks for quiet, so that it is not asked
// again sooner. It is safe for concurrent use.
type Gate struct {
	mu    sync.Mutex
	until time.Time
}

// Shut closes the gate for d from now.
func (g *Gate) Shut(now time.Time, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := now.Add(min(d, maxRetryAfter)); until.After(g.until) {
		g.until = until
	}
}

// Wait is how long the gate stays closed; 0: it is open.
func (g *Gate) Wait(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.until.Sub(now), 0)
}

// PermanentStatus tells a refusal of this very request from a receiver that is
// away, busy, being deployed or set up wrongly: those are worth another try,
// because an operator can put them right while the notice waits.
func PermanentStatus(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType, http.StatusGone:
		return true
	}
	return false
}

// Notifier is what sends notices over one channel.
type Notifier interface {
	Name() string
	Notify(ctx context.Context, n flow.Notice) error
}
