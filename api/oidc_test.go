package api

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const sessionCookie, loginCookie = "flowcordon-session", "flowcordon-login"

func TestSignIn(t *testing.T) {
	b, f := forged(t, nil)
	j := newJar()
	var m struct {
		OIDC    string
		Session bool
	}
	if b.visit(t, j, "GET", "/auth/methods", "").into(t, &m); m.OIDC != strings.TrimPrefix(f.URL, "http://") || m.Session {
		t.Errorf("methods %+v", m)
	}
	const page = "#/incidents/inc-1?from=2026-11-21T00%3A00%3A00Z&zone=utc"
	a := b.visit(t, j, "GET", "/auth/callback?"+b.begin(t, f, j, page).Encode(), "")
	if a.code != http.StatusSeeOther || a.head.Get("Location") != "/"+page || a.head.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.code, a.head)
	}
	if j.cookies[loginCookie] != "" || j.cookies[sessionCookie] == "" {
		t.Errorf("cookies %v", slices.Collect(maps.Keys(j.cookies)))
	}
	var me struct {
		Name, Role, CSRF string
		Expires          time.Time
	}
	if b.visit(t, j, "GET", Prefix+"/whoami", "").into(t, &me); me.Name != "oidc:anna" || me.Role != "viewer" || me.CSRF == "" || !me.Expires.Equal(t0.Add(12*time.Hour)) {
		t.Errorf("%+v", me)
	}
	if b.visit(t, j, "GET", "/auth/methods", "").into(t, &m); !m.Session {
		t.Error("the session is not seen")
	}
	p := b.visit(t, j, "POST", Prefix+"/incidents/inc-1/release", `{"statement":"x"}`, csrfHeader, me.CSRF).problem(t, 403)
	if p.Detail != "the session of oidc:anna has the role viewer; this needs abuse or higher" {
		t.Error(p.Detail)
	}
	if b.logs.FilterMessage("login").Len() != 1 {
		t.Error("the audit log has no login")
	}
	for _, l := range b.logs.All() {
		line, _ := json.Marshal(l.ContextMap())
		for _, s := range []string{forgedSecret, j.cookies[sessionCookie], me.CSRF, "code-0"} {
			if strings.Contains(string(line), s) {
				t.Errorf("a secret is in the log: %s", line)
			}
		}
	}
}

