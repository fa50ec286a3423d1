package suspendertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Lister lists every NIC with a mark of ours.
type Lister interface {
	Marked(ctx context.Context) ([]flow.MarkedNIC, error)
}

// Watcher tells of changes that others make.
type Watcher interface {
	Watch(ctx context.Context, changed func(vds string)) error
}

// Describer says which call would be made.
type Describer interface {
	Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error)
}

// RunLister runs the suite for a Fixture whose S is a Lister: what we left
// behind is found without knowing where, and given back from what is found.
func RunLister(t *testing.T, fresh func(t *testing.T) Fixture) {
	t.Run("a cut is listed until it is given back", func(t *testing.T) {
		f := fresh(t)
		m := Mark("inc-31")
		if n, ok := listed(t, f, m.Incident); ok {
			t.Fatalf("listed before the cut: %+v", n)
		}
		r := cut(t, f, m)
		n, ok := listed(t, f, m.Incident)
		if !ok || !n.Status.Cut() || n.Status.Mark.Key != m.Key {
			t.Fatalf("listed %t: %+v, want it cut with its mark", ok, n)
		}
		sameNIC(t, f, n.NIC)
		if err := f.S.Restore(t.Context(), n.NIC, *n.Status.Mark, r); err != nil {
			t.Fatalf("Restore of the NIC as it was listed: %v", err)
		}
		if n, ok := listed(t, f, m.Incident); ok {
			t.Errorf("still listed: %+v", n)
		}
	})
	t.Run("a measure is listed until it is lifted", func(t *testing.T) {
		f := fresh(t)
		rs, ok := f.S.(Restrictor)
		if !ok {
			t.Skip("takes no milder measures")
		}
		kinds := f.Kinds
		if len(kinds) == 0 {
			kinds = rs.Measures()
		}
		m := Mark("inc-32")
		me, _ := f.measures(kinds[0])
		r, err := rs.Restrict(t.Context(), f.NIC, me, m)
		if err != nil {
			t.Fatal(err)
		}
		n, ok := listed(t, f, m.Incident)
		if !ok {
			t.Fatal("not listed")
		}
		sameNIC(t, f, n.NIC)
		if err := rs.Lift(t.Context(), n.NIC, kinds[0], m, r); err != nil {
			t.Fatalf("Lift of the NIC as it was listed: %v", err)
		}
		if n, ok := listed(t, f, m.Incident); ok {
			t.Errorf("still listed: %+v", n)
		}
	})
	t.Run("an ended context is no answer", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := asLister(t, fresh(t)).Marked(ctx)
		wantClass(t, "Marked", err, flow.ErrTransient)
	})
}

func asLister(t *testing.T, f Fixture) Lister {
	t.Helper()
	l, ok := f.S.(Lister)
	if !ok {
		t.Fatalf("%T is no Lister", f.S)
	}
	return l
}

func listed(t *testing.T, f Fixture, incident string) (flow.MarkedNIC, bool) {
	t.Helper()
	all, err := asLister(t, f).Marked(t.Context())
	if err != nil {
		t.Fatalf("Marked: %v", err)
	}
	for _, n := range all {
		if n.Status.Mark != nil && n.Status.Mark.Incident == incident {
			return n, true
		}
		for _, r := range n.Status.Restrictions {
			if r.Mark.Incident == incident {
				return n, true
			}
		}
	}
	return flow.MarkedNIC{}, false
}

// sameNIC checks that the listed NIC is the fixture's as far as both say.
func sameNIC(t *testing.T, f Fixture, got flow.NIC) {
	t.Helper()
	if got.Hypervisor != f.S.Name() {
		t.Errorf("listed with hypervisor %q, want the adapter's name %q", got.Hypervisor, f.S.Name())
	}
	if got.MAC != "" && f.NIC.MAC != "" && !strings.EqualFold(got.MAC, f.NIC.MAC) {
		t.Errorf("listed MAC %s, want %s", got.MAC, f.NIC.MAC)
	}
	if got.MAC == "" && got.VDS == "" && !got.IP.IsValid() {
		t.Error("listed without anything to find it by")
	}
}

// watchLimit is a hang guard; an event takes milliseconds.
const watchLimit = 2 * time.Minute

// RunWatcher runs the suite for a Fixture whose S is a Watcher and that has
// Change: a change is told, with a VDS that Status finds or with none, and Watch
// ends with its context.
func RunWatcher(t *testing.T, fresh func(t *testing.T) Fixture) {
	f := fresh(t)
	w, ok := f.S.(Watcher)
	if !ok || f.Change == nil {
		t.Fatalf("%T is no Watcher, or the fixture has no Change", f.S)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan string, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := w.Watch(ctx, func(vds string) {
			select {
			case told <- vds:
			default:
			}
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Watch: %v", err)
		}
	})
	// A connection may tell at once that anything may have changed; what counts
	// is what follows a change.
	select {
	case <-told:
	case <-time.After(time.Second):
	}
	end := time.After(watchLimit)
	for heard := false; !heard; {
		f.Change(t)
		select {
		case vds := <-told:
			heard = true
			if vds != "" {
				nic := f.NIC
				nic.VDS = vds
				if _, err := f.S.Status(t.Context(), nic); err != nil && Class(err) != flow.ErrNotFound {
					t.Errorf("told of %q, which Status does not take: %v", vds, err)
				}
			}
		case <-time.After(2 * time.Second): // it may not have listened yet
		case <-end:
			t.Fatal("no change was told")
		}
	}
	cancel()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(watchLimit):
		t.Fatal("Watch goes on although its context has ended")
	}
}

// RunDescriber runs the suite for a Fixture whose S is a Describer: a
// description of the cut and of each measure names the NIC, differs from the
// others, changes nothing and holds no secret.
func RunDescriber(t *testing.T, fresh func(t *testing.T) Fixture) {
	f := fresh(t)
	d, ok := f.S.(Describer)
	if !ok {
		t.Fatalf("%T is no Describer", f.S)
	}
	all := []flow.Measure{{Kind: flow.MeasureCut}}
	if r, ok := f.S.(Restrictor); ok {
		for _, k := range r.Measures() {
			mild, strong := f.measures(k)
			all = append(all, mild, strong)
		}
	}
	before, raw := status(t, f), f.raw(t)
	seen := map[string]bool{}
	for _, me := range all {
		text, err := d.Describe(t.Context(), f.NIC, me)
		if err != nil || strings.TrimSpace(text) == "" {
			t.Errorf("Describe %s: %q, %v", me.Kind, text, err)
			continue
		}
		if len(f.Ports) != 1 && seen[text] {
			t.Errorf("Describe %+v says what it said of another measure: %s", me, text)
		}
		seen[text] = true
		for _, s := range f.Secrets {
			if strings.Contains(text, s) {
				t.Errorf("Describe %s tells a secret", me.Kind)
			}
		}
	}
	if after := status(t, f); len(after.Restrictions) != len(before.Restrictions) || after.Cut() != before.Cut() || after.Mark != nil {
		t.Errorf("a description changed the NIC: %+v", after)
	}
	wantRaw(t, f, raw)
}
