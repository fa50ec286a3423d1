package api

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"
	"golang.org/x/oauth2"
	"golang.org/x/time/rate"
)

// csrfHeader carries what only a page of ours could read.
const csrfHeader = "X-CSRF-Token"

const (
	signInPath   = "/auth"
	callbackPath = signInPath + "/callback"
)

// signIn is the part of the service that people sign in by.
type signIn struct {
	h      *Handler
	cfg    OIDC
	origin string
	secure bool
	seal   cipher.AEAD // of attempts, with a key of this process
	found  discovery
	limit  *rate.Limiter // of answers that are looked at

	mu   sync.Mutex
	done map[string]time.Time // attempts that were answered, until they would have expired anyway
}

// attempt is a sign-in under way. It is kept by the browser, sealed: strangers
// cannot fill our memory with attempts, and only the browser that began one can
// end it.
type attempt struct {
	State, Nonce, Verifier, To string
	Expires                    time.Time
}

func newSignIn(h *Handler, cfg OIDC) (*signIn, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("api: OIDC.PublicURL: %w", err)
	}
	if cfg.Label == "" {
		if p, err := url.Parse(cfg.Issuer); err == nil {
			cfg.Label = p.Host
		}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: providerTimeout}
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &signIn{h: h, cfg: cfg, origin: u.Scheme + "://" + u.Host, secure: u.Scheme == "https", seal: aead, limit: rate.NewLimiter(answersPerSecond, answersAtOnce),
		done: map[string]time.Time{}}, nil
}

// signInRoutes has no token before it: it is how one gets in.
func (h *Handler) signInRoutes(r chi.Router) {
	r.Use(noStore, h.deadline)
	r.NotFound(h.notFound)
	r.MethodNotAllowed(h.methodNotAllowed)
	r.Get("/methods", h.methods)
	if s := h.signIn; s != nil {
		r.Get("/login", s.login)
		r.Get("/callback", s.callback)
		r.Post("/logout", s.logout)
	}
}

// methods tells the dashboard how one may sign in, and whether its cookie does.
func (h *Handler) methods(w http.ResponseWriter, r *http.Request) {
	var out struct {
		OIDC    string `json:"oidc,omitempty"`
		Session bool   `json:"session"`
	}
	if s := h.signIn; s != nil {
		out.OIDC = s.cfg.Label
		_, err := s.session(r)
		out.Session = err == nil
	}
	w.Header().Set("Content-Type", "application/json")
	_ = plainJSON.Marshal(w, out) // the browser is gone if this fails
}

// cookieName with the prefix __Host- is bound to this host, without its
// subdomains, and to TLS (RFC 6265bis §4.1.3.2).
func (s *signIn) cookieName(what string) string {
	if s.secure {
		return "__Host-flowcordon-" + what
	}
	return "flowcordon-" + what
}

// cookie reads one of ours. Two of a name are refused: one may be planted.
func (s *signIn) cookie(r *http.Request, what string) (string, bool) {
	c := r.CookiesNamed(s.cookieName(what))
	if len(c) != 1 {
		return "", false
	}
	return c[0].Value, true
}

func (s *signIn) setCookie(w http.ResponseWriter, what, value string, site http.SameSite, life time.Duration) {
	age := int(life.Seconds())
	if value == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{Name: s.cookieName(what), Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: s.secure, SameSite: site})
}

// context gives the provider's client to the libraries.
func (s *signIn) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, s.cfg.Client)
}

func (s *signIn) login(w http.ResponseWriter, r *http.Request) {
	p, err := s.discover(s.context(r.Context()))
	if err != nil {
		s.back(w, r, refuse("provider", "%w", err))
		return
	}
	a := attempt{State: randomText(), Nonce: randomText(), Verifier: oauth2.GenerateVerifier(), To: safeReturn(r.URL.Query().Get("to")), Expires: s.h.deps.Now().Add(attemptLife)}
	// Lax: the provider sends the browser back from another site.
	s.setCookie(w, "login", s.sealed(&a), http.SameSiteLaxMode, attemptLife)
	options := []oauth2.AuthCodeOption{oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)}
	if r.URL.Query().Has("again") { // who was refused may want to be somebody else there
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	redirect(w, p.oauth.AuthCodeURL(a.State, options...))
}