// TestSignInAttacks: each is tried, each is refused, and no session comes of it.
func TestSignInAttacks(t *testing.T) {
	set := func(k string, v any) func(*forger) {
		return func(f *forger) { f.bend = func(_, c map[string]any) { c[k] = v } }
	}
	for _, tc := range []struct {
		name, code string
		forge      func(*forger)
		query      func(url.Values)
		jar        func(*jar)
	}{
		{"wrong nonce", "token", set("nonce", "another"), nil, nil},
		{"no nonce", "token", func(f *forger) { f.bend = func(_, c map[string]any) { delete(c, "nonce") } }, nil, nil},
		{"wrong audience", "token", set("aud", "another-client"), nil, nil},
		{"two audiences without azp", "token", set("aud", []string{forgedClient, "another"}), nil, nil},
		{"azp of another client", "token", set("azp", "another"), nil, nil},
		{"wrong issuer", "token", set("iss", "https://evil.example"), nil, nil},
		{"expired", "token", set("exp", t0.Add(-time.Second).Unix()), nil, nil},
		{"expires now", "token", set("exp", t0.Unix()-1), nil, nil},
		{"not yet", "token", set("nbf", t0.Add(time.Hour).Unix()), nil, nil},
		{"no subject", "token", set("sub", ""), nil, nil},
		{"wrong at_hash", "token", set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), nil, nil},
		{"alg none", "token", func(f *forger) { f.none, f.bend = true, func(h, _ map[string]any) { h["alg"] = "none" } }, nil, nil},
		{"alg none, said to be RS256", "token", func(f *forger) { f.none = true }, nil, nil},
		{"signed with the client's secret", "token", func(f *forger) { f.hmac, f.bend = true, func(h, _ map[string]any) { h["alg"] = "HS256" } }, nil, nil},
		{"signed with another key", "token", func(f *forger) { f.key2 = true }, nil, nil},
		{"userinfo of somebody else", "token", func(f *forger) { f.noGroups, f.info = true, "sub-root" }, nil, nil},
		{"no group of ours", "role", set("groups", []string{"sales"}), nil, nil},
		{"a role's name is no group", "role", set("groups", []string{"admin"}), nil, nil},
		{"groups joined in one text", "role", set("groups", "noc root"), nil, nil},
		{"groups are numbers", "role", set("groups", []int{1}), nil, nil},
		{"another state", "state", nil, func(q url.Values) { q.Set("state", randomText()) }, nil},
		{"no state", "state", nil, func(q url.Values) { q.Del("state") }, nil},
		{"two states", "state", nil, func(q url.Values) { q.Add("state", q.Get("state")) }, nil},
		{"two codes", "state", nil, func(q url.Values) { q.Add("code", "x") }, nil},
		{"no code", "state", nil, func(q url.Values) { q.Del("code") }, nil},
		{"made-up code", "exchange", nil, func(q url.Values) { q.Set("code", "made-up") }, nil},
		{"another provider's answer", "state", nil, func(q url.Values) { q.Set("iss", "https://evil.example") }, nil},
		{"the user said no", "denied", nil, func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }, nil},
		{"another browser", "state", nil, nil, func(j *jar) { clear(j.cookies) }},
		{"a cookie of its own making", "state", nil, nil, func(j *jar) { j.cookies[loginCookie] = strings.Repeat("A", 200) }},
		{"an empty cookie", "state", nil, nil, func(j *jar) { j.cookies[loginCookie] = "" }},
		{"a bent cookie", "state", nil, nil, func(j *jar) { c := j.cookies[loginCookie]; j.cookies[loginCookie] = c[:40] + "x" + c[41:] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, f := forged(t, nil)
			if tc.forge != nil {
				tc.forge(f)
			}
			j := newJar()
			q := b.begin(t, f, j, "#/rules")
			if tc.query != nil {
				tc.query(q)
			}
			if tc.jar != nil {
				tc.jar(j)
			}
			a := b.visit(t, j, "GET", "/auth/callback?"+q.Encode(), "")
			if a.code != http.StatusSeeOther || a.head.Get("Location") != "/#/?refused="+tc.code {
				t.Errorf("%d to %q, want the code %s", a.code, a.head.Get("Location"), tc.code)
			}
			if j.cookies[sessionCookie] != "" || len(b.h.live.list(t0)) != 0 {
				t.Error("a session came of it")
			}
			l := b.logs.FilterMessage("login refused").All()
			if len(l) != 1 || l[0].ContextMap()["code"] != tc.code {
				t.Fatalf("log: %v", l)
			}
			if e, _ := l[0].ContextMap()["error"].(string); strings.Contains(e, "secret of the provider") || strings.Contains(e, forgedSecret) {
				t.Errorf("the log shows %s", e)
			}
			b.visit(t, j, "GET", Prefix+"/incidents", "").problem(t, 401)
		})
	}
}

// TestReplayedAnswer: what came back once is worth nothing again, in the same
// browser or another, and the provider is not even asked.
func TestReplayedAnswer(t *testing.T) {
	b, f := forged(t, nil)
	j := newJar()
	q := b.begin(t, f, j, "#/")
	thief := newJar()
	maps.Copy(thief.cookies, j.cookies)
	b.visit(t, j, "GET", "/auth/callback?"+q.Encode(), "")
	asked := f.asked
	for name, j := range map[string]*jar{"the same cookie": thief, "after it": j} {
		if a := b.visit(t, j, "GET", "/auth/callback?"+q.Encode(), ""); a.head.Get("Location") != "/#/?refused=state" {
			t.Errorf("%s: %v", name, a.head)
		}
	}
	if f.asked != asked || len(b.h.live.list(t0)) != 1 {
		t.Errorf("asked %d times, then %d; %d sessions", asked, f.asked, len(b.h.live.list(t0)))
	}
	late := newJar()
	q = b.begin(t, f, late, "#/")
	b.clock = func() time.Time { return t0.Add(attemptLife) }
	if a := b.visit(t, late, "GET", "/auth/callback?"+q.Encode(), ""); a.head.Get("Location") != "/#/?refused=expired" {
		t.Errorf("late: %v", a.head)
	}
}

