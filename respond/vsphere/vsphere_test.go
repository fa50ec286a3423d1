package vsphere

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	user     = "flowcordon@vsphere.local"
	password = "/etc/hostname" // looks like a path on purpose: it must not be read as one
)

// vsim is govmomi's simulator behind a TLS server of ours that can hold
// calls back and lose answers.
type vsim struct {
	t     *testing.T
	model *simulator.Model
	front *httptest.Server
	admin *vimClient

	mu    sync.Mutex
	hook  func(method string, w http.ResponseWriter, r *http.Request, next http.Handler) bool // true: it answered
	calls map[string]int
}

type vimClient struct{ *govmomi.Client }

func newVCenter(t *testing.T) *vsim {
	t.Helper()
	v := &vsim{t: t, model: simulator.VPX(), calls: map[string]int{}}
	if err := v.model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.model.Remove)
	v.model.Service.Listen = &url.URL{User: url.UserPassword(user, password)}
	s := v.model.Service.NewServer()
	t.Cleanup(s.Close)
	v.front = httptest.NewUnstartedServer(http.HandlerFunc(v.serve))
	v.front.Config.ErrorLog = nil
	v.front.StartTLS()
	t.Cleanup(v.front.Close)
	c, err := govmomi.NewClient(t.Context(), &url.URL{Scheme: "http", Host: s.URL.Host, Path: s.URL.Path}, true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = methods.Login(t.Context(), c.Client, &types.Login{This: *c.ServiceContent.SessionManager, UserName: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	v.admin = &vimClient{c}
	return v
}

func (v *vsim) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	method := methodOf(body)
	v.mu.Lock()
	hook := v.hook
	v.calls[method]++
	v.mu.Unlock()
	if hook != nil && hook(method, w, r, v.model.Service.ServeMux) {
		return
	}
	v.model.Service.ServeMux.ServeHTTP(w, r)
}

// methodOf is the name of the element in the SOAP body.
func methodOf(body []byte) string {
	_, rest, _ := bytes.Cut(body, []byte("Body"))
	_, rest, _ = bytes.Cut(rest, []byte("<"))
	name, _, _ := bytes.Cut(rest, []byte(" "))
	return string(name)
}

func (v *vsim) on(hook func(method string, w http.ResponseWriter, r *http.Request, next http.Handler) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hook = hook
}

func (v *vsim) called(method string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls[method]
}

func (v *vsim) config() Config {
	sum := sha256.Sum256(v.front.Certificate().Raw)
	return Config{
		Name: "vc1", URL: v.front.URL, Username: user, Password: password,
		Thumbprint: hex.EncodeToString(sum[:]), Timeout: 30 * time.Second,
	}
}

func (v *vsim) adapter() *Adapter {
	a := New(v.config(), Deps{})
	v.t.Cleanup(a.Close)
	return a
}

// vm is one of the simulator's four virtual machines.
func (v *vsim) vm(i int) *simulator.VirtualMachine {
	v.t.Helper()
	all := v.model.Map().All("VirtualMachine")
	if i >= len(all) {
		v.t.Fatalf("the simulator has %d machines", len(all))
	}
	slices.SortFunc(all, func(a, b mo.Entity) int { return strings.Compare(a.Reference().Value, b.Reference().Value) })
	return all[i].(*simulator.VirtualMachine)
}

func (v *vsim) object(vm *simulator.VirtualMachine) *object.VirtualMachine {
	return object.NewVirtualMachine(v.admin.Client.Client, vm.Self)
}

func (v *vsim) read(vm *simulator.VirtualMachine) mo.VirtualMachine {
	v.t.Helper()
	var out mo.VirtualMachine
	err := property.DefaultCollector(v.admin.Client.Client).RetrieveOne(v.t.Context(), vm.Self, []string{"name", "config", "runtime.powerState"}, &out)
	if err != nil {
		v.t.Fatal(err)
	}
	return out
}

func (v *vsim) done(task *object.Task, err error) {
	v.t.Helper()
	if err == nil {
		err = task.Wait(v.t.Context())
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *vsim) nics(vm *simulator.VirtualMachine) []types.BaseVirtualDevice {
	v.t.Helper()
	var out []types.BaseVirtualDevice
	for _, d := range v.read(vm).Config.Hardware.Device {
		if macOf(d) != "" {
			out = append(out, d)
		}
	}
	return out
}

func (v *vsim) nic(vm *simulator.VirtualMachine) flow.NIC {
	v.t.Helper()
	return flow.NIC{
		VDS: vm.Name, Hypervisor: "vc1", MAC: strings.ToUpper(macOf(v.nics(vm)[0])), IP: netip.MustParseAddr("22.1.0.7"),
	}
}

// reconfigure changes the first NIC as an admin would.
func (v *vsim) reconfigure(vm *simulator.VirtualMachine, change func(*types.VirtualEthernetCard)) {
	v.t.Helper()
	d := v.nics(vm)[0]
	change(d.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard())
	v.done(v.object(vm).Reconfigure(v.t.Context(), types.VirtualMachineConfigSpec{
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: d,
		}},
	}))
}

