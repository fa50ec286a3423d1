package libvirt

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

func TestListerConformance(t *testing.T) {
	suspendertest.RunLister(t, func(t *testing.T) suspendertest.Fixture { return restrictFixture(t, protected, false, nil) })
}

func TestDescriberConformance(t *testing.T) {
	suspendertest.RunDescriber(t, func(t *testing.T) suspendertest.Fixture { return restrictFixture(t, guarded, true, nil) })
}

func TestWatcherConformance(t *testing.T) {
	suspendertest.RunWatcher(t, func(t *testing.T) suspendertest.Fixture {
		e := newEnv(t)
		return suspendertest.Fixture{S: e.a, NIC: e.nic, Change: func(t *testing.T) {
			if _, err := e.Define(e.admin, e.guest); err != nil {
				t.Error(err)
			}
		}}
	})
}

// listener gathers what a Watch tells.
type listener struct {
	mu   sync.Mutex
	told []string
}

func (l *listener) changed(vds string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, vds)
}

func (l *listener) wait(t *testing.T, what, vds string) {
	t.Helper()
	if err := lab.Until(2*time.Minute, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !slices.Contains(l.told, vds) {
			return errNotTold
		}
		l.told = nil
		return nil
	}); err != nil {
		t.Fatalf("%s: %q was not told: %v", what, vds, err)
	}
}

type notTold struct{}

func (notTold) Error() string { return "not told" }

var errNotTold = notTold{}

// Each thing that happens to a domain is told, also over a restart of the daemon.
func TestWatchTellsOfEverything(t *testing.T) {
	e := newEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	var l listener
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.a.Watch(ctx, l.changed); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	l.wait(t, "connected", "")
	e.start()
	l.wait(t, "started", e.guest.PanelID)
	e.off()
	l.wait(t, "stopped", e.guest.Name)
	if _, err := e.Define(e.admin, e.guest); err != nil {
		t.Fatal(err)
	}
	l.wait(t, "defined anew", e.guest.UUID)
	if err := e.RestartDaemon(); err != nil {
		t.Fatal(err)
	}
	l.wait(t, "after a restart of the daemon", "")
	var err error
	if e.admin, err = e.Connect(); err != nil {
		t.Fatal(err)
	}
	if err := e.admin.DomainUndefine(e.dom); err != nil {
		t.Fatal(err)
	}
	l.wait(t, "deleted", e.guest.PanelID)
}

// What was left on a NIC in only one of the two definitions is listed too.
func TestMarkedOneSided(t *testing.T) {
	e := newEnv(t, lab.NIC{}, lab.NIC{}).start()
	r := e.cut("inc-1")
	if _, err := e.Define(e.admin, e.guest); err != nil { // takes the mark out of the definition
		t.Fatal(err)
	}
	all, err := e.a.Marked(t.Context())
	if err != nil || len(all) != 1 || all[0].NIC.MAC != e.nic.MAC || all[0].NIC.VDS != e.guest.PanelID || all[0].Status.Cut() ||
		all[0].Status.Mark == nil || all[0].Status.Mark.Incident != "inc-1" {
		t.Fatalf("Marked() = %+v, %v; want %s, marked, down in the running machine only", all, err, e.nic.MAC)
	}
	e.restore("inc-1", r)
}

func TestDescribeIsWhatHappens(t *testing.T) {
	e := newEnv(t, lab.NIC{Extra: guarded}).start()
	text, err := e.a.Describe(t.Context(), e.nic, flow.Measure{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"virsh nwfilter-define", "<ip protocol='6' dstportstart='22'/>", "<filterref filter='lab-guard'/>",
		"virsh update-device " + e.guest.Name, "--live", "--config", "<filterref filter='flowcordon-(incident)'>",
		"value='198.51.100.11'", e.nic.MAC,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if text, err = e.a.Describe(t.Context(), e.nic, flow.Measure{Kind: flow.MeasureCut}); err != nil ||
		!strings.Contains(text, "virsh domif-setlink "+e.guest.Name+" "+e.nic.MAC+" down --live") {
		t.Errorf("Describe cut = %q, %v", text, err)
	}
	if _, err := e.a.Describe(t.Context(), e.nic, flow.Measure{Kind: flow.MeasureBlockPort}); suspendertest.Class(err) != flow.ErrDenied {
		t.Errorf("Describe of nothing: %v", err)
	}
}