// TestStrangersTakeNoTurn: who sends answers to nothing keeps nobody else out.
func TestStrangersTakeNoTurn(t *testing.T) {
	b, f := forged(t, nil)
	for range 3 * answersAtOnce {
		if a := b.visit(t, newJar(), "GET", "/auth/callback?state=x&code=y", ""); a.head.Get("Location") != "/#/?refused=state" {
			t.Fatalf("%v", a.head)
		}
	}
	b.enter(t, f, newJar())
}

// TestReturnStaysHere: the way back is a page of the dashboard, whatever is asked.
func TestReturnStaysHere(t *testing.T) {
	for to, want := range map[string]string{
		"#/hosts/198.18.0.7?tab=flows": "#/hosts/198.18.0.7?tab=flows", "#/": "#/", "": "#/",
		"https://evil.example": "#/", "//evil.example": "#/", "/\\evil.example": "#/", "#//evil.example": "#//evil.example", "javascript:alert(1)": "#/",
		"#/x\r\nSet-Cookie: flowcordon-session=planted": "#/", "#/\x00": "#/", "#/\u0430": "#/", "@evil.example": "#/", ".evil.example": "#/", "#/" + strings.Repeat("x", maxReturn): "#/",
	} {
		if got := safeReturn(to); got != want {
			t.Errorf("%q: %q, want %q", to, got, want)
		}
		if u, err := url.Parse("https://noc.example"); err == nil {
			if r, err := u.Parse("/" + safeReturn(to)); err != nil || r.Host != "noc.example" || r.Path != "/" {
				t.Errorf("%q leads to %v (%v)", to, r, err)
			}
		}
	}
}

// TestSessionFixation: a cookie that somebody planted before the login opens
// nothing after it, and an old session ends with the new one.
func TestSessionFixation(t *testing.T) {
	b, f := forged(t, nil)
	j := newJar()
	planted := randomText()
	j.cookies[sessionCookie] = planted
	b.enter(t, f, j)
	first := j.cookies[sessionCookie]
	if first == planted {
		t.Fatal("the planted cookie became the session")
	}
	thief := newJar()
	thief.cookies[sessionCookie] = planted
	b.visit(t, thief, "GET", Prefix+"/whoami", "").problem(t, 401)
	b.enter(t, f, j)
	if j.cookies[sessionCookie] == first || len(b.h.live.list(t0)) != 1 {
		t.Error("the old session lasts beside the new one")
	}
	thief.cookies[sessionCookie] = first
	b.visit(t, thief, "GET", Prefix+"/whoami", "").problem(t, 401)
	// Two of the name: one may be planted from a sibling host.
	b.do(t, 0, "GET", Prefix+"/whoami", "", "User-Agent", j.agent, "Cookie", sessionCookie+"="+j.cookies[sessionCookie]+"; "+sessionCookie+"="+planted).problem(t, 401)
	thief.cookies[sessionCookie], thief.agent = j.cookies[sessionCookie], "curl/8"
	b.visit(t, thief, "GET", Prefix+"/whoami", "").problem(t, 401)
}

