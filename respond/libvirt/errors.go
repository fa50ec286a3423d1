package libvirt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/flowcordon/flowcordon/flow"
)

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("no answer within the deadline")

// errConfig marks a configuration that no retry will mend.
var errConfig = errors.New("configuration")

// fail is an error that is judged already.
func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

// classes maps libvirt's error numbers (libvirt/virterror.h) to what a caller
// may do about them. All that is not here is worth a retry.
var classes = map[golibvirt.ErrorNumber]flow.ErrClass{
	golibvirt.ErrNoDomain:      flow.ErrNotFound, // gone, or migrated to another node
	golibvirt.ErrNoDevice:      flow.ErrNotFound,
	golibvirt.ErrDeviceMissing: flow.ErrNotFound,

	// "cannot acquire state change lock": a backup, migration or snapshot
	// holds the domain.
	golibvirt.ErrOperationTimeout: flow.ErrLocked,
	golibvirt.ErrResourceBusy:     flow.ErrLocked,

	// "domain is not running": it was stopped or started under our hands.
	golibvirt.ErrOperationInvalid: flow.ErrConflict,

	golibvirt.ErrOperationDenied: flow.ErrDenied,
	golibvirt.ErrAccessDenied:    flow.ErrDenied,
	golibvirt.ErrAuthFailed:      flow.ErrDenied,
	golibvirt.ErrAuthCancelled:   flow.ErrDenied,
	golibvirt.ErrAuthUnavailable: flow.ErrDenied,
	golibvirt.ErrXMLError:        flow.ErrDenied, // it refuses its own XML: a human must look
	golibvirt.ErrXMLDetail:       flow.ErrDenied,

	golibvirt.ErrNoSupport:            flow.ErrUnsupported,
	golibvirt.ErrConfigUnsupported:    flow.ErrUnsupported,
	golibvirt.ErrArgumentUnsupported:  flow.ErrUnsupported,
	golibvirt.ErrOperationUnsupported: flow.ErrUnsupported,
}

// classify makes err a *flow.ActError that says what was tried.
func classify(what string, err error) error {
	class := classOf(err)
	var ae *flow.ActError
	if errors.As(err, &ae) {
		err = ae.Err // or the text would name the class twice
	}
	return &flow.ActError{Class: class, Err: fmt.Errorf("%s: %w", what, err)}
}

func classOf(err error) flow.ErrClass {
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return ae.Class
	}
	var le golibvirt.Error
	if errors.As(err, &le) {
		if c, ok := classes[golibvirt.ErrorNumber(le.Code)]; ok {
			return c
		}
		return flow.ErrTransient
	}
	switch {
	case errors.Is(err, errConfig), errors.Is(err, golibvirt.ErrUnsupported):
		return flow.ErrUnsupported
	case errors.Is(err, context.Canceled), errors.Is(err, errDeadline):
		return flow.ErrTransient
	case errors.Is(err, fs.ErrPermission), isTLSRefusal(err):
		return flow.ErrDenied
	}
	return flow.ErrTransient
}

// isTLSRefusal reports whether one side did not accept the other's certificate.
func isTLSRefusal(err error) bool {
	var (
		verify *tls.CertificateVerificationError
		ca     x509.UnknownAuthorityError
		host   x509.HostnameError
		alert  tls.AlertError
	)
	return errors.As(err, &verify) || errors.As(err, &ca) || errors.As(err, &host) || errors.As(err, &alert) ||
		errors.Is(err, errRefused)
}

// isReply reports whether the daemon answered: then the connection is sound.
func isReply(err error) bool {
	var le golibvirt.Error
	var ae *flow.ActError
	return errors.As(err, &le) || errors.As(err, &ae) || errors.Is(err, golibvirt.ErrUnsupported)
}
