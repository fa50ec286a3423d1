package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/flow"
)

const site = `listen: [{protocol: netflow, address: "127.0.0.1:0"}]
exporters: {allow: [127.0.0.1]}
networks: {internal: [11.0.0.0/24]}
`

func problems(t *testing.T, text string) []string {
	t.Helper()
	_, err := config.Parse("f.yaml", []byte(site+text))
	var ps config.Problems
	if err != nil && !errors.As(err, &ps) {
		t.Fatal(err)
	}
	var out []string
	for _, p := range ps {
		out = append(out, p.Path+": "+p.Text)
	}
	return out
}

// TestSuspenderTypes: the keys are those of the type, and no other's.
func TestSuspenderTypes(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("root@pam!fc=abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("f.yaml", []byte(site+strings.ReplaceAll(`respond:
  suspenders:
    - {name: n1, type: libvirt, address: "n1:16514", pki_dir: /etc/pki}
    - {name: pve, type: proxmox, urls: ["https://a:8006"], token_file: SECRET, enable_firewall: true, timeout: 3s}
    - {name: vc, type: vsphere, url: "https://vc/sdk", username: u, password_file: SECRET}
    - {name: os, type: openstack, auth_url: "https://k:5000/v3", app_credential: x, app_secret_file: SECRET}
    - name: edge
      type: bgp
      as: 64500
      router_id: 11.0.0.1
      own_prefixes: [11.0.0.0/24]
      peers: [{address: 11.0.0.2, as: 64500, password_file: SECRET}]
    - {name: script, type: exec, command: [/usr/local/bin/cut], secret_env: {KEY: SECRET}, measures: [block_port]}
`, "SECRET", secret)))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Respond.Suspenders
	if got, ok := s[0].Spec.(*config.Libvirt); !ok || got.Host != "n1:16514" || s[0].Timeout != c.Respond.CallTimeout {
		t.Errorf("libvirt: %+v", s[0])
	}
	if got, ok := s[1].Spec.(*config.Proxmox); !ok || got.Token != "root@pam!fc=abc" || !got.EnableFirewall || s[1].Timeout.Seconds() != 3 {
		t.Errorf("proxmox: %+v", s[1].Spec)
	}
	if got, ok := s[4].Spec.(*config.BGP); !ok || got.AS != 64500 || got.Peers[0].Password != "root@pam!fc=abc" {
		t.Errorf("bgp: %+v", s[4].Spec)
	}
	if got, ok := s[5].Spec.(*config.Exec); !ok || got.Secrets["KEY"] != "root@pam!fc=abc" || got.Measures[0] != "block_port" {
		t.Errorf("exec: %+v", s[5].Spec)
	}
}

func TestSuspenderMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"another type's key", `{name: a, type: libvirt, socket: /s, url: "https://x"}`, `respond.suspenders[0].url: unknown key; did you mean "uri"?`},
		{"no such type", `{name: a, type: xen}`, `respond.suspenders[0].type: "xen" is none of: bgp, exec, libvirt, openstack, proxmox, virtualizor, vmmanager6, vsphere, webhook`},
		{"a secret that is not there", `{name: a, type: proxmox, urls: ["https://a"], token_file: /nonexistent}`, `respond.suspenders[0].token_file: open /nonexistent: no such file or directory; write the secret into that file, mode 0600`},
		{"a measure that is none", `{name: a, type: exec, command: [/x], measures: [kill]}`, `respond.suspenders[0].measures[0]: "kill" is none of ["block_port" "rate_limit"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := problems(t, "respond:\n  suspenders:\n    - "+tt.text+"\n"); len(got) != 1 || got[0] != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	c, err := config.Parse("f.yaml", []byte(site+`respond:
  caps: {per_day: 0}
  ladders:
    netscan: [{measure: block_port, after: 10m, for: 24h}, {measure: cut}]
`))
	if err != nil {
		t.Fatal(err)
	}
	p := c.Respond.Policy
	if p.Caps.PerDay != 0 || p.Caps.NodePerHour != 10 {
		t.Errorf("caps %+v: what is written is taken, what is not has its default", p.Caps)
	}
	if l := p.Ladders[flow.RuleNetscan]; len(l) != 2 || l[0].Measure != flow.MeasureBlockPort || l[1].Measure != flow.MeasureCut {
		t.Errorf("ladder %+v", l)
	}
	got := problems(t, `respond:
  fallback: nowhere
  orphans: kill
  caps: {fleet_share: 5}
  ladders:
    netscan: [{measure: cut, after: 1m}, {measure: block_port}]
    udp_flood: [{measure: rate_limit}]
    netscam: [{measure: cut}]
`)
	want := []string{
		`respond.fallback: "nowhere" is no suspender; write the name of one under respond.suspenders`,
		`respond.orphans: "kill" is none of ["report" "release"]`,
		`respond.caps.fleet_share: 5 is no share; write a number from 0 to 1, for example 0.05`,
		`respond.ladders.netscan[1].measure: block_port does not take more than the step before it; write the milder first`,
		`respond.ladders.udp_flood[0].kbit_s: belongs to rate_limit, and only there: what the tenant may send, for example 10000`,
		`respond.ladders.netscam: there is no rule of that name`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
}