// TestCookieCSRF: what another site makes a browser send with its cookie.
func TestCookieCSRF(t *testing.T) {
	b, f := forged(t, func(o *OIDC) { o.Roles["noc"] = RoleAdmin })
	j := newJar()
	csrf := b.enter(t, f, j)
	const release = Prefix + "/incidents/inc-1/release"
	for _, tc := range []struct {
		name, method, path string
		head               []string
	}{
		{"no header", "POST", release, nil},
		{"empty header", "POST", release, []string{csrfHeader, ""}},
		{"made-up header", "POST", release, []string{csrfHeader, randomText()}},
		{"another session's header", "POST", release, []string{csrfHeader, b.enter(t, f, newJar())}},
		{"form of another site", "POST", release, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}},
		{"another site with the header", "POST", release, []string{csrfHeader, csrf, "Sec-Fetch-Site", "cross-site"}},
		{"a subdomain", "POST", release, []string{csrfHeader, csrf, "Sec-Fetch-Site", "same-site"}},
		{"another origin, no metadata", "POST", release, []string{csrfHeader, csrf, "Origin", "https://evil.example"}},
		{"origin null", "POST", release, []string{csrfHeader, csrf, "Origin", "null"}},
		{"the other scheme", "POST", release, []string{csrfHeader, csrf, "Origin", "https://" + b.Listener.Addr().String()}},
		{"an address typed", "POST", release, []string{csrfHeader, csrf, "Sec-Fetch-Site", "none"}},
		{"undo", "POST", Prefix + "/undo", nil},
		{"delete", "DELETE", Prefix + "/exemptions/" + fixedID + "?reason=x", nil},
		{"logout", "POST", "/auth/logout", nil},
		{"read from another site", "GET", Prefix + "/incidents", []string{"Sec-Fetch-Site", "cross-site"}},
	} {
		p := b.visit(t, j, tc.method, tc.path, `{"statement":"x"}`, tc.head...).problem(t, 403)
		if !strings.Contains(p.Detail, "a session is for pages of "+b.URL) || strings.Contains(p.Detail, csrf) {
			t.Errorf("%s: %q", tc.name, p.Detail)
		}
	}
	if inc, _, _ := b.desk.Incident("inc-1"); inc.State != "verified" {
		t.Fatalf("the incident is %s", inc.State)
	}
	if a := b.visit(t, j, "POST", release, `{"statement":"x"}`, csrfHeader, csrf, "Sec-Fetch-Site", "same-origin", "Origin", b.URL); a.code != 200 {
		t.Errorf("our own page: %d %s", a.code, a.body)
	}
	if _, events, _ := b.desk.Incident("inc-1"); events[len(events)-1].Actor != "oidc:anna" {
		t.Errorf("released by %s", events[len(events)-1].Actor)
	}
	// A wrong token is wrong, whatever cookie comes with it; a right one needs no header.
	b.visit(t, j, "GET", Prefix+"/whoami", "", "Authorization", "Bearer "+strings.Repeat("x", 40)).problem(t, 401)
	if a := b.visit(t, j, "POST", Prefix+"/freezes/lift", `{"reason":"x"}`, "Authorization", "Bearer "+secret(RoleOperator)); a.code != 200 {
		t.Errorf("token beside a cookie: %d", a.code)
	}
}

func TestSessionEnds(t *testing.T) {
	b, f := forged(t, func(o *OIDC) { o.ProviderLogout = true })
	j := newJar()
	csrf := b.enter(t, f, j)
	was := j.cookies[sessionCookie]
	var out struct{ Next string }
	b.visit(t, j, "POST", "/auth/logout", "", csrfHeader, csrf).into(t, &out)
	if !strings.HasPrefix(out.Next, f.URL+"/end?client_id=flowcordon&id_token_hint=ey") || !strings.HasSuffix(out.Next, "&post_logout_redirect_uri="+url.QueryEscape(b.URL+"/")) {
		t.Errorf("next %q", out.Next)
	}
	if j.cookies[sessionCookie] != "" {
		t.Error("the cookie stays")
	}
	j.cookies[sessionCookie] = was
	b.visit(t, j, "GET", Prefix+"/whoami", "").problem(t, 401)
	b.visit(t, j, "POST", "/auth/logout", "", csrfHeader, csrf).problem(t, 401)

	// An admin ends somebody's session; a stream of events of it ends, too.
	delete(j.cookies, sessionCookie)
	b.enter(t, f, j)
	var list struct{ Sessions []sessionView }
	b.do(t, RoleAdmin, "GET", Prefix+"/sessions", "").into(t, &list)
	if len(list.Sessions) != 1 || list.Sessions[0].Name != "oidc:anna" || list.Sessions[0].Subject != "sub-anna" || list.Sessions[0].Own {
		t.Fatalf("%+v", list)
	}
	tok := Token{Name: "oidc:anna", Role: RoleViewer, session: list.Sessions[0].ID}
	if !b.h.accepted(tok) {
		t.Error("a stream of a session that lasts would end")
	}
	b.do(t, RoleOperator, "DELETE", Prefix+"/sessions/"+list.Sessions[0].ID, "").problem(t, 403)
	if a := b.do(t, RoleAdmin, "DELETE", Prefix+"/sessions/"+list.Sessions[0].ID, ""); a.code != 200 {
		t.Errorf("%d %s", a.code, a.body)
	}
	b.visit(t, j, "GET", Prefix+"/whoami", "").problem(t, 401)
	if b.h.accepted(tok) {
		t.Error("a stream of an ended session would last")
	}
	b.do(t, RoleAdmin, "DELETE", Prefix+"/sessions/"+list.Sessions[0].ID, "").problem(t, 404)
}

