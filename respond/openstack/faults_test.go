package openstack

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
)

func TestStatuses(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		kind   string
		want   flow.ErrClass
	}{
		"bad request":          {400, "HTTPBadRequest", flow.ErrDenied},
		"forbidden":            {403, "PolicyNotAuthorized", flow.ErrDenied},
		"gone meanwhile":       {404, "PortNotFound", flow.ErrNotFound},
		"a group gone":         {404, "SecurityGroupNotFound", flow.ErrConflict},
		"no Neutron there":     {404, "", flow.ErrTransient},
		"no such method":       {405, "", flow.ErrUnsupported},
		"conflict":             {409, "StateInvalid", flow.ErrConflict},
		"over quota":           {409, "OverQuota", flow.ErrDenied},
		"revision":             {412, "RevisionNumberConstraintFailed", flow.ErrConflict},
		"locked":               {423, "", flow.ErrLocked},
		"too many":             {429, "", flow.ErrTransient},
		"broken":               {500, "HTTPInternalServerError", flow.ErrTransient},
		"a deadlock inside":    {409, "DBDeadlock", flow.ErrTransient},
		"not implemented":      {501, "", flow.ErrUnsupported},
		"proxy without server": {503, "", flow.ErrTransient},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegion(t)
			id := r.port(t, nil)
			a := r.adapter(t)
			before := mustStatus(t, a, nic1())
			r.double.on(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodPut || req.URL.Path != "/net/v2.0/ports/"+id {
					return false
				}
				if c.kind == "" {
					http.Error(w, "<html>no JSON here", c.status)
				} else {
					refuse(w, c.status, c.kind, "said so by the test")
				}
				return true
			})
			_, err := a.Cut(t.Context(), nic1(), suspendertest.Mark("inc-1"))
			wantClass(t, "Cut", err, c.want)
			if err != nil && c.kind != "" && !strings.Contains(err.Error(), c.kind) {
				t.Errorf("error %q does not name %s", err, c.kind)
			}
			r.double.on(nil)
			if st := mustStatus(t, a, nic1()); st.Live != before.Live || st.Config != before.Config {
				t.Errorf("after the refusal: %+v, want %+v", st, before)
			}
		})
	}
}

func TestHang(t *testing.T) {
	for name, part := range map[string]string{"Keystone": "/v3/auth/tokens", "looking for the port": "/v2.0/ports", "marking": "/tags/"} {
		t.Run(name, func(t *testing.T) {
			r := newRegion(t)
			r.port(t, nil)
			freed := make(chan struct{}, 10)
			var hung atomic.Bool
			r.double.on(func(_ http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, part) {
					return false
				}
				hung.Store(true)
				// Only what is read to its end is told that the client went.
				_ = json.NewDecoder(req.Body).Decode(new(any))
				<-req.Context().Done()
				freed <- struct{}{}
				return true
			})
			// A machine so slow that the call is not reached in time gets more of it.
			for timeout := time.Second; !hung.Load() && timeout < 5*time.Minute; timeout *= 4 {
				cfg := r.cfg
				cfg.Timeout = timeout
				_, err := New(cfg, Deps{}).Cut(t.Context(), nic1(), suspendertest.Mark("inc-1"))
				wantClass(t, "Cut", err, flow.ErrTransient)
				if err == nil || !strings.Contains(err.Error(), errDeadline.Error()) {
					t.Errorf("error %v does not name the deadline", err)
				}
			}
			select {
			case <-freed:
			case <-time.After(time.Minute):
				t.Error("the connection to the hung server is still open")
			}
			r.double.on(nil)
			mustCut(t, r.adapter(t), nic1(), suspendertest.Mark("inc-1"))
		})
	}
}

