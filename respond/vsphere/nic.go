package vsphere

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	// A reconfiguration of a cable takes 0.3 to 2 s; its task is asked for at
	// these distances, the first soon, for lone hosts are faster.
	pollMin = 20 * time.Millisecond
	pollMax = 500 * time.Millisecond
)

// target is one NIC of one virtual machine, read at one moment.
type target struct {
	ref     types.ManagedObjectReference
	name    string
	node    string // host it runs on
	mac     string
	version string // changeVersion
	dev     types.BaseVirtualDevice
	now     connection
	marks   map[string]mark // of the whole machine, by MAC
	macs    []string        // of all its NICs
}

var targetProps = []string{
	"name", "config.changeVersion", "config.hardware.device", "config.extraConfig",
	"runtime.powerState", "runtime.host", "runtime.connectionState",
}

// load reads the machine; nil if it has no NIC with that MAC.
func load(ctx context.Context, s *session, ref types.ManagedObjectReference, mac string) (*target, error) {
	var vm mo.VirtualMachine
	if err := s.pc.RetrieveOne(ctx, ref, targetProps, &vm); err != nil {
		return nil, fmt.Errorf("read %s: %w", ref.Value, err)
	}
	t, err := targetOf(vm, mac)
	if err != nil || t == nil {
		return nil, err
	}
	t.node = s.hostName(ctx, vm.Runtime.Host)
	return t, nil
}

func targetOf(vm mo.VirtualMachine, mac string) (*target, error) {
	// What vCenter says of a machine whose host it does not hear is what once was.
	if st := vm.Runtime.ConnectionState; st != types.VirtualMachineConnectionStateConnected {
		return nil, fail(flow.ErrTransient, "%s (%s) is %q for its vCenter: host lost or files out of reach", vm.Name, vm.Self.Value, st)
	}
	if vm.Config == nil {
		return nil, fail(flow.ErrTransient, "vCenter has no configuration of %s (%s): still being made, or no right to read it",
			vm.Name, vm.Self.Value)
	}
	t := &target{ref: vm.Self, name: vm.Name, mac: mac, version: vm.Config.ChangeVersion}
	for _, d := range vm.Config.Hardware.Device {
		m := macOf(d)
		if m == "" {
			continue
		}
		t.macs = append(t.macs, m)
		if m != mac {
			continue
		}
		if t.dev != nil {
			return nil, fail(flow.ErrConflict, "%s has two NICs with the MAC %s; give each its own", vm.Name, mac)
		}
		t.dev = d
	}
	if t.dev == nil {
		return nil, nil
	}
	var err error
	if t.now, err = connectionOf(t.dev.GetVirtualDevice(), vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn); err != nil {
		return nil, err
	}
	t.marks, err = marksOf(vm.Config.ExtraConfig)
	return t, err
}

// macOf is the MAC of a NIC in lower case, empty for any other device.
func macOf(d types.BaseVirtualDevice) string {
	if c, ok := d.(types.BaseVirtualEthernetCard); ok {
		return strings.ToLower(c.GetVirtualEthernetCard().MacAddress)
	}
	return ""
}

// hostName is the name of the host, or its id where we may not read that.
func (s *session) hostName(ctx context.Context, ref *types.ManagedObjectReference) string {
	if ref == nil {
		return ""
	}
	var h mo.HostSystem
	if err := s.pc.RetrieveOne(ctx, *ref, []string{"name"}, &h); err != nil || h.Name == "" {
		return ref.Value
	}
	return h.Name
}

func (t *target) status() flow.NICStatus {
	st := t.now.status()
	if m, ok := t.marks[t.mac]; ok {
		st.Mark = &m.Mark
	}
	return st
}

// cut disconnects the NIC and leaves the mark, both in one call.
func (t *target) cut(ctx context.Context, s *session, nic flow.NIC, m flow.Mark) (flow.Receipt, error) {
	own := mark{Mark: m, vds: nic.VDS, ip: nic.IP, was: t.now}
	own.Reason = shorten(own.Reason)
	old, marked := t.marks[t.mac]
	if marked {
		if old.Incident != m.Incident {
			return flow.Receipt{}, fail(flow.ErrConflict, "%s: NIC %s is already cut for incident %s by %s", t.name, t.mac, old.Incident, old.By)
		}
		own = old
	}
	back := t
	if !marked || t.now != cutOff(t.now.Running) {
		extra := []types.BaseOptionValue{&types.OptionValue{Key: markKey(t.mac), Value: own.text()}}
		if err := t.reconfigure(ctx, s, cutOff(t.now.Running), extra); err != nil {
			return flow.Receipt{}, err
		}
		var err error
		if back, err = t.again(ctx, s); err != nil {
			return flow.Receipt{}, err
		}
	}
	st := back.status()
	if !st.Cut() || st.Mark == nil || st.Mark.Incident != m.Incident {
		return flow.Receipt{}, fail(flow.ErrConflict, "%s: NIC %s reads back live %s, at power-on %s after the cut", t.name, t.mac, st.Live, st.Config)
	}
	undo, err := json.Marshal(own.was)
	if err != nil {
		return flow.Receipt{}, fmt.Errorf("encode the former state: %w", err)
	}
	return flow.Receipt{Before: own.was.status(), After: st, Node: back.node, Undo: undo}, nil
}

