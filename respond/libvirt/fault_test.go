package libvirt

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

var peer = sync.OnceValues(func() (*lab.Lab, error) { return theLab.Peer() })

// onPeer is the same domain as the second node's adapter sees it.
func (e *env) onPeer() *env {
	e.t.Helper()
	p, err := peer()
	if err != nil {
		e.t.Fatal(err)
	}
	other := *e
	other.Lab = p
	other.a = New(Config{Name: "node2", Socket: p.Socket, Timeout: patience}, Deps{})
	e.t.Cleanup(other.a.Close)
	if other.admin, err = p.Connect(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = other.admin.DomainDestroy(e.dom) // it may never have come
		_ = other.admin.DomainUndefine(e.dom)
		_ = other.admin.Disconnect()
	})
	return &other
}

func (e *env) migrate() {
	e.t.Helper()
	if err := lab.Migrate(e.admin, e.dom); err != nil {
		e.t.Fatalf("migrate: %v", err)
	}
}

// A cut goes along with its mark to the node that the domain migrates to, and
// is given back there.
func TestMigratedWhileCut(t *testing.T) {
	e := newEnv(t).start()
	there := e.onPeer()
	r := e.cut("inc-1")
	e.migrate()
	_, err := e.a.Status(t.Context(), e.nic)
	e.wantErr("the old node", err, flow.ErrNotFound, "migrated or deleted")
	e.wantErr("the old node", e.a.Restore(t.Context(), e.nic, suspendertest.Mark("inc-1"), r), flow.ErrNotFound)
	there.want("the new node", flow.LinkDown, flow.LinkDown, true, "inc-1")
	if all, err := there.a.Marked(t.Context()); err != nil || len(all) != 1 || all[0].NIC.Hypervisor != "node2" {
		t.Errorf("Marked() of the new node = %+v, %v", all, err)
	}
	there.restore("inc-1", r)
	there.want("given back", flow.LinkUp, flow.LinkUp, true, "")
}

// The domain goes away after it was found and before the first change.
func TestMigratesBetweenFindAndCut(t *testing.T) {
	e := newEnv(t).start()
	there := e.onPeer()
	e.want("before", flow.LinkUp, flow.LinkUp, true, "") // the adapter has it in its list now
	err := e.a.do(t.Context(), "cut", func(ctx context.Context, s *session) error {
		found, err := e.a.finder.find(ctx, s, e.nic, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		e.migrate()
		_, err = found.cut(s, suspendertest.Mark("inc-1"))
		return err
	})
	e.wantErr("cut of what is gone", err, flow.ErrNotFound)
	_, err = e.a.Cut(t.Context(), e.nic, suspendertest.Mark("inc-1"))
	e.wantErr("cut again", err, flow.ErrNotFound, "migrated or deleted")
	there.want("the new node", flow.LinkUp, flow.LinkUp, true, "")
	r := there.cut("inc-1")
	there.restore("inc-1", r)
}

// A migration that hangs locks its domain: that is said within the deadline,
// the node's other domains do not wait for it, and afterwards the cut works.
func TestLockedByAMigration(t *testing.T) {
	e, neighbour := newEnv(t).start(), newEnv(t).start()
	there := e.onPeer()
	thaw, err := there.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	defer thaw()
	done := make(chan error)
	mover, err := e.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mover.Disconnect() }()
	go func() { done <- lab.Migrate(mover, e.dom) }()
	if err := lab.Until(time.Minute, func() error {
		if heldByJob(&session{l: e.admin}, e.dom) == nil {
			return errors.New("the migration has not begun")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a := New(Config{Name: "node1", Socket: e.Socket, Timeout: 15 * time.Second}, Deps{})
	defer a.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := a.Cut(t.Context(), e.nic, suspendertest.Mark("inc-1"))
		e.wantErr("cut", err, flow.ErrLocked, e.guest.Name, "held by a job")
	})
	neighbour.a = a
	neighbour.nic.VDS = neighbour.guest.Name
	r := neighbour.cut("inc-2")
	neighbour.restore("inc-2", r)
	wg.Wait()
	thaw()
	if err := <-done; err != nil {
		t.Logf("the migration: %v", err) // either way it is over
		there = e
	}
	r = there.cut("inc-1")
	there.restore("inc-1", r)
	there.want("given back", flow.LinkUp, flow.LinkUp, true, "")
}

// A node takes no domain whose filter it lacks: the migration fails, the domain
// runs on where it is and stays blocked. Lifted, it goes.
func TestMigrationUnderABlock(t *testing.T) {
	e := newEnv(t).start()
	there := e.onPeer()
	e.restrict(ssh, "inc-1")
	if err := lab.Migrate(e.admin, e.dom); err == nil || !strings.Contains(err.Error(), filterPrefix) {
		t.Fatalf("migrate under a block: %v; want it to name the filter", err)
	}
	e.wantForce("after the failed migration", ssh, "inc-1")
	e.lift(ssh.Kind, "inc-1")
	e.migrate()
	there.want("the new node", flow.LinkUp, flow.LinkUp, true, "")
}

// A panel that rebuilds the server gives it a new MAC: the old NIC is not found
// and named as what it is, the new one is free and can be cut.
func TestRebuiltWithANewMAC(t *testing.T) {
	e := newEnv(t).start()
	r := e.cut("inc-1")
	e.off()
	old := e.nic
	e.guest.NICs[0].MAC = "52:54:00:bb:00:01"
	if _, err := e.Define(e.admin, e.guest); err != nil {
		t.Fatal(err)
	}
	e.start()
	_, err := e.a.Status(t.Context(), old)
	e.wantErr("the old NIC", err, flow.ErrNotFound, e.guest.Name, "52:54:00:bb:00:01")
	e.wantErr("restore of the old NIC", e.a.Restore(t.Context(), old, suspendertest.Mark("inc-1"), r), flow.ErrNotFound)
	if all, err := e.a.Marked(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("Marked() = %+v, %v; want none", all, err)
	}
	e.nic.MAC = "52:54:00:bb:00:01"
	e.want("the new NIC", flow.LinkUp, flow.LinkUp, true, "")
	r = e.cut("inc-1")
	e.restore("inc-1", r)
}

func TestDeletedWhileCut(t *testing.T) {
	e := newEnv(t).start()
	r := e.cut("inc-1")
	e.restrict(ssh, "inc-1")
	e.off()
	if err := e.admin.DomainUndefine(e.dom); err != nil {
		t.Fatal(err)
	}
	m := suspendertest.Mark("inc-1")
	_, err := e.a.Status(t.Context(), e.nic)
	e.wantErr("status", err, flow.ErrNotFound, "migrated or deleted")
	_, err = e.a.Cut(t.Context(), e.nic, m)
	e.wantErr("cut", err, flow.ErrNotFound)
	e.wantErr("restore", e.a.Restore(t.Context(), e.nic, m, r), flow.ErrNotFound)
	e.wantErr("lift", e.a.Lift(t.Context(), e.nic, ssh.Kind, m, flow.Receipt{}), flow.ErrNotFound)
	if all, err := e.a.Marked(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("Marked() = %+v, %v; want none", all, err)
	}
	e.wantNoFilters() // Marked has swept the block's
}
