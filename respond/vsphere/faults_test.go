package vsphere

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// oddVM is a machine whose reconfiguration ends with a fault, or that heeds
// changeVersion as vCenter does and the simulator does not.
type oddVM struct {
	*simulator.VirtualMachine
	direct types.BaseMethodFault // of the call
	task   types.BaseMethodFault // of the task
	before func()                // runs before the call is looked at
}

func (vm *oddVM) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	if vm.before != nil {
		f := vm.before
		vm.before = nil
		f()
	}
	stale := req.Spec.ChangeVersion != "" && req.Spec.ChangeVersion != vm.Config.ChangeVersion
	switch {
	case vm.direct != nil:
		return &methods.ReconfigVM_TaskBody{Fault_: simulator.Fault("said so by the test", vm.direct)}
	case vm.task != nil || stale:
		f := vm.task
		if stale {
			f = &types.ConcurrentAccess{}
		}
		task := simulator.CreateTask(req.This, "reconfigVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, f })
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task.Run(ctx)}}
	}
	return vm.VirtualMachine.ReconfigVMTask(ctx, req)
}

func TestFaults(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	odd := &oddVM{VirtualMachine: vm}
	nic := v.nic(vm)
	v.model.Map().Put(odd)
	a := v.adapter()
	before := mustStatus(t, a, nic)
	for name, c := range map[string]struct {
		fault types.BaseMethodFault
		want  flow.ErrClass
	}{
		"another task holds it":          {&types.TaskInProgress{}, flow.ErrLocked},
		"suspended":                      {&types.InvalidPowerState{}, flow.ErrLocked},
		"in no state for it":             {&types.InvalidState{}, flow.ErrLocked},
		"a backup disabled the method":   {&types.MethodDisabled{}, flow.ErrLocked},
		"files locked":                   {&types.FileLocked{}, flow.ErrLocked},
		"no right":                       {&types.NoPermission{PrivilegeId: "VirtualMachine.Config.EditDevice"}, flow.ErrDenied},
		"reconfigured meanwhile":         {&types.ConcurrentAccess{}, flow.ErrConflict},
		"device changed meanwhile":       {&types.InvalidDeviceSpec{}, flow.ErrConflict},
		"deleted meanwhile":              {&types.ManagedObjectNotFound{Obj: vm.Self}, flow.ErrNotFound},
		"a free ESXi":                    {&types.RestrictedVersion{}, flow.ErrUnsupported},
		"not supported":                  {&types.NotSupported{}, flow.ErrUnsupported},
		"host not to be reached":         {&types.HostNotConnected{}, flow.ErrTransient},
		"not logged in, again and again": {&types.NotAuthenticated{}, flow.ErrTransient},
	} {
		t.Run(name, func(t *testing.T) {
			odd.direct, odd.task = c.fault, nil
			_, err := a.Cut(t.Context(), nic, suspendertest.Mark("inc-1"))
			wantClass(t, "fault of the call", err, c.want)
			if err != nil && !strings.Contains(err.Error(), faultName(c.fault)) {
				t.Errorf("error %q does not name the fault %s", err, faultName(c.fault))
			}
			odd.direct, odd.task = nil, c.fault
			_, err = a.Cut(t.Context(), nic, suspendertest.Mark("inc-1"))
			wantClass(t, "fault of the task", err, c.want)
			if err != nil && !strings.Contains(err.Error(), faultName(c.fault)) {
				t.Errorf("error %q does not name the fault %s", err, faultName(c.fault))
			}
			if diff := cmp.Diff(before, mustStatus(t, a, nic)); diff != "" {
				t.Errorf("after the refusal (-before +after):\n%s", diff)
			}
		})
	}
}

// The panel reconfigures the machine between our reading and our writing: the
// write is refused, and the repeat keeps what the panel did.
func TestReconfiguredMeanwhile(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	nic, m := v.nic(vm), suspendertest.Mark("inc-1")
	odd := &oddVM{VirtualMachine: vm}
	odd.before = func() {
		vm.Config.ChangeVersion = "another"
		vm.Config.Annotation = "the panel was here"
	}
	v.model.Map().Put(odd)
	a := v.adapter()
	_, err := a.Cut(t.Context(), nic, m)
	wantClass(t, "Cut", err, flow.ErrConflict)
	if st := mustStatus(t, a, nic); st.Cut() || st.Mark != nil {
		t.Errorf("after the conflict: %+v, want it untouched", st)
	}
	mustRestore(t, a, nic, m, mustCut(t, a, nic, m))
	if got := v.read(vm).Config.Annotation; got != "the panel was here" {
		t.Errorf("annotation = %q, want the panel's", got)
	}
}

