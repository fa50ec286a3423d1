package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"
)

// Role is what a token may do. Each role may do all that those before it may.
type Role uint8

// The roles. A viewer reads, the abuse desk releases and closes, an operator
// approves a cut; admin is for what changes the service itself.
const (
	RoleViewer Role = iota + 1
	RoleAbuse
	RoleOperator
	RoleAdmin
)

var roleNames = [...]string{"none", "viewer", "abuse", "operator", "admin"}

// String returns the name used in the configuration.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return roleNames[0]
}

// ParseRole reads the name that String returns.
func ParseRole(s string) (Role, error) {
	if i := slices.Index(roleNames[1:], s); i >= 0 {
		return Role(i + 1), nil
	}
	return 0, fmt.Errorf("role %s is not known; write one of %s", echo(s), strings.Join(roleNames[1:], ", "))
}

// Token is a bearer token that is accepted. Only its hash is kept; it has no
// salt and is fast, so the token itself must not be guessable: whoever reads the
// configuration refuses short ones.
type Token struct {
	Name    string // the actor in the audit log and in an incident's timeline
	Role    Role
	Hash    [sha256.Size]byte
	Expires time.Time // the first moment at which it is not accepted; zero: never
	Rate    Rate      // zero: Config.Rate

	session string // of whoever signed in without a token
}

// what the caller is, for sentences about it.
func (t Token) what() string {
	if t.session != "" {
		return "the session of " + t.Name
	}
	return "token " + t.Name
}

// Unbounded is the Rate.PerSecond of a token that may call as often as it likes,
// whatever the others may.
const Unbounded = -1

// Rate bounds how often a token may call; the zero value does not.
type Rate struct {
	PerSecond float64
	Burst     int // calls at once after a rest
}

// accepted are the tokens in force with their limits.
type accepted struct {
	tokens []Token
	limits map[string]*rate.Limiter // by name; those without a rate have none
}

func checkTokens(tokens []Token) error {
	var errs []error
	for i, t := range tokens {
		if t.Name == "" || t.Role < RoleViewer || t.Role > RoleAdmin {
			errs = append(errs, fmt.Errorf("token %d has no name or no role", i))
		}
		for _, o := range tokens[:i] {
			if o.Name == t.Name {
				errs = append(errs, fmt.Errorf("two tokens are called %s; the audit log could not tell them apart", t.Name))
			}
			if o.Hash == t.Hash {
				errs = append(errs, fmt.Errorf("%s and %s are the same token; give each its own", o.Name, t.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// SetTokens replaces the accepted tokens at once, for a reload.
func (h *Handler) SetTokens(tokens []Token) error {
	if err := checkTokens(tokens); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	next := &accepted{tokens: slices.Clone(tokens), limits: map[string]*rate.Limiter{}}
	for i := range next.tokens {
		t := &next.tokens[i]
		if t.Rate == (Rate{}) {
			t.Rate = h.cfg.Rate
		}
		if t.Rate.PerSecond > 0 {
			next.limits[t.Name] = rate.NewLimiter(rate.Limit(t.Rate.PerSecond), max(t.Rate.Burst, 1))
		}
	}
	h.tokens.Store(next)
	return nil
}

// accepted reports whether a token that was accepted still is, as it was.
func (h *Handler) accepted(t Token) bool {
	if t.session != "" {
		return h.live.alive(t.session, h.deps.Now())
	}
	return !t.expired(h.deps.Now()) && slices.Contains(h.tokens.Load().tokens, t)
}

func (t Token) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

type tokenKey struct{}

// caller is the token of the request.
func caller(ctx context.Context) Token {
	t, _ := ctx.Value(tokenKey{}).(Token)
	return t
}

// authenticate lets only requests with an accepted token, or with the session of
// somebody who signed in, through.
func (h *Handler) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, limit, bad := h.lookup(r)
		if bad != nil {
			h.metrics.denied.WithLabelValues(strconv.Itoa(bad.Status)).Inc()
			if bad.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="flowcordon"`)
			}
			writeProblem(w, r, bad)
			return
		}
		if wait := waitFor(limit); wait > 0 {
			h.metrics.limited.Inc()
			tooOften(w, r, t, wait)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, t)))
	})
}

// lookup finds who calls and what bounds him, or says why he may not. A token
// that is sent counts; a session never stands in for one that is wrong.
func (h *Handler) lookup(r *http.Request) (Token, *rate.Limiter, *Error) {
	if h.signIn != nil && len(r.Header.Values("Authorization")) == 0 {
		x, bad := h.signIn.session(r)
		return x.token, x.limit, bad
	}
	t, bad := h.bearer(r)
	if bad != nil {
		return t, nil, bad
	}
	return t, h.tokens.Load().limits[t.Name], nil
}

// waitFor is how long a caller has to wait before he may call; 0: he may.
func waitFor(l *rate.Limiter) time.Duration {
	if l == nil {
		return 0
	}
	res := l.Reserve() // of one: never above the burst
	wait := res.Delay()
	if wait > 0 {
		res.Cancel()
	}
	return wait
}

func tooOften(w http.ResponseWriter, r *http.Request, t Token, wait time.Duration) {
	setRetry(w.Header(), wait)
	writeProblem(w, r, fault(http.StatusTooManyRequests, "too_often", t.what(), t.Rate.PerSecond, t.Rate.Burst))
}

// setRetry rounds up to the whole seconds that the header has.
func setRetry(hd http.Header, wait time.Duration) {
	hd.Set("Retry-After", strconv.FormatInt(max(int64((wait+time.Second-1)/time.Second), 1), 10))
}

// bearer finds the request's token, or says why there is none.
func (h *Handler) bearer(r *http.Request) (Token, *Error) {
	refused := func(code string, values ...any) (Token, *Error) {
		return Token{}, fault(http.StatusUnauthorized, code, values...)
	}
	tokens := h.tokens.Load().tokens
	if len(tokens) == 0 {
		return refused("no_tokens")
	}
	head := r.Header.Values("Authorization")
	if len(head) == 0 {
		return refused("token_needed")
	}
	scheme, secret, _ := strings.Cut(head[0], " ")
	if len(head) > 1 || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return refused("token_header")
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	var found Token
	for _, t := range tokens {
		// All are compared, each in constant time, so that the time tells
		// nothing about which one was close.
		if subtle.ConstantTimeCompare(sum[:], t.Hash[:]) == 1 {
			found = t
		}
	}
	if found.Role == 0 {
		return refused("token_wrong")
	}
	if found.expired(h.deps.Now()) {
		return refused("token_expired", found.Expires.UTC().Format(time.RFC3339))
	}
	return found, nil
}

// require lets only callers of the role, or a higher one, through.
func (h *Handler) require(role Role) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		t := caller(ctx.Context())
		if t.Role >= role {
			next(ctx)
			return
		}
		h.metrics.denied.WithLabelValues("403").Inc()
		if ctx.Method() != http.MethodGet {
			h.auditRefused(ctx.Context(), ctx.Operation().OperationID, ctx.Param("id"))
		}
		ctx.SetHeader("Content-Type", "application/problem+json")
		ctx.SetStatus(http.StatusForbidden)
		// Errors of writing are the client's; the status is in the access log.
		_ = plainJSON.Marshal(ctx.BodyWriter(), newProblem(ctx.Context(), fault(http.StatusForbidden, "role", t.what(), t.Role, role)))
	}
}
