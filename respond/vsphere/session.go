package vsphere

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/flowcordon/flowcordon/internal/bound"
	"github.com/flowcordon/flowcordon/internal/login"
)

const (
	// maxAnswer bounds one answer: a page of virtual machines with their
	// devices is some 20 kB a machine, at most maxPage of them.
	maxAnswer = 64 << 20

	// byeTimeout bounds what is tidied up after a context has ended.
	byeTimeout = 3 * time.Second
)

// session is a login at the vCenter with a view of all its virtual machines.
type session struct {
	c    *vim25.Client
	pc   *property.Collector
	vms  *view.ContainerView
	http *http.Transport
}

// newKeeper keeps one session and logs in again when it has ended: idle for 30
// minutes, ended by an admin, vCenter restarted.
func newKeeper(cfg Config) *login.Keeper[session] {
	return login.New(func(ctx context.Context) (*session, error) { return open(ctx, cfg) },
		notAuthenticated, func(s *session) { s.http.CloseIdleConnections() })
}

func (s *session) bye() {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	// Without an answer the session ends by itself after its idle time.
	_, _ = methods.Logout(ctx, s.c, &types.Logout{This: *s.c.ServiceContent.SessionManager})
	s.http.CloseIdleConnections()
}

// open dials and logs in.
func open(ctx context.Context, cfg Config) (*session, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	u, err := cfg.endpoint()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	tc, err := cfg.tls()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	// A transport of our own: govmomi's dials TLS without the context, so that
	// a server which accepts and says nothing would hold a dialler for good. No
	// proxy from the environment: it would see a customer's fate.
	tr := &http.Transport{
		DialContext:     (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig: tc, TLSHandshakeTimeout: cfg.timeout(),
		IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 8,
		MaxResponseHeaderBytes: 64 << 10,
	}
	sc := soap.NewClient(u, false)
	sc.UserAgent = "flowcordon"
	sc.Transport = bound.Answers{Transport: tr, Max: maxAnswer, Check: bound.SOAP}
	// A redirect would carry the password to a host nobody configured.
	sc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c, err := vim25.NewClient(ctx, sc)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", u.Host, err)
	}
	if c.ServiceContent.SessionManager == nil || c.ServiceContent.ViewManager == nil {
		return nil, fmt.Errorf("%w: url: %s answers, but not as a vCenter or an ESXi host does", errConfig, u.Host)
	}
	s := &session{c: c, pc: property.DefaultCollector(c), http: tr}
	// Not session.Manager.Login: it takes a password that looks like a path
	// for the name of a file.
	_, err = methods.Login(ctx, c, &types.Login{
		This: *c.ServiceContent.SessionManager, UserName: cfg.Username, Password: cfg.Password,
	})
	if err != nil {
		tr.CloseIdleConnections()
		return nil, fmt.Errorf("log in to %s as %s: %w", u.Host, cfg.Username, err)
	}
	s.vms, err = view.NewManager(c).CreateContainerView(ctx, c.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		s.bye()
		return nil, fmt.Errorf("view the virtual machines of %s: %w", u.Host, err)
	}
	return s, nil
}
