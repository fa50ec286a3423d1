package pvetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// params of the calls that flowcordon makes, as pve-docs' API viewer shows them
// (PVE 8 and 9): name -> pattern of a value. Written by hand: the second
// opinion that always runs.
var allowed = withLXC(map[string]map[string]string{
	"GET /cluster/resources":                                     {"type": `vm|storage|node|sdn`},
	"GET /cluster/firewall/options":                              {},
	"GET /cluster/tasks":                                         {},
	"GET /nodes/{node}/tasks/{upid}/status":                      {},
	"GET /nodes/{node}/qemu/{vmid}/pending":                      {},
	"GET /nodes/{node}/qemu/{vmid}/config":                       {"current": `[01]`, "snapshot": `.{1,40}`},
	"GET /nodes/{node}/qemu/{vmid}/status/current":               {},
	"GET /nodes/{node}/qemu/{vmid}/firewall/rules":               {},
	"GET /nodes/{node}/qemu/{vmid}/firewall/options":             {},
	"GET /nodes/{node}/qemu/{vmid}/firewall/ipset":               {},
	"GET /nodes/{node}/qemu/{vmid}/firewall/ipset/{name}":        {},
	"GET /nodes/{node}/qemu/{vmid}/agent/network-get-interfaces": {},
	"GET /nodes/{node}/lxc/{vmid}/interfaces":                    {},
	"POST /nodes/{node}/qemu/{vmid}/config":                      {"net[n]": netQemu, "description": notes, "delete": ids, "digest": `.{0,40}`, "background_delay": `[1-9]|[12]\d|30`},
	"PUT /nodes/{node}/lxc/{vmid}/config":                        {"net[n]": netLXC, "description": notes, "delete": ids, "digest": `.{0,40}`},
	"POST /nodes/{node}/qemu/{vmid}/firewall/rules":              ruleParams,
	"PUT /nodes/{node}/qemu/{vmid}/firewall/options":             optionParams,
	"DELETE /nodes/{node}/qemu/{vmid}/firewall/rules/{pos}":      {"digest": `.{0,64}`},
})

const (
	ids   = `[a-z0-9,;_ -]+`
	notes = `(?s).*` // at most 8192 characters
	mac   = `[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}`
	num   = `\d+(\.\d+)?`
	// PVE::QemuServer::Network, $net_fmt.
	netQemu = `((virtio|e1000|e1000e|rtl8139|vmxnet3|macaddr)=` + mac + `|model=[a-z0-9]+|bridge=[\w.-]+|queues=\d+|rate=` + num +
		`|tag=\d+|trunks=\d+(-\d+)?(;\d+(-\d+)?)*|firewall=[01]|link_down=[01]|mtu=\d+|,)+`
	// PVE::LXC::Config, $netconf_desc.
	netLXC = `(name=[\w.-]+|hwaddr=` + mac + `|bridge=[\w.-]+|rate=` + num +
		`|tag=\d+|trunks=[\d;]+|firewall=[01]|link_down=[01]|mtu=\d+|(ip|ip6|gw|gw6)=[0-9a-fA-F:./]+|type=veth|,)+`
)

var (
	ruleParams = map[string]string{
		"type": `in|out|forward|group`, "action": `[A-Za-z][A-Za-z0-9_-]{1,19}`, "enable": `\d+`, "iface": `[a-zA-Z][\w.:-]{1,20}`,
		"proto": `[a-z0-9-]+`, "dport": `[\d,:]+`, "sport": `[\d,:]+`, "comment": `[^\n]*`, "digest": `.{0,64}`, "pos": `\d+`,
	}
	optionParams = map[string]string{
		"enable": `[01]`, "policy_in": `ACCEPT|REJECT|DROP`, "policy_out": `ACCEPT|REJECT|DROP`, "macfilter": `[01]`, "ipfilter": `[01]`,
		"radv": `[01]`, "ndp": `[01]`, "dhcp": `[01]`, "delete": ids, "digest": `.{0,64}`,
	}
)

// withLXC adds what is the same for containers: the firewall's calls and what
// is read.
func withLXC(calls map[string]map[string]string) map[string]map[string]string {
	out := maps.Clone(calls)
	for k, v := range calls {
		if c := strings.Replace(k, "/qemu/", "/lxc/", 1); calls[c] == nil && k != "POST /nodes/{node}/qemu/{vmid}/config" {
			out[c] = v
		}
	}
	return out
}

var index = regexp.MustCompile(`^(net|ipconfig)\d+$`)

// check refuses parameters that the API does not take: by the table above, and
// by the API's own schema where that is at hand.
func (s *Sim) check(method, path string, p map[string]string) *failure {
	table, ok := allowed[method+" "+path]
	if !ok {
		s.t.Errorf("pvetest: %s %s is no call of the table", method, path)
		return &failure{code: 501, text: "Method '" + method + " " + path + "' not implemented"}
	}
	for k, v := range p {
		pattern, ok := table[k]
		if !ok {
			pattern, ok = table[index.ReplaceAllString(k, "$1[n]")]
		}
		if !ok {
			s.t.Errorf("pvetest: %s %s has no parameter %s", method, path, k)
			return badParam(k, "property is not defined in schema and the schema does not allow additional properties")
		}
		if utf8.RuneCountInString(v) > 8192 {
			s.t.Errorf("pvetest: %s %s: %s is longer than 8192 characters", method, path, k)
			return badParam(k, "value may only be 8192 characters long")
		}
		if !regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(v) {
			s.t.Errorf("pvetest: %s %s: %s=%q does not match %s", method, path, k, v, pattern)
			return badParam(k, "value does not match the regex pattern")
		}
	}
	if why := s.oracle.check(method, path, p); why != "" {
		s.t.Errorf("pvetest: by the API's own schema: %s %s: %s", method, path, why)
		return badParam("?", why)
	}
	return nil
}

