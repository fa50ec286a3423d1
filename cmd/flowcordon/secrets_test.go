package main

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// gossip is the rudest of receivers: it refuses whatever it is asked, and says
// again all that it was told, secrets included.
func gossip(t *testing.T) *httptest.Server {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprintf(w, "%s %s\n", r.Method, r.URL)
		_ = r.Header.Write(w)
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	return srv
}

// gossipMail is a mail server of the same kind: it repeats each command in its
// refusal. It speaks no TLS.
func gossipMail(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				_, _ = fmt.Fprint(c, "220 ready\r\n")
				for s := bufio.NewScanner(c); s.Scan(); {
					if strings.HasPrefix(s.Text(), "EHLO") {
						_, _ = fmt.Fprint(c, "250-localhost\r\n250 AUTH PLAIN LOGIN\r\n")
						continue
					}
					text := s.Text()
					if _, b64, ok := strings.Cut(text, "PLAIN "); ok {
						raw, _ := base64.StdEncoding.DecodeString(b64)
						text += " which is " + strings.ReplaceAll(string(raw), "\x00", " ")
					}
					_, _ = fmt.Fprintf(c, "535 5.7.8 not so: %s\r\n", text)
				}
			})
		}
	})
	return l.Addr().String()
}

const secretSuspenders = `
    - {name: pve, type: proxmox, urls: ["URL"], token_file: F(pve), ca_file: CA, timeout: 5s}
    - {name: vc, type: vsphere, url: "URL/sdk", username: u, password_file: F(vc), ca_file: CA, timeout: 5s}
    - {name: os1, type: openstack, auth_url: "URL/v3", username: u, password_file: F(os1), project: p, ca_file: CA, timeout: 5s}
    - {name: os2, type: openstack, auth_url: "URL/v3", app_credential: a, app_secret_file: F(os2), ca_file: CA, timeout: 5s}
    - {name: bgp, type: bgp, as: 64500, router_id: 11.0.0.1, own_prefixes: [198.18.0.0/15], peers: [{address: 127.0.0.1, port: 1, as: 64501, password_file: F(bgp)}], timeout: 5s}
    - {name: vz, type: virtualizor, url: "URL", user: k, secret_file: F(vz), ca_file: CA, timeout: 5s}
    - {name: vm6, type: vmmanager6, url: "URL", user: k, secret_file: F(vm6), ca_file: CA, timeout: 5s}
    - {name: cmd, type: exec, command: [/bin/sh, -c, 'cat >&2; echo "$KEY" >&2; echo "no: $KEY"; exit 1'], secret_env: {KEY: F(cmd)}, timeout: 5s}
    - {name: hook, type: webhook, url: "URL/hook", secret_file: F(hook), ca_file: CA, timeout: 5s}`

const secretRespond = `
  portal: {url: "https://abuse.example.net/case", key_files: [F(portal)]}
  notify_after: 1s
  notify:
    email: {address: "MAIL", tls: none, from: abuse@example.net, staff: [desk@example.net], user: flowcordon, password_file: F(mail), timeout: 5s}
    ticket: {url: "URL/ticket", secret_file: F(ticket), ca_file: CA, timeout: 5s}
    whmcs: {url: "URL/includes/api.php", identifier: id, secret_file: F(whmcs), access_key_file: F(whmcsaccess), department: 1, admin: abuse, ca_file: CA, timeout: 5s}
    billmanager: {url: "URL/billmgr", user: u, password_file: F(billmanager), department: "1", ca_file: CA, timeout: 5s}
    slack: {webhook_file: F(slack)}
    telegram: {token_file: F(telegram), chat_id: "1"}
    room: {url_file: F(room), secret_file: F(roomsecret)}`

const secretInventory = `inventory:
  file: "INVENTORY"
  sources:
    - {name: list, type: http, url: "URL/inv", secret_headers: {X-Key: F(invhttp)}, map: ".[]", ca_file: CA, every: 10s}
    - {name: nb, type: netbox, url: "URL", token_file: F(netbox), ca_file: CA, every: 10s}
`

