// Package vcenter logs in at a vCenter or an ESXi host, for those who cut there and
// for those who discover. It starts no goroutine and imports internal/bound.
package vcenter

import (
	"context"
	"crypto/tls"
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

// byeTimeout bounds what is tidied up after a context has ended.
const byeTimeout = 3 * time.Second

// ErrOther is what answers and speaks another protocol.
var ErrOther = errors.New("answers, but not as a vCenter or an ESXi host does")

// Error says at which step a login failed.
type Error struct {
	Step string // as in "connect to vc1:443"
	Err  error
}

func (e *Error) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap is the error without its step.
func (e *Error) Unwrap() error { return e.Err }

// Login says where, as whom, and with which bounds. The password is in no error.
type Login struct {
	URL                *url.URL
	TLS                *tls.Config
	Timeout            time.Duration // of a TLS handshake
	MaxAnswer          int64         // bytes of one answer
	Username, Password string
}

// Session is a login with a view of all virtual machines.
type Session struct {
	Client *vim25.Client
	VMs    *view.ContainerView
	HTTP   *http.Transport
}

// Open dials and logs in. Errors of the server are *Error.
func Open(ctx context.Context, l Login) (_ *Session, err error) {
	// A transport of our own: govmomi's dials TLS without the context, so that
	// a server which accepts and says nothing would hold a dialler for good. No
	// proxy from the environment: it would see a customer's fate.
	s := &Session{HTTP: &http.Transport{
		DialContext:     (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig: l.TLS, TLSHandshakeTimeout: l.Timeout,
		IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 8,
		MaxResponseHeaderBytes: 64 << 10,
	}}
	loggedIn := false
	defer func() {
		switch {
		case err != nil && loggedIn:
			s.Bye()
		case err != nil:
			s.HTTP.CloseIdleConnections()
		}
	}()
	sc := soap.NewClient(l.URL, false)
	sc.UserAgent = "flowcordon"
	sc.Transport = bound.Answers{Transport: s.HTTP, Max: l.MaxAnswer, Check: bound.SOAP}
	// A redirect would carry the password to a host nobody configured.
	sc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if s.Client, err = vim25.NewClient(ctx, sc); err != nil {
		return nil, &Error{"connect to " + l.URL.Host, err}
	}
	about := s.Client.ServiceContent
	if about.SessionManager == nil || about.ViewManager == nil {
		return nil, fmt.Errorf("%s %w", l.URL.Host, ErrOther)
	}
	// Not session.Manager.Login: it takes a password that looks like a path
	// for the name of a file.
	_, err = methods.Login(ctx, s.Client, &types.Login{This: *about.SessionManager, UserName: l.Username, Password: l.Password})
	if err != nil {
		return nil, &Error{fmt.Sprintf("log in to %s as %s", l.URL.Host, l.Username), err}
	}
	loggedIn = true
	s.VMs, err = view.NewManager(s.Client).CreateContainerView(ctx, about.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return nil, &Error{"view the virtual machines of " + l.URL.Host, err}
	}
	return s, nil
}

// Bye logs out, for a vCenter refuses logins when too many sessions are open.
func (s *Session) Bye() {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	// Without an answer the session ends by itself after its idle time.
	_, _ = methods.Logout(ctx, s.Client, &types.Logout{This: *s.Client.ServiceContent.SessionManager})
	s.HTTP.CloseIdleConnections()
}
