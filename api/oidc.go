package api

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// OIDC lets people sign in to the dashboard at an OpenID Connect provider: the
// authorisation code flow with PKCE (RFC 7636). Programs go on with tokens.
type OIDC struct {
	Label        string // of the provider, on the button; empty: its host
	Issuer       string // as the provider writes it in its tokens
	ClientID     string
	ClientSecret string
	// PublicURL is scheme://host[:port] under which people reach the dashboard,
	// without a path. With https cookies are Secure and bound to the host.
	PublicURL string
	Scopes    []string // beside openid
	RoleClaim string   // holds names of groups, a string or a list; realm_access.roles looks inside
	NameClaim string   // what the audit log calls a person
	// Roles gives the role of each group; the highest counts, without one nobody gets in.
	Roles          map[string]Role
	SessionFor     time.Duration // a session ends then, however busy; 0: 12 h
	IdleFor        time.Duration // or when unused so long; 0: 1 h
	ProviderLogout bool          // who signs out here also does at the provider
	Client         *http.Client  // towards the provider; nil: one with a time limit
}

// NamePrefix begins the name of everybody who signed in, so that no provider's
// user can pass for a token in the audit log.
const NamePrefix = "oidc:"

// signAlgs are what an ID token may be signed with: nothing symmetric, and not none.
var signAlgs = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

func (o *OIDC) check() error {
	u, err := url.Parse(o.PublicURL)
	switch {
	case o.Issuer == "" || o.ClientID == "" || len(o.Roles) == 0:
		return errors.New("api: OIDC needs Issuer, ClientID and Roles")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("api: OIDC.PublicURL %q is no scheme://host", o.PublicURL)
	}
	return nil
}

// provider is what is known of the provider once it has been asked.
type provider struct {
	*oidc.Provider
	verifier *oidc.IDTokenVerifier
	oauth    oauth2.Config
	more     struct {
		// RFC 9207: the answer names who gave it.
		IssInAnswer bool   `json:"authorization_response_iss_parameter_supported"`
		EndSession  string `json:"end_session_endpoint"`
	}
}

// discovery asks the provider once, when somebody signs in: it may be away when
// the service starts.
type discovery struct {
	mu     sync.Mutex
	got    *provider
	failed time.Time
	err    error
}

func (s *signIn) discover(ctx context.Context) (*provider, error) {
	d := &s.found
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.got != nil:
		return d.got, nil
	case d.err != nil && time.Since(d.failed) < discoverAgain:
		return nil, d.err
	}
	got, err := oidc.NewProvider(ctx, s.cfg.Issuer)
	if err != nil {
		d.failed, d.err = time.Now(), err
		return nil, err
	}
	p := &provider{Provider: got}
	if err := got.Claims(&p.more); err != nil {
		return nil, fmt.Errorf("discovery document: %w", err)
	}
	p.verifier = got.Verifier(&oidc.Config{ClientID: s.cfg.ClientID, SupportedSigningAlgs: signAlgs, Now: s.h.deps.Now})
	p.oauth = oauth2.Config{ClientID: s.cfg.ClientID, ClientSecret: s.cfg.ClientSecret, Endpoint: got.Endpoint(),
		RedirectURL: s.origin + callbackPath, Scopes: append([]string{oidc.ScopeOpenID}, s.cfg.Scopes...)}
	d.got, d.err = p, nil
	return p, nil
}

// person is who signed in.
type person struct {
	subject, name string
	role          Role
	groups        []string
	idToken       string
}

// refusal is a sign-in that is not accepted: a code that the dashboard has words
// for, and what the log gets.
type refusal struct {
	code string
	err  error
}

// Error is the log's text.
func (r *refusal) Error() string { return r.code + ": " + r.err.Error() }

func refuse(code, format string, args ...any) error {
	return &refusal{code, fmt.Errorf(format, args...)}
}

