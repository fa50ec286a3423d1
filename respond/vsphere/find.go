package vsphere

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	// maxAgeRead is how old the list of machines may be for a look; what it
	// points to is read anew in any case, and a miss lists them anew.
	maxAgeRead = time.Minute

	// maxAgeAct is the same for an act whose NIC is known by its MAC alone: a
	// second machine with that MAC must be seen. Listing 5,000 machines takes a
	// vCenter a second, so that a hundred cuts in a row share one list.
	maxAgeAct = 5 * time.Second
)

// listed is a virtual machine in the list.
type listed struct {
	ref  types.ManagedObjectReference
	name string
	ids  []string // name, UUIDs and id, in lower case
	macs []string
}

// machines is the list of a vCenter's virtual machines. Devices are 20 kB a
// machine, so that they are read once and again when its version has changed;
// what was read before a deadline is kept, so that the next try goes on there.
type machines struct {
	mu   sync.Mutex // held over the reading: who comes meanwhile waits for it
	at   time.Time
	all  []listed
	nics map[types.ManagedObjectReference]devices
}

type devices struct {
	version string
	macs    []string
}

var listProps = []string{"name", "config.template", "config.uuid", "config.instanceUuid", "config.changeVersion"}

// get returns a list no older than maxAge.
func (l *machines) get(ctx context.Context, s *session, maxAge time.Duration) (_ []listed, fresh bool, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && time.Since(l.at) < maxAge {
		return l.all, false, nil
	}
	start := time.Now()
	var vms []mo.VirtualMachine
	if err := s.VMs.Retrieve(ctx, []string{"VirtualMachine"}, listProps, &vms); err != nil {
		return nil, false, fmt.Errorf("list the virtual machines: %w", err)
	}
	if err := l.read(ctx, s, vms); err != nil {
		return nil, false, err
	}
	all := make([]listed, 0, len(vms))
	for _, vm := range vms {
		if vm.Config == nil || vm.Config.Template {
			continue // it sends nothing
		}
		e := listed{ref: vm.Self, name: vm.Name, macs: l.nics[vm.Self].macs}
		for _, id := range []string{vm.Name, vm.Config.InstanceUuid, vm.Config.Uuid, vm.Self.Value} {
			if id != "" {
				e.ids = append(e.ids, strings.ToLower(id))
			}
		}
		all = append(all, e)
	}
	l.all, l.at = all, start
	return all, true, nil
}

// read reads the devices of the machines that are new or were reconfigured.
func (l *machines) read(ctx context.Context, s *session, vms []mo.VirtualMachine) error {
	versions := map[types.ManagedObjectReference]string{}
	kept := make(map[types.ManagedObjectReference]devices, len(vms))
	var due []types.ManagedObjectReference
	for _, vm := range vms {
		if vm.Config == nil || vm.Config.Template {
			continue
		}
		versions[vm.Self] = vm.Config.ChangeVersion
		if d, ok := l.nics[vm.Self]; ok && d.version != "" && d.version == vm.Config.ChangeVersion {
			kept[vm.Self] = d
		} else {
			due = append(due, vm.Self)
		}
	}
	l.nics = kept // those of deleted machines go
	for page := range slices.Chunk(due, maxPage) {
		read, err := readAll(ctx, s, page, []string{"config.hardware.device"})
		if err != nil {
			return fmt.Errorf("read the NICs of the virtual machines: %w", err)
		}
		for _, vm := range read {
			if vm.Config == nil {
				continue
			}
			d := devices{version: versions[vm.Self]}
			for _, dev := range vm.Config.Hardware.Device {
				if m := macOf(dev); m != "" {
					d.macs = append(d.macs, m)
				}
			}
			l.nics[vm.Self] = d
		}
	}
	return nil
}

// forget makes the next look list anew.
func (l *machines) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = time.Time{}
}