// oracle is the API's own schema: apidoc.js, which is in each node's
// /usr/share/pve-docs/api-viewer. Its licence keeps it out of this repository.
type oracle struct {
	Methods map[string]map[string]schema // "PUT /nodes/…" -> parameter
}

type schema struct {
	Type      string          `json:"type"`
	Optional  json.RawMessage `json:"optional"`
	Enum      []any           `json:"enum"`
	MaxLength json.Number     `json:"maxLength"`
	MinLength json.Number     `json:"minLength"`
	Minimum   json.Number     `json:"minimum"`
	Maximum   json.Number     `json:"maximum"`
	Pattern   string          `json:"pattern"`
	Format    json.RawMessage `json:"format"`
}

type apiNode struct {
	Path     string    `json:"path"`
	Children []apiNode `json:"children"`
	Info     map[string]struct {
		Parameters struct {
			Properties map[string]schema `json:"properties"`
		} `json:"parameters"`
	} `json:"info"`
}

// OracleFile is where the API's own schema is: what FLOWCORDON_PVE_APIDOC
// names, or proxmox/apidoc.js in the folder shared beside the checkout; empty
// if there is none.
func OracleFile() string {
	if f := os.Getenv("FLOWCORDON_PVE_APIDOC"); f != "" {
		return f
	}
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		f := filepath.Join(dir, "..", "shared", "proxmox", "apidoc.js")
		if _, err := os.Stat(f); err == nil {
			return f
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

func (o *oracle) load(t testing.TB) {
	t.Helper()
	f := OracleFile()
	if f == "" {
		return
	}
	text, err := os.ReadFile(f)
	if err != nil {
		t.Fatalf("the API's own schema: %v", err)
	}
	// const apiSchema = [ … ] ; and the viewer's code behind it.
	text = text[max(0, bytes.IndexByte(text, '[')):]
	var roots []apiNode
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&roots); err != nil {
		t.Fatalf("the API's own schema: %s: %v", f, err)
	}
	o.Methods = map[string]map[string]schema{}
	var walk func([]apiNode)
	walk = func(ns []apiNode) {
		for _, n := range ns {
			for m, i := range n.Info {
				o.Methods[m+" "+n.Path] = i.Parameters.Properties
			}
			walk(n.Children)
		}
	}
	walk(roots)
}

func (o *oracle) check(method, path string, p map[string]string) string {
	if o.Methods == nil {
		return ""
	}
	params, ok := o.Methods[method+" "+path]
	if !ok {
		return "no such method"
	}
	for k, v := range p {
		sc, ok := params[k]
		if !ok {
			sc, ok = params[index.ReplaceAllString(k, "$1[n]")]
		}
		if !ok {
			return k + " is no parameter"
		}
		if why := sc.check(v); why != "" {
			return fmt.Sprintf("%s=%q %s", k, v, why)
		}
	}
	for k, sc := range params {
		if _, ok := p[k]; !ok && !sc.optional() && !strings.Contains(path, "{"+k+"}") {
			return k + " is required"
		}
	}
	return ""
}

func (sc schema) optional() bool {
	return len(sc.Optional) > 0 && string(sc.Optional) != "0" && string(sc.Optional) != `"0"`
}

func (sc schema) check(v string) string {
	n, numErr := strconv.ParseFloat(v, 64)
	limit := func(j json.Number, bad func(float64) bool) bool {
		f, err := j.Float64()
		return err == nil && bad(f)
	}
	length := float64(utf8.RuneCountInString(v))
	switch {
	case (sc.Type == "integer" || sc.Type == "number") && numErr != nil:
		return "is no number"
	case sc.Type == "boolean" && !slices.Contains([]string{"0", "1", "on", "off", "yes", "no", "true", "false"}, v):
		return "is no boolean"
	case limit(sc.Minimum, func(f float64) bool { return n < f }), limit(sc.Maximum, func(f float64) bool { return n > f }):
		return "is out of bounds"
	case limit(sc.MaxLength, func(f float64) bool { return length > f }), limit(sc.MinLength, func(f float64) bool { return length < f }):
		return "is too long or too short"
	}
	if len(sc.Enum) > 0 {
		for _, e := range sc.Enum {
			if fmt.Sprint(e) == v {
				return ""
			}
		}
		return fmt.Sprint("is none of ", sc.Enum)
	}
	if sc.Pattern != "" {
		// Perl writes its compiled patterns as (?^:…).
		if re, err := regexp.Compile(`^(?:` + strings.ReplaceAll(sc.Pattern, "(?^:", "(?:") + `)$`); err == nil && !re.MatchString(v) {
			return "does not match " + sc.Pattern
		}
	}
	var fields map[string]schema
	if json.Unmarshal(sc.Format, &fields) != nil || len(fields) == 0 {
		return ""
	}
	return checkProps(fields, v)
}

// checkProps checks a property string such as netN's.
func checkProps(fields map[string]schema, v string) string {
	for kv := range strings.SplitSeq(v, ",") {
		k, val, _ := strings.Cut(kv, "=")
		sc, ok := fields[k]
		if !ok {
			return "has no property " + k
		}
		if why := sc.check(val); why != "" {
			return k + " " + why
		}
	}
	return ""
}