func TestLogin(t *testing.T) {
	r := newRegion(t)
	r.port(t, nil)
	for name, c := range map[string]struct {
		change func(*Config)
		want   flow.ErrClass
		text   string
	}{
		"password":                {func(*Config) {}, "", ""},
		"with /v3":                {func(c *Config) { c.AuthURL += "/v3" }, "", ""},
		"with /v3/":               {func(c *Config) { c.AuthURL += "/v3/" }, "", ""},
		"the internal address":    {func(c *Config) { c.Interface = "internal" }, "", ""},
		"application credential":  {func(c *Config) { c.appCredential("app", "secret") }, "", ""},
		"wrong secret":            {func(c *Config) { c.appCredential("app", "s3cr3t-but-wrong") }, flow.ErrDenied, "401"},
		"wrong password":          {func(c *Config) { c.Password = "s3cr3t-but-wrong" }, flow.ErrDenied, "401"},
		"two regions, none named": {func(c *Config) { c.Region = "" }, flow.ErrUnsupported, "RegionOne, RegionTwo"},
		"no such region":          {func(c *Config) { c.Region = "Mars" }, flow.ErrUnsupported, "RegionOne, RegionTwo"},
		"no such interface there": {func(c *Config) { c.Interface = "admin" }, flow.ErrUnsupported, "admin"},
		"no Keystone":             {func(c *Config) { c.AuthURL += "/nothing/v3" }, flow.ErrUnsupported, "404"},
		"v2.0":                    {func(c *Config) { c.AuthURL += "/v2.0" }, flow.ErrUnsupported, "/v3"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := r.cfg
			c.change(&cfg)
			a := New(cfg, Deps{})
			defer a.Close()
			_, err := a.Status(t.Context(), nic1())
			wantClass(t, "Status", err, c.want)
			if err != nil && (!strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "s3cr3t")) {
				t.Errorf("error %q, want %q in it and no secret", err, c.text)
			}
		})
	}
}

func (c *Config) appCredential(id, secret string) {
	c.Username, c.Password, c.Project = "", "", ""
	c.AppCredential, c.AppSecret = id, secret
}

func TestValidate(t *testing.T) {
	err := Config{Timeout: -time.Second, Interface: "inner", CAFile: "/nowhere"}.Validate()
	for _, want := range []string{"name:", "auth_url:", "username:", "password_file:", "project:", "interface:", "timeout:", "ca_file:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, lacks %q", err, want)
		}
	}
	both := Config{Name: "os1", AuthURL: "https://k", Username: "u", AppCredential: "a", AppSecret: "s"}
	if err := both.Validate(); err == nil || !strings.Contains(err.Error(), "app_credential:") {
		t.Errorf("user and application credential: %v", err)
	}
	ok := Config{Name: "os1", AuthURL: "https://k:5000", AppCredential: "a", AppSecret: "s"}
	if err := ok.Validate(); err != nil {
		t.Errorf("Validate() = %v", err)
	}
}

func TestTrust(t *testing.T) {
	d := newDouble(t)
	front := httptest.NewUnstartedServer(d.srv.Config.Handler)
	front.StartTLS()
	defer front.Close()
	d.srv.URL = front.URL // what the catalogue says
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: "os1", AuthURL: front.URL, Region: "RegionOne", Username: "admin", Password: "secret", Project: "admin"}
	_, err := New(cfg, Deps{}).Marked(t.Context())
	wantClass(t, "without the CA", err, flow.ErrDenied)
	if d.logins != 0 {
		t.Error("the password was sent to a server that nobody vouches for")
	}
	cfg.CAFile = ca
	a := New(cfg, Deps{})
	defer a.Close()
	if _, err := a.Marked(t.Context()); err != nil {
		t.Errorf("with the CA: %v", err)
	}
	front.TLS.MaxVersion = tls.VersionTLS11
	a.Close()
	_, err = a.Marked(t.Context())
	if got := suspendertest.Class(err); got == "" {
		t.Error("TLS 1.1 was accepted")
	}
}

// A redirect must not carry the token elsewhere.
func TestRedirect(t *testing.T) {
	var mu sync.Mutex
	hit := false
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		hit = true
	}))
	defer thief.Close()
	r := newRegion(t)
	r.port(t, nil)
	a := r.adapter(t)
	mustStatus(t, a, nic1())
	r.double.on(func(w http.ResponseWriter, req *http.Request) bool {
		http.Redirect(w, req, thief.URL, http.StatusTemporaryRedirect)
		return true
	})
	_, err := a.Status(t.Context(), nic1())
	wantClass(t, "Status", err, flow.ErrDenied)
	r.double.on(nil)
	mu.Lock()
	defer mu.Unlock()
	if hit {
		t.Error("the redirect was followed")
	}
}