func mustCut(t *testing.T, a *Adapter, nic flow.NIC, m flow.Mark) flow.Receipt {
	t.Helper()
	r, err := a.Cut(t.Context(), nic, m)
	if err != nil {
		t.Fatalf("Cut: %v", err)
	}
	return r
}

func mustStatus(t *testing.T, a *Adapter, nic flow.NIC) flow.NICStatus {
	t.Helper()
	st, err := a.Status(t.Context(), nic)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return st
}

func mustRestore(t *testing.T, a *Adapter, nic flow.NIC, m flow.Mark, r flow.Receipt) {
	t.Helper()
	if err := a.Restore(t.Context(), nic, m, r); err != nil {
		t.Fatalf("Restore: %v", err)
	}
}

func wantClass(t *testing.T, what string, err error, want flow.ErrClass) {
	t.Helper()
	if got := suspendertest.Class(err); got != want {
		t.Errorf("%s: class %q (%v), want %q", what, got, err, want)
	}
}

func TestConformance(t *testing.T) {
	suspendertest.Run(t, func(t *testing.T) suspendertest.Fixture {
		v := newVCenter(t)
		vm := v.vm(0)
		missing := flow.NIC{VDS: "nobody", Hypervisor: "vc1", MAC: "00:50:56:ff:ff:fe", IP: netip.MustParseAddr("22.1.0.8")}
		return suspendertest.Fixture{S: v.adapter(), NIC: v.nic(vm), Missing: missing}
	})
}

// The machine's whole configuration is compared: nothing but the connection and
// our mark may change, and a restore leaves nothing at all behind.
func TestNothingElseChanges(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	v.reconfigure(vm, func(c *types.VirtualEthernetCard) {
		c.Connectable.AllowGuestControl = true
		c.ExternalId = "port-of-the-panel"
		c.WakeOnLanEnabled = types.NewBool(true)
		c.ResourceAllocation = &types.VirtualEthernetCardResourceAllocation{
			Reservation: types.NewInt64(3), Share: types.SharesInfo{Shares: 20, Level: types.SharesLevelCustom}, Limit: types.NewInt64(200),
		}
	})
	v.done(v.object(vm).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{
		Annotation: "the panel's own", ExtraConfig: []types.BaseOptionValue{
			&types.OptionValue{Key: "guestinfo.panel", Value: `{"id": "42"}`},
			&types.OptionValue{Key: "flowcordon.note", Value: "an admin's own, not a mark"},
		},
	}))
	a, nic := v.adapter(), v.nic(vm)
	before := v.read(vm)
	m := suspendertest.Mark("inc-1")
	r := mustCut(t, a, nic, m)
	if got, want := string(r.Undo), `{"connected":true,"start_connected":true,"guest_control":true,"running":true}`; got != want {
		t.Errorf("Receipt.Undo = %s, want %s", got, want)
	}
	cut := v.read(vm)
	con := v.nics(vm)[0].GetVirtualDevice().Connectable
	if con.Connected || con.StartConnected || con.AllowGuestControl {
		t.Errorf("cut, but connectable is %+v", con)
	}
	hide := cmp.Options{
		cmp.FilterPath(func(p cmp.Path) bool {
			switch p.Last().String() {
			case ".ChangeVersion", ".Modified":
				return true
			}
			return false
		}, cmp.Ignore()),
		// The simulator hangs an edited device to the end of the list and
		// makes its summary anew; vCenter does neither.
		cmp.Transformer("byKey", func(in []types.BaseVirtualDevice) map[int32]types.BaseVirtualDevice {
			out := map[int32]types.BaseVirtualDevice{}
			for _, d := range in {
				out[d.GetVirtualDevice().Key] = d
			}
			return out
		}),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Summary" }, cmp.Ignore()),
	}
	hideCut := append(cmp.Options{
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Connectable" }, cmp.Ignore()),
		cmp.Transformer("withoutMark", func(in []types.BaseOptionValue) map[string]any {
			out := map[string]any{}
			for _, o := range in {
				if ov := o.GetOptionValue(); macOfKey(ov.Key) == "" {
					out[ov.Key] = ov.Value
				}
			}
			return out
		}),
	}, hide...)
	if diff := cmp.Diff(before, cut, hideCut); diff != "" {
		t.Errorf("the cut changed more than the connection and the mark (-before +cut):\n%s", diff)
	}
	mustRestore(t, a, nic, m, r)
	if diff := cmp.Diff(before, v.read(vm), hide); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

