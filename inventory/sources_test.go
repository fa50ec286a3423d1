package inventory

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory/discover"
)

// list is a source whose answer the test sets.
type list struct {
	mu      sync.Mutex
	entries []discover.Entry
	err     error
	reads   int
}

func (l *list) Discover(context.Context) ([]discover.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	return l.entries, l.err
}

func (l *list) say(es ...discover.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.err = es, nil
}

func (l *list) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// stand is an inventory with two sources and a clock of its own.
type stand struct {
	*testing.T
	dir, file string
	now       time.Time
	a, b      *list
	reg       *prometheus.Registry
	i         *Inventory
}

const (
	ip1 = "11.1.0.7"
	ip2 = "11.1.0.8"
)

func newStand(t *testing.T, file string) *stand {
	s := &stand{T: t, dir: t.TempDir(), now: at("2026-11-22T07:00:00Z"), a: &list{}, b: &list{}}
	if file != "" {
		s.file = filepath.Join(t.TempDir(), "inventory.yaml")
		s.write(file)
	}
	s.start()
	return s
}

func (s *stand) write(file string) {
	s.Helper()
	if err := os.WriteFile(s.file, []byte(file), 0o600); err != nil {
		s.Fatal(err)
	}
}

// start makes the inventory anew, as after a restart.
func (s *stand) start() {
	s.Helper()
	s.reg = prometheus.NewRegistry()
	s.i = New(Config{Path: s.file, Dir: s.dir, Sources: []SourceConfig{
		{Name: "pve", Lister: s.a, Every: 5 * time.Minute, MaxAge: time.Hour},
		{Name: "netbox", Lister: s.b, Every: 5 * time.Minute, MaxAge: time.Hour},
	}}, Deps{Registerer: s.reg, Now: func() time.Time { return s.now }})
	if err := s.i.Recall(); err != nil {
		s.Fatal(err)
	}
	if err := s.i.Reload(); err != nil {
		s.Fatal(err)
	}
}

// read reads both sources after d.
func (s *stand) read(d time.Duration) {
	s.Helper()
	s.now = s.now.Add(d)
	for _, name := range []string{"pve", "netbox"} {
		if err := s.i.ReadSource(s.Context(), name); err != nil && err.Error() != "away" {
			s.Fatal(err)
		}
	}
}

func (s *stand) want(what, ip string, at time.Time, vds string, doubt flow.Doubt) flow.Holder {
	s.Helper()
	h, ok := s.i.Holder(netip.MustParseAddr(ip), at)
	if !ok && vds == "nobody" {
		return h
	}
	if !ok || h.VDS != vds || h.Doubt != doubt {
		s.Errorf("%s: %s is held by %+v (known: %t), want %q with doubt %q", what, ip, h, ok, vds, doubt)
	}
	if doubt == flow.DoubtDisputed || doubt == flow.DoubtForgeable {
		if h.Hypervisor != "" || len(h.NICs) > 0 {
			s.Errorf("%s: a doubtful holder can be acted on: %+v", what, h)
		}
	}
	return h
}

