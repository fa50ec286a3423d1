package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
)

// Books that know their versions, as those of the service do.
type (
	versionedExempt struct{ exemptBook }
	versionedCases  struct{ sampleBook }
)

func (b versionedExempt) Version(ts time.Time) uint64 { return b.Book.Version(ts) }
func (b versionedCases) Version() uint64              { return b.Book.Version() }

// policied are rules that tell the version of a policy; text is the policy.
type policied struct {
	verdicts
	version atomic.Uint64
	made    int
}

func (p *policied) PolicyVersion(ip netip.Addr, _ time.Time) uint64 {
	return p.version.Load() + uint64(ip.As4()[3])<<32
}

func (p *policied) Explain(ip netip.Addr, _ time.Time) any {
	p.made++
	return map[string]any{"address": ip, "of": p.version.Load()}
}

// poller asks as a dashboard does: with the tag of what it has.
type poller struct {
	t         *testing.T
	b         *bench
	path, tag string
	body      string
	made      func() int
}

// ask expects the answer to be made so many times, and another than before or not.
func (p *poller) ask(name string, made int, other bool) {
	p.t.Helper()
	before := p.made()
	a := p.b.do(p.t, RoleAbuse, "GET", p.path, "", "If-None-Match", p.tag)
	switch {
	case a.code != http.StatusOK && a.code != http.StatusNotModified:
		p.t.Fatalf("%s: %s: %d: %s", name, p.path, a.code, a.body)
	case (a.code == http.StatusOK) != other:
		p.t.Errorf("%s: %s: %d, another answer expected: %v", name, p.path, a.code, other)
	case other && a.body == p.body:
		p.t.Errorf("%s: %s: the same answer is called another", name, p.path)
	}
	if n := p.made() - before; n != made {
		p.t.Errorf("%s: %s: made %d times, want %d", name, p.path, n, made)
	}
	if a.code == http.StatusOK {
		p.body = a.body
	}
	p.tag = a.head.Get("ETag")
}

// TestUnmadeTenants: a customer and the list of all are not made while nothing of
// what they are made of has changed, and are after each change of each part.
func TestUnmadeTenants(t *testing.T) {
	clock := t0
	path := filepath.Join(t.TempDir(), "inventory.yaml")
	file := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The second server is the customer's from an hour from now on.
	const held = "- {ip: 198.18.0.7, tenant: c-42, vds: vds-1001}\n- {ip: 198.18.0.9, tenant: c-42, vds: vds-1009, from: 2026-11-22T08:00:00Z}\n"
	file(held)
	inv := inventory.New(inventory.Config{Path: path}, inventory.Deps{Now: func() time.Time { return clock }})
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	var c *counted
	var made int
	offences, standing := 1, uint64(1)
	b := newBench(t, func(_ *Config, d *Deps) {
		c = &counted{desk: d.Incidents.(*desk), version: 7}
		d.Incidents, d.Exemptions, d.Cases = c, versionedExempt{d.Exemptions.(exemptBook)}, versionedCases{d.Cases.(sampleBook)}
		d.Inventory, d.Holders = inv, func(yield func(flow.Holder) bool) {
			made++
			inv.Each(yield)
		}
		d.Standing = func(netip.Addr, flow.Holder) Standing { return Standing{Offences: offences} }
		d.StandingVersion = func(time.Time) uint64 { return standing }
	})
	b.clock = func() time.Time { return clock }
	count := func() int { return made }
	one := &poller{t: t, b: b, path: Prefix + "/tenants/c-42", made: count}
	all := &poller{t: t, b: b, path: Prefix + "/tenants?q=c-", made: count}
	both := func(name string, made int, oneOther, allOther bool) {
		t.Helper()
		one.ask(name, made, oneOther)
		all.ask(name, made, allOther)
	}
	onlyOne := func(name string) { // of what the list does not show
		t.Helper()
		one.ask(name, 1, true)
		all.ask(name, 0, false)
	}
	both("the first", 1, true, true)
	both("unchanged", 0, false, false)

	if a := b.do(t, RoleAbuse, "POST", Prefix+"/incidents/inc-1/release", `{"statement":"x"}`); a.code >= 300 {
		t.Fatal(a.code, a.body)
	}
	c.changed()
	both("an incident", 1, true, false) // the list counts it as before
	both("unchanged since", 0, false, false)

	file(strings.Replace(held, "vds-1001", "vds-1002", 1))
	if err := inv.Reload(); err != nil {
		t.Fatal(err)
	}
	both("the inventory", 1, true, true)
	both("unchanged since", 0, false, false)

	clock = clock.Add(time.Second) // what is new of the file began at the moment of its load
	both("just after the load", 1, false, false)
	clock = t0.Add(time.Hour - 1)
	both("just before the second server is his", 0, false, false)
	clock = clock.Add(1)
	both("as it becomes his", 1, true, true)
	clock = clock.Add(1)
	both("just after", 1, false, false) // made, and found to be the same
	both("unchanged since", 0, false, false)

	if a := b.do(t, RoleOperator, "POST", Prefix+"/exemptions", fmt.Sprintf(`{"customer":"c-42","rule":"netscan","owner":"noc","reason":"x","expires":%q}`, clock.Add(2*time.Hour).Format(time.RFC3339))); a.code >= 300 {
		t.Fatal(a.code, a.body)
	}
	onlyOne("an exemption")
	clock = clock.Add(2*time.Hour + time.Second)
	onlyOne("its end, which nobody brought about")

	if a := b.do(t, RoleAbuse, "POST", Prefix+"/complaints/"+b.caseID+"/status", `{"status":"answered","note":"x"}`); a.code >= 300 {
		t.Fatal(a.code, a.body)
	}
	onlyOne("a complaint")

	offences, standing = 0, 2
	onlyOne("an offence that does not count any more")
	both("unchanged since", 0, false, false)
	clock = clock.Add(24 * time.Hour)
	one.ask("another day", 1, false)

	// A part without a version, as a test's fake: made each time, and the tag still works.
	b.h.deps.StandingVersion = nil
	one.ask("a part that knows no version", 1, false)
	one.ask("again", 1, false)
}

func TestUnmadePolicy(t *testing.T) {
	rules := &policied{}
	b := newBench(t, func(_ *Config, d *Deps) { d.Rules = rules })
	p := &poller{t: t, b: b, path: Prefix + "/hosts/198.18.0.7/policy", made: func() int { return rules.made }}
	p.ask("the first", 1, true)
	p.ask("unchanged", 0, false)
	rules.version.Add(1)
	p.ask("changed", 1, true)
	p.ask("unchanged since", 0, false)
	tag := p.tag
	p.path = Prefix + "/hosts/198.18.0.8/policy"
	p.ask("another address", 1, true)
	if p.tag == tag {
		t.Error("two addresses have one tag")
	}
	if a := b.do(t, RoleViewer, "GET", Prefix+"/hosts/nonsense/policy", "", "If-None-Match", p.tag); a.code != http.StatusUnprocessableEntity {
		t.Errorf("a wrong address: %d: %s", a.code, a.body)
	}
}