// A NIC that an admin had disconnected stays so.
func TestFormerStateComesBack(t *testing.T) {
	for name, c := range map[string]types.VirtualDeviceConnectInfo{
		"unplugged now, plugged in at power-on": {StartConnected: true},
		"plugged in now, not at power-on":       {Connected: true, AllowGuestControl: true},
		"unplugged altogether":                  {},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVCenter(t)
			vm := v.vm(0)
			v.reconfigure(vm, func(e *types.VirtualEthernetCard) { was := c; e.Connectable = &was })
			a, nic, m := v.adapter(), v.nic(vm), suspendertest.Mark("inc-1")
			r := mustCut(t, a, nic, m)
			if got := *v.nics(vm)[0].GetVirtualDevice().Connectable; got != (types.VirtualDeviceConnectInfo{}) {
				t.Errorf("cut: %+v", got)
			}
			mustRestore(t, a, nic, m, r)
			if diff := cmp.Diff(c, *v.nics(vm)[0].GetVirtualDevice().Connectable); diff != "" {
				t.Errorf("restored (-before +after):\n%s", diff)
			}
		})
	}
}

func TestPowerCycle(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic, m := v.adapter(), v.nic(vm), suspendertest.Mark("inc-1")
	r := mustCut(t, a, nic, m)
	v.done(v.object(vm).PowerOff(t.Context()))
	if st := mustStatus(t, a, nic); !st.Cut() || st.Running {
		t.Errorf("powered off: %+v, want it cut", st)
	}
	v.done(v.object(vm).PowerOn(t.Context()))
	if st := mustStatus(t, a, nic); !st.Cut() || !st.Running || st.Mark == nil {
		t.Errorf("powered on again: %+v, want it still cut", st)
	}
	v.done(v.object(vm).PowerOff(t.Context()))
	mustRestore(t, a, nic, m, r)
	if st := mustStatus(t, a, nic); st.Config != flow.LinkUp || st.Mark != nil {
		t.Errorf("given back while off: %+v", st)
	}
	v.done(v.object(vm).PowerOn(t.Context()))
	if st := mustStatus(t, a, nic); st.Live != flow.LinkUp {
		t.Errorf("started after that: %+v, want it up", st)
	}
}

// A machine that was off when it was cut and runs when it is given back.
func TestCutWhileOff(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	v.done(v.object(vm).PowerOff(t.Context()))
	a, nic, m := v.adapter(), v.nic(vm), suspendertest.Mark("inc-1")
	r := mustCut(t, a, nic, m)
	v.done(v.object(vm).PowerOn(t.Context()))
	if st := mustStatus(t, a, nic); !st.Cut() || !st.Running {
		t.Errorf("started: %+v, want it cut", st)
	}
	mustRestore(t, a, nic, m, r)
	if st := mustStatus(t, a, nic); st.Live != flow.LinkUp || st.Config != flow.LinkUp {
		t.Errorf("given back: %+v, want it up", st)
	}
}

func hungUp(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

// context of a request ends when its client goes away: that is what frees the
// handler below.
func TestHang(t *testing.T) {
	for _, method := range []string{"RetrieveServiceContent", "Login", "RetrievePropertiesEx", "ReconfigVM_Task"} {
		t.Run(method, func(t *testing.T) {
			v := newVCenter(t)
			nic, m := v.nic(v.vm(0)), suspendertest.Mark("inc-1")
			freed := make(chan struct{}, 10)
			var hung atomic.Bool
			v.on(func(got string, _ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
				if got != method {
					return false
				}
				hung.Store(true)
				<-r.Context().Done()
				freed <- struct{}{}
				return true
			})
			// A machine so slow that the call is not reached in time gets more of it.
			for timeout := time.Second; !hung.Load() && timeout < 5*time.Minute; timeout *= 4 {
				cfg := v.config()
				cfg.Timeout = timeout
				_, err := New(cfg, Deps{}).Cut(t.Context(), nic, m)
				wantClass(t, "Cut", err, flow.ErrTransient)
				if err == nil || !strings.Contains(err.Error(), errDeadline.Error()) {
					t.Errorf("error %v does not name the deadline", err)
				}
			}
			select {
			case <-freed:
			case <-time.After(time.Minute):
				t.Error("the connection to the hung server is still open")
			}
			v.on(nil)
			if r := mustCut(t, v.adapter(), nic, m); !r.After.Cut() {
				t.Errorf("after it answers again: %+v", r.After)
			}
		})
	}
}

// A server that accepts the connection and never says a word of TLS.
func TestHangBeforeTLS(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	gone := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			gone <- err
			return
		}
		_, err = io.Copy(io.Discard, c) // until the client closes
		gone <- err
	}()
	a := New(Config{Name: "vc1", URL: "https://" + ln.Addr().String(), Username: user, Password: password, Timeout: 3 * time.Second}, Deps{})
	_, err = a.Status(t.Context(), flow.NIC{VDS: "x", MAC: "00:50:56:00:00:01"})
	wantClass(t, "Status", err, flow.ErrTransient)
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the connection is still open after the deadline")
	}
}