func TestFloatingAddress(t *testing.T) {
	r := newRegion(t)
	id := r.port(t, nil)
	r.double.floats["11.7.0.5"] = id
	for _, vds := range []string{"", "vds-42", server1} {
		p, err := r.admin.find(t.Context(), flow.NIC{VDS: vds, IP: netip.MustParseAddr("11.7.0.5")})
		if err != nil || p.ID != id {
			t.Errorf("vds %q: port %q, %v, want %q", vds, p.ID, err, id)
		}
	}
	_, err := r.admin.find(t.Context(), flow.NIC{VDS: "vds-42", IP: netip.MustParseAddr("11.7.0.6")})
	wantClass(t, "another floating address", err, flow.ErrNotFound)
	other := r.port(t, object{"mac_address": mac2, "device_id": server2})
	r.double.floats["11.7.0.7"] = other
	r.double.ports[id]["fixed_ips"] = nil
	// A server with two ports, neither of which holds the address, and a
	// floating one of another server: nothing fits.
	r.port(t, object{"mac_address": "fa:16:3e:aa:10:09"})
	_, err = r.admin.find(t.Context(), flow.NIC{VDS: server1, IP: netip.MustParseAddr("11.7.0.7")})
	wantClass(t, "a floating address of another server", err, flow.ErrNotFound)
}

func TestSameMACTwice(t *testing.T) {
	r := newRegion(t)
	first := r.port(t, object{"network_id": "net-1", "fixed_ips": r.ip("22.1.0.10")})
	r.port(t, object{"network_id": "net-2", "device_id": server2, "fixed_ips": r.ip("26.1.0.10")})
	a := r.adapter(t)
	if rec := mustCut(t, a, nic1(), suspendertest.Mark("inc-1")); !strings.Contains(string(rec.Undo), first) {
		t.Errorf("cut %s, want port %s", rec.Undo, first)
	}
	_, err := a.Status(t.Context(), flow.NIC{VDS: "vds-42", MAC: mac1, IP: netip.MustParseAddr("33.0.0.1")})
	wantClass(t, "neither server nor address tells them apart", err, flow.ErrConflict)
	p, err := r.admin.find(t.Context(), flow.NIC{VDS: "vds-42", MAC: mac1, IP: netip.MustParseAddr("22.1.0.10")})
	if err != nil || p.ID != first {
		t.Errorf("told apart by address: %q, %v", p.ID, err)
	}
}

// A Neutron that bounds its answers, and whose links point elsewhere.
func TestPages(t *testing.T) {
	r := newRegion(t)
	r.double.page = 2
	a := r.adapter(t)
	for i := range 5 {
		mac := "fa:16:3e:aa:20:0" + string(rune('0'+i))
		r.port(t, object{"mac_address": mac})
		mustCut(t, a, flow.NIC{VDS: server1, MAC: mac}, suspendertest.Mark("inc-1"))
	}
	got, err := a.Marked(t.Context())
	if err != nil || len(got) != 5 {
		t.Errorf("%d of 5 marked ports, %v", len(got), err)
	}
}

