package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
)

func TestOIDC(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret of the client\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("f.yaml", []byte(site+`http: {address: "10.0.0.1:8080"}
api:
  oidc:
    issuer: https://login.example/realms/staff
    client_id: flowcordon
    client_secret_file: `+secret+`
    public_url: https://noc.example
    roles: {noc: viewer, "abuse desk": abuse}
    session: 8h
`))
	if err != nil {
		t.Fatal(err) // without a token, beyond loopback: people sign in
	}
	want := &config.OIDC{Issuer: "https://login.example/realms/staff", ClientID: "flowcordon", ClientSecretFile: secret, ClientSecret: "s3cret of the client", PublicURL: "https://noc.example",
		Scopes: []string{"profile"}, RoleClaim: "groups", NameClaim: "preferred_username", Roles: map[string]string{"noc": "viewer", "abuse desk": "abuse"}, Session: 8 * time.Hour, Idle: time.Hour}
	if diff := cmp.Diff(want, c.API.OIDC); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOIDCMistakes(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"empty":         {`{client_id: ""}`, "issuer: is missing; write for example https://login.example/realms/staff, as the provider's own discovery document has it"},
		"no client":     {`{issuer: "https://i"}`, "client_id: is missing; write the id under which the provider knows flowcordon"},
		"no roles":      {`{issuer: "https://i"}`, "roles: is empty, so nobody could sign in; write for example {noc: viewer, abuse-desk: abuse, netops: operator}"},
		"wrong role":    {`{roles: {noc: root}}`, `roles.noc: "root" is none of ["viewer" "abuse" "operator" "admin"]`},
		"no TLS":        {`{issuer: "http://login.example"}`, `issuer: "http://login.example" has no TLS, so whoever listens could sign in; write https:// (http:// is for localhost only)`},
		"public no TLS": {`{public_url: "http://noc.example"}`, `public_url: "http://noc.example" has no TLS, so whoever listens could sign in; write https:// (http:// is for localhost only)`},
		"a path":        {`{public_url: "https://noc.example/flowcordon"}`, `public_url: "https://noc.example/flowcordon" has more than a host; write https://noc.example, and let the provider send people to https://noc.example/auth/callback`},
		"no URL":        {`{public_url: "noc"}`, `public_url: "noc" is no URL; write for example https://noc.example`},
		"negative":      {`{idle: -1s}`, "idle: "},
		"no such file":  {`{client_secret_file: /nonexistent/x}`, "client_secret_file: open /nonexistent/x: no such file or directory; write the secret into that file, mode 0600"},
		"unknown key":   {`{client_secret: abc}`, `client_secret: `},
	} {
		found := problems(t, "api: {oidc: "+tc.text+"}\n")
		ok := false
		for _, p := range found {
			ok = ok || strings.HasPrefix(p, "api.oidc."+tc.want)
		}
		if !ok {
			t.Errorf("%s: want api.oidc.%s in\n%s", name, tc.want, strings.Join(found, "\n"))
		}
	}
	if p := problems(t, "http: {address: \"127.0.0.1:0\"}\napi: {oidc: {issuer: \"http://127.0.0.1:9\", public_url: \"http://localhost:8080\", client_id: c, roles: {a: admin}}}\n"); len(p) > 0 {
		t.Errorf("on this machine: %q", p)
	}
	if p := problems(t, "api: {tokens: [{name: \"oidc:anna\", role: viewer, token_sha256: "+strings.Repeat("0a", 32)+"}]}\n"); len(p) != 1 || !strings.Contains(p[0], "begins with oidc:") {
		t.Errorf("a token called as a person: %q", p)
	}
}
