package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	server1 = "11111111-2222-3333-4444-000000001001"
	server2 = "11111111-2222-3333-4444-000000001002"
	mac1    = "fa:16:3e:aa:10:01"
	mac2    = "fa:16:3e:aa:10:02"
	tcp     = 6
	udp     = 17
)

// region is a Keystone and a Neutron with a network: the double, or the real
// ones of the opt-in lane. The tests make and change things as an admin of its
// API, in the very same way on both.
type region struct {
	cfg     Config
	admin   *client
	network string
	subnet  string
	double  *double // nil: the real ones
}

func newRegion(t *testing.T) *region {
	d := newDouble(t)
	r := &region{
		cfg: Config{
			Name: "os1", AuthURL: d.srv.URL, Region: "RegionOne", Username: "admin", Password: "secret", Project: "admin",
			Timeout: 30 * time.Second,
		},
		network: "net-1", subnet: "subnet-1", double: d,
	}
	r.login(t)
	return r
}

func (r *region) login(t *testing.T) {
	t.Helper()
	var err error
	if r.admin, err = logIn(t.Context(), r.cfg); err != nil {
		t.Fatal(err)
	}
}

func (r *region) adapter(t *testing.T) *Adapter {
	a := New(r.cfg, Deps{})
	t.Cleanup(a.Close)
	return a
}

// do makes one call as the admin and fails the test if it is refused.
func (r *region) do(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := r.admin.call(t.Context(), method, path, nil, in, out, nil); err != nil {
		t.Fatal(err)
	}
}