func TestNarrow(t *testing.T) {
	name := func(s string) *string { return &s }
	num := func(n int) *int { return &n }
	for title, c := range map[string]struct {
		rule    rule
		blocked []flow.PortRule
		want    []string
	}{
		"ingress stays":                {rule{Direction: ingress, EtherType: ipv4, Protocol: name("tcp"), Min: num(22), Max: num(22)}, []flow.PortRule{ssh}, []string{"ingress IPv4 tcp 22-22"}},
		"another port stays":           {rule{Direction: egress, EtherType: ipv4, Protocol: name("tcp"), Min: num(80), Max: num(80)}, []flow.PortRule{ssh}, []string{"egress IPv4 tcp 80-80"}},
		"just the port":                {rule{Direction: egress, EtherType: ipv4, Protocol: name("tcp"), Min: num(22), Max: num(22)}, []flow.PortRule{ssh}, nil},
		"at the lower end":             {rule{Direction: egress, EtherType: ipv4, Protocol: name("6"), Min: num(22), Max: num(30)}, []flow.PortRule{ssh}, []string{"egress IPv4 6 23-30"}},
		"at the upper end":             {rule{Direction: egress, EtherType: ipv4, Protocol: name("tcp"), Min: num(20), Max: num(22)}, []flow.PortRule{ssh}, []string{"egress IPv4 tcp 20-21"}},
		"port 1":                       {rule{Direction: egress, EtherType: ipv4, Protocol: name("tcp")}, []flow.PortRule{{Proto: tcp, Port: 1}}, []string{"egress IPv4 tcp 2-65535"}},
		"port 65535":                   {rule{Direction: egress, EtherType: ipv4, Protocol: name("tcp")}, []flow.PortRule{{Proto: tcp, Port: 65535}}, []string{"egress IPv4 tcp 1-65534"}},
		"out of order and twice":       {rule{Direction: egress, EtherType: ipv4, Protocol: name("udp")}, []flow.PortRule{{Proto: udp, Port: 53}, {Proto: udp, Port: 19}, {Proto: udp, Port: 53}}, []string{"egress IPv4 udp 1-18", "egress IPv4 udp 20-52", "egress IPv4 udp 54-65535"}},
		"the same port of another one": {rule{Direction: egress, EtherType: ipv4, Protocol: name("udp")}, []flow.PortRule{ssh}, []string{"egress IPv4 udp"}},
		"all of a protocol":            {rule{Direction: egress, EtherType: ipv4, Protocol: name("tcp")}, []flow.PortRule{{Proto: tcp}}, nil},
		"one without ports":            {rule{Direction: egress, EtherType: ipv4, Protocol: name("gre")}, []flow.PortRule{{Proto: 47}}, nil},
		"icmp by type stays":           {rule{Direction: egress, EtherType: ipv4, Protocol: name("icmp"), Min: num(8), Max: num(0)}, []flow.PortRule{ssh}, []string{"egress IPv4 icmp 8-0"}},
		"IPv6, any": {rule{Direction: egress, EtherType: ipv6}, []flow.PortRule{ssh}, []string{
			"egress IPv6 112", "egress IPv6 136", "egress IPv6 4", "egress IPv6 41", "egress IPv6 47", "egress IPv6 50", "egress IPv6 51",
			"egress IPv6 89", "egress IPv6 ipv6-icmp", "egress IPv6 sctp", "egress IPv6 tcp 1-21", "egress IPv6 tcp 23-65535", "egress IPv6 udp",
		}},
	} {
		t.Run(title, func(t *testing.T) {
			got, err := narrow([]rule{c.rule, c.rule}, c.blocked)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, r := range got {
				lines = append(lines, r.text())
			}
			slices.Sort(lines)
			if diff := cmp.Diff(c.want, lines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	_, err := narrow([]rule{{Direction: egress, EtherType: ipv4, Protocol: name("quux")}}, []flow.PortRule{ssh})
	wantClass(t, "an unknown protocol", err, flow.ErrUnsupported)
}

// Whatever rules a tenant has, no port that is blocked may be left in a range,
// and none that was not may be lost.
func FuzzNarrow(f *testing.F) {
	f.Add(uint16(1), uint16(65535), uint16(22), uint16(25))
	f.Add(uint16(20), uint16(30), uint16(20), uint16(30))
	f.Fuzz(func(t *testing.T, low, high, one, two uint16) {
		if low == 0 || low > high || one == 0 || two == 0 {
			return
		}
		p, from, to := "tcp", int(low), int(high)
		got, err := narrow([]rule{{Direction: egress, EtherType: ipv4, Protocol: &p, Min: &from, Max: &to}},
			[]flow.PortRule{{Proto: tcp, Port: one}, {Proto: tcp, Port: two}})
		if err != nil {
			t.Fatal(err)
		}
		open := map[int]bool{}
		for _, r := range got {
			for port := *r.Min; port <= *r.Max; port++ {
				open[port] = true
			}
		}
		for port := 0; port <= 65535; port++ {
			if want := port >= from && port <= to && port != int(one) && port != int(two); open[port] != want {
				t.Fatalf("%d-%d less %d and %d: port %d open is %v", low, high, one, two, port, open[port])
			}
		}
	})
}

func FuzzMark(f *testing.F) {
	tags, _ := (mark{Mark: suspendertest.Mark("inc-1"), Up: true}).tags()
	f.Add(strings.Join(tags, ","))
	f.Add("flowcordon.1of1.e30,flowcordon")
	f.Fuzz(func(t *testing.T, s string) {
		m := markOf(strings.Split(s, ","))
		if m == nil {
			return
		}
		m.Reason = shorten(m.Reason)
		tags, err := m.tags()
		if err != nil {
			return
		}
		if again := markOf(tags); again == nil || again.Incident != m.Incident || again.Reason != m.Reason || again.Up != m.Up {
			t.Errorf("%+v became %+v", m, again)
		}
	})
}
