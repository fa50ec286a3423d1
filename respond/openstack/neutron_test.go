package openstack

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// double is a Keystone and a Neutron for every-day runs: as much of the two as
// the adapter speaks to, after the API reference and what the real ones of
// Debian answer (the opt-in lane runs the same tests against those).
type double struct {
	t   *testing.T
	srv *httptest.Server

	mu     sync.Mutex
	hook   func(w http.ResponseWriter, r *http.Request) bool // true: it answered
	tokens map[string]bool
	logins int
	ids    int
	page   int // most objects in one answer; 0: any number
	ports  map[string]object
	groups map[string]object
	rules  map[string]object
	floats map[string]string // floating address to port
	calls  []string          // method and path
}

type object = map[string]any

func newDouble(t *testing.T) *double {
	d := &double{
		t: t, tokens: map[string]bool{}, ports: map[string]object{}, groups: map[string]object{}, rules: map[string]object{},
		floats: map[string]string{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/auth/tokens", d.login)
	mux.HandleFunc("GET /net/v2.0/{kind}", d.list)
	mux.HandleFunc("POST /net/v2.0/{kind}", d.create)
	mux.HandleFunc("GET /net/v2.0/{kind}/{id}", d.show)
	mux.HandleFunc("PUT /net/v2.0/{kind}/{id}", d.update)
	mux.HandleFunc("DELETE /net/v2.0/{kind}/{id}", d.remove)
	mux.HandleFunc("PUT /net/v2.0/{kind}/{id}/tags/{tag}", d.tag)
	mux.HandleFunc("DELETE /net/v2.0/{kind}/{id}/tags/{tag}", d.untag)
	d.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		hook := d.hook
		d.calls = append(d.calls, r.Method+" "+r.URL.Path)
		d.mu.Unlock()
		if hook != nil && hook(w, r) {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/net/") && !d.tokens[r.Header.Get("X-Auth-Token")] {
			answer(w, http.StatusUnauthorized, object{"error": object{"code": 401, "message": "The request you have made requires authentication."}})
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(d.srv.Close)
	return d
}

// id is a UUID that no other object has.
func (d *double) id() string {
	d.ids++
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", d.ids, d.ids)
}

func (d *double) on(hook func(w http.ResponseWriter, r *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = hook
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func refuse(w http.ResponseWriter, status int, kind, format string, args ...any) {
	answer(w, status, object{"NeutronError": object{"type": kind, "message": fmt.Sprintf(format, args...), "detail": ""}})
}

func (d *double) login(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
				AppCredential struct{ ID, Secret string } `json:"application_credential"`
			}
			Scope any
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	id := in.Auth.Identity
	ok := id.Password.User.Name == "admin" && id.Password.User.Password == "secret" && in.Auth.Scope != nil ||
		id.AppCredential.ID == "app" && id.AppCredential.Secret == "secret" && in.Auth.Scope == nil
	if !ok {
		answer(w, http.StatusUnauthorized, object{"error": object{"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}})
		return
	}
	d.logins++
	token := d.id()
	d.tokens[token] = true
	w.Header().Set("X-Subject-Token", token)
	endpoint := func(region, kind, u string) object {
		return object{"id": d.id(), "region": region, "region_id": region, "interface": kind, "url": u}
	}
	answer(w, http.StatusCreated, object{"token": object{
		"expires_at": "2036-11-22T00:00:00.000000Z", "methods": []string{"password"},
		"catalog": []object{
			{"type": "identity", "name": "keystone", "endpoints": []object{endpoint("RegionOne", "public", d.srv.URL+"/v3")}},
			{"type": "network", "name": "neutron", "endpoints": []object{
				endpoint("RegionOne", "public", d.srv.URL+"/net"), endpoint("RegionOne", "internal", d.srv.URL+"/net/"),
				endpoint("RegionTwo", "public", d.srv.URL+"/elsewhere"),
			}},
		},
	}})
}

func (d *double) table(kind string) (map[string]object, string) {
	switch kind {
	case "ports":
		return d.ports, "port"
	case "security-groups":
		return d.groups, "security_group"
	case "security-group-rules":
		return d.rules, "security_group_rule"
	}
	return nil, ""
}

// view is the object as it is answered: a group with its rules.
func (d *double) view(o object) object {
	if _, isGroup := o["stateful"]; !isGroup {
		return o
	}
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	rules := []object{}
	for _, r := range d.rules {
		if r["security_group_id"] == o["id"] {
			rules = append(rules, r)
		}
	}
	out["security_group_rules"] = rules
	return out
}

func (d *double) list(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("kind") == "floatingips" {
		out := []object{}
		if p, ok := d.floats[r.URL.Query().Get("floating_ip_address")]; ok {
			out = append(out, object{"port_id": p}, object{"port_id": nil})
		}
		answer(w, http.StatusOK, object{"floatingips": out})
		return
	}
	table, name := d.table(r.PathValue("kind"))
	out := []object{}
	for _, o := range table {
		match := true
		for k, vs := range r.URL.Query() {
			switch k {
			case "fixed_ips":
				match = match && strings.Contains(fmt.Sprint(o[k]), "ip_address:"+strings.TrimPrefix(vs[0], "ip_address=")+" ")
			case "tags":
				match = match && slices.Contains(tagsOf(o), vs[0])
			case "marker":
			default:
				match = match && o[k] == vs[0]
			}
		}
		if match {
			out = append(out, d.view(o))
		}
	}
	slices.SortFunc(out, func(a, b object) int { return strings.Compare(a["id"].(string), b["id"].(string)) })
	all := object{name + "s": out}
	if d.page > 0 {
		marker := r.URL.Query().Get("marker")
		out = slices.DeleteFunc(out, func(o object) bool { return o["id"].(string) <= marker })
		if len(out) > d.page {
			out = out[:d.page]
			q := r.URL.Query()
			q.Set("marker", out[d.page-1]["id"].(string))
			all[name+"s_links"] = []object{{"rel": "previous", "href": "http://thief.example/?marker=x"}, {"rel": "next", "href": "http://thief.example/?" + q.Encode()}}
		}
		all[name+"s"] = out
	}
	answer(w, http.StatusOK, all)
}

func tagsOf(o object) []string {
	var out []string
	for _, t := range o["tags"].([]any) {
		out = append(out, t.(string))
	}
	return out
}

func (d *double) find(w http.ResponseWriter, r *http.Request) object {
	table, name := d.table(r.PathValue("kind"))
	o, ok := table[r.PathValue("id")]
	if !ok {
		kind := map[string]string{"port": "PortNotFound", "security_group": "SecurityGroupNotFound", "security_group_rule": "SecurityGroupRuleNotFound"}[name]
		refuse(w, http.StatusNotFound, kind, "%s %s could not be found.", name, r.PathValue("id"))
		return nil
	}
	return o
}

func (d *double) show(w http.ResponseWriter, r *http.Request) {
	if o := d.find(w, r); o != nil {
		_, name := d.table(r.PathValue("kind"))
		answer(w, http.StatusOK, object{name: d.view(o)})
	}
}

func bump(o object) { o["revision_number"] = o["revision_number"].(int) + 1 }

func (d *double) update(w http.ResponseWriter, r *http.Request) {
	o := d.find(w, r)
	if o == nil {
		return
	}
	if m := r.Header.Get("If-Match"); m != "" && m != "revision_number="+strconv.Itoa(o["revision_number"].(int)) {
		refuse(w, http.StatusPreconditionFailed, "RevisionNumberConstraintFailed", "Constrained to %s, but current revision is %d", m, o["revision_number"])
		return
	}
	_, name := d.table(r.PathValue("kind"))
	in := map[string]object{}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, "HTTPBadRequest", "%v", err)
		return
	}
	if gs, ok := in[name]["security_groups"].([]any); ok {
		for _, g := range gs {
			if d.groups[g.(string)] == nil {
				refuse(w, http.StatusNotFound, "SecurityGroupNotFound", "Security group %s does not exist", g)
				return
			}
		}
	}
	for k, v := range in[name] {
		o[k] = v
	}
	bump(o)
	answer(w, http.StatusOK, object{name: d.view(o)})
}

func (d *double) remove(w http.ResponseWriter, r *http.Request) {
	if d.find(w, r) == nil {
		return
	}
	id := r.PathValue("id")
	if r.PathValue("kind") == "security-groups" {
		for _, p := range d.ports {
			if gs, _ := p["security_groups"].([]any); slices.Contains(gs, any(id)) {
				refuse(w, http.StatusConflict, "SecurityGroupInUse", "Security Group %s in use.", id)
				return
			}
		}
		for k, ru := range d.rules {
			if ru["security_group_id"] == id || ru["remote_group_id"] == id {
				delete(d.rules, k)
			}
		}
	}
	table, _ := d.table(r.PathValue("kind"))
	delete(table, id)
	w.WriteHeader(http.StatusNoContent)
}

func (d *double) tag(w http.ResponseWriter, r *http.Request) {
	o := d.find(w, r)
	if o == nil {
		return
	}
	if t := r.PathValue("tag"); len(t) > 255 {
		refuse(w, http.StatusBadRequest, "HTTPBadRequest", "tag too long")
		return
	} else if !slices.Contains(tagsOf(o), t) {
		o["tags"] = append(o["tags"].([]any), t)
		bump(o)
	}
	w.WriteHeader(http.StatusCreated)
}

func (d *double) untag(w http.ResponseWriter, r *http.Request) {
	o := d.find(w, r)
	if o == nil {
		return
	}
	i := slices.Index(o["tags"].([]any), any(r.PathValue("tag")))
	if i < 0 {
		refuse(w, http.StatusNotFound, "TagNotFound", "Tag %s could not be found.", r.PathValue("tag"))
		return
	}
	o["tags"] = slices.Delete(slices.Clone(o["tags"].([]any)), i, i+1)
	bump(o)
	w.WriteHeader(http.StatusNoContent)
}

func (d *double) create(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	in := map[string]json.RawMessage{}
	_ = json.Unmarshal(raw, &in)
	_, name := d.table(r.PathValue("kind"))
	if many, ok := in[name+"s"]; ok {
		var list []object
		_ = json.Unmarshal(many, &list)
		out := []object{}
		for _, o := range list {
			// As securitygroups_db.py has it: these ride on IPv6 alone.
			if p, _ := o["protocol"].(string); o["ethertype"] == ipv4 && slices.Contains([]string{"41", "43", "44", "58", "59", "60", "ipv6-icmp"}, p) {
				refuse(w, http.StatusBadRequest, "SecurityGroupEthertypeConflictWithProtocol", "Invalid ethertype IPv4 for protocol %s.", p)
				return
			}
			if dup := d.duplicate(o); dup != "" {
				refuse(w, http.StatusConflict, "SecurityGroupRuleExists", "Security group rule already exists. Rule id is %s.", dup)
				return
			}
			out = append(out, d.add("security-group-rules", o))
		}
		answer(w, http.StatusCreated, object{name + "s": out})
		return
	}
	var o object
	_ = json.Unmarshal(in[name], &o)
	o = d.add(r.PathValue("kind"), o)
	answer(w, http.StatusCreated, object{name: d.view(o)})
}

// duplicate is the rule that Neutron would not have twice.
func (d *double) duplicate(o object) string {
	for id, r := range d.rules {
		same := true
		for _, k := range []string{
			"security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id",
		} {
			same = same && r[k] == o[k]
		}
		if same {
			return id
		}
	}
	return ""
}

func (d *double) add(kind string, o object) object {
	id := d.id()
	o["id"] = id
	o["revision_number"] = 1
	table, _ := d.table(kind)
	table[id] = o
	switch kind {
	case "ports":
		defaults := object{
			"admin_state_up": true, "status": "DOWN", "device_id": "", "device_owner": "", "security_groups": []any{}, "tags": []any{},
			"port_security_enabled": true, "binding:host_id": "node-7", "allowed_address_pairs": []any{}, "name": "", "description": "",
		}
		for k, v := range defaults {
			if _, ok := o[k]; !ok {
				o[k] = v
			}
		}
	case "security-groups":
		o["tags"] = []any{}
		if _, ok := o["stateful"]; !ok {
			o["stateful"] = true
		}
		for _, ether := range []string{"IPv4", "IPv6"} {
			rid := d.id()
			d.rules[rid] = object{
				"id": rid, "security_group_id": id, "direction": "egress", "ethertype": ether, "protocol": nil, "port_range_min": nil,
				"port_range_max": nil, "remote_ip_prefix": nil, "remote_group_id": nil, "remote_address_group_id": nil, "revision_number": 1,
			}
		}
	}
	return o
}