// secretSite is a site that has every secret that the configuration knows, each
// with a value of its own, and whom each is sent to gossips. It gives the names
// of the suspenders.
func secretSite(t *testing.T) (s *site, names []string) {
	e := storetest.Engine(t)
	addr := freePort(t, "tcp")
	proxy(t, addr, e.DialContext)
	rude := gossip(t)
	list := regexp.MustCompile(`{name: (\w+),`).FindAllStringSubmatch(secretSuspenders, -1)
	entries := ""
	for _, m := range list {
		names = append(names, m[1])
	}
	// The last can be cut, so that customers are written to. Panels know servers
	// and customers by numbers.
	for i, name := range append(names, "panel") {
		entries += fmt.Sprintf("- {ip: %q, tenant: \"%d\", vds: \"%d\", hypervisor: %s, macs: [%q], contact: owner@customer.example}\n",
			secretTenant(i), 42+i, 1000+i, name, macOf(secretTenant(i)))
	}
	s = newSite(t, siteOptions{
		Mode: flow.ModeEnforce, Inventory: entries, Suspenders: strings.TrimPrefix(secretSuspenders, "\n"), Respond: strings.TrimPrefix(secretRespond, "\n"),
		ClickHouse: "  addr: [\"" + addr + "\"]\n  user: " + e.User() + "\n  password_file: F(clickhouse)",
	})
	s.edit(t, "level: info", "level: debug")
	db := filepath.Base(filepath.Dir(s.dir))
	s.edit(t, "database: flowcordon", "database: "+db)
	conn := dialEngine(t, e)
	t.Cleanup(func() {
		_ = conn.Exec(t.Context(), "DROP DATABASE IF EXISTS "+db)
		_ = conn.Close()
	})
	s.edit(t, "inventory: {file: \""+s.dir+"/inventory.yaml\"}\n", secretInventory)
	s.edit(t, "api:\n", "api:\n  oidc: {issuer: \"URL\", client_id: flowcordon, client_secret_file: F(oidc), public_url: \"http://localhost:8080\", roles: {noc: viewer}, ca_file: CA}\n")
	s.write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rude.Certificate().Raw})))
	raw, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("URL", rude.URL, "MAIL", gossipMail(t), "CA,", s.dir+"/ca.pem,", "CA}", s.dir+"/ca.pem}", "INVENTORY", s.dir+"/inventory.yaml").Replace(string(raw))
	n := 0
	text = regexp.MustCompile(`F\((\w+)\)`).ReplaceAllStringFunc(text, func(m string) string {
		name := m[2 : len(m)-1]
		n++
		value := fmt.Sprintf("FcSecret%02dx%s+/z~%032d", n, name, n)
		switch name {
		case "clickhouse":
			value = e.Password()
		case "pve":
			value = "root@pam!fc=" + value
		case "slack", "room":
			value = rude.URL + "/services/" + value
		case "telegram":
			value = fmt.Sprintf("12345678%d:FcSecretTelegram_%019d", n, n)
		}
		s.write(t, "secret-"+name, value+"\n")
		return s.dir + "/secret-" + name
	})
	s.write(t, "flowcordon.yaml", text)
	return s, names
}

func secretTenant(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 1, byte(i + 1)}) }

// forms are the ways in which a secret may be written; the distinctive part of
// an address or a token is looked for by itself.
func forms(secret string) []string {
	if i := strings.Index(secret, "FcSecret"); i > 0 {
		secret = secret[i:]
	}
	return []string{
		secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret)),
		url.QueryEscape(secret), url.PathEscape(secret), fmt.Sprintf("%q", secret),
	}
}