// metrics are the values by name and the labels' values.
func (s *stand) metrics() map[string]float64 {
	s.Helper()
	fs, err := s.reg.Gather()
	if err != nil {
		s.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range fs {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			slices.Sort(labels)
			out[f.GetName()+"{"+strings.Join(labels, " ")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

func on(ip, vds, source string) discover.Entry {
	return discover.Entry{
		Prefixes: []netip.Prefix{netip.MustParsePrefix(ip + "/32")}, VDS: vds, Hypervisor: "pve1", MAC: "52:54:00:00:00:0" + vds[len(vds)-1:],
		Source: source, Tenant: "c-" + vds,
	}
}

func TestSourcesAgree(t *testing.T) {
	s := newStand(t, "")
	s.want("before any reading", ip1, s.now, "nobody", "")
	e := on(ip1, "v1", "pve guest 1")
	e.Tenant = ""
	s.a.say(e)
	s.b.say(discover.Entry{Prefixes: e.Prefixes, VDS: "V1", Tenant: "c-9", Contact: "c@example.net", Language: "ru", Tags: []string{"vip"}, Source: "netbox 5"})
	s.read(0)
	got := s.want("both", ip1, s.now, "v1", "")
	want := flow.Holder{
		Prefix: e.Prefixes[0], VDS: "v1", Tenant: "c-9", Hypervisor: "pve1", NICs: []string{e.MAC}, Contact: "c@example.net", Language: "ru", Tags: []string{"vip"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := s.i.Servers(); n != 1 {
		t.Errorf("%d servers, want 1", n)
	}
}

func TestDisputes(t *testing.T) {
	net := netip.MustParsePrefix("11.1.0.0/29")
	for name, c := range map[string]struct {
		a, b []discover.Entry
		vds  string
		why  string // part of it; empty: no dispute
	}{
		"two servers":                  {a: []discover.Entry{on(ip1, "v1", "pve guest 1")}, b: []discover.Entry{on(ip1, "v2", "netbox 5")}, why: `pve guest 1 says server "v1", netbox 5 says "v2"`},
		"two servers in one source":    {a: []discover.Entry{on(ip1, "v1", "guest 1"), on(ip1, "v2", "guest 2")}, why: "guest 1"},
		"two customers of one server":  {a: []discover.Entry{on(ip1, "v1", "x")}, b: []discover.Entry{{Prefixes: []netip.Prefix{netip.MustParsePrefix(ip1 + "/32")}, VDS: "v1", Tenant: "other", Source: "y"}}, why: "customer"},
		"one server at two places":     {a: []discover.Entry{on(ip1, "v1", "x")}, b: []discover.Entry{edit(on(ip1, "v1", "y"), func(e *discover.Entry) { e.Hypervisor = "pve2" })}, why: "hypervisor"},
		"migrated, a copy stayed":      {a: []discover.Entry{edit(on(ip1, "v1", "x"), func(e *discover.Entry) { e.Standby = true })}, b: []discover.Entry{edit(on(ip1, "v1", "y"), func(e *discover.Entry) { e.Hypervisor = "pve2" })}, vds: "v1"},
		"off everywhere":               {a: []discover.Entry{edit(on(ip1, "v1", "x"), func(e *discover.Entry) { e.Standby = true })}, b: []discover.Entry{edit(on(ip1, "v1", "y"), func(e *discover.Entry) { e.Hypervisor, e.Standby = "pve2", true })}, why: "hypervisor"},
		"one server with two NICs":     {a: []discover.Entry{on(ip1, "v1", "x"), edit(on(ip1, "v1", "y"), func(e *discover.Entry) { e.MAC = "52:54:00:00:00:0f" })}, why: "at NICs"},
		"a wider one of another":       {a: []discover.Entry{on(ip1, "v1", "x")}, b: []discover.Entry{edit(on(ip1, "v2", "y"), func(e *discover.Entry) { e.Prefixes = []netip.Prefix{net} })}, why: "server"},
		"a wider one of the customer":  {a: []discover.Entry{on(ip1, "v1", "x")}, b: []discover.Entry{{Prefixes: []netip.Prefix{net}, Tenant: "c-v1", Source: "y"}}, vds: "v1"},
		"a guest's word against a set": {a: []discover.Entry{on(ip1, "v1", "x")}, b: []discover.Entry{edit(on(ip1, "v2", "agent"), func(e *discover.Entry) { e.Forgeable = true })}, vds: "v1"},
		"not valid any more":           {a: []discover.Entry{on(ip1, "v1", "x")}, b: []discover.Entry{edit(on(ip1, "v2", "y"), func(e *discover.Entry) { e.ValidTo = at("2026-11-01T00:00:00Z") })}, vds: "v1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, "")
			s.a.say(c.a...)
			s.b.say(c.b...)
			s.read(0)
			if c.why == "" {
				s.want(name, ip1, s.now, c.vds, "")
				return
			}
			h, ok := s.i.Holder(netip.MustParseAddr(ip1), s.now)
			if !ok || h.Doubt != flow.DoubtDisputed || !strings.Contains(h.DoubtWhy, c.why) || len(h.NICs) > 0 || h.Hypervisor != "" {
				t.Errorf("holder %+v, want it disputed by %q", h, c.why)
			}
			if n := s.metrics()["flowcordon_inventory_doubtful{disputed}"]; n != 1 {
				t.Errorf("metric says %v disputed prefixes", n)
			}
		})
	}
}

func edit(e discover.Entry, f func(*discover.Entry)) discover.Entry { f(&e); return e }

// A guest that says that it has an address is never acted on for it, and what
// it said does not count for the time before somebody else says so too.
func TestForgeable(t *testing.T) {
	s := newStand(t, "")
	word := edit(on(ip1, "v1", "agent"), func(e *discover.Entry) { e.Forgeable = true })
	s.a.say(word)
	s.read(0)
	s.want("its own word", ip1, s.now, "v1", flow.DoubtForgeable)
	s.a.say(on(ip1, "v1", "set"), word)
	s.read(5 * time.Minute)
	s.want("set by the operator", ip1, s.now, "v1", "")
	s.want("a minute before", ip1, s.now.Add(-time.Minute), "v1", flow.DoubtForgeable)
	if h, _ := s.i.Holder(netip.MustParseAddr(ip1), s.now); !h.From.Equal(s.now) {
		t.Errorf("the operator's word counts from %s, want %s", h.From, s.now)
	}
}

// A recycled address: what was done before is the former holder's, over
// restarts too.
func TestRecycledAddress(t *testing.T) {
	s := newStand(t, "")
	s.a.say(on(ip1, "v1", "x"), on(ip2, "v3", "x"))
	s.read(0)
	first := s.now
	if h := s.want("always", ip1, first.Add(-time.Hour), "v1", ""); !h.From.IsZero() {
		t.Errorf("what the first reading found begins at %s", h.From)
	}
	s.a.say(on(ip1, "v2", "x"))
	s.read(time.Hour)
	changed := s.now
	for range 2 {
		s.want("the new one", ip1, s.now, "v2", "")
		s.want("from the change on", ip1, changed, "v2", "")
		s.want("just before", ip1, changed.Add(-time.Second), "v1", "")
		s.want("gone", ip2, s.now, "nobody", "")
		s.want("gone, before", ip2, changed.Add(-time.Second), "v3", "")
		s.now = s.now.Add(time.Minute)
		s.start() // a restart
	}
	s.a.say(on(ip1, "v2", "x"), on(ip2, "v4", "x"))
	s.read(time.Minute)
	s.want("given to another", ip2, s.now, "v4", "")
	s.want("meanwhile", ip2, s.now.Add(-time.Second), "nobody", "")
	s.now = s.now.Add(keepClosed + time.Hour)
	s.read(0)
	s.want("long ago", ip1, changed.Add(-time.Second), "nobody", "")
}

// While two sources contradict each other nobody is named; the former holder's
// time ends when the contradiction began.
func TestDisputeInTime(t *testing.T) {
	s := newStand(t, "")
	s.a.say(on(ip1, "v1", "pve"))
	s.read(0)
	s.b.say(on(ip1, "v2", "netbox"))
	s.read(10 * time.Minute)
	began := s.now
	s.want("disputed", ip1, s.now, "", flow.DoubtDisputed)
	s.want("before", ip1, began.Add(-time.Second), "v1", "")
	s.a.say(on(ip1, "v2", "pve"))
	s.read(10 * time.Minute)
	s.want("settled", ip1, s.now, "v2", "")
	s.want("while it was disputed", ip1, began.Add(time.Minute), "nobody", "")
	s.want("before", ip1, began.Add(-time.Second), "v1", "")

	s.b.say(on(ip1, "v1", "netbox"))
	s.read(10 * time.Minute)
	s.want("disputed again", ip1, s.now, "", flow.DoubtDisputed)
	s.b.say(on(ip1, "v2", "netbox"))
	s.read(10 * time.Minute)
	s.want("it was a mistake", ip1, s.now.Add(-time.Minute), "v2", "")
}

func TestStaleSource(t *testing.T) {
	s := newStand(t, "")
	s.a.say(on(ip1, "v1", "pve"))
	s.b.say(on(ip2, "v2", "netbox"))
	s.read(0)
	s.a.fail(errors.New("away"))
	s.read(time.Hour)
	s.want("just as old as it may be", ip1, s.now, "v1", "")
	s.read(time.Second)
	h := s.want("too old", ip1, s.now, "v1", flow.DoubtStale)
	if len(h.NICs) != 1 {
		t.Errorf("a stale holder %+v: what is cut must still be found", h)
	}
	s.want("the other source", ip2, s.now, "v2", "")
	s.start()
	s.want("after a restart", ip1, s.now, "v1", flow.DoubtStale)
	s.read(0)
	got := s.i.Sources()
	if !got[0].Stale || got[0].Problem != ProblemAnswer || got[0].Error != "away" || got[0].Age != time.Hour+time.Second || got[1].Stale || got[1].Problem != "" {
		t.Errorf("health %+v", got)
	}
	wantMetrics := map[string]float64{
		"flowcordon_inventory_source_age_seconds{netbox}":         0,
		"flowcordon_inventory_source_age_seconds{pve}":            3601,
		"flowcordon_inventory_source_stale{netbox}":               0,
		"flowcordon_inventory_source_stale{pve}":                  1,
		"flowcordon_inventory_source_errors_total{answer pve}":    1,
		"flowcordon_inventory_source_errors_total{answer netbox}": 0,
	}
	have := s.metrics()
	for name, want := range wantMetrics {
		if v, ok := have[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %t), want %v", name, v, ok, want)
		}
	}
	s.a.say(on(ip1, "v1", "pve"))
	s.read(0)
	s.want("back", ip1, s.now, "v1", "")
}

// A list that all at once lacks most of its entries is an export that broke.
func TestShrunkReading(t *testing.T) {
	s := newStand(t, "")
	var all []discover.Entry
	for n := range 30 {
		all = append(all, on(netip.AddrFrom4([4]byte{11, 1, 0, byte(n)}).String(), "v"+string(rune('a'+n%26))+"1", "x"))
	}
	s.a.say(all...)
	s.read(0)
	s.a.say(all[:10]...)
	for n := range shrinkAfter - 1 {
		s.now = s.now.Add(time.Minute)
		if err := s.i.ReadSource(t.Context(), "pve"); problemOf(err) != ProblemShrunk {
			t.Fatalf("reading %d: %v", n+1, err)
		}
		s.want("kept", "11.1.0.20", s.now, "vu1", "")
	}
	s.read(time.Minute)
	s.want("believed", "11.1.0.20", s.now, "nobody", "")
	s.want("still there", "11.1.0.5", s.now, "vf1", "")
}

func TestFileOutweighsSources(t *testing.T) {
	s := newStand(t, "- {ip: 11.1.0.7, tenant: c-1, vds: v1, contact: a@example.net}\n- {ip: 11.1.0.8, tenant: c-2, vds: v2, hypervisor: kvm, macs: ['52:54:00:aa:00:01']}\n")
	s.a.say(on(ip1, "v1", "x"), on(ip2, "v9", "x"))
	s.read(0)
	h := s.want("completed", ip1, s.now, "v1", "")
	if h.Tenant != "c-1" || h.Contact != "a@example.net" || h.Hypervisor != "pve1" || len(h.NICs) != 1 || h.NICs[0] != "52:54:00:00:00:01" {
		t.Errorf("completed: %+v", h)
	}
	if h = s.want("the file's own", ip2, s.now, "v2", ""); h.Hypervisor != "kvm" || h.NICs[0] != "52:54:00:aa:00:01" {
		t.Errorf("the file's own: %+v", h)
	}
	s.now = s.now.Add(time.Hour + time.Second)
	s.want("completed by a stale source", ip1, s.now, "v1", flow.DoubtStale)
	s.want("the file is as it was", ip2, s.now, "v2", "")

	// What leaves the file is the sources' from then on, and the other way round.
	s.write("- {ip: 11.1.0.7, tenant: c-1, vds: v1}\n")
	if err := s.i.Reload(); err != nil {
		t.Fatal(err)
	}
	s.read(0)
	s.want("out of the file", ip2, s.now, "v9", "")
	s.want("out of the file, before", ip2, s.now.Add(-time.Second), "nobody", "")
	s.now = s.now.Add(time.Minute)
	s.write("- {ip: 11.1.0.7, tenant: c-1, vds: v1}\n- {ip: 11.1.0.8, tenant: c-5, vds: v5}\n")
	if err := s.i.Reload(); err != nil {
		t.Fatal(err)
	}
	s.want("into the file", ip2, s.now, "v5", "")
	s.want("into the file, before", ip2, s.now.Add(-time.Second), "v9", "")
}

func TestRunReadsOnSchedule(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, quick := &list{}, &list{}
		l.say(on(ip1, "v1", "x"))
		quick.fail(errors.New("away"))
		i := New(Config{Dir: dir, Sources: []SourceConfig{
			{Name: "slow", Lister: l, Every: time.Hour, MaxAge: 3 * time.Hour},
			{Name: "away", Lister: quick, Every: 5 * time.Minute, MaxAge: 15 * time.Minute},
		}}, Deps{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- i.Run(ctx) }()
		time.Sleep(2*time.Hour + time.Minute)
		synctest.Wait()
		l.mu.Lock()
		if l.reads != 3 {
			t.Errorf("read %d times in two hours, want at once and each hour", l.reads)
		}
		l.mu.Unlock()
		quick.mu.Lock()
		// 30 s, 1 min, 2 min, 4 min, then each 5 min.
		if quick.reads < 24 || quick.reads > 32 {
			t.Errorf("a failing one was asked %d times in two hours", quick.reads)
		}
		quick.mu.Unlock()
		if h, ok := i.Holder(netip.MustParseAddr(ip1), time.Now()); !ok || h.VDS != "v1" {
			t.Errorf("holder %+v", h)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// What was kept is young enough: the restart does not ask at once.
		again := &list{}
		i = New(Config{Dir: dir, Sources: []SourceConfig{{Name: "slow", Lister: again, Every: time.Hour, MaxAge: 3 * time.Hour}}}, Deps{})
		if err := i.Recall(); err != nil {
			t.Fatal(err)
		}
		if h, ok := i.Holder(netip.MustParseAddr(ip1), time.Now()); !ok || h.VDS != "v1" || h.Doubt != "" {
			t.Errorf("after the restart: %+v, %t", h, ok)
		}
	})
}

func TestKeptFilesThatAreBroken(t *testing.T) {
	s := newStand(t, "")
	s.a.say(on(ip1, "v1", "x"))
	s.read(0)
	if err := os.WriteFile(s.i.sourceFile("pve"), []byte(`{"source":"pve"`), 0o600); err != nil {
		t.Fatal(err)
	}
	i := New(Config{Dir: s.dir, Sources: []SourceConfig{{Name: "pve", Lister: s.a, Every: time.Minute, MaxAge: time.Hour}}},
		Deps{Now: func() time.Time { return s.now }})
	if err := i.Recall(); err == nil || !strings.Contains(err.Error(), "source pve") {
		t.Errorf("Recall says %v", err)
	}
	// Nobody says that it is gone; but nobody vouches for it either.
	h, ok := i.Holder(netip.MustParseAddr(ip1), s.now)
	if !ok || h.VDS != "v1" || h.Doubt != flow.DoubtStale {
		t.Errorf("holder %+v, %t", h, ok)
	}
	if err := i.ReadSource(t.Context(), "pve"); err != nil {
		t.Fatal(err)
	}
	if h, _ = i.Holder(netip.MustParseAddr(ip1), s.now); h.Doubt != "" || !h.From.IsZero() {
		t.Errorf("read again: %+v", h)
	}
}

// Of the server that holds an address, the NICs of which no public address is
// known; never another server's, and none that is public by any account.
func TestPrivateNICs(t *testing.T) {
	s := newStand(t, "- {ip: 11.1.0.9, tenant: c-1, vds: V1, hypervisor: pve1, macs: ['52:54:00:00:00:aa']}\n- {ip: 10.0.0.9, tenant: c-1, vds: v1, hypervisor: pve1, macs: ['52:54:00:00:00:ab']}\n")
	nic := func(vds, mac, ip string) discover.Entry {
		e := discover.Entry{VDS: vds, Hypervisor: "pve1", MAC: "52:54:00:00:00:" + mac, Source: "x"}
		if ip != "" {
			e.Prefixes = []netip.Prefix{netip.MustParsePrefix(ip)}
		}
		return e
	}
	s.a.say(nic("v1", "01", ip1+"/32"), nic("v1", "02", ""), nic("v1", "03", "10.1.0.1/32"), nic("v1", "04", "100.64.0.1/32"),
		nic("v1", "05", "fd00::/64"), nic("v2", "06", ""), nic("v1", "07", "2608::7/128"))
	s.b.say(nic("v1", "03", "11.1.0.10/32"))
	s.read(0)
	got := s.i.PrivateNICs(s.want("holder", ip1, s.now, "v1", ""))
	want := []string{"52:54:00:00:00:02", "52:54:00:00:00:04", "52:54:00:00:00:05", "52:54:00:00:00:ab"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := s.i.PrivateNICs(flow.Holder{}); got != nil {
		t.Errorf("nobody has %v", got)
	}
}