func TestRolesOfGroups(t *testing.T) {
	for name, tc := range map[string]struct {
		claim  string
		claims map[string]any
		want   Role
		called string
	}{
		"the highest counts":  {"groups", map[string]any{"groups": []string{"noc", "root", "abuse"}}, RoleAdmin, "oidc:anna"},
		"one as text":         {"groups", map[string]any{"groups": "ops"}, RoleOperator, "oidc:anna"},
		"inside an object":    {"realm_access.roles", map[string]any{"realm_access": map[string]any{"roles": []string{"abuse"}}}, RoleAbuse, "oidc:anna"},
		"a name with dots":    {"https://x.example/roles", map[string]any{"https://x.example/roles": []string{"abuse"}}, RoleAbuse, "oidc:anna"},
		"from userinfo":       {"groups", nil, RoleViewer, "oidc:anna"},
		"hostile name":        {"groups", map[string]any{"groups": "noc", "preferred_username": "ro\x1b[31mot\n" + strings.Repeat("x", 200)}, RoleViewer, "oidc:ro[31mot" + strings.Repeat("x", 72)},
		"a token's name":      {"groups", map[string]any{"groups": "noc", "preferred_username": "test-admin"}, RoleViewer, "oidc:test-admin"},
		"no name but subject": {"groups", map[string]any{"groups": "noc", "preferred_username": ""}, RoleViewer, "oidc:sub-anna"},
	} {
		b, f := forged(t, func(o *OIDC) { o.RoleClaim = tc.claim })
		f.noGroups = true
		f.bend = func(_, c map[string]any) { maps.Copy(c, tc.claims) }
		j := newJar()
		b.enter(t, f, j)
		l := b.h.live.list(t0)
		if len(l) != 1 || l[0].token.Role != tc.want || l[0].token.Name != tc.called {
			t.Errorf("%s: %+v", name, l[0].token)
		}
	}
}

// TestCookieAttributes: behind TLS cookies are bound to the host and to TLS.
func TestCookieAttributes(t *testing.T) {
	b, f := forged(t, func(o *OIDC) { o.PublicURL = "https://noc.example" })
	a := b.do(t, 0, "GET", "/auth/login", "")
	if u, err := url.Parse(a.head.Get("Location")); err != nil || u.Query().Get("redirect_uri") != "https://noc.example/auth/callback" || u.Query().Get("code_challenge_method") != "S256" ||
		u.Query().Get("scope") != "openid" || len(u.Query().Get("nonce")) < 40 || len(u.Query().Get("state")) < 40 {
		t.Errorf("sent to %v", u)
	}
	set := a.head.Get("Set-Cookie")
	if !strings.HasPrefix(set, "__Host-flowcordon-login=") || !strings.HasSuffix(set, "; Path=/; Max-Age=600; HttpOnly; Secure; SameSite=Lax") {
		t.Error(set)
	}
	c := (&http.Response{Header: a.head}).Cookies()[0]
	q := f.authorize(t, a.head.Get("Location"))
	a = b.do(t, 0, "GET", "/auth/callback?"+q.Encode(), "", "Cookie", c.Name+"="+c.Value)
	sets := a.head.Values("Set-Cookie")
	if len(sets) != 2 || !strings.HasPrefix(sets[1], "__Host-flowcordon-session=") || !strings.HasSuffix(sets[1], "; Path=/; Max-Age=43200; HttpOnly; Secure; SameSite=Strict") {
		t.Errorf("%q", sets)
	}
	if !strings.HasPrefix(sets[0], "__Host-flowcordon-login=; Path=/; Max-Age=0;") {
		t.Errorf("%q", sets[0])
	}
}