// redeem turns the code of a callback into a person. Everything that the
// provider says is checked: signature, issuer, audience, expiry and algorithm by
// go-oidc; nonce, azp and at_hash here (OpenID Connect Core §3.1.3.7, §3.1.3.8).
func (s *signIn) redeem(ctx context.Context, p *provider, code string, a *attempt) (*person, error) {
	tok, err := p.oauth.Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, refuse("exchange", "the provider did not take the code: %w", safeOAuth(err))
	}
	raw, _ := tok.Extra("id_token").(string)
	if raw == "" {
		return nil, refuse("token", "the provider gave no ID token; is the scope openid allowed for this client?")
	}
	id, err := p.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, refuse("token", "%w", err)
	}
	if id.Nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.Nonce)) != 1 {
		return nil, refuse("token", "the ID token is not the answer to this sign-in: its nonce is another")
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return nil, refuse("token", "claims: %w", err)
	}
	if azp, given := claims["azp"]; given && azp != s.cfg.ClientID || !given && len(id.Audience) > 1 {
		return nil, refuse("token", "the ID token was made for another client (azp)")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(tok.AccessToken); err != nil {
			return nil, refuse("token", "%w", err)
		}
	}
	if lookClaim(claims, s.cfg.RoleClaim) == nil && p.UserInfoEndpoint() != "" {
		if err := s.userInfo(ctx, p, tok, id.Subject, claims); err != nil {
			return nil, err
		}
	}
	return s.person(id.Subject, raw, claims)
}

// userInfo adds what the provider keeps out of ID tokens. Its subject must be
// the same (OpenID Connect Core §5.3.2).
func (s *signIn) userInfo(ctx context.Context, p *provider, tok *oauth2.Token, subject string, claims map[string]any) error {
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(tok))
	if err != nil {
		return refuse("exchange", "userinfo: %w", safeOAuth(err))
	}
	if info.Subject != subject {
		return refuse("token", "userinfo is about another subject")
	}
	var more map[string]any
	if err := info.Claims(&more); err != nil {
		return refuse("token", "userinfo: %w", err)
	}
	for k, v := range more {
		if _, there := claims[k]; !there {
			claims[k] = v
		}
	}
	return nil
}

// safeOAuth leaves the provider's answer out of the log but for its error code:
// the body may hold tokens.
func safeOAuth(err error) error {
	var re *oauth2.RetrieveError
	if !errors.As(err, &re) {
		return err
	}
	status := 0
	if re.Response != nil {
		status = re.Response.StatusCode
	}
	return fmt.Errorf("status %d, error %s", status, echo(re.ErrorCode))
}

func (s *signIn) person(subject, raw string, claims map[string]any) (*person, error) {
	if subject == "" {
		return nil, refuse("token", "the ID token names nobody")
	}
	out := &person{subject: subject, idToken: raw, groups: texts(lookClaim(claims, s.cfg.RoleClaim))}
	for _, g := range out.groups {
		out.role = max(out.role, s.cfg.Roles[g])
	}
	for _, c := range []string{s.cfg.NameClaim, "preferred_username", "email"} {
		if v, ok := lookClaim(claims, c).(string); ok && c != "" && out.name == "" {
			out.name = plainName(v)
		}
	}
	if out.name == "" {
		out.name = plainName(subject)
	}
	if out.role == 0 {
		return out, refuse("role", "none of the groups of %s gives a role; their claim %s holds %q", out.name, s.cfg.RoleClaim, out.groups)
	}
	return out, nil
}

// lookClaim finds a claim by its whole name, which may hold dots, or by a way
// with dots into objects; nil: absent.
func lookClaim(claims map[string]any, name string) any {
	if v, ok := claims[name]; ok || name == "" {
		return v
	}
	head, rest, more := strings.Cut(name, ".")
	if inner, ok := claims[head].(map[string]any); ok && more {
		return lookClaim(inner, rest)
	}
	return nil
}

// texts of a claim: one, or a list of them. A name that holds spaces is one name.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v {
			if s, ok := x.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// plainName is what a provider's user is called here: without what a terminal or
// a log would obey, and short.
func plainName(s string) string {
	r := slices.DeleteFunc([]rune(strings.ToValidUTF8(s, "")), func(r rune) bool { return !unicode.IsGraphic(r) })
	return strings.TrimSpace(string(r[:min(len(r), maxName)]))
}