// port makes a port, which goes with the test.
func (r *region) port(t *testing.T, fields object) string {
	t.Helper()
	in := object{"network_id": r.network, "mac_address": mac1, "device_id": server1, "device_owner": "compute:nova"}
	for k, v := range fields {
		in[k] = v
	}
	var out struct{ Port port }
	r.do(t, http.MethodPost, "ports", object{"port": in}, &out)
	t.Cleanup(func() {
		_ = r.admin.remove(context.Background(), "ports/"+out.Port.ID)
		gs, err := r.admin.ourGroups(context.Background(), out.Port.ID)
		for _, g := range gs {
			err = errors.Join(err, r.admin.remove(context.Background(), g.path()))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return out.Port.ID
}

func (r *region) ip(addr string) []object {
	return []object{{"subnet_id": r.subnet, "ip_address": addr}}
}

// group makes a security group with rules, which goes with the test.
func (r *region) group(t *testing.T, name string, rules ...object) string {
	t.Helper()
	var out struct {
		Group group `json:"security_group"`
	}
	r.do(t, http.MethodPost, "security-groups", object{"security_group": object{"name": name}}, &out)
	t.Cleanup(func() { _ = r.admin.remove(context.Background(), out.Group.path()) })
	for _, ru := range out.Group.Rules {
		r.do(t, http.MethodDelete, "security-group-rules/"+ru.ID, nil, nil)
	}
	for _, ru := range rules {
		in := object{"security_group_id": out.Group.ID, "ethertype": ipv4}
		for k, v := range ru {
			in[k] = v
		}
		// The real one answers fields that were not given as null, too.
		for _, k := range []string{"protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id"} {
			if _, ok := in[k]; !ok {
				in[k] = nil
			}
		}
		r.do(t, http.MethodPost, "security-group-rules", object{"security_group_rule": in}, nil)
	}
	return out.Group.ID
}

func (r *region) set(t *testing.T, id string, fields object) {
	t.Helper()
	r.do(t, http.MethodPut, "ports/"+id, object{"port": fields}, nil)
}

// raw is the port with every property that Neutron answers.
func (r *region) raw(t *testing.T, id string) object {
	t.Helper()
	var out struct{ Port object }
	r.do(t, http.MethodGet, "ports/"+id, nil, &out)
	for _, k := range []string{"security_groups", "tags"} {
		if l, ok := out.Port[k].([]any); ok {
			slices.SortFunc(l, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
	}
	return out.Port
}

// spy sees every request of an adapter that is logged in.
type spy struct {
	next http.RoundTripper
	mu   sync.Mutex
	f    func(r *http.Request, next http.RoundTripper) (*http.Response, error)
}

func (s *spy) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	f := s.f
	s.mu.Unlock()
	if f == nil {
		return s.next.RoundTrip(r)
	}
	return f(r, s.next)
}

func (s *spy) on(f func(r *http.Request, next http.RoundTripper) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f = f
}

// spied is an adapter that is logged in already, with a spy on its line.
func (r *region) spied(t *testing.T) (*Adapter, *spy) {
	t.Helper()
	a := r.adapter(t)
	if _, err := a.Marked(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := &a.link.Current().p.HTTPClient
	s := &spy{next: h.Transport}
	h.Transport = s
	return a, s
}

func nic1() flow.NIC {
	return flow.NIC{VDS: server1, Hypervisor: "os1", MAC: strings.ToUpper(mac1), IP: netip.MustParseAddr("22.1.0.10")}
}

func block(rules ...flow.PortRule) flow.Measure {
	return flow.Measure{Kind: flow.MeasureBlockPort, Ports: rules}
}

func mustCut(t *testing.T, a *Adapter, nic flow.NIC, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := a.Cut(t.Context(), nic, m)
	if err != nil {
		t.Fatalf("Cut: %v", err)
	}
	return r
}

func mustBlock(t *testing.T, a *Adapter, nic flow.NIC, me flow.Measure, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := a.Restrict(t.Context(), nic, me, m)
	if err != nil {
		t.Fatalf("Restrict: %v", err)
	}
	return r
}

func mustStatus(t *testing.T, a *Adapter, nic flow.NIC) flow.NICStatus {
	t.Helper()
	st, err := a.Status(t.Context(), nic)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return st
}

func wantClass(t *testing.T, what string, err error, want flow.ErrClass) {
	t.Helper()
	if got := suspendertest.Class(err); got != want {
		t.Errorf("%s: class %q (%v), want %q", what, got, err, want)
	}
}

func TestDouble(t *testing.T) { suite(t, newRegion) }

// suite is what holds on the double and on the real Neutron alike.
func suite(t *testing.T, fresh func(*testing.T) *region) {
	for name, f := range map[string]func(*testing.T, *region){
		"nothing else changes by a cut":             nothingElseByCut,
		"a port that was down stays so":             wasDown,
		"written to meanwhile":                      writtenMeanwhile,
		"taken down meanwhile":                      takenDownMeanwhile,
		"answers lost after acting":                 lostAnswers,
		"the port deleted":                          deleted,
		"another MAC":                               anotherMAC,
		"the token ends":                            tokenEnds,
		"finding":                                   finding,
		"marked":                                    marked,
		"a block and its lifting":                   blocked,
		"a block with rules of all kinds":           blockedAllKinds,
		"a block is replaced by a wider one":        blockWidened,
		"a block beside groups added since":         blockAndUser,
		"a block follows its groups":                blockFollows,
		"a block without port security":             noPortSecurity,
		"a block for another incident":              blockForeign,
		"a block written to meanwhile":              blockMeanwhile,
		"a block and its answers lost":              blockLost,
		"a former group deleted since":              formerGone,
		"a block and a cut beside each other":       blockAndCut,
		"what would be called":                      described,
		"an interrupted mark is no mark":            halfMark,
		"a group of ours by name alone is not ours": jokers,
	} {
		t.Run(name, func(t *testing.T) { f(t, fresh(t)) })
	}
	t.Run("conformance", func(t *testing.T) {
		suspendertest.Run(t, func(t *testing.T) suspendertest.Fixture {
			r := fresh(t)
			r.port(t, nil)
			return suspendertest.Fixture{S: r.adapter(t), NIC: nic1(), Missing: flow.NIC{VDS: server2, Hypervisor: "os1", MAC: mac2}}
		})
	})
}

func nothingElseByCut(t *testing.T, r *region) {
	id := r.port(t, object{"name": "vds-1", "description": "the user's", "fixed_ips": r.ip("22.1.0.10"),
		"allowed_address_pairs": []object{{"ip_address": "22.1.0.77", "mac_address": mac1}}})
	for _, tag := range []string{"customer-42", "flowcordon.note"} {
		r.do(t, http.MethodPut, "ports/"+id+"/tags/"+tag, nil, nil)
	}
	before := r.raw(t, id)
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	rec := mustCut(t, a, nic1(), m)
	if want := `{"port":"` + id + `","admin_state_up":true}`; string(rec.Undo) != want {
		t.Errorf("Receipt.Undo = %s, want %s", rec.Undo, want)
	}
	cut := r.raw(t, id)
	if cut["admin_state_up"] != false {
		t.Error("the port is up")
	}
	same := func(ignore ...string) cmp.Option {
		return cmpopts.IgnoreMapEntries(func(k string, _ any) bool {
			return slices.Contains(append(ignore, "revision_number", "updated_at"), k)
		})
	}
	if diff := cmp.Diff(before, cut, same("admin_state_up", "status", "tags")); diff != "" {
		t.Errorf("the cut changed more than the admin state and tags (-before +cut):\n%s", diff)
	}
	if err := a.Restore(t.Context(), nic1(), m, rec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, r.raw(t, id), same()); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

func wasDown(t *testing.T, r *region) {
	id := r.port(t, object{"admin_state_up": false})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	rec := mustCut(t, a, nic1(), m)
	if rec.Before.Config != flow.LinkDown {
		t.Errorf("Receipt.Before = %+v, want it down", rec.Before)
	}
	r.set(t, id, object{"admin_state_up": true}) // an admin sets it up in between
	if st := mustStatus(t, a, nic1()); st.Cut() || st.Mark == nil {
		t.Errorf("set up behind our back: %+v, want that to show", st)
	}
	if err := a.Restore(t.Context(), nic1(), m, rec); err != nil {
		t.Fatal(err)
	}
	if st := mustStatus(t, a, nic1()); st.Config != flow.LinkDown || st.Mark != nil {
		t.Errorf("restored: %+v, want it down as before", st)
	}
}

// before lets do run right before the adapter's first request of that kind.
func (s *spy) before(method, part string, do func()) {
	s.on(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == method && strings.Contains(r.URL.Path, part) && !strings.Contains(r.URL.Path, "/tags/") && r.Header.Get("If-Match") != "" {
			s.on(nil)
			do()
		}
		return next.RoundTrip(r)
	})
}

func writtenMeanwhile(t *testing.T, r *region) {
	id := r.port(t, nil)
	a, s := r.spied(t)
	m := suspendertest.Mark("inc-1")
	s.before(http.MethodPut, "/ports/", func() { r.set(t, id, object{"name": "the panel was here"}) })
	_, err := a.Cut(t.Context(), nic1(), m)
	wantClass(t, "Cut", err, flow.ErrConflict)
	if st := mustStatus(t, a, nic1()); st.Cut() {
		t.Errorf("after the conflict: %+v, want it up", st)
	}
	rec := mustCut(t, a, nic1(), m)
	if rec.Before.Config != flow.LinkUp {
		t.Errorf("Before of the repeat: %+v, want it up", rec.Before)
	}
	s.before(http.MethodPut, "/ports/", func() { r.set(t, id, object{"description": "and here"}) })
	wantClass(t, "Restore", a.Restore(t.Context(), nic1(), m, rec), flow.ErrConflict)
	if err := a.Restore(t.Context(), nic1(), m, rec); err != nil {
		t.Fatal(err)
	}
	if p := r.raw(t, id); p["name"] != "the panel was here" || p["description"] != "and here" {
		t.Errorf("the panel's work is lost: %v, %v", p["name"], p["description"])
	}
}

// An admin takes the port down between our look and our mark: then it was not
// up before the cut, and what is believed of it is not written down.
func takenDownMeanwhile(t *testing.T, r *region) {
	id := r.port(t, nil)
	a, s := r.spied(t)
	s.on(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if strings.Contains(req.URL.Path, "/tags/") {
			s.on(nil)
			r.set(t, id, object{"admin_state_up": false})
		}
		return next.RoundTrip(req)
	})
	m := suspendertest.Mark("inc-1")
	_, err := a.Cut(t.Context(), nic1(), m)
	wantClass(t, "Cut", err, flow.ErrConflict)
	if st := mustStatus(t, a, nic1()); st.Mark != nil {
		t.Errorf("mark %+v, although the former state in it is wrong", st.Mark)
	}
	rec := mustCut(t, a, nic1(), m)
	if err := a.Restore(t.Context(), nic1(), m, rec); err != nil {
		t.Fatal(err)
	}
	if st := mustStatus(t, a, nic1()); st.Config != flow.LinkDown {
		t.Errorf("restored: %+v, want it down as the admin had it", st)
	}
}

var errLost = errors.New("connection reset by the test")

// loseNth lets the n-th write happen and loses its answer; it reports whether
// there was one.
func (s *spy) loseNth(n int) func() bool {
	lost := false
	s.on(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodGet {
			return next.RoundTrip(r)
		}
		n--
		resp, err := next.RoundTrip(r)
		if n == 0 && err == nil {
			lost = true
			_ = resp.Body.Close()
			return nil, errLost
		}
		return resp, err
	})
	return func() bool { s.on(nil); return lost }
}

// Whatever answer is lost, a repeat ends the work, and the restore gives back
// what was there at the very beginning.
func lostAnswers(t *testing.T, r *region) {
	id := r.port(t, nil)
	before := r.raw(t, id)
	a, s := r.spied(t)
	for n := 1; ; n++ {
		m := suspendertest.Mark("inc-1")
		lost := s.loseNth(n)
		_, err := a.Cut(t.Context(), nic1(), m)
		if !lost() {
			if n < 3 {
				t.Fatalf("a cut makes %d writes, want mark and port", n-1)
			}
			break
		}
		wantClass(t, "Cut with an answer lost", err, flow.ErrTransient)
		rec := mustCut(t, a, nic1(), m)
		if rec.Before.Config != flow.LinkUp {
			t.Errorf("write %d lost: Before = %+v, want it up", n, rec.Before)
		}
		lost = s.loseNth(n)
		err = a.Restore(t.Context(), nic1(), m, rec)
		if lost() {
			wantClass(t, "Restore with an answer lost", err, flow.ErrTransient)
		}
		if err := a.Restore(t.Context(), nic1(), m, rec); err != nil {
			t.Fatalf("write %d lost: %v", n, err)
		}
		after := r.raw(t, id)
		if after["admin_state_up"] != true || !cmp.Equal(before["tags"], after["tags"], cmpopts.EquateEmpty()) {
			t.Errorf("write %d lost: up %v, tags %v after the restore", n, after["admin_state_up"], after["tags"])
		}
	}
}

func deleted(t *testing.T, r *region) {
	id := r.port(t, nil)
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	rec := mustCut(t, a, nic1(), m)
	r.do(t, http.MethodDelete, "ports/"+id, nil, nil)
	_, err := a.Status(t.Context(), nic1())
	wantClass(t, "Status", err, flow.ErrNotFound)
	wantClass(t, "Restore", a.Restore(t.Context(), nic1(), m, rec), flow.ErrNotFound)
	wantClass(t, "Lift", a.Lift(t.Context(), nic1(), flow.MeasureBlockPort, m, rec), flow.ErrNotFound)
}

func anotherMAC(t *testing.T, r *region) {
	id := r.port(t, nil)
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	mustCut(t, a, nic1(), m)
	r.do(t, http.MethodDelete, "ports/"+id, nil, nil)
	r.port(t, object{"mac_address": mac2})
	_, err := a.Status(t.Context(), nic1())
	wantClass(t, "Status of the old MAC", err, flow.ErrNotFound)
	fresh := nic1()
	fresh.MAC = mac2
	if st := mustStatus(t, a, fresh); st.Cut() || st.Mark != nil {
		t.Errorf("the new port: %+v, want it up and unmarked", st)
	}
}

// endToken makes Neutron refuse the adapter's token. Not by revoking it, which
// a real Neutron hears of only when its cache of tokens expires.
func (r *region) endToken(a *Adapter) { a.link.Current().p.SetToken("expired") }

func tokenEnds(t *testing.T, r *region) {
	r.port(t, nil)
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	mustStatus(t, a, nic1())
	first := a.link.Current()
	r.endToken(a)
	rec := mustCut(t, a, nic1(), m)
	if a.link.Current() == first {
		t.Error("the old token is still in use")
	}
	r.endToken(a)
	if err := a.Restore(t.Context(), nic1(), m, rec); err != nil {
		t.Error(err)
	}
}

func finding(t *testing.T, r *region) {
	first := r.port(t, object{"fixed_ips": r.ip("22.1.0.10")})
	second := r.port(t, object{"mac_address": mac2, "fixed_ips": r.ip("22.1.0.11")}) // of the same server
	other := r.port(t, object{"mac_address": "fa:16:3e:aa:10:03", "device_id": server2})
	dhcp := r.port(t, object{"mac_address": "fa:16:3e:aa:10:04", "device_id": "dhcp1", "device_owner": "network:dhcp", "fixed_ips": r.ip("22.1.0.2")})
	for name, c := range map[string]struct {
		vds, mac, ip string
		want         string
		class        flow.ErrClass
	}{
		"server and MAC":                {server1, mac2, "22.1.0.10", second, ""},
		"server without dashes and MAC": {strings.ReplaceAll(server1, "-", ""), mac1, "", first, ""},
		"a panel's id and MAC":          {"vds-42", mac1, "", first, ""},
		"MAC alone":                     {"", mac1, "", first, ""},
		"server and address":            {server1, "", "22.1.0.11", second, ""},
		"address alone":                 {"", "", "22.1.0.10", first, ""},
		"a server's only port":          {server2, "", "33.0.0.1", other, ""},
		"the MAC of another server":     {server2, mac1, "22.1.0.10", "", flow.ErrConflict},
		"no such MAC":                   {server1, "fa:16:3e:00:00:99", "", "", flow.ErrNotFound},
		"no MAC at all":                 {server1, "x", "", "", flow.ErrNotFound},
		"no such address":               {"vds-42", "", "22.1.0.99", "", flow.ErrNotFound},
		"two ports and no address":      {server1, "", "22.1.0.99", "", flow.ErrNotFound},
		"a port of OpenStack's own":     {"", "fa:16:3e:aa:10:04", "", dhcp, flow.ErrDenied},
	} {
		nic := flow.NIC{VDS: c.vds, MAC: c.mac}
		if c.ip != "" {
			nic.IP = netip.MustParseAddr(c.ip)
		}
		p, err := r.admin.find(t.Context(), nic)
		if got := suspendertest.Class(err); got != c.class || p.ID != c.want {
			t.Errorf("%s: port %q, class %q (%v), want %q, %q", name, p.ID, got, err, c.want, c.class)
		}
	}
}

func marked(t *testing.T, r *region) {
	r.port(t, nil)
	r.port(t, object{"mac_address": mac2, "device_id": server2})
	a, m := r.adapter(t), suspendertest.Mark("inc-1")
	list := func() []flow.MarkedNIC {
		t.Helper()
		got, err := r.adapter(t).Marked(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, func(a, b flow.MarkedNIC) int { return strings.Compare(a.NIC.MAC, b.NIC.MAC) })
		return got
	}
	if got := list(); len(got) != 0 {
		t.Fatalf("Marked() = %v, want none", got)
	}
	nic2 := flow.NIC{VDS: server2, Hypervisor: "os1", MAC: mac2, IP: netip.MustParseAddr("22.1.0.11")}
	cut, blk := mustCut(t, a, nic1(), m), mustBlock(t, a, nic2, block(flow.PortRule{Proto: tcp, Port: 22}), suspendertest.Mark("inc-2"))
	want := []flow.MarkedNIC{{NIC: cut.NIC, Status: cut.After}, {NIC: blk.NIC, Status: blk.After}}
	if diff := cmp.Diff(want, list(), cmpopts.EquateComparable(flow.NIC{})); diff != "" {
		t.Errorf("Marked() (-want +got):\n%s", diff)
	}
	if err := a.Restore(t.Context(), nic1(), m, cut); err != nil {
		t.Fatal(err)
	}
	if err := a.Lift(t.Context(), nic2, flow.MeasureBlockPort, suspendertest.Mark("inc-2"), blk); err != nil {
		t.Fatal(err)
	}
	if got := list(); len(got) != 0 {
		t.Errorf("Marked() = %v after both were given back, want none", got)
	}
}

func described(t *testing.T, r *region) {
	id := r.port(t, nil)
	a := r.adapter(t)
	before := r.raw(t, id)
	for _, me := range []flow.Measure{{Kind: flow.MeasureCut}, block(flow.PortRule{Proto: tcp, Port: 22})} {
		got, err := a.Describe(t.Context(), nic1(), me)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"PUT /v2.0/ports/" + id, "revision_number="} {
			if !strings.Contains(got, want) {
				t.Errorf("Describe %s = %q, lacks %q", me.Kind, got, want)
			}
		}
		if strings.Contains(got, r.cfg.Password) {
			t.Errorf("Describe shows the password: %q", got)
		}
	}
	_, err := a.Describe(t.Context(), nic1(), flow.Measure{Kind: flow.MeasureLimit})
	wantClass(t, "Describe of a limit", err, flow.ErrUnsupported)
	if diff := cmp.Diff(before, r.raw(t, id)); diff != "" {
		t.Errorf("Describe changed the port:\n%s", diff)
	}
}

// A mark of which a tag is missing proves nothing; the next cut writes it anew.
func halfMark(t *testing.T, r *region) {
	id := r.port(t, nil)
	m := suspendertest.Mark("inc-old")
	tags, err := (mark{Mark: m, Up: true}).tags()
	if err != nil || len(tags) < 3 {
		t.Fatalf("tags() = %v, %v, want two parts and the name", tags, err)
	}
	r.do(t, http.MethodPut, "ports/"+id+"/tags/"+tags[0], nil, nil)
	a := r.adapter(t)
	if st := mustStatus(t, a, nic1()); st.Mark != nil {
		t.Errorf("mark %+v out of a part", st.Mark)
	}
	rec := mustCut(t, a, nic1(), suspendertest.Mark("inc-1"))
	if rec.After.Mark == nil || rec.After.Mark.Incident != "inc-1" {
		t.Errorf("mark after the cut: %+v", rec.After.Mark)
	}
	if err := a.Restore(t.Context(), nic1(), suspendertest.Mark("inc-1"), rec); err != nil {
		t.Fatal(err)
	}
	var left []string
	raw, _ := json.Marshal(r.raw(t, id)["tags"])
	_ = json.Unmarshal(raw, &left)
	if len(left) != 0 {
		t.Errorf("tags %v are left behind", left)
	}
}