// restore gives the NIC its former connection back and takes the mark away.
func (t *target) restore(ctx context.Context, s *session, m flow.Mark, r flow.Receipt) error {
	old, marked := t.marks[t.mac]
	if !marked {
		return t.restored(r)
	}
	if old.Incident != m.Incident {
		return fail(flow.ErrConflict, "%s: NIC %s is cut for incident %s by %s, not for %s; it stays as it is",
			t.name, t.mac, old.Incident, old.By, m.Incident)
	}
	want := old.was
	switch {
	case !t.now.Running: // it cannot be connected; the next power-on does that
		want.Connected = t.now.Connected
	case !old.was.Running: // it was started since: as it would have started then
		want.Connected = want.StartConnected
	}
	want.Running = t.now.Running
	if err := t.reconfigure(ctx, s, want, t.withoutMarks(m.Incident)); err != nil {
		return err
	}
	back, err := t.again(ctx, s)
	if err != nil {
		return err
	}
	if _, still := back.marks[t.mac]; still || back.now != want {
		return fail(flow.ErrConflict, "%s: NIC %s reads back %+v after the restore, want %+v without a mark", t.name, t.mac, back.now, want)
	}
	return nil
}

// withoutMarks takes away the mark of this NIC and those of the same incident
// on NICs that the machine no longer has. An empty value removes a key.
func (t *target) withoutMarks(incident string) []types.BaseOptionValue {
	have := map[string]bool{}
	for _, m := range t.macs {
		have[m] = true
	}
	var out []types.BaseOptionValue
	for mac, m := range t.marks {
		if mac == t.mac || m.Incident == incident && !have[mac] {
			out = append(out, &types.OptionValue{Key: markKey(mac), Value: ""})
		}
	}
	return out
}

// restored answers a restore that finds no mark: nothing is left to do when the
// NIC is as the receipt says, because then an earlier call did it and only its
// answer was lost. Otherwise the state is somebody else's work.
func (t *target) restored(r flow.Receipt) error {
	want, st := r.Before, t.status()
	if want.Config == "" { // no receipt: a NIC nobody cut is up
		want = flow.NICStatus{Live: flow.LinkUp, Config: flow.LinkUp, Running: true}
	}
	live := want.Live
	if !want.Running {
		live = want.Config
	}
	if st.Config == want.Config && (!st.Running || st.Live == live) {
		return nil
	}
	return fail(flow.ErrConflict, "%s: NIC %s carries no mark of ours and is live %s, at power-on %s; somebody else set it, so it stays as it is",
		t.name, t.mac, st.Live, st.Config)
}

// spec is the change of one NIC: the whole device as it was read, because an
// edit replaces it, with nothing but its connection changed. The version makes
// vCenter refuse it if anybody reconfigured the machine since.
func (t *target) spec(want connection, extra []types.BaseOptionValue) (types.VirtualMachineConfigSpec, error) {
	dev, err := clone(t.dev)
	if err != nil {
		return types.VirtualMachineConfigSpec{}, err
	}
	c := dev.GetVirtualDevice().Connectable
	c.Connected, c.StartConnected, c.AllowGuestControl = want.Connected, want.StartConnected, want.GuestControl
	return types.VirtualMachineConfigSpec{
		ChangeVersion: t.version,
		ExtraConfig:   extra,
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: dev,
		}},
	}, nil
}

func (t *target) reconfigure(ctx context.Context, s *session, want connection, extra []types.BaseOptionValue) error {
	spec, err := t.spec(want, extra)
	if err != nil {
		return err
	}
	res, err := methods.ReconfigVM_Task(ctx, s.Client, &types.ReconfigVM_Task{This: t.ref, Spec: spec})
	if err != nil {
		return fmt.Errorf("reconfigure %s: %w", t.name, err)
	}
	return s.wait(ctx, res.Returnval)
}

// wait polls a task. Not govmomi's task.Wait: when the context ends it destroys
// its collector with a context that never does, and hangs on a server that does.
func (s *session) wait(ctx context.Context, ref types.ManagedObjectReference) error {
	for pause := pollMin; ; pause = min(2*pause, pollMax) {
		var task mo.Task
		if err := s.pc.RetrieveOne(ctx, ref, []string{"info"}, &task); err != nil {
			return fmt.Errorf("ask for %s: %w", ref.Value, err)
		}
		switch task.Info.State {
		case types.TaskInfoStateSuccess:
			return nil
		case types.TaskInfoStateError:
			if task.Info.Error == nil {
				return fmt.Errorf("%s failed without a reason", ref.Value)
			}
			return taskError{ref.Value, task.Info.Error}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still %s", ref.Value, task.Info.State)
		case <-time.After(pause):
		}
	}
}

func (t *target) again(ctx context.Context, s *session) (*target, error) {
	back, err := load(ctx, s, t.ref, t.mac)
	if err == nil && back == nil {
		err = fail(flow.ErrConflict, "%s lost the NIC %s meanwhile", t.name, t.mac)
	}
	return back, err
}

// clone copies a device so far that its connection can be changed alone.
func clone(d types.BaseVirtualDevice) (types.BaseVirtualDevice, error) {
	v := reflect.ValueOf(d)
	if v.Kind() != reflect.Pointer {
		return nil, fmt.Errorf("device of unknown kind %T", d)
	}
	c := reflect.New(v.Elem().Type())
	c.Elem().Set(v.Elem())
	out, ok := c.Interface().(types.BaseVirtualDevice)
	if !ok {
		return nil, fmt.Errorf("device of unknown kind %T", d)
	}
	was := *d.GetVirtualDevice().Connectable
	out.GetVirtualDevice().Connectable = &was
	return out, nil
}
