package libvirt

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// Between the two steps of a cut its caller goes away: the running machine is cut
// and marked, a repeat does the rest, and the state before is what it was before
// the first.
func TestCutThatEndsHalfWay(t *testing.T) {
	e := newEnv(t).start()
	ctx, cancel := context.WithCancel(t.Context())
	e.a.pulled = func(string) { cancel() }
	if _, err := e.a.Cut(ctx, e.nic, suspendertest.Mark("inc-1")); err == nil {
		t.Fatal("a cut whose caller has gone says that it is done")
	}
	e.a.pulled = nil
	e.want("half way", flow.LinkDown, flow.LinkUp, true, "inc-1")
	_, err := e.a.Cut(t.Context(), e.nic, suspendertest.Mark("inc-2"))
	e.wantErr("for another incident", err, flow.ErrConflict, "inc-1")
	r := e.cut("inc-1")
	if r.Before.Live != flow.LinkUp || r.Before.Config != flow.LinkUp {
		t.Errorf("before: %+v", r.Before)
	}
	e.want("repeated", flow.LinkDown, flow.LinkDown, true, "inc-1")
	e.restore("inc-1", r)
	e.want("restored", flow.LinkUp, flow.LinkUp, true, "")
}

// Between the two steps a panel writes the definition: the second reads it anew
// and keeps what the panel wrote. Or the machine is switched off, or is gone.
func TestChangedBetweenTheSteps(t *testing.T) {
	t.Run("defined anew", func(t *testing.T) {
		e := newEnv(t).start()
		e.a.pulled = func(string) {
			x, err := e.admin.DomainGetXMLDesc(e.dom, golibvirt.DomainXMLInactive)
			if err != nil {
				t.Error(err)
			}
			x = strings.Replace(x, "<mac address", "<mtu size='1400'/><mac address", 1)
			if _, err := e.admin.DomainDefineXML(x); err != nil {
				t.Error(err)
			}
		}
		r := e.cut("inc-1")
		if text, l := e.iface(golibvirt.DomainXMLInactive); l != linkDown || !strings.Contains(text, "1400") {
			t.Errorf("link %s in %s", l, text)
		}
		e.a.pulled = nil
		e.restore("inc-1", r)
		e.want("restored", flow.LinkUp, flow.LinkUp, true, "")
	})
	t.Run("switched off", func(t *testing.T) {
		e := newEnv(t).start()
		e.a.pulled = func(string) { e.off() }
		r := e.cut("inc-1")
		e.want("cut", flow.LinkUnknown, flow.LinkDown, false, "inc-1")
		e.a.pulled = nil
		e.restore("inc-1", r)
		e.want("restored", flow.LinkUnknown, flow.LinkUp, false, "")
	})
	t.Run("deleted", func(t *testing.T) {
		e := newEnv(t).start()
		e.a.pulled = func(string) {
			e.off()
			if err := e.admin.DomainUndefine(e.dom); err != nil {
				t.Error(err)
			}
		}
		_, err := e.a.Cut(t.Context(), e.nic, suspendertest.Mark("inc-1"))
		e.wantErr("deleted", err, flow.ErrNotFound)
	})
}

// The rest of a cut waits for pulls that are pending, but not for ever, and not
// past its own deadline.
func TestRestsWaitForPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pulls
		took := func(ctx context.Context) time.Duration {
			begin := time.Now()
			p.await(ctx)
			return time.Since(begin)
		}
		if d := took(t.Context()); d != 0 {
			t.Errorf("waited %s for nothing", d)
		}
		p.begin()
		p.begin()
		if d := took(t.Context()); d != restWaits {
			t.Errorf("waited %s for pulls that do not end", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if d := took(ctx); d != time.Millisecond {
			t.Errorf("waited %s past the deadline", d)
		}
		time.AfterFunc(10*time.Millisecond, p.end)
		time.AfterFunc(20*time.Millisecond, p.end)
		if d := took(t.Context()); d != 20*time.Millisecond {
			t.Errorf("waited %s, want until the last pull ends", d)
		}
		p.begin()
		p.end()
		if d := took(t.Context()); d != 0 {
			t.Errorf("waited %s after all", d)
		}
	})
}

// A listing serves a MAC alone for a short time only, and none after an event.
func TestListingIsForgotten(t *testing.T) {
	e := newEnv(t)
	nic := flow.NIC{MAC: e.nic.MAC}
	if _, err := e.a.Status(t.Context(), nic); err != nil {
		t.Fatal(err)
	}
	f := e.a.finder
	guess := func() bool {
		_, likely, err := f.guess(nil, query{NIC: nic, called: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return likely
	}
	age := func(d time.Duration) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.at = time.Now().Add(-d)
	}
	age(aloneFor / 4)
	if !guess() {
		t.Error("a fresh listing is not used")
	}
	age(aloneFor + time.Millisecond)
	if guess() {
		t.Error("an old listing is used for a MAC that nothing else confirms")
	}
	age(0)
	f.forget()
	if guess() {
		t.Error("a listing from before an event is used")
	}
}