// A mark that was damaged says that the former state is unknown: hands off.
func TestDamagedMark(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic := v.adapter(), v.nic(vm)
	v.done(v.object(vm).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{ExtraConfig: []types.BaseOptionValue{
		&types.OptionValue{Key: markKey(strings.ToLower(nic.MAC)), Value: "incident=inc-1&at=yesterday"},
	}}))
	_, err := a.Cut(t.Context(), nic, suspendertest.Mark("inc-1"))
	wantClass(t, "Cut", err, flow.ErrDenied)
	if c := v.nics(vm)[0].GetVirtualDevice().Connectable; !c.Connected {
		t.Error("disconnected all the same")
	}
}

func TestHostLost(t *testing.T) {
	v := newVCenter(t)
	vm := v.vm(0)
	a, nic := v.adapter(), v.nic(vm)
	vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateDisconnected
	_, err := a.Status(t.Context(), nic)
	wantClass(t, "Status of what is not heard of", err, flow.ErrTransient)
}

func TestLogin(t *testing.T) {
	v := newVCenter(t)
	nic := v.nic(v.vm(0))
	cfg := v.config()
	cfg.Password = "s3cret-and-wrong"
	_, err := New(cfg, Deps{}).Status(t.Context(), nic)
	wantClass(t, "wrong password", err, flow.ErrDenied)
	if err != nil && strings.Contains(err.Error(), cfg.Password) {
		t.Errorf("error %q shows the password", err)
	}
}

func TestTrust(t *testing.T) {
	v := newVCenter(t)
	nic := v.nic(v.vm(0))
	good := filepath.Join(t.TempDir(), "ca.pem")
	writeCert(t, good, v.front.Certificate().Raw)
	other := filepath.Join(t.TempDir(), "other.pem")
	writeCert(t, other, selfSigned(t).Certificate[0])
	pin := v.config().Thumbprint
	for name, c := range map[string]struct {
		change func(*Config)
		want   flow.ErrClass
	}{
		"the right thumbprint":             {func(*Config) {}, ""},
		"with colons, in capitals":         {func(c *Config) { c.Thumbprint = colons(strings.ToUpper(pin)) }, ""},
		"one digit off":                    {func(c *Config) { c.Thumbprint = flip(pin) }, flow.ErrDenied},
		"neither thumbprint nor CA":        {func(c *Config) { c.Thumbprint = "" }, flow.ErrDenied},
		"the right CA file":                {func(c *Config) { c.Thumbprint, c.CAFile = "", good }, ""},
		"another CA file":                  {func(c *Config) { c.Thumbprint, c.CAFile = "", other }, flow.ErrDenied},
		"a SHA-1 thumbprint":               {func(c *Config) { c.Thumbprint = pin[:40] }, flow.ErrUnsupported},
		"thumbprint and CA file":           {func(c *Config) { c.CAFile = good }, flow.ErrUnsupported},
		"no CA file there":                 {func(c *Config) { c.Thumbprint, c.CAFile = "", "/nowhere" }, flow.ErrUnsupported},
		"clear HTTP":                       {func(c *Config) { c.URL = strings.Replace(c.URL, "https", "http", 1) }, flow.ErrUnsupported},
		"a web server that is no vCenter":  {func(c *Config) { c.URL += "/elsewhere" }, flow.ErrTransient},
		"a password in the URL is refused": {func(c *Config) { c.URL = "https://u:geheim@vc/sdk" }, flow.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := v.config()
			c.change(&cfg)
			a := New(cfg, Deps{})
			defer a.Close()
			logins := v.called("Login")
			_, err := a.Status(t.Context(), nic)
			wantClass(t, "Status", err, c.want)
			if c.want != "" && v.called("Login") != logins {
				t.Error("the password was sent")
			}
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("error %q shows the password", err)
			}
		})
	}
}

// A redirect must not carry the login elsewhere.
func TestRedirect(t *testing.T) {
	hit := false
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer thief.Close()
	v := newVCenter(t)
	nic := v.nic(v.vm(0))
	v.on(func(_ string, w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
		return true
	})
	_, err := v.adapter().Status(t.Context(), nic)
	wantClass(t, "Status", err, flow.ErrTransient)
	if hit {
		t.Error("the redirect was followed")
	}
}

func TestValidate(t *testing.T) {
	err := Config{Timeout: -time.Second, Thumbprint: "zz"}.Validate()
	for _, want := range []string{"name:", "url:", "username:", "password_file:", "timeout:", "thumbprint:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, lacks %q", err, want)
		}
	}
	ok := Config{Name: "vc1", URL: "https://vc.example", Username: "u", Password: "p"}
	if err := ok.Validate(); err != nil {
		t.Errorf("Validate() = %v", err)
	}
	if u, _ := ok.endpoint(); u.Path != "/sdk" {
		t.Errorf("path = %q, want /sdk", u.Path)
	}
}