// TestSecretsAreNowhere: a service that has every secret there is, and whose
// every partner fails and repeats what it was told, shows none of them: not in
// its logs at level debug, not in any answer of its API, not in /metrics, not in
// the event log, not in what check-config and notify test print.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	s, names := secretSite(t)
	cfg, err := loadSite(s)
	if err != nil {
		t.Fatal(err)
	}
	secrets := config.Secrets(cfg)
	for _, field := range config.SecretFields() {
		if !slices.ContainsFunc(secrets, func(x config.Secret) bool { return x.Field == field }) {
			t.Errorf("%s is a secret that this test does not set: add its key to the configuration above", field)
		}
	}
	p := s.serve(t)
	c := s.client(p.http())
	c.token = cfg.API.Tokens[0].Secret
	c.ready(t, 5*time.Minute)
	r := newRouter(t, "127.0.0.1", p.netflow())
	for i := range len(names) + 1 {
		r.export(t, scanMinute(secretTenant(i))...)
	}
	s.provoke(t, c, p, names)

	shown := map[string]string{"the log": strings.Join(p.log(), "\n")}
	for path, text := range c.everything(t) {
		shown[path] = text
	}
	_, out, errs := invoke(t, "check-config", s.config)
	shown["check-config"] = out + errs
	_, out, errs = invoke(t, "notify", "test", "--config", s.config, "--to", "owner@example.net")
	shown["notify test"] = out + errs
	s.edit(t, "as: 64500", "as: none")
	_, out, errs = invoke(t, "check-config", s.config)
	shown["check-config of a mistake"] = out + errs
	conn := dialEngine(t, storetest.Engine(t))
	defer conn.Close()
	db := filepath.Base(filepath.Dir(s.dir))
	var events string
	if err := conn.QueryRow(t.Context(), "SELECT arrayStringConcat(groupArray(toString(tuple(*))), '\n') FROM "+db+".event").Scan(&events); err != nil {
		t.Fatal(err)
	}
	shown["the event log"] = events
	for where, text := range shown {
		if len(text) < 10 {
			t.Errorf("%s shows nothing: %q", where, text)
		}
		for _, x := range secrets {
			for _, f := range forms(x.Value) {
				if i := strings.Index(text, f); i >= 0 {
					t.Errorf("%s is in %s: …%s…", x.Field, where, text[max(0, i-200):min(len(text), i+len(f)+50)])
					break
				}
			}
		}
	}
}

// provoke waits until every suspender, notifier and source has been asked and
// has failed.
func (s *site) provoke(t *testing.T, c *client, p *process, names []string) {
	t.Helper()
	eventually(t, 5*time.Minute, "each suspender's failure", func() (bool, string) {
		all, err := c.incidents()
		if err != nil {
			return false, err.Error()
		}
		for i, name := range names {
			if list := all[secretTenant(i)]; len(list) == 0 || list[0].Action == nil || list[0].Action.Error == "" {
				return false, fmt.Sprintf("%s: %+v", name, list)
			}
		}
		return true, ""
	})
	eventually(t, 5*time.Minute, "each channel's failure", func() (bool, string) {
		m, err := c.scrape()
		if err != nil {
			return false, err.Error()
		}
		for _, n := range []string{"mail-customer", "mail-staff", "ticket", "whmcs", "billmanager", "slack", "telegram", "room"} {
			if m.sum("flowcordon_notice_deliveries_total", `notifier="`+n+`"`) == 0 {
				return false, n + " was not tried"
			}
		}
		return true, ""
	})
	eventually(t, 5*time.Minute, "each source's failure", func() (bool, string) {
		return said(p.log(), `"list"`, "inventory") && said(p.log(), `"nb"`, "inventory"), "no line about both sources"
	})
}

// everything is the answer to every GET of the API that takes no more than an
// incident's id or an address.
func (c *client) everything(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	get := func(path, token string) {
		_, text, err := c.do(path, token, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		out[path] = text + " " // an empty answer shows nothing, and may
	}
	all, err := c.incidents()
	if err != nil {
		t.Fatal(err)
	}
	_, spec, err := c.do("/api/v1/openapi.json", c.token, nil)
	if err != nil {
		t.Fatal(err)
	}
	paths := regexp.MustCompile(`"(/[a-z0-9/{}_-]+)":\{`).FindAllStringSubmatch(spec, -1)
	if len(paths) < 20 {
		t.Fatalf("%d paths in the API's document: %.300s", len(paths), spec)
	}
	for _, m := range paths {
		path := m[1]
		if !strings.HasPrefix(path, "/api/") {
			path = "/api/v1" + path
		}
		if path == "/api/v1/events" {
			continue // never ends, and tells the event log, which is looked at by itself
		}
		for tenant, list := range all {
			get(strings.NewReplacer("{id}", list[0].ID, "{ip}", tenant.String(), "{form}", "netscan").Replace(path), c.token)
			if !strings.Contains(path, "{") {
				break
			}
		}
	}
	get("/metrics", "")
	get("/readyz", "")
	return out
}