// find resolves a NIC to a device of one virtual machine. The VDS names the
// machine (name, instance UUID, BIOS UUID or vm-123) and the MAC the NIC. Where
// the VDS names none the MAC decides alone, if one machine has it. Where both
// are there and contradict each other nothing is done: cutting the wrong
// customer is worse than cutting late. A machine that moves to another host or
// datastore keeps its id; one that was registered anew is found in a new list.
func (a *Adapter) find(ctx context.Context, s *session, nic flow.NIC, act bool) (*target, error) {
	maxAge := maxAgeRead
	if act {
		maxAge = maxAgeAct
	}
	for {
		all, fresh, err := a.machines.get(ctx, s, maxAge)
		if err != nil {
			return nil, err
		}
		e, mac, err := pick(all, nic)
		if err == nil {
			t, err := load(ctx, s, e.ref, mac)
			if err == nil && t != nil {
				a.seen(e.ref, nic.VDS)
				return t, nil
			}
			if err != nil && !gone(err) {
				return nil, err
			}
			if fresh {
				return nil, fail(flow.ErrNotFound, "%s lost the NIC %s or was deleted", e.name, mac)
			}
			maxAge = 0 // the list is proven wrong
			continue
		}
		// The list may be what is wrong, but a hundred NICs that are gone for
		// good must not have it read a hundred times.
		if fresh || maxAge <= maxAgeAct {
			return nil, err
		}
		maxAge = maxAgeAct
	}
}

// pick finds the one machine and the MAC that the inventory's NIC means.
func pick(all []listed, nic flow.NIC) (listed, string, error) {
	var mac string
	if nic.MAC != "" {
		hw, err := net.ParseMAC(nic.MAC)
		if err != nil || len(hw) != 6 {
			return listed{}, "", fail(flow.ErrNotFound, "the inventory's MAC %q of %s is none: write it as 00:50:56:12:34:56", nic.MAC, who(nic))
		}
		mac = hw.String()
	}
	var owners, named []listed
	for _, e := range all {
		if mac != "" && slices.Contains(e.macs, mac) {
			owners = append(owners, e)
		}
		if nic.VDS != "" && slices.Contains(e.ids, strings.ToLower(nic.VDS)) {
			named = append(named, e)
		}
	}
	if mac == "" {
		return pickOnly(named, nic)
	}
	hits := owners
	if len(named) > 0 {
		hits = nil
		for _, o := range owners {
			if slices.ContainsFunc(named, func(e listed) bool { return e.ref == o.ref }) {
				hits = append(hits, o)
			}
		}
	}
	switch {
	case len(hits) == 1:
		return hits[0], mac, nil
	case len(hits) > 1:
		return listed{}, "", fail(flow.ErrConflict, "MAC %s of %s is ambiguous: %s have it; name the machine by its instance UUID in the inventory's vds",
			mac, who(nic), names(hits))
	case len(owners) > 0:
		return listed{}, "", fail(flow.ErrConflict, "the inventory says that MAC %s is of %s, but here it is of %s; put the inventory right",
			mac, names(named), names(owners))
	case len(named) > 0:
		return listed{}, "", fail(flow.ErrNotFound, "%s has no NIC %s; it has %s", names(named), mac, macsOf(named))
	}
	return listed{}, "", fail(flow.ErrNotFound, "neither a virtual machine %q nor a NIC %s in this vCenter: deleted, or of another one?", nic.VDS, mac)
}

// pickOnly is for an inventory without MACs: the machine's single NIC. What the
// guest says of its addresses decides nothing, it could name anybody's.
func pickOnly(named []listed, nic flow.NIC) (listed, string, error) {
	switch {
	case len(named) == 0:
		return listed{}, "", fail(flow.ErrNotFound, "no virtual machine %q in this vCenter; write the NIC's MAC to the inventory's entry as macs: [\"…\"]", nic.VDS)
	case len(named) > 1:
		return listed{}, "", fail(flow.ErrConflict, "%q is ambiguous: %s bear that name; write its instance UUID as vds", nic.VDS, names(named))
	case len(named[0].macs) != 1:
		return listed{}, "", fail(flow.ErrNotFound, "which NIC of %s holds %s is not known; it has %s: write macs to the inventory's entry",
			names(named), nic.IP, macsOf(named))
	}
	return named[0], named[0].macs[0], nil
}

func who(nic flow.NIC) string {
	if nic.VDS == "" {
		return nic.IP.String()
	}
	return nic.VDS
}

func names(es []listed) string {
	var out []string
	for _, e := range es {
		out = append(out, e.name+" ("+e.ref.Value+")")
	}
	return strings.Join(out, ", ")
}

func macsOf(es []listed) string {
	var out []string
	for _, e := range es {
		out = append(out, e.macs...)
	}
	if len(out) == 0 {
		return "no NIC"
	}
	return strings.Join(out, ", ")
}
