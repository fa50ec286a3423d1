package pvetest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Guest is a VM or a container.
type Guest struct {
	Type, Node string
	Conf       map[string]string // the configuration file, without its pending part
	Pending    map[string]string
	Delete     map[string]bool // pending deletions
	Lock       string          // backup, migrate, snapshot, …
	Running    bool
	// HotplugNet is whether NICs may be plugged while it runs; link_down, rate
	// and bridge are applied at once in any case (vmconfig_update_net).
	HotplugNet bool
	Template   int
	Pool       string
	IPSets     map[string][]map[string]any
	FwOptions  map[string]string
	FwRules    []map[string]string
	// Agent is what the guest agent answers to network-get-interfaces; nil: it
	// does not run.
	Agent []map[string]any
}

func (g *Guest) name() string { return g.Conf["name"] + g.Conf["hostname"] }

// Raw is the guest as its files have it, without its notes: what must be as
// before when all is given back.
func (g *Guest) Raw() string {
	var b strings.Builder
	dump := func(what string, m map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "%s%s: %s\n", what, k, m[k])
		}
	}
	dump("", g.Conf)
	dump("pending ", g.Pending)
	for _, k := range slices.Sorted(maps.Keys(g.Delete)) {
		fmt.Fprintf(&b, "pending delete %s\n", k)
	}
	dump("firewall ", g.FwOptions)
	for _, r := range g.FwRules {
		dump("rule ", r)
	}
	return b.String()
}

// digest is the SHA-1 of the configuration file, its pending part included.
func (g *Guest) digest() string {
	h := sha1.New()
	dump := func(m map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			_, _ = fmt.Fprintf(h, "%s: %s\n", k, m[k])
		}
		_, _ = fmt.Fprintln(h, "--")
	}
	dump(g.Conf)
	dump(g.Pending)
	for _, k := range slices.Sorted(maps.Keys(g.Delete)) {
		_, _ = fmt.Fprintln(h, k)
	}
	_, _ = fmt.Fprintln(h, g.Lock)
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Sim) guestCall(method, node, typ string, id int, sub string, p map[string]string) (any, *failure) {
	if s.Down[node] {
		return nil, &failure{code: 595, text: "No route to host"}
	}
	where := "/vms/" + strconv.Itoa(id)
	if method == http.MethodGet && !strings.HasPrefix(sub, "/agent/") {
		if fail := s.may("VM.Audit", where); fail != nil {
			return nil, fail
		}
	}
	g := s.Guests[id]
	if g == nil || g.Node != node || g.Type != typ {
		dir := map[string]string{"qemu": "qemu-server", "lxc": "lxc"}[typ]
		return nil, die(fmt.Sprintf("Configuration file 'nodes/%s/%s/%d.conf' does not exist", node, dir, id))
	}
	switch method + " " + numbers(sub) {
	case "GET /pending":
		return g.pendingView(), nil
	case "GET /config":
		out := map[string]string{"digest": g.digest()}
		maps.Copy(out, g.Conf)
		return out, nil
	case "GET /status/current":
		st := map[string]any{"status": "stopped", "vmid": id, "name": g.name()}
		if g.Running {
			st["status"] = "running"
		}
		if g.Lock != "" {
			st["lock"] = g.Lock
		}
		return st, nil
	case "GET /agent/network-get-interfaces":
		if fail := s.may("VM.GuestAgent.Audit", where); fail != nil {
			return nil, fail
		}
		if g.Agent == nil || !g.Running {
			return nil, die("QEMU guest agent is not running")
		}
		return map[string]any{"result": g.Agent}, nil
	case "GET /interfaces":
		return g.Agent, nil
	case "POST /config", "PUT /config":
		return s.update(g, id, where, p)
	}
	if strings.HasPrefix(sub, "/firewall/") {
		return s.firewall(g, where, method, sub, p)
	}
	return nil, &failure{code: 501, text: "Method '" + method + " " + sub + "' not implemented"}
}

// pendingView is PVE::GuestHelpers::config_with_pending_array.
func (g *Guest) pendingView() []map[string]any {
	out := []map[string]any{{"key": "digest", "value": g.digest()}}
	if g.Lock != "" {
		out = append(out, map[string]any{"key": "lock", "value": g.Lock})
	}
	for k, v := range g.Conf {
		i := map[string]any{"key": k, "value": v}
		if n, err := strconv.Atoi(v); err == nil {
			i["value"] = n // as memory comes
		}
		if p, ok := g.Pending[k]; ok {
			i["pending"] = p
		}
		if g.Delete[k] {
			i["delete"] = 1
		}
		out = append(out, i)
	}
	for k, v := range g.Pending {
		if _, ok := g.Conf[k]; !ok {
			out = append(out, map[string]any{"key": k, "pending": v})
		}
	}
	return out
}

