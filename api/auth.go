package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
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
	Name string // the actor in the audit log and in an incident's timeline
	Role Role
	Hash [sha256.Size]byte
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
	tokens = slices.Clone(tokens)
	h.tokens.Store(&tokens)
	return nil
}

type tokenKey struct{}

// caller is the token of the request.
func caller(ctx context.Context) Token {
	t, _ := ctx.Value(tokenKey{}).(Token)
	return t
}

const noTokens = "no API tokens are configured, so every call is refused; add to the configuration " +
	"api: {tokens: [{name: noc, role: viewer, token_file: /etc/flowcordon/noc.token}]} and restart"

// authenticate lets only requests with an accepted token through.
func (h *Handler) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, why := h.lookup(r)
		if why != "" {
			h.metrics.denied.WithLabelValues("401").Inc()
			w.Header().Set("WWW-Authenticate", `Bearer realm="flowcordon"`)
			writeProblem(w, r, http.StatusUnauthorized, why)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, t)))
	})
}

// lookup finds the request's token, or says why there is none.
func (h *Handler) lookup(r *http.Request) (Token, string) {
	tokens := *h.tokens.Load()
	if len(tokens) == 0 {
		return Token{}, noTokens
	}
	head := r.Header.Values("Authorization")
	if len(head) == 0 {
		return Token{}, "a token is needed; send the header Authorization: Bearer TOKEN"
	}
	scheme, secret, _ := strings.Cut(head[0], " ")
	if len(head) > 1 || !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return Token{}, "the Authorization header is not understood; send it once, as Authorization: Bearer TOKEN"
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
		return Token{}, "this token is not accepted; check it against api.tokens of the configuration"
	}
	return found, ""
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
		// Errors of writing are the client's; the status is in the access log.
		_ = huma.WriteErr(h.rest, ctx, http.StatusForbidden,
			fmt.Sprintf("token %s has the role %s; this needs %s or higher", t.Name, t.Role, role))
	}
}
