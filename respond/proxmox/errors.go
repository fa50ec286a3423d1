package proxmox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/flowcordon/flowcordon/flow"
)

var (
	// errDeadline is the cause of the context of an operation that took too long.
	errDeadline = errors.New("no answer within the deadline")
	// errMoved is a guest that is no longer on the node it was found on.
	errMoved = errors.New("the guest is not on that node")
	// errDigest is a configuration that somebody changed since it was read.
	errDigest = errors.New("the configuration changed meanwhile")
)

// fail is an error that is judged already.
func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

// apiError is an answer other than 200.
type apiError struct {
	Code   int
	Text   string            // the reason phrase, where PVE writes what was wrong
	Fields map[string]string // parameter -> what is wrong with it
}

func (e *apiError) Error() string {
	s := fmt.Sprintf("answered %d %s", e.Code, e.Text)
	for _, k := range sortedKeys(e.Fields) {
		s += fmt.Sprintf("; %s: %.200s", k, strings.TrimSpace(e.Fields[k]))
	}
	return s
}

// Is lets errors.Is tell what an operation is begun anew for.
func (e *apiError) Is(target error) bool {
	switch target {
	case errMoved:
		return has(e.Text, textsMoved)
	case errDigest:
		return has(e.Text, textsDigest)
	}
	return false
}

// PVE has no error codes: what happened is in the text of a 500.
var (
	// PVE::AbstractConfig::load_config; PVE::Cluster; the guest's own modules.
	textsMoved = []string{"does not exist", "no such VM", "unable to find configuration file", "no such container"}
	// PVE::API2::Qemu; PVE::Tools::assert_if_modified (LXC, firewall).
	textsDigest = []string{"checksum mismatch", "detected modified configuration"}
	// PVE::AbstractConfig::check_lock; PVE::Tools::lock_file.
	textsLocked = []string{"is locked (", "can't lock file", "got lock timeout"}
	// vmconfig_hotplug_pending and vmconfig_apply_pending of PVE::QemuServer,
	// PVE::LXC::Config: the change is stored and could not be applied.
	textsHotplug = []string{"hotplug problem", "unable to apply pending change"}
)

func has(s string, texts []string) bool {
	return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(s, t) })
}

func (e *apiError) class() flow.ErrClass {
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return flow.ErrDenied
	case http.StatusNotFound:
		return flow.ErrNotFound
	case http.StatusBadRequest:
		for _, f := range e.Fields {
			if has(f, textsHotplug) {
				return flow.ErrTransient
			}
		}
		return flow.ErrUnsupported // it does not take our parameters: another version
	case http.StatusNotImplemented:
		return flow.ErrUnsupported
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return flow.ErrTransient
	}
	if e.Code < 500 { // other 4xx, redirects: no retry changes that
		return flow.ErrDenied
	}
	return classOfText(e.Text)
}

// classOfText is for a 500 and for the exit status of a task. 595 to 599 is
// the entry node's word for a node that it cannot reach (AnyEvent::HTTP).
func classOfText(s string) flow.ErrClass {
	switch {
	case has(s, textsLocked):
		return flow.ErrLocked
	case has(s, textsDigest):
		return flow.ErrConflict
	case has(s, textsMoved):
		return flow.ErrNotFound
	}
	return flow.ErrTransient
}

// classify gives an error its class. What is not known to be lasting is worth
// a retry: every operation may be repeated.
func classify(ctx context.Context, err error) *flow.ActError {
	if ae, ok := err.(*flow.ActError); ok { //nolint:errorlint // as it is: its class would stand in the text twice
		return &flow.ActError{Class: ae.Class, Err: ae.Err}
	}
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return &flow.ActError{Class: ae.Class, Err: err}
	}
	var api *apiError
	if errors.As(err, &api) {
		return &flow.ActError{Class: api.class(), Err: err}
	}
	var cert *tls.CertificateVerificationError
	var alert tls.AlertError
	if errors.Is(err, errPin) || errors.As(err, &cert) || errors.As(err, &alert) {
		return &flow.ActError{Class: flow.ErrDenied, Err: err}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return &flow.ActError{Class: flow.ErrTransient, Err: err}
}

// plain takes the URL out of an HTTP client's error.
func plain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
