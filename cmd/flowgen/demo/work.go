package demo

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/flowcordon/flowcordon/cmd/flowgen/sim"
	"github.com/flowcordon/flowcordon/internal/loopback"
)

// work is the work directory with what stands in it, and the addresses.
type work struct {
	dir     string
	keep    bool
	config  string // flowcordon.yaml
	tickets string // folder
	mails   string // folder
	secret  []byte
	token   string
	http    string // address of flowcordon's API
	netflow netip.AddrPort
	sflow   netip.AddrPort
}

func newWork(cfg Config) (*work, error) {
	w := &work{dir: cfg.Dir, keep: cfg.Dir != ""}
	var err error
	if !w.keep {
		if w.dir, err = os.MkdirTemp("", "flowcordon-demo-"); err != nil {
			return nil, err
		}
	} else if w.dir, err = filepath.Abs(w.dir); err != nil {
		return nil, err
	}
	w.config = filepath.Join(w.dir, "flowcordon.yaml")
	w.tickets, w.mails = filepath.Join(w.dir, "tickets"), filepath.Join(w.dir, "mails")
	for _, d := range []string{w.dir, w.tickets, w.mails} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return w, err
		}
	}
	w.secret, w.token = []byte(randomHex(32)), randomHex(20)
	if !cfg.Once {
		w.http = listenable(cfg.HTTP)
	}
	if w.http == "" {
		a, err := loopback.Free("tcp")
		if err != nil {
			return w, err
		}
		w.http = a.String()
	}
	if w.netflow, err = loopback.Free("udp"); err != nil {
		return w, err
	}
	w.sflow, err = loopback.Free("udp")
	return w, err
}

// close removes a temporary directory. One that the user named stays.
func (w *work) close() {
	if !w.keep && w.dir != "" {
		_ = os.RemoveAll(w.dir) // in /tmp; nothing more can be done
	}
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// listenable returns addr, with a port if it has none, if it can be listened on;
// else it is empty. flowcordon binds it a moment later.
func listenable(addr string) string {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// The external addresses of the simulation are in none of these bogons.
var configTemplate = template.Must(template.New("flowcordon.yaml").Parse(`# Written by flowgen demo: everything runs on this machine.
listen:
  - {protocol: netflow, address: "{{.NetFlow}}"}
  - {protocol: sflow, address: "{{.SFlow}}"}
exporters:
  allow: [127.0.0.11/32, 127.0.0.12/32]   # router A, router B
  sampling: []                            # both announce their rate
networks:
  internal: [198.18.0.0/15, "2001:db8::/32"]
  ipv6_tenant_prefix: 64
  bogons: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3]
data_dir: "{{.Dir}}/data"
clickhouse: {addr: []}                    # the embedded engine
http: {address: "{{.HTTP}}"}
detect:
  interval: 5s
  rules:
    netscan: {mode: enforce}
    udp_flood: {mode: enforce}
    syn_flood: {mode: enforce}
    portscan: {mode: observe}
respond:
  max_per_hour: 10
  suspenders:
    - {name: panel, type: webhook, url: "{{.Panel}}/hypervisor", secret_file: "{{.Dir}}/hook.secret"}
  notify:
    email: {address: "{{.SMTP}}", from: "abuse@hoster.example", staff: ["noc@hoster.example"], tls: none}
    ticket: {url: "{{.Panel}}/tickets", secret_file: "{{.Dir}}/hook.secret"}
inventory: {file: "{{.Dir}}/inventory.yaml"}
api:
  tokens:
    - {name: demo, role: admin, token_file: "{{.Dir}}/token"}
`))

// writeFiles writes what flowcordon reads.
func (w *work) writeFiles(o *outside, tenants []*sim.Tenant) error {
	var b strings.Builder
	err := configTemplate.Execute(&b, map[string]string{
		"NetFlow": w.netflow.String(), "SFlow": w.sflow.String(), "Dir": w.dir, "HTTP": w.http,
		"Panel": "http://" + o.http.Addr().String(), "SMTP": o.smtp.Addr().String(),
	})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(w.config, []byte(b.String()), 0o600),
		os.WriteFile(filepath.Join(w.dir, "hook.secret"), w.secret, 0o600),
		os.WriteFile(filepath.Join(w.dir, "token"), []byte(w.token), 0o600),
		writeInventory(filepath.Join(w.dir, "inventory.yaml"), tenants),
	)
}

func writeInventory(path string, tenants []*sim.Tenant) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	for i, t := range tenants {
		language := "en"
		if i%3 == 0 {
			language = "ru"
		}
		tag := "" // who has asked to send mail, past the port that is closed for all
		if strings.Contains(t.Profile, "mail") {
			tag = "mail"
		}
		prefixes := []netip.Prefix{netip.PrefixFrom(t.Addr, 32)}
		if t.Addr6.IsValid() {
			prefixes = append(prefixes, netip.PrefixFrom(t.Addr6, 64).Masked())
		}
		for _, p := range prefixes {
			_, _ = fmt.Fprintf(b, "- {prefix: %q, tenant: %s, vds: %s, hypervisor: panel, macs: [%q], contact: %q, language: %s, tags: [%s]}\n",
				p, t.ID, t.VDS, t.MAC, t.Contact, language, tag)
		}
	}
	return errors.Join(b.Flush(), f.Close())
}
