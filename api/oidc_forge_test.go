package api

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// forger is a provider that can say what no honest one does. Its discovery
// document, keys and codes are right; a test bends one thing of the ID token.
type forger struct {
	*httptest.Server
	key, other *rsa.PrivateKey
	now        func() time.Time
	away       atomic.Bool

	mu       sync.Mutex
	bend     func(head, claims map[string]any)
	key2     bool   // sign with a key that it does not publish
	hmac     bool   // sign with the client's secret, as HS256
	none     bool   // do not sign
	info     string // subject of userinfo; empty: that of the ID token
	noGroups bool   // groups are in userinfo only
	codes    map[string]url.Values
	asked    int // for tokens
}

const forgedClient, forgedSecret = "flowcordon", "client-secret-0123456789abcdef"

func newForger(t testing.TB, now func() time.Time) *forger {
	t.Helper()
	f := &forger{now: now, codes: map[string]url.Values{}}
	for _, k := range []**rsa.PrivateKey{&f.key, &f.other} {
		var err error
		if *k, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.away.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": f.URL, "authorization_endpoint": f.URL + "/authorize", "token_endpoint": f.URL + "/token", "jwks_uri": f.URL + "/keys",
			"userinfo_endpoint": f.URL + "/me", "end_session_endpoint": f.URL + "/end", "id_token_signing_alg_values_supported": []string{"RS256", "none", "HS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"keys": []any{map[string]any{"kty": "RSA", "use": "sig", "kid": "k", "n": b64(f.key.N.Bytes()), "e": b64(big.NewInt(int64(f.key.E)).Bytes())}}})
	})
	mux.HandleFunc("/token", f.token)
	mux.HandleFunc("/me", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		sub := f.info
		if sub == "" {
			sub = "sub-anna"
		}
		answer(w, map[string]any{"sub": sub, "groups": []string{"noc"}})
	})
	return f
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// authorize is the browser's visit: it gives the query of the callback.
func (f *forger) authorize(t testing.TB, location string) url.Values {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(location, f.URL+"/authorize?") {
		t.Fatalf("sent to %q (%v)", location, err)
	}
	q := u.Query()
	f.mu.Lock()
	defer f.mu.Unlock()
	code := fmt.Sprint("code-", len(f.codes))
	f.codes[code] = q
	return url.Values{"code": {code}, "state": {q.Get("state")}}
}

func (f *forger) token(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	q, known := f.codes[r.PostFormValue("code")]
	delete(f.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	id, pass, _ := r.BasicAuth()
	w.Header().Set("Content-Type", "application/json")
	if !known || q.Get("code_challenge_method") != "S256" || b64(sum[:]) != q.Get("code_challenge") || id != forgedClient || pass != forgedSecret || r.PostFormValue("redirect_uri") != q.Get("redirect_uri") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant","error_description":"secret of the provider"}`))
		return
	}
	head := map[string]any{"alg": "RS256", "kid": "k", "typ": "JWT"}
	claims := map[string]any{"iss": f.URL, "aud": forgedClient, "sub": "sub-anna", "nonce": q.Get("nonce"), "iat": f.now().Unix(), "exp": f.now().Add(5 * time.Minute).Unix(), "preferred_username": "anna"}
	if !f.noGroups {
		claims["groups"] = []string{"staff", "noc"}
	}
	if f.bend != nil {
		f.bend(head, claims)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 300, "id_token": f.sign(head, claims)})
}

func (f *forger) sign(head, claims map[string]any) string {
	h, _ := json.Marshal(head)
	c, _ := json.Marshal(claims)
	text := b64(h) + "." + b64(c)
	sum := sha256.Sum256([]byte(text))
	key := f.key
	switch {
	case f.none:
		return text + "."
	case f.hmac:
		m := hmac.New(sha256.New, []byte(forgedSecret))
		m.Write([]byte(text))
		return text + "." + b64(m.Sum(nil))
	case f.key2:
		key = f.other
	}
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + b64(sig)
}

// jar is one browser's cookies, and its name.
type jar struct {
	agent   string
	cookies map[string]string
}

func newJar() *jar { return &jar{agent: "Mozilla/5.0 (test)", cookies: map[string]string{}} }

// visit sends what this browser would and keeps the cookies of the answer.
func (b *bench) visit(t testing.TB, j *jar, method, path, body string, head ...string) answer {
	t.Helper()
	var parts []string
	for k, v := range j.cookies {
		parts = append(parts, k+"="+v)
	}
	head = append(head, "User-Agent", j.agent)
	if len(parts) > 0 {
		head = append(head, "Cookie", strings.Join(parts, "; "))
	}
	a := b.do(t, 0, method, path, body, head...)
	for _, c := range (&http.Response{Header: a.head}).Cookies() {
		if c.MaxAge < 0 {
			delete(j.cookies, c.Name)
		} else {
			j.cookies[c.Name] = c.Value
		}
	}
	return a
}

// forged is a bench whose people sign in at a forger.
func forged(t testing.TB, change func(*OIDC)) (*bench, *forger) {
	t.Helper()
	clock := func() time.Time { return t0 }
	f := newForger(t, func() time.Time { return clock() })
	b := newBench(t, func(c *Config, _ *Deps) {
		c.OIDC = &OIDC{Issuer: f.URL, ClientID: forgedClient, ClientSecret: forgedSecret, RoleClaim: "groups", Roles: map[string]Role{"noc": RoleViewer, "abuse": RoleAbuse, "ops": RoleOperator, "root": RoleAdmin}}
		if change != nil {
			change(c.OIDC)
		}
	})
	b.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	clock = func() time.Time { return b.clock() }
	return b, f
}

// begin is the way to the provider; it gives the query to come back with.
func (b *bench) begin(t testing.TB, f *forger, j *jar, to string) url.Values {
	t.Helper()
	a := b.visit(t, j, "GET", "/auth/login?to="+url.QueryEscape(to), "")
	if a.code != http.StatusSeeOther {
		t.Fatalf("login: %d %s", a.code, a.body)
	}
	return f.authorize(t, a.head.Get("Location"))
}

// enter signs a browser in and gives its CSRF token.
func (b *bench) enter(t testing.TB, f *forger, j *jar) string {
	t.Helper()
	a := b.visit(t, j, "GET", "/auth/callback?"+b.begin(t, f, j, "#/").Encode(), "")
	if a.code != http.StatusSeeOther || a.head.Get("Location") != "/#/" {
		t.Fatalf("callback: %d %v", a.code, a.head)
	}
	var me struct{ CSRF, Name, Role string }
	b.visit(t, j, "GET", Prefix+"/whoami", "").into(t, &me)
	if me.CSRF == "" {
		t.Fatalf("whoami %+v", me)
	}
	return me.CSRF
}
