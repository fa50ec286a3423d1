package ledger

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

func exempt(change func(*Exemption)) Exemption {
	e := Exemption{Name: "pentest", Tenant: netip.MustParsePrefix("198.18.0.0/24"), Owner: "anna", Reason: "contract 7"}
	if change != nil {
		change(&e)
	}
	return e
}

func TestExemptionMatches(t *testing.T) {
	f := flow.Finding{Tenant: tenant(7), Rule: flow.RuleUDPFlood, Port: 0, Remote: netip.MustParseAddr("22.0.0.1")}
	h := flow.Holder{Tenant: "c-1"}
	as := func(a netip.Addr) (uint32, bool) { return 64500, a == f.Remote }
	for _, c := range []struct {
		name string
		e    Exemption
		want bool
	}{
		{"tenant", exempt(nil), true},
		{"another tenant", exempt(func(e *Exemption) { e.Tenant = netip.MustParsePrefix("198.18.1.0/24") }), false},
		{"holder", exempt(func(e *Exemption) { e.Tenant, e.Holder = netip.Prefix{}, "c-1" }), true},
		{"another holder", exempt(func(e *Exemption) { e.Holder = "c-2" }), false},
		{"nobody", exempt(func(e *Exemption) { e.Tenant = netip.Prefix{} }), false},
		{"remote", exempt(func(e *Exemption) { e.Remote = netip.MustParsePrefix("22.0.0.0/8") }), true},
		{"another remote", exempt(func(e *Exemption) { e.Remote = netip.MustParsePrefix("23.0.0.0/8") }), false},
		{"AS", exempt(func(e *Exemption) { e.RemoteAS = 64500 }), true},
		{"another AS", exempt(func(e *Exemption) { e.RemoteAS = 64501 }), false},
		{"another port", exempt(func(e *Exemption) { e.Port = 22 }), false},
		{"rule", exempt(func(e *Exemption) { e.Rule = flow.RuleUDPFlood }), true},
		{"another rule", exempt(func(e *Exemption) { e.Rule = flow.RuleNetscan }), false},
		{"just before its end", exempt(func(e *Exemption) { e.Expires = noon.Add(1) }), true},
		{"at its end", exempt(func(e *Exemption) { e.Expires = noon }), false},
	} {
		if got := c.e.Matches(&f, h, noon, as); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	scan := flow.Finding{Tenant: tenant(7), Rule: flow.RuleNetscan}
	byAS, byRemote := exempt(func(e *Exemption) { e.RemoteAS = 64500 }), exempt(func(e *Exemption) { e.Remote = netip.MustParsePrefix("0.0.0.0/0") })
	if byAS.Matches(&scan, h, noon, as) || byRemote.Matches(&scan, h, noon, as) || byAS.Matches(&f, h, noon, nil) {
		t.Error("a finding without a remote, or without a table, is exempt by it")
	}
}

func TestBookErrors(t *testing.T) {
	for _, c := range []struct {
		list []Exemption
		want string
	}{
		{[]Exemption{exempt(func(e *Exemption) { e.Name = "" })}, "name is missing"},
		{[]Exemption{exempt(nil), exempt(nil)}, `exemption "pentest" is there twice`},
		{[]Exemption{exempt(func(e *Exemption) { e.Tenant = netip.Prefix{} })}, "exempt everybody"},
		{[]Exemption{exempt(func(e *Exemption) { e.Remote = netip.MustParsePrefix("22.0.0.1/8") })}, "remote is 22.0.0.1/8: write 22.0.0.0/8"},
		{[]Exemption{exempt(func(e *Exemption) { e.Remote, e.RemoteAS = netip.MustParsePrefix("22.0.0.0/8"), 1 })}, "remote and remote_as"},
		{[]Exemption{exempt(func(e *Exemption) { e.RemoteAS = 1 })}, "needs a table of AS numbers"},
		{[]Exemption{exempt(func(e *Exemption) { e.Owner = "" })}, "owner is missing"},
		{[]Exemption{exempt(func(e *Exemption) { e.Reason = "" })}, "reason is missing"},
	} {
		if _, err := NewBook(c.list, nil, noon); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestBookCountsAndWarns(t *testing.T) {
	day := 24 * time.Hour
	book, err := NewBook([]Exemption{
		exempt(func(e *Exemption) { e.Name, e.Port, e.Expires = "ssh", 22, noon.Add(60*day) }),
		exempt(func(e *Exemption) { e.Name, e.Port, e.Expires = "never used", 23, noon.Add(90*day) }),
		exempt(func(e *Exemption) { e.Name, e.Port = "for ever", 25 }),
		exempt(func(e *Exemption) { e.Name, e.Port, e.Expires = "over", 26, noon.Add(day) }),
	}, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	at := func(port uint16, i byte, ts time.Time) string {
		f := finding(flow.RuleNetscan, i, ts, flow.TierSuspend, 40)
		f.Port = port
		name, _ := book.Cover(&f, flow.Holder{}, ts)
		return name
	}
	for i := range 10 {
		if got := at(22, 1, noon.Add(time.Duration(i)*5*time.Second)); got != "ssh" {
			t.Fatalf("covered by %q", got)
		}
	}
	at(22, 2, noon)
	at(22, 1, noon.Add(50*day))
	at(25, 1, noon.Add(49*day))
	if got := at(80, 1, noon); got != "" {
		t.Errorf("port 80 is covered by %q", got)
	}
	if got := at(26, 1, noon.Add(day)); got != "" {
		t.Errorf("expired, and covers: %q", got)
	}
	got := map[string]Status{}
	list := book.Status(noon.Add(50 * day))
	for _, s := range list {
		got[s.Name] = s
	}
	if h := got["ssh"].Hits; h.Findings != 12 || h.Days != 3 || !h.Last.Equal(noon.Add(50*day)) {
		t.Errorf("%+v", h)
	}
	for name, want := range map[string]string{"ssh": "expires on 2027-01-21 and was needed on 2027-01-11", "never used": "nothing needed it for 50 days", "for ever": "never expires", "over": "expired on 2026-11-23"} {
		if !strings.Contains(got[name].Warning, want) {
			t.Errorf("%s: %q, want %q", name, got[name].Warning, want)
		}
	}
	if s := book.Status(noon.Add(day)); s[len(s)-1].Warning != "" || s[0].Warning == "" {
		t.Errorf("those with a warning are not first: %+v", s)
	}
}