// The server acts and its answer is lost: the repeat finds the work done and
// tells the state from before it.
func TestDropAfterActing(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic, m := v.adapter(), v.nic(vm), suspendertest.Mark("inc-1")
	before := mustStatus(t, a, nic)
	drop := func(got string, w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if got != "ReconfigVM_Task" {
			return false
		}
		next.ServeHTTP(httptest.NewRecorder(), r)
		hungUp(w)
		return true
	}
	v.on(drop)
	_, err := a.Cut(t.Context(), nic, m)
	wantClass(t, "Cut with its answer lost", err, flow.ErrTransient)
	v.on(nil)
	acts := v.called("ReconfigVM_Task")
	r := mustCut(t, a, nic, m)
	if n := v.called("ReconfigVM_Task") - acts; n != 0 {
		t.Errorf("the repeat reconfigured %d times, want none: it was cut already", n)
	}
	if diff := cmp.Diff(before, r.Before); diff != "" {
		t.Errorf("Receipt.Before (-first +repeat):\n%s", diff)
	}
	v.on(drop)
	wantClass(t, "Restore with its answer lost", a.Restore(t.Context(), nic, m, r), flow.ErrTransient)
	v.on(nil)
	mustRestore(t, a, nic, m, r)
	if diff := cmp.Diff(before, mustStatus(t, a, nic)); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}

func TestDeleted(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic, m := v.adapter(), v.nic(vm), suspendertest.Mark("inc-1")
	r := mustCut(t, a, nic, m)
	v.done(v.object(vm).PowerOff(t.Context()))
	v.done(v.object(vm).Destroy(t.Context()))
	_, err := a.Status(t.Context(), nic)
	wantClass(t, "Status", err, flow.ErrNotFound)
	_, err = a.Cut(t.Context(), nic, m)
	wantClass(t, "Cut", err, flow.ErrNotFound)
	wantClass(t, "Restore", a.Restore(t.Context(), nic, m, r), flow.ErrNotFound)
}

// Rebuilt with another MAC: the old NIC is not found, the new one is up and
// carries no mark; what was left of the old one goes with the new one's restore.
func TestNewMAC(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic, m := v.adapter(), v.nic(vm), suspendertest.Mark("inc-1")
	mustCut(t, a, nic, m)
	old := v.nics(vm)[0]
	v.done(v.object(vm).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: old},
	}}))
	fresh := &types.VirtualVmxnet3{}
	fresh.Backing, fresh.MacAddress = old.GetVirtualDevice().Backing, "00:50:56:aa:bb:01"
	fresh.Connectable = &types.VirtualDeviceConnectInfo{Connected: true, StartConnected: true}
	v.done(v.object(vm).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: fresh},
	}}))
	_, err := a.Status(t.Context(), nic)
	wantClass(t, "Status of the old NIC", err, flow.ErrNotFound)
	nic.MAC = "00:50:56:aa:bb:01"
	if st := mustStatus(t, a, nic); st.Cut() || st.Mark != nil {
		t.Errorf("the new NIC: %+v, want it up and unmarked", st)
	}
	r := mustCut(t, a, nic, m)
	mustRestore(t, a, nic, m, r)
	for _, o := range v.read(vm).Config.ExtraConfig {
		if k := o.GetOptionValue().Key; macOfKey(k) != "" {
			t.Errorf("%s is left behind", k)
		}
	}
}

