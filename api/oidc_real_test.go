package api

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// realProvider runs oidc-provider and gives its issuer, and what tells it where
// it may send people back to. It skips where that is not installed, and fails in CI.
func realProvider(t testing.TB) (issuer string, ready func(redirect string)) {
	t.Helper()
	what := ""
	if _, err := exec.LookPath("node"); err != nil {
		what = "node"
	} else if _, err := os.Stat("../web/node_modules/oidc-provider"); err != nil {
		what = "web/node_modules/oidc-provider"
	}
	switch {
	case what != "" && os.Getenv("CI") != "":
		t.Fatal("missing: " + what + "; .ci/install test installs it")
	case what != "":
		t.Skip("missing: " + what + "; .ci/install test installs it")
	}
	cmd := exec.Command("node", "test/provider.mjs")
	cmd.Dir = "../web"
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends with its input
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	next := func(want string) string {
		for lines.Scan() {
			if l := lines.Text(); strings.HasPrefix(l, want) {
				return l
			}
		}
		t.Fatalf("the provider ended before it said %q: %v", want, lines.Err())
		return ""
	}
	issuer = next("http://")
	return issuer, func(redirect string) {
		if _, err := fmt.Fprintln(in, redirect); err != nil {
			t.Fatal(err)
		}
		next("ready")
	}
}

func realOIDC(issuer string) *OIDC {
	return &OIDC{Label: "Company login", Issuer: issuer, ClientID: forgedClient, ClientSecret: forgedSecret, Scopes: []string{"profile"}, RoleClaim: "groups", ProviderLogout: true,
		Roles: map[string]Role{"noc": RoleViewer, "noc-admins": RoleAdmin}}
}

// TestRealProvider: people sign in at a real provider, which checks PKCE, the
// client's secret and the redirect URI itself, and whose answers name their issuer.
func TestRealProvider(t *testing.T) {
	issuer, ready := realProvider(t)
	b := newBench(t, func(c *Config, d *Deps) { c.OIDC, d.Now = realOIDC(issuer), time.Now })
	ready(b.URL + "/auth/callback")
	for who, want := range map[string]string{"anna": "admin", "boris": "viewer", "zoe": "refused=role", "nobody": "refused=denied"} {
		cookies, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Jar: cookies}
		get := func(u string) (at *url.URL, status int, body string) {
			res, err := c.Get(u)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			text, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			return res.Request.URL, res.StatusCode, string(text)
		}
		at, _, text := get(b.URL + "/auth/login?to=" + url.QueryEscape("#/rules"))
		if !strings.Contains(text, "Who are you?") {
			t.Fatalf("%s: %s %s", who, at, text)
		}
		back, status, text := get(at.String() + "?who=" + who)
		if back.Host != b.Listener.Addr().String() || back.Path != "/" || status != http.StatusOK {
			t.Fatalf("%s came to %s: %d %s", who, back, status, text)
		}
		if strings.HasPrefix(want, "refused") {
			if back.Fragment != "/?"+want {
				t.Errorf("%s came to %s, want %s", who, back, want)
			}
			continue
		}
		if _, _, text = get(b.URL + Prefix + "/whoami"); back.Fragment != "/rules" || !strings.Contains(text, `"name":"oidc:`+who+`","role":"`+want+`"`) {
			t.Errorf("%s came to %s and is %s", who, back, text)
		}
	}
	if n := len(b.h.live.list(time.Now())); n != 2 {
		t.Errorf("%d sessions", n)
	}
}