// redirect to an address of our own making.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// safeReturn keeps of where one came from only a page of the dashboard, which is
// the part behind #: whatever it holds, the browser stays here.
func safeReturn(to string) string {
	if !strings.HasPrefix(to, "#/") || len(to) > maxReturn || strings.ContainsFunc(to, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "#/"
	}
	if _, err := url.Parse(to); err != nil { // such as a % that escapes nothing
		return "#/"
	}
	return to
}

func (s *signIn) sealed(a *attempt) string {
	text, err := json.Marshal(a)
	if err != nil {
		panic("api: an attempt is text and a time")
	}
	nonce := make([]byte, s.seal.NonceSize(), 1024)
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(s.seal.Seal(nonce, nonce, text, []byte("attempt")))
}

func (s *signIn) opened(text string) (*attempt, bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < s.seal.NonceSize() {
		return nil, false
	}
	n := s.seal.NonceSize()
	plain, err := s.seal.Open(nil, b[:n], b[n:], []byte("attempt"))
	if err != nil {
		return nil, false
	}
	var a attempt
	return &a, json.Unmarshal(plain, &a) == nil
}

func (s *signIn) callback(w http.ResponseWriter, r *http.Request) {
	text, _ := s.cookie(r, "login")
	s.setCookie(w, "login", "", http.SameSiteLaxMode, 0)
	a, who, err := s.answer(r, text)
	if err != nil {
		s.back(w, r, err)
		return
	}
	if old, ok := s.cookie(r, "session"); ok {
		s.h.live.endSecret(old)
	}
	n, secret := s.h.live.add(who, r, s.h.cfg.Rate, s.h.deps.Now())
	// Strict: it is used by the page only, whose requests are of this site even
	// right after this answer.
	s.setCookie(w, "session", secret, http.SameSiteStrictMode, s.h.live.life)
	s.h.audit.Info("login", zap.String("actor", n.token.Name), zap.Stringer("role", who.role), zap.String("subject", who.subject), zap.String("issuer", s.cfg.Issuer),
		zap.Strings("groups", who.groups), zap.String("session", n.id), zap.String("remote", r.RemoteAddr), zap.String("request", requestID(r.Context())))
	s.h.reads.note(n.token, "login", "session "+n.id, requestID(r.Context()), s.h.deps.Now())
	redirect(w, "/"+a.To)
}

// answer checks what the provider sent the browser back with.
func (s *signIn) answer(r *http.Request, cookie string) (*attempt, *person, error) {
	q := r.URL.Query()
	a, ok := s.opened(cookie)
	now := s.h.deps.Now()
	switch {
	case !ok:
		return nil, nil, refuse("state", "this browser began no sign-in, or the service was restarted since")
	case len(q["state"]) != 1 || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(a.State)) != 1:
		return nil, nil, refuse("state", "the state is not the one of this browser's sign-in")
	case !now.Before(a.Expires):
		return nil, nil, refuse("expired", "the sign-in took longer than %s", attemptLife)
	case !s.limit.Allow(): // asked last: who began no sign-in takes nobody's turn
		return nil, nil, refuse("busy", "too many sign-ins at once")
	}
	ctx := s.context(r.Context())
	p, err := s.discover(ctx)
	if err != nil {
		return nil, nil, refuse("provider", "%w", err)
	}
	if iss, given := q["iss"]; p.more.IssInAnswer && !given || given && (len(iss) != 1 || iss[0] != s.cfg.Issuer) {
		return nil, nil, refuse("state", "another provider answered: iss %s", echo(q.Get("iss")))
	}
	if !s.once(a, now) {
		return nil, nil, refuse("state", "this answer was used already")
	}
	if e := q.Get("error"); e != "" {
		return nil, nil, refuse("denied", "the provider says %s", echo(e))
	}
	if len(q["code"]) != 1 || q.Get("code") == "" {
		return nil, nil, refuse("state", "there is no code, or more than one")
	}
	who, err := s.redeem(ctx, p, q.Get("code"), a)
	return a, who, err
}

