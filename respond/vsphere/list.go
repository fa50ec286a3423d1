package vsphere

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// maxPage is how many machines are read in one call.
const maxPage = 200

// markCache remembers of each machine, for the version it was read at, whether
// it holds marks: extraConfig is some 5 kB a machine, its version 30 bytes.
type markCache struct {
	mu  sync.Mutex
	vms map[types.ManagedObjectReference]cached
}

type cached struct {
	version string
	marked  bool
}

// Marked lists every NIC of the vCenter that carries a mark of ours. The first
// call reads all machines; later ones those that were reconfigured since or
// carry a mark. A mark of a NIC that is no longer there is not listed.
func (a *Adapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	var out []flow.MarkedNIC
	err := a.do(ctx, "marked", func(ctx context.Context, s *session) error {
		refs, versions, err := a.marks.due(ctx, s)
		if err != nil {
			return err
		}
		out = nil
		for page := range slices.Chunk(refs, maxPage) {
			vms, err := readAll(ctx, s, page, targetProps)
			if err != nil {
				return err
			}
			for _, vm := range vms {
				nics, err := a.markedOn(vm)
				if err != nil {
					return err
				}
				out = append(out, nics...)
				a.marks.put(vm, versions[vm.Self])
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// due lists the machines to read: those with marks, and those that changed.
func (c *markCache) due(ctx context.Context, s *session) ([]types.ManagedObjectReference, map[types.ManagedObjectReference]string, error) {
	var vms []mo.VirtualMachine
	if err := s.VMs.Retrieve(ctx, []string{"VirtualMachine"}, []string{"config.changeVersion"}, &vms); err != nil {
		return nil, nil, fmt.Errorf("list the virtual machines: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	versions := map[types.ManagedObjectReference]string{}
	var refs []types.ManagedObjectReference
	kept := make(map[types.ManagedObjectReference]cached, len(vms))
	for _, vm := range vms {
		if vm.Config == nil {
			continue // being made, or its files are out of reach
		}
		versions[vm.Self] = vm.Config.ChangeVersion
		was, ok := c.vms[vm.Self]
		if ok {
			kept[vm.Self] = was
		}
		if !ok || was.marked || was.version == "" || was.version != vm.Config.ChangeVersion {
			refs = append(refs, vm.Self)
		}
	}
	c.vms = kept // those of deleted machines go
	return refs, versions, nil
}

func (c *markCache) put(vm mo.VirtualMachine, version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	marked := vm.Config == nil || slices.ContainsFunc(vm.Config.ExtraConfig, func(o types.BaseOptionValue) bool {
		return macOfKey(o.GetOptionValue().Key) != ""
	})
	c.vms[vm.Self] = cached{version, marked}
}

// readAll reads machines, without those that are deleted meanwhile.
func readAll(ctx context.Context, s *session, refs []types.ManagedObjectReference, props []string) ([]mo.VirtualMachine, error) {
	var vms []mo.VirtualMachine
	err := s.pc.Retrieve(ctx, refs, props, &vms)
	if err == nil || !gone(err) {
		return vms, err
	}
	vms = nil
	for _, ref := range refs { // one of them: a call names none if any is gone
		var vm mo.VirtualMachine
		if err := s.pc.RetrieveOne(ctx, ref, props, &vm); err != nil {
			if gone(err) {
				continue
			}
			return nil, err
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

func (a *Adapter) markedOn(vm mo.VirtualMachine) ([]flow.MarkedNIC, error) {
	if vm.Config == nil {
		return nil, nil
	}
	marks, err := marksOf(vm.Config.ExtraConfig)
	if err != nil {
		return nil, fmt.Errorf("%s (%s): %w", vm.Name, vm.Self.Value, err)
	}
	var out []flow.MarkedNIC
	for _, d := range vm.Config.Hardware.Device {
		mac := macOf(d)
		m, ok := marks[mac]
		if !ok || mac == "" {
			continue
		}
		now, err := connectionOf(d.GetVirtualDevice(), vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn)
		if err != nil {
			return nil, err
		}
		st := now.status()
		st.Mark = &m.Mark
		vds := m.vds
		if vds == "" {
			vds = vm.Name
		}
		a.seen(vm.Self, vds)
		out = append(out, flow.MarkedNIC{
			NIC: flow.NIC{VDS: vds, Hypervisor: a.cfg.Name, MAC: mac, IP: m.ip}, Status: st,
		})
	}
	return out, nil
}
