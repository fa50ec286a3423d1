package openstack

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/gophercloud/gophercloud/v2"
)

var (
	// errDeadline is the cause of the context of an operation that took too long.
	errDeadline = errors.New("no answer within the deadline")

	// errConfig marks a configuration that no retry will mend.
	errConfig = errors.New("configuration")
)

// apiError is an answer with a status that was not expected.
type apiError struct {
	what   string // method and path
	status int
	kind   string // Neutron's name of the error, e.g. OverQuota
	text   string
}

func (e *apiError) Error() string {
	s := fmt.Sprintf("%s: %d %s", e.what, e.status, http.StatusText(e.status))
	if e.kind != "" {
		s += " " + e.kind
	}
	if e.text != "" {
		s += fmt.Sprintf(": %.300s", e.text)
	}
	return s
}

// asAPIError makes gophercloud's error one of ours, which shows neither the
// whole body nor a query.
func asAPIError(method, path string, err error) error {
	var ue gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &ue) {
		return err
	}
	e := &apiError{what: method + " " + path, status: ue.Actual}
	var body struct {
		Neutron struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"NeutronError"`
		Keystone struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(ue.Body, &body) // a proxy's error page has none, and that is fine
	e.kind, e.text = body.Neutron.Type, body.Neutron.Message
	if e.text == "" {
		e.text = body.Keystone.Message
	}
	return e
}

// fail is an error that is judged already.
func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

func isStatus(err error, status int) bool {
	var e *apiError
	return errors.As(err, &e) && e.status == status
}

func (e *apiError) class() flow.ErrClass {
	switch e.kind {
	case "OverQuota":
		return flow.ErrDenied // a retry changes nothing; the operator raises the quota
	case "RetryRequest", "DBDeadlock":
		return flow.ErrTransient
	}
	switch e.status {
	case http.StatusNotFound:
		// A missing port is the customer's server gone. An address without a
		// Neutron behind it is not, and neither is a group deleted meanwhile.
		switch {
		case e.kind == "PortNotFound":
			return flow.ErrNotFound
		case e.what == loginCall:
			return flow.ErrUnsupported
		case e.kind != "":
			return flow.ErrConflict
		}
		return flow.ErrTransient
	case http.StatusConflict, http.StatusPreconditionFailed:
		return flow.ErrConflict
	case http.StatusLocked:
		return flow.ErrLocked
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return flow.ErrUnsupported
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return flow.ErrTransient
	}
	if e.status >= 500 || e.status == http.StatusUnauthorized && e.what != loginCall {
		return flow.ErrTransient // a token refused twice may be a Keystone that restarts
	}
	return flow.ErrDenied // 400, 401 at login, 403, redirects
}

// classify makes err a *flow.ActError that says what was tried.
func classify(ctx context.Context, what string, err error) error {
	class := flow.ErrTransient
	var (
		ae   *flow.ActError
		api  *apiError
		ue   *url.Error
		cert *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &ae):
		class, err = ae.Class, ae.Err // or the text would name the class twice
	case errors.As(err, &api):
		class = api.class()
	case errors.Is(err, errConfig):
		class = flow.ErrUnsupported
	case errors.As(err, &cert):
		class = flow.ErrDenied
	}
	if errors.As(err, &ue) {
		err = ue.Err // without the URL
	}
	if ctx.Err() != nil && ae == nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return &flow.ActError{Class: class, Err: fmt.Errorf("%s: %w", what, err)}
}
