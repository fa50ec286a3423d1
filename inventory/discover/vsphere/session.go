package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/flowcordon/flowcordon/internal/bound"
)

const (
	// maxAnswer bounds one answer; vCenter pages longer ones by itself.
	maxAnswer = 256 << 20

	byeTimeout = 3 * time.Second
)

// session is a login for one discovery: between two of them a vCenter would end
// it anyway.
type session struct {
	c    *vim25.Client
	vms  *view.ContainerView
	http *http.Transport
}

func (c Config) open(ctx context.Context) (*session, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	u, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	tc, err := c.tls()
	if err != nil {
		return nil, err
	}
	// A transport of our own: govmomi's dials TLS without the context and takes
	// a proxy from the environment.
	s := &session{http: &http.Transport{
		DialContext:     (&net.Dialer{}).DialContext,
		TLSClientConfig: tc, TLSHandshakeTimeout: c.timeout(), MaxResponseHeaderBytes: 64 << 10,
	}}
	sc := soap.NewClient(u, false)
	sc.UserAgent = "flowcordon"
	sc.Transport = bound.Answers{Transport: s.http, Max: maxAnswer, Check: bound.SOAP}
	// A redirect would carry the password to a host nobody configured.
	sc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if s.c, err = vim25.NewClient(ctx, sc); err != nil {
		s.http.CloseIdleConnections()
		return nil, fmt.Errorf("connect: %w", bare(err))
	}
	if s.c.ServiceContent.SessionManager == nil || s.c.ServiceContent.ViewManager == nil {
		s.http.CloseIdleConnections()
		return nil, errors.New("url: it answers, but not as a vCenter or an ESXi host does")
	}
	_, err = methods.Login(ctx, s.c, &types.Login{This: *s.c.ServiceContent.SessionManager, UserName: c.Username, Password: c.Password})
	if err != nil {
		s.http.CloseIdleConnections()
		return nil, fmt.Errorf("log in as %s: %w", c.Username, bare(err))
	}
	s.vms, err = view.NewManager(s.c).CreateContainerView(ctx, s.c.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		s.bye()
		return nil, fmt.Errorf("view the virtual machines: %w", bare(err))
	}
	return s, nil
}

// bye logs out, for a vCenter refuses logins when too many sessions are open.
func (s *session) bye() {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	_, _ = methods.Logout(ctx, s.c, &types.Logout{This: *s.c.ServiceContent.SessionManager})
	s.http.CloseIdleConnections()
}

// bare is the error without the URL around it.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
