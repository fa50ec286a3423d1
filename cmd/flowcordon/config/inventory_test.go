package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
)

func TestInventorySources(t *testing.T) {
	c, err := config.Parse("f.yaml", []byte(site+`respond: {suspenders: [{name: n1, type: libvirt, socket: /s}]}
inventory:
  file: /etc/i.yaml
  sources:
    - {name: node, type: libvirt, suspender: n1, trust: [lease]}
    - {name: bill, type: http, url: "https://b/x", map: ".", every: 2h}
`))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Inventory.Sources
	if v, ok := s[0].Spec.(*config.LibvirtSource); !ok || v.Suspender != "n1" || s[0].Every != 5*time.Minute || s[0].MaxAge != time.Hour {
		t.Errorf("%+v", s[0])
	}
	if s[1].MaxAge != 6*time.Hour {
		t.Errorf("read every %s, too old after %s", s[1].Every, s[1].MaxAge)
	}
}

func TestInventoryProblems(t *testing.T) {
	for text, want := range map[string]string{
		`[{name: "a/b", type: file, path: x}]`:                                    `sources[0].name: "a/b": write letters`,
		`[{name: a, type: file, path: x}, {name: a, type: file, path: y}]`:        `sources[1].name: "a" is used twice`,
		`[{name: a, type: ldap}]`:                                                 `sources[0].type: "ldap" is none of: file, http, libvirt, netbox, proxmox, vsphere`,
		`[{name: a, type: file}]`:                                                 `sources[0].path: is missing`,
		`[{name: a, type: file, path: x, suspender: n}]`:                          `sources[0].suspender: unknown key`,
		`[{name: a, type: file, path: x, every: 1s}]`:                             `sources[0].every: 1s is too often`,
		`[{name: a, type: file, path: x, every: 1h, max_age: 5m}]`:                `sources[0].max_age: 5m0s is shorter than every`,
		`[{name: a, type: libvirt}]`:                                              `sources[0].suspender: is missing; write the name of the libvirt`,
		`[{name: a, type: proxmox, suspender: nobody}]`:                           `sources[0].suspender: "nobody" is not in respond.suspenders`,
		`[{name: a, type: proxmox, suspender: hook}]`:                             `sources[0].suspender: "hook" is of type exec, not proxmox`,
		`[{name: a, type: libvirt, suspender: n1, ask: [dns]}]`:                   `sources[0].ask[0]: "dns" is none of`,
		`[{name: a, type: libvirt, suspender: n1, trust: [agent]}]`:               `sources[0].trust[0]: "agent" is none of`,
		`[{name: a, type: netbox, url: x, token_file: /none, clusters: {m: p}}]`:  `sources[0].clusters.m: "p" is not in respond.suspenders`,
		`[{name: a, type: http, url: x, map: ".", secret_headers: {K: /nofile}}]`: `sources[0].secret_headers.K: open /nofile`,
	} {
		got := strings.Join(problems(t, "respond: {suspenders: [{name: hook, type: exec, command: [/x]}, {name: n1, type: libvirt, socket: /s}]}\ninventory: {sources: "+text+"}\n"), "\n")
		if !strings.Contains(got, "inventory."+want) {
			t.Errorf("%s:\n%s\nwant %s", text, got, want)
		}
	}
}