func TestTwoNICs(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	second := &types.VirtualE1000e{}
	second.Backing, second.MacAddress = v.nics(vm)[0].GetVirtualDevice().Backing, "00:50:56:aa:bb:02"
	second.Connectable = &types.VirtualDeviceConnectInfo{Connected: true, StartConnected: true}
	v.done(v.object(vm).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: second},
	}}))
	a, public := v.adapter(), v.nic(vm)
	private := public
	private.MAC = "00:50:56:aa:bb:02"
	m, other := suspendertest.Mark("inc-1"), suspendertest.Mark("inc-2")
	r := mustCut(t, a, public, m)
	if st := mustStatus(t, a, private); st.Cut() || st.Mark != nil {
		t.Errorf("the other NIC: %+v, want it untouched", st)
	}
	r2 := mustCut(t, a, private, other)
	mustRestore(t, a, public, m, r)
	if st := mustStatus(t, a, private); !st.Cut() || st.Mark == nil || st.Mark.Incident != "inc-2" {
		t.Errorf("the other NIC, cut for another incident: %+v", st)
	}
	mustRestore(t, a, private, other, r2)
	noMAC := public
	noMAC.MAC = ""
	_, err := a.Cut(t.Context(), noMAC, m)
	wantClass(t, "Cut without a MAC of a machine with two NICs", err, flow.ErrNotFound)
}

// endSessions ends every login but the admin's.
func (v *vsim) endSessions() {
	v.t.Helper()
	c := v.admin.Client.Client
	var sm mo.SessionManager
	err := property.DefaultCollector(c).RetrieveOne(v.t.Context(), *c.ServiceContent.SessionManager, []string{"sessionList", "currentSession"}, &sm)
	if err != nil {
		v.t.Fatal(err)
	}
	var ids []string
	for _, s := range sm.SessionList {
		if sm.CurrentSession == nil || s.Key != sm.CurrentSession.Key {
			ids = append(ids, s.Key)
		}
	}
	if len(ids) == 0 {
		v.t.Fatal("the adapter has no session")
	}
	_, err = methods.TerminateSession(v.t.Context(), c, &types.TerminateSession{This: *c.ServiceContent.SessionManager, SessionId: ids})
	if err != nil {
		v.t.Fatal(err)
	}
}

func TestSessionEnded(t *testing.T) {
	v := newVCenter(t)
	a, nic, m := v.adapter(), v.nic(v.vm(0)), suspendertest.Mark("inc-1")
	mustStatus(t, a, nic)
	v.endSessions()
	r := mustCut(t, a, nic, m)
	v.endSessions()
	mustRestore(t, a, nic, m, r)
	if n := v.called("Login"); n != 3 {
		t.Errorf("%d logins, want 3", n)
	}
	a.Close()
	if n := v.called("Logout"); n != 1 {
		t.Errorf("%d logouts, want 1", n)
	}
}

func TestMany(t *testing.T) {
	v := newVCenter(t)
	a := v.adapter()
	var wg sync.WaitGroup
	for i := range 4 {
		nic := v.nic(v.vm(i))
		wg.Go(func() {
			m := suspendertest.Mark("inc-" + nic.VDS)
			r, err := a.Cut(t.Context(), nic, m)
			if err != nil {
				t.Errorf("Cut %s: %v", nic.VDS, err)
				return
			}
			if err := a.Restore(t.Context(), nic, m, r); err != nil {
				t.Errorf("Restore %s: %v", nic.VDS, err)
			}
		})
	}
	wg.Wait()
	if n := v.called("Login"); n != 1 {
		t.Errorf("%d logins for operations beside each other, want 1", n)
	}
	if _, err := a.Status(context.Background(), v.nic(v.vm(0))); err != nil {
		t.Error(err)
	}
}

// Moved to another host while cut, as DRS would: found again, still cut, and
// given back there.
func TestMoved(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic, m := v.adapter(), v.nic(vm), suspendertest.Mark("inc-1")
	r := mustCut(t, a, nic, m)
	var other types.ManagedObjectReference
	for _, h := range v.model.Map().All("HostSystem") {
		if h.Reference() != *vm.Runtime.Host {
			other = h.Reference()
		}
	}
	v.done(v.object(vm).Relocate(t.Context(), types.VirtualMachineRelocateSpec{Host: &other}, types.VirtualMachineMovePriorityHighPriority))
	if st := mustStatus(t, a, nic); !st.Cut() || st.Mark == nil {
		t.Errorf("after the move: %+v, want it still cut", st)
	}
	if again := mustCut(t, a, nic, m); again.Node == r.Node {
		t.Errorf("node %q, want the new host", again.Node)
	}
	mustRestore(t, a, nic, m, r)
	if diff := cmp.Diff(r.Before, mustStatus(t, a, nic)); diff != "" {
		t.Errorf("after the restore (-before +after):\n%s", diff)
	}
}