// once reports whether an attempt is answered for the first time.
func (s *signIn) once(a *attempt, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, until := range s.done {
		if !now.Before(until) {
			delete(s.done, k)
		}
	}
	if _, used := s.done[a.State]; used || len(s.done) >= maxAnswered {
		return false
	}
	s.done[a.State] = a.Expires
	return true
}

// back sends the browser to the dashboard's form with a code that it has words for.
func (s *signIn) back(w http.ResponseWriter, r *http.Request, err error) {
	code := "provider"
	var no *refusal
	if errors.As(err, &no) {
		code = no.code
	}
	s.h.metrics.denied.WithLabelValues("login").Inc()
	s.h.audit.Warn("login refused", zap.String("code", code), zap.Error(err), zap.String("remote", r.RemoteAddr), zap.String("request", requestID(r.Context())))
	redirect(w, "/#/?refused="+code)
}

// session finds the session of a request that has no token. The errors say what
// may be told.
func (s *signIn) session(r *http.Request) (session, *Error) {
	secret, ok := s.cookie(r, "session")
	if !ok {
		return session{}, fault(http.StatusUnauthorized, "sign_in")
	}
	x, ok := s.h.live.find(secret, r.UserAgent(), s.h.deps.Now())
	if !ok {
		return session{}, fault(http.StatusUnauthorized, "session_over")
	}
	if why := s.foreign(r, x.csrf); why != "" {
		return session{}, fault(http.StatusForbidden, "foreign", why, s.origin)
	}
	return x, nil
}

// foreign says why a request cannot be our own page's; empty: it is. A cookie is
// sent by the browser whoever asks: what changes something needs, besides, what
// only our page can read.
func (s *signIn) foreign(r *http.Request, csrf string) string {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site != "" && site != "same-origin" && (site != "none" || !reads):
		return "the request comes from another site"
	}
	if o := r.Header.Get("Origin"); o != "" && o != s.origin {
		return "the request comes from a page of another origin"
	}
	if !reads && subtle.ConstantTimeCompare([]byte(r.Header.Get(csrfHeader)), []byte(csrf)) != 1 {
		return "the header " + csrfHeader + " is not the one that GET " + Prefix + "/whoami tells"
	}
	return ""
}

// logout ends the session and says where to go on, if the provider is to know.
func (s *signIn) logout(w http.ResponseWriter, r *http.Request) {
	x, bad := s.session(r)
	if bad != nil {
		s.h.metrics.denied.WithLabelValues(strconv.Itoa(bad.Status)).Inc()
		writeProblem(w, r, bad)
		return
	}
	s.h.live.end(func(o *session) bool { return o.id == x.id })
	s.setCookie(w, "session", "", http.SameSiteStrictMode, 0)
	s.h.audit.Info("logout", zap.String("actor", x.token.Name), zap.String("session", x.id), zap.String("remote", r.RemoteAddr), zap.String("request", requestID(r.Context())))
	var out struct {
		Next string `json:"next,omitempty"`
	}
	if s.cfg.ProviderLogout {
		out.Next = s.endURL(s.context(r.Context()), x.idToken)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = plainJSON.Marshal(w, out) // the browser is gone if this fails
}

// endURL is the provider's own logout (OpenID Connect RP-Initiated Logout §2);
// empty where it has none.
func (s *signIn) endURL(ctx context.Context, hint string) string {
	p, err := s.discover(ctx)
	if err != nil || p.more.EndSession == "" {
		return ""
	}
	u, err := url.Parse(p.more.EndSession)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	q := u.Query()
	q.Set("id_token_hint", hint)
	q.Set("client_id", s.cfg.ClientID)
	q.Set("post_logout_redirect_uri", s.origin+"/")
	u.RawQuery = q.Encode()
	return u.String()
}
