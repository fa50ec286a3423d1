package vsphere

import (
	"context"
	"fmt"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"go.uber.org/zap"
)

const (
	// watchWait is how long vCenter may hold a call when nothing changes. It
	// also keeps the login alive, which ends after 30 idle minutes.
	watchWait = 60 * time.Second

	// watchPause lets changes gather: starting a machine changes it five times.
	watchPause = time.Second

	watchRetryMin = time.Second
	watchRetryMax = 30 * time.Second
)

// watched are the properties whose change is told: a reconfiguration of any
// kind gives a new changeVersion.
var watched = []string{"name", "config.changeVersion", "runtime.powerState", "runtime.host"}

// Watch tells of machines that were reconfigured, started, stopped, moved,
// made, registered or deleted. vds is as the machine was last asked for; a
// machine nobody asked for yet is told as an empty vds, once for each batch,
// since it may be a known VDS built anew. After a connection was lost anything
// may have changed, which is told, too.
func (a *Adapter) Watch(ctx context.Context, changed func(vds string)) error {
	pause := watchRetryMin
	for {
		err := a.watch(ctx, changed, func() { pause = watchRetryMin })
		if ctx.Err() != nil {
			return nil
		}
		a.log.Warn("watching was interrupted", zap.Error(classify(ctx, "vsphere "+a.cfg.Name+": watch", err)))
		a.metrics.Observe("watch", result(classify(ctx, "", err)), 0)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, watchRetryMax)
		a.machines.forget()
		changed("")
	}
}

func (a *Adapter) watch(ctx context.Context, changed func(string), up func()) error {
	again := false
	return a.link.With(ctx, func(ctx context.Context, s *session) error {
		if again { // the login had ended
			a.machines.forget()
			changed("")
		}
		again = true
		sub, err := s.subscribe(ctx, a.cfg.timeout())
		if err != nil {
			return err
		}
		defer sub.end()
		version := ""
		for first := true; ; first = false {
			next, refs, err := sub.next(ctx, version, a.cfg.timeout())
			if err != nil {
				return err
			}
			up()
			// The first answer is everything there is, which is no change.
			if !first && len(refs) > 0 {
				a.machines.forget()
				a.tell(refs, changed)
			}
			version = next
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(watchPause):
			}
		}
	})
}

func (a *Adapter) tell(refs []types.ManagedObjectReference, changed func(string)) {
	told := map[string]bool{}
	for _, ref := range refs {
		if vds := a.vdsOf(ref); !told[vds] {
			told[vds] = true
			changed(vds)
		}
	}
}

// subscription is a property collector of its own: its filter goes with it.
type subscription struct {
	c  *vim25.Client
	pc *property.Collector
}

func (s *session) subscribe(ctx context.Context, timeout time.Duration) (*subscription, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errDeadline)
	defer cancel()
	pc, err := s.pc.Create(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a property collector: %w", err)
	}
	sub := &subscription{s.Client, pc}
	_, err = pc.CreateFilter(ctx, types.CreateFilter{Spec: types.PropertyFilterSpec{
		PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: watched}},
		ObjectSet: []types.ObjectSpec{{
			Obj: s.VMs.Reference(), Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{s.VMs.TraversalSpec()},
		}},
	}})
	if err != nil {
		sub.end()
		return nil, fmt.Errorf("subscribe to changes: %w", err)
	}
	return sub, nil
}

// next waits for changes after version; none is no error.
func (sub *subscription) next(ctx context.Context, version string, timeout time.Duration) (string, []types.ManagedObjectReference, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, watchWait+timeout, errDeadline)
	defer cancel()
	var refs []types.ManagedObjectReference
	for {
		res, err := methods.WaitForUpdatesEx(ctx, sub.c, &types.WaitForUpdatesEx{
			This: sub.pc.Reference(), Version: version,
			Options: &types.WaitOptions{MaxWaitSeconds: types.NewInt32(int32(watchWait / time.Second))},
		})
		if err != nil {
			return "", nil, fmt.Errorf("wait for changes: %w", err)
		}
		set := res.Returnval
		if set == nil {
			return version, refs, nil
		}
		for _, f := range set.FilterSet {
			for _, o := range f.ObjectSet {
				refs = append(refs, o.Obj)
			}
		}
		version = set.Version
		if set.Truncated == nil || !*set.Truncated {
			return version, refs, nil
		}
	}
}

// end is also called when the context has ended, hence one of its own.
func (sub *subscription) end() {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	_ = sub.pc.Destroy(ctx) // else it ends with the session
}