// TestProviderAway: the service starts and answers tokens without its provider,
// and a login works as soon as that is there.
func TestProviderAway(t *testing.T) {
	b, f := forged(t, nil)
	f.away.Store(true)
	if a := b.do(t, 0, "GET", "/auth/login", ""); a.head.Get("Location") != "/#/?refused=provider" || a.head.Get("Set-Cookie") != "" {
		t.Errorf("%v", a.head)
	}
	if a := b.get(t, Prefix+"/whoami"); a.code != 200 {
		t.Errorf("token: %d", a.code)
	}
	f.away.Store(false)
	b.h.signIn.found.mu.Lock()
	b.h.signIn.found.failed = time.Now().Add(-time.Hour)
	b.h.signIn.found.mu.Unlock()
	b.enter(t, f, newJar())
}

func TestOIDCNeeds(t *testing.T) {
	for name, o := range map[string]OIDC{
		"nothing": {}, "no roles": {Issuer: "https://i", ClientID: "c", PublicURL: "https://x"},
		"a path": {Issuer: "https://i", ClientID: "c", PublicURL: "https://x/y", Roles: map[string]Role{"a": RoleViewer}},
		"no URL": {Issuer: "https://i", ClientID: "c", PublicURL: "x", Roles: map[string]Role{"a": RoleViewer}},
	} {
		if _, err := New(Config{OIDC: &o}, Deps{Incidents: &desk{}, Store: &shelf{}}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	b := newBench(t, nil)
	for _, path := range []string{"/auth/login", "/auth/callback", "/auth/logout", "/auth/x"} {
		b.do(t, 0, "GET", path, "").problem(t, 404)
	}
	if a := b.do(t, 0, "GET", "/auth/methods", ""); a.body != "{\"session\":false}\n" {
		t.Error(a.body)
	}
}

func FuzzSafeReturn(f *testing.F) {
	f.Add("#/incidents")
	f.Add("//evil.example")
	f.Add("#/%")
	f.Fuzz(func(t *testing.T, to string) {
		w := httptest.NewRecorder()
		redirect(w, "/"+safeReturn(to))
		u, err := url.Parse("https://noc.example")
		if err != nil {
			t.Fatal(err)
		}
		r, err := u.Parse(w.Header().Get("Location"))
		if err != nil || r.Host != "noc.example" || r.Scheme != "https" || r.Path != "/" || r.RawQuery != "" {
			t.Errorf("%q leads to %v (%v)", to, r, err)
		}
	})
}

// TestSealedAttempts: an attempt opens only as it was sealed.
func TestSealedAttempts(t *testing.T) {
	b, _ := forged(t, nil)
	s := b.h.signIn
	a := attempt{State: "s", Nonce: "n", Verifier: "v", To: "#/", Expires: t0}
	text := s.sealed(&a)
	if got, ok := s.opened(text); !ok || *got != a {
		t.Errorf("%+v %v", got, ok)
	}
	for i := 0; i < len(text)-1; i += 7 {
		bent := []byte(text)
		bent[i] ^= 1
		if got, ok := s.opened(string(bent)); ok && *got != a {
			t.Errorf("byte %d bent: %+v", i, got)
		}
	}
	if strings.Contains(text, "nonce") || text == s.sealed(&a) || sha256.Sum256([]byte(text)) == [32]byte{} {
		t.Error("sealed in the clear, or twice the same")
	}
}