func TestMarked(t *testing.T) {
	v := newVCenter(t)
	a, m := v.adapter(), suspendertest.Mark("inc-1")
	if got, err := a.Marked(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("Marked() = %v, %v, want none", got, err)
	}
	nic := v.nic(v.vm(1))
	nic.VDS = strings.ToUpper(v.vm(1).Config.InstanceUuid)
	r := mustCut(t, a, nic, m)
	want := []flow.MarkedNIC{{NIC: r.NIC, Status: r.After}}
	for name, a := range map[string]*Adapter{"the same process": a, "after a restart": v.adapter()} {
		for range 2 {
			got, err := a.Marked(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(flow.NIC{})); diff != "" {
				t.Errorf("%s: (-want +got):\n%s", name, diff)
			}
		}
	}
	// Stopped behind our back: neither mark nor version changes, the state does.
	v.done(v.object(v.vm(1)).PowerOff(t.Context()))
	if got, err := a.Marked(t.Context()); err != nil || len(got) != 1 || got[0].Status.Running {
		t.Errorf("Marked() = %v, %v, want it stopped", got, err)
	}
	mustRestore(t, a, nic, m, r)
	if got, err := a.Marked(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("Marked() = %v, %v after the restore, want none", got, err)
	}
}

func TestWatch(t *testing.T) {
	v := newVCenter(t)
	a, nic := v.adapter(), v.nic(v.vm(0))
	mustStatus(t, a, nic)
	ctx, cancel := context.WithCancel(t.Context())
	got, ended := make(chan string, 100), make(chan error, 1)
	ready := make(chan struct{}, 100)
	v.on(func(method string, _ http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		if method == "WaitForUpdatesEx" {
			ready <- struct{}{}
		}
		return false
	})
	go func() { ended <- a.Watch(ctx, func(vds string) { got <- vds }) }()
	expect := func(what, want string) {
		t.Helper()
		for {
			select {
			case vds := <-got:
				if vds == want {
					return
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("%s was not told", what)
			}
		}
	}
	<-ready // the first answer is what there is
	<-ready
	v.done(v.object(v.vm(0)).PowerOff(t.Context()))
	expect("a machine that was asked for", nic.VDS)
	v.done(v.object(v.vm(1)).PowerOff(t.Context()))
	expect("a machine nobody asked for", "")
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Watch = %v, want nil", err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("Watch goes on after its context has ended")
	}
}

// The login ends, or the vCenter goes away: Watch comes back by itself and says
// that anything may have changed.
func TestWatchComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := New(Config{Name: "vc1"}, Deps{}) // cannot even connect
		told := 0
		done := make(chan error, 1)
		go func() { done <- a.Watch(ctx, func(string) { told++ }) }()
		time.Sleep(2 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch = %v", err)
		}
		if told < 5 || told > 10 {
			t.Errorf("%d attempts in two minutes, want them 1, 2, 4, … 30 s apart", told)
		}
	})
	v := newVCenter(t)
	a := v.adapter()
	mustStatus(t, a, v.nic(v.vm(0)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 100)
	ready := make(chan struct{}, 100)
	v.on(func(method string, _ http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		if method == "WaitForUpdatesEx" {
			ready <- struct{}{}
		}
		return false
	})
	go func() { _ = a.Watch(ctx, func(vds string) { got <- vds }) }()
	<-ready
	<-ready
	v.front.CloseClientConnections()
	select {
	case vds := <-got:
		if vds != "" {
			t.Errorf("told %q after the connection was lost, want everything", vds)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing was told after the connection was lost")
	}
}

func TestDescribe(t *testing.T) {
	v := newVCenter(t)
	a, nic := v.adapter(), v.nic(v.vm(0))
	got, err := a.Describe(t.Context(), nic, flow.Measure{Kind: flow.MeasureCut})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ReconfigVM_Task", v.vm(0).Self.Value, strings.ToLower(nic.MAC), "connected true→false"} {
		if !strings.Contains(got, want) {
			t.Errorf("Describe = %q, lacks %q", got, want)
		}
	}
	if strings.Contains(got, password) {
		t.Errorf("Describe shows the password: %q", got)
	}
	if st := mustStatus(t, a, nic); st.Cut() {
		t.Error("Describe cut it")
	}
	_, err = a.Describe(t.Context(), nic, flow.Measure{Kind: flow.MeasureBlockPort})
	wantClass(t, "Describe of a port block", err, flow.ErrUnsupported)
	if ms := a.Measures(); len(ms) != 0 {
		t.Errorf("Measures() = %v, want none", ms)
	}
	_, err = a.Restrict(t.Context(), nic, flow.Measure{Kind: flow.MeasureBlockPort}, suspendertest.Mark("inc-1"))
	wantClass(t, "Restrict", err, flow.ErrUnsupported)
}

func colons(s string) string {
	var parts []string
	for i := 0; i < len(s); i += 2 {
		parts = append(parts, s[i:i+2])
	}
	return strings.Join(parts, ":")
}

func flip(s string) string {
	if s[0] == '0' {
		return "1" + s[1:]
	}
	return "0" + s[1:]
}

func writeCert(t *testing.T, file string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
