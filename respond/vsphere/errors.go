package vsphere

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"reflect"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	// errDeadline is the cause of the context of an operation that took too long.
	errDeadline = errors.New("no answer within the deadline")

	// errConfig marks a configuration that no retry will mend.
	errConfig = errors.New("configuration")

	errPin = errors.New("the server's certificate does not have the configured thumbprint")
)

// taskError is the fault that a task ended with.
type taskError struct {
	task string
	lf   *types.LocalizedMethodFault
}

func (e taskError) Error() string {
	name := faultName(e.lf.Fault)
	if e.lf.LocalizedMessage == "" {
		return fmt.Sprintf("%s ended with %s", e.task, name)
	}
	return fmt.Sprintf("%s ended with %s: %.300s", e.task, name, e.lf.LocalizedMessage)
}

// Fault is the fault itself, as govmomi's own errors have it.
func (e taskError) Fault() types.BaseMethodFault { return e.lf.Fault }

// fail is an error that is judged already.
func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

// faultOf is the vSphere fault in an error, nil if there is none.
func faultOf(err error) types.BaseMethodFault {
	var f interface{ Fault() types.BaseMethodFault }
	if errors.As(err, &f) {
		return f.Fault()
	}
	return nil
}

func faultName(f types.BaseMethodFault) string {
	t := reflect.TypeOf(f)
	if t == nil {
		return "an unknown fault"
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// classOfFault maps vSphere's faults to what a caller may do about them. A fault
// comes before those it is derived from. What is not here is worth a retry.
func classOfFault(f types.BaseMethodFault) flow.ErrClass {
	switch f.(type) {
	case *types.NotAuthenticated: // even after logging in again
		return flow.ErrTransient
	case *types.RestrictedVersion: // a free ESXi: its API is read-only
		return flow.ErrUnsupported
	case types.BaseInvalidLogin, types.BaseNoPermission, types.BaseSecurityError:
		return flow.ErrDenied
	case *types.ManagedObjectNotFound, *types.NotFound:
		return flow.ErrNotFound
	case *types.ConcurrentAccess, types.BaseInvalidDeviceSpec:
		return flow.ErrConflict
	case types.BaseTaskInProgress, types.BaseResourceInUse, *types.FileLocked, *types.MethodDisabled,
		types.BaseInvalidState: // suspended, being migrated or snapshotted
		return flow.ErrLocked
	case types.BaseNotSupported, *types.MethodNotFound, *types.NotImplemented:
		return flow.ErrUnsupported
	}
	return flow.ErrTransient
}

// classify makes err a *flow.ActError that says what was tried.
func classify(ctx context.Context, what string, err error) error {
	class := flow.ErrTransient
	var ae *flow.ActError
	var ue *url.Error
	var cert *tls.CertificateVerificationError
	f := faultOf(err)
	switch {
	case errors.As(err, &ae):
		class, err = ae.Class, ae.Err // or the text would name the class twice
	case f != nil:
		class = classOfFault(f)
		if _, ok := err.(taskError); !ok { //nolint:errorlint // a wrapped one says its fault as well
			err = fmt.Errorf("%s: %w", faultName(f), err)
		}
	case errors.Is(err, errConfig):
		class = flow.ErrUnsupported
	case errors.Is(err, errPin), errors.As(err, &cert):
		class = flow.ErrDenied
	}
	if errors.As(err, &ue) && f == nil {
		err = ue.Err // without the URL, which says nothing more
	}
	if ctx.Err() != nil && ae == nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return &flow.ActError{Class: class, Err: fmt.Errorf("%s: %w", what, err)}
}

func notAuthenticated(err error) bool {
	_, ok := faultOf(err).(*types.NotAuthenticated)
	return ok
}

// gone reports whether the object itself is no longer there.
func gone(err error) bool {
	_, ok := faultOf(err).(*types.ManagedObjectNotFound)
	return ok
}
