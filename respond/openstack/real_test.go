package openstack

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/loopback"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/gophercloud/gophercloud/v2"
	gopenstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
)

// TestReal runs the suite against Keystone and Neutron as Debian ships them,
// with SQLite and a driver without a data plane, in a directory of its own. It
// takes a minute, so that it is asked for:
//
//	apt-get install --no-install-recommends keystone neutron-server neutron-plugin-ml2
//	FLOWCORDON_OPENSTACK=1 go test -run TestReal ./respond/openstack
func TestReal(t *testing.T) {
	if os.Getenv("FLOWCORDON_OPENSTACK") == "" {
		t.Skip("FLOWCORDON_OPENSTACK is not set: the double stands in for Neutron")
	}
	r := startReal(t)
	suite(t, func(*testing.T) *region { return r })
	t.Run("an application credential", func(t *testing.T) {
		r.port(t, nil)
		cfg := r.cfg
		cfg.Username, cfg.Password, cfg.Project, cfg.UserDomain = "", "", "", ""
		cfg.AppCredential, cfg.AppSecret = r.appCredential(t)
		a := New(cfg, Deps{})
		defer a.Close()
		m := suspendertest.Mark("inc-1")
		rec := mustCut(t, a, nic1(), m)
		if err := a.Restore(t.Context(), nic1(), m, rec); err != nil {
			t.Error(err)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		cfg := r.cfg
		cfg.Password = "wrong"
		_, err := New(cfg, Deps{}).Status(t.Context(), nic1())
		wantClass(t, "Status", err, flow.ErrDenied)
	})
}

func startReal(t *testing.T) *region {
	t.Helper()
	for _, bin := range []string{"keystone-manage", "keystone-wsgi-public", "neutron-db-manage", "neutron-server"} {
		if _, err := exec.LookPath(bin); err != nil {
			t.Fatalf("FLOWCORDON_OPENSTACK is set, but %v: install keystone, neutron-server and neutron-plugin-ml2", err)
		}
	}
	dir := t.TempDir()
	quiet := loopback.Quiet()
	host, kport, nport := quiet.String(), freePort(t, quiet), freePort(t, quiet)
	replace := strings.NewReplacer("DIR", dir, "HOST", host, "KEYSTONE_PORT", kport, "NEUTRON_PORT", nport)
	for _, name := range []string{"keystone.conf", "neutron.conf"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(replace.Replace(string(text))), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"fernet", "credential", "state/lock"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	me := strconv.Itoa(os.Getuid())
	keystone := func(args ...string) []string {
		return append([]string{"keystone-manage", "--config-file", filepath.Join(dir, "keystone.conf")}, args...)
	}
	kurl, nurl := "http://"+host+":"+kport+"/v3/", "http://"+host+":"+nport
	tool(t, dir, keystone("db_sync")...)
	tool(t, dir, keystone("fernet_setup", "--keystone-user", me, "--keystone-group", strconv.Itoa(os.Getgid()))...)
	tool(t, dir, keystone("credential_setup", "--keystone-user", me, "--keystone-group", strconv.Itoa(os.Getgid()))...)
	tool(t, dir, keystone("bootstrap", "--bootstrap-password", "secret", "--bootstrap-admin-url", kurl,
		"--bootstrap-internal-url", kurl, "--bootstrap-public-url", kurl, "--bootstrap-region-id", "RegionOne")...)
	wal(t, dir, "keystone.db")
	daemon(t, dir, kurl, "keystone-wsgi-public", "--host", host, "--port", kport)
	register(t, kurl, nurl)
	tables, err := filepath.Abs("testdata/tables.py")
	if err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "/usr/bin/python3", tables, filepath.Join(dir, "neutron.db"))
	wal(t, dir, "neutron.db")
	tool(t, dir, "neutron-db-manage", "--config-file", filepath.Join(dir, "neutron.conf"), "stamp", "heads")
	daemon(t, dir, nurl, "neutron-server", "--config-file", filepath.Join(dir, "neutron.conf"))

	r := &region{cfg: Config{
		Name: "os1", AuthURL: kurl, Region: "RegionOne", Username: "admin", Password: "secret", Project: "admin", Timeout: 2 * time.Minute,
	}}
	r.login(t)
	r.network, r.subnet = r.makeNetwork(t)
	return r
}

func (r *region) makeNetwork(t *testing.T) (network, subnet string) {
	t.Helper()
	var n struct{ Network struct{ ID string } }
	r.do(t, http.MethodPost, "networks", object{"network": object{"name": "public"}}, &n)
	var s struct{ Subnet struct{ ID string } }
	r.do(t, http.MethodPost, "subnets", object{"subnet": object{
		"network_id": n.Network.ID, "ip_version": 4, "cidr": "22.1.0.0/24", "enable_dhcp": false,
	}}, &s)
	return n.Network.ID, s.Subnet.ID
}

// register puts Neutron into Keystone's catalogue.
func register(t *testing.T, kurl, nurl string) {
	t.Helper()
	p, err := gopenstack.AuthenticatedClient(t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: kurl, Username: "admin", Password: "secret", DomainName: "Default", TenantName: "admin",
	})
	if err != nil {
		t.Fatal(err)
	}
	id, err := gopenstack.NewIdentityV3(p, gophercloud.EndpointOpts{})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := services.Create(t.Context(), id, services.CreateOpts{Type: "network", Extra: map[string]any{"name": "neutron"}}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	_, err = endpoints.Create(t.Context(), id, endpoints.CreateOpts{
		Availability: gophercloud.AvailabilityPublic, Name: "neutron", Region: "RegionOne", ServiceID: svc.ID, URL: nurl,
	}).Extract()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *region) appCredential(t *testing.T) (id, secret string) {
	t.Helper()
	endpoint, err := r.cfg.endpoint()
	if err != nil {
		t.Fatal(err)
	}
	var tok struct {
		Token struct{ User struct{ ID string } }
	}
	headers := map[string]string{"X-Subject-Token": r.admin.p.Token()}
	r.keystone(t, http.MethodGet, endpoint+"auth/tokens", &gophercloud.RequestOpts{JSONResponse: &tok, MoreHeaders: headers})
	var out struct {
		Cred struct{ ID, Secret string } `json:"application_credential"`
	}
	in := object{"application_credential": object{"name": "flowcordon", "roles": []object{{"name": "admin"}}}}
	r.keystone(t, http.MethodPost, endpoint+"users/"+tok.Token.User.ID+"/application_credentials",
		&gophercloud.RequestOpts{JSONBody: in, JSONResponse: &out, OkCodes: []int{http.StatusCreated}})
	return out.Cred.ID, out.Cred.Secret
}

func (r *region) keystone(t *testing.T, method, url string, opts *gophercloud.RequestOpts) {
	t.Helper()
	resp, err := r.admin.p.Request(t.Context(), method, url, opts)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func freePort(t *testing.T, on netip.Addr) string {
	t.Helper()
	a, err := loopback.FreeOn(on, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(a.Port()))
}

// wal lets SQLite write while one of the server's own connections still reads.
func wal(t *testing.T, dir, db string) {
	t.Helper()
	tool(t, dir, "/usr/bin/python3", "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode=WAL')", filepath.Join(dir, db))
}

func tail(s string) string {
	const most = 8000
	return s[max(0, len(s)-most):]
}

func environment(dir string) []string {
	return append(os.Environ(), "OS_KEYSTONE_CONFIG_DIR="+dir, "OS_KEYSTONE_CONFIG_FILES=keystone.conf", "HOME="+dir)
}

func tool(t *testing.T, dir string, args ...string) {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, environment(dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	t.Logf("%s: %v", filepath.Base(args[0])+" "+args[len(args)-1], time.Since(start).Round(100*time.Millisecond))
}

// daemon starts a server, waits until it answers and stops it with the test.
func daemon(t *testing.T, dir, url string, args ...string) {
	t.Helper()
	start := time.Now()
	var out bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environment(dir), &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its workers stop with it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], tail(out.String()))
		}
	})
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			_ = resp.Body.Close()
			t.Logf("%s answers after %v", args[0], time.Since(start).Round(100*time.Millisecond))
			return
		}
		select {
		case err := <-ended:
			ended <- err
			log, _ := os.ReadFile(filepath.Join(dir, strings.SplitN(args[0], "-", 2)[0]+".log"))
			t.Fatalf("%s ended: %v\n%s\n%.3000s", args[0], err, out.String(), log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal(fmt.Sprintf("%s does not answer: %v\n", args[0], err), out.String())
		}
	}
}