// update is PVE::API2::Qemu's $update_vm_api and PVE::API2::LXC::Config's
// update_vm.
func (s *Sim) update(g *Guest, id int, where string, p map[string]string) (any, *failure) {
	digest, delay := p["digest"], p["background_delay"]
	delete(p, "digest")
	delete(p, "background_delay")
	if len(p) == 0 {
		return nil, die("no options specified")
	}
	dels := strings.FieldsFunc(p["delete"], func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
	delete(p, "delete")
	for _, k := range dels {
		if _, ok := p[k]; ok {
			return nil, badParam("delete", "you can't use '-"+k+"' and -delete "+k+"' at the same time")
		}
	}
	for _, k := range append(slices.Sorted(maps.Keys(p)), dels...) {
		priv := "VM.Config.Options"
		if netKey.MatchString(k) {
			priv = "VM.Config.Network"
			if fail := s.may("SDN.Use", "/sdn/zones/localnetwork/vmbr0"); fail != nil {
				return nil, fail
			}
		}
		if fail := s.may(priv, where); fail != nil {
			return nil, fail
		}
	}
	early := func() *failure {
		mismatch := digest != "" && digest != g.digest()
		if g.Type == "lxc" { // the lock is looked at first
			if g.Lock != "" {
				return die("CT is locked (" + g.Lock + ")")
			}
			if mismatch {
				return die("detected modified configuration - file changed by other user? Try again.")
			}
			return nil
		}
		if mismatch {
			return die("checksum mismatch (file change by other user?)")
		}
		if g.Lock != "" {
			return die("VM is locked (" + g.Lock + ")")
		}
		return nil
	}
	if fail := early(); fail != nil {
		return nil, fail
	}
	apply := func() *failure {
		if fail := early(); fail != nil {
			return fail
		}
		return g.apply(p, dels)
	}
	if s.SlowTasks > 0 && delay != "" {
		return s.newTask(g.Node, id, apply), nil
	}
	fail := apply()
	if fail != nil && delay != "" { // a task that failed within background_delay
		fail = die("failed to update VM " + strconv.Itoa(id) + ": " + fail.text)
	}
	return nil, fail
}

var netKey = regexp.MustCompile(`^net\d+$`)

// apply writes to the pending part first, then applies what it can.
func (g *Guest) apply(p map[string]string, dels []string) *failure {
	if g.Pending == nil {
		g.Pending, g.Delete = map[string]string{}, map[string]bool{}
	}
	for _, k := range dels {
		if _, ok := g.Conf[k]; ok {
			g.Delete[k] = true
		}
		delete(g.Pending, k)
	}
	for k, v := range p {
		if netKey.MatchString(k) {
			v = printNet(v)
		}
		if k == "description" {
			v = stored(v)
		}
		g.Pending[k] = v
		delete(g.Delete, k)
	}
	for k, v := range g.Pending {
		if old, ok := g.Conf[k]; ok && old == v { // cleanup_pending
			delete(g.Pending, k)
		}
	}
	for k := range g.Delete {
		if g.Running && netKey.MatchString(k) && !g.HotplugNet {
			continue
		}
		delete(g.Conf, k)
		delete(g.Delete, k)
	}
	for k, v := range g.Pending {
		if g.Running && netKey.MatchString(k) && !g.HotplugNet && replug(g.Conf[k], v) {
			continue // "skip": it stays pending, without an error
		}
		g.Conf[k] = v
		delete(g.Pending, k)
	}
	return nil
}

// replug is whether the NIC must be unplugged for the change: another model,
// MAC, number of queues or MTU.
func replug(old, now string) bool {
	o, n := props(old), props(now)
	var oh, nh string
	for k, v := range o {
		if macRE.MatchString(v) {
			oh = k + v
		}
	}
	for k, v := range n {
		if macRE.MatchString(v) {
			nh = k + v
		}
	}
	return oh != nh || o["queues"] != n["queues"] || o["mtu"] != n["mtu"]
}

var macRE = regexp.MustCompile(`^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$`)

func props(s string) map[string]string {
	out := map[string]string{}
	for _, kv := range strings.Split(s, ",") {
		k, v, _ := strings.Cut(kv, "=")
		out[k] = v
	}
	return out
}

// printNet orders the properties as PVE::JSONSchema::print_property_string
// does: the one without a default first, then by name.
func printNet(s string) string {
	parts := strings.Split(s, ",")
	first := func(p string) bool {
		k, v, _ := strings.Cut(p, "=")
		return k == "name" || macRE.MatchString(v) && k != "hwaddr"
	}
	sort.SliceStable(parts, func(i, j int) bool {
		if a, b := first(parts[i]), first(parts[j]); a != b {
			return a
		}
		return parts[i] < parts[j]
	})
	return strings.Join(parts, ",")
}

// stored is what comes back of a text that was written into the configuration
// file line by line (write_vm_config, parse_vm_config).
func stored(s string) string {
	return strings.TrimRight(s, "\n") + "\n"
}
