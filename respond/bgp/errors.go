package bgp

import (
	"errors"
	"fmt"

	"github.com/flowcordon/flowcordon/flow"
)

func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

// classify makes err a *flow.ActError that says what was tried. What is not
// known to be lasting is worth a retry: every operation may be repeated.
func classify(what string, err error) *flow.ActError {
	class := flow.ErrTransient
	var ae *flow.ActError
	if errors.As(err, &ae) {
		class, err = ae.Class, ae.Err // or the text would name the class twice
	}
	return &flow.ActError{Class: class, Err: fmt.Errorf("%s: %w", what, err)}
}

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("not done within the deadline")
