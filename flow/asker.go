package flow

import (
	"context"
	"fmt"
	"time"
)

type askerKey struct{}

// WithAsker marks questions that somebody waits for at a screen or a script, by
// the name of his token: stores may let them wait for each other, fairly by name.
// What the service itself asks carries no asker and waits for none of them.
func WithAsker(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, askerKey{}, name)
}

// Asker is the name that WithAsker gave.
func Asker(ctx context.Context) (name string, ok bool) {
	name, ok = ctx.Value(askerKey{}).(string)
	return name, ok
}

type unhurriedKey struct{}

// Unhurried marks questions that nobody waits for: stores may answer those that
// somebody does first, and take longer over these.
func Unhurried(ctx context.Context) context.Context {
	return context.WithValue(ctx, unhurriedKey{}, true)
}

// IsUnhurried reports whether ctx is from Unhurried.
func IsUnhurried(ctx context.Context) bool {
	_, ok := ctx.Value(unhurriedKey{}).(bool)
	return ok
}

// Busy is the error of a store that has more questions waiting than it will answer
// in time.
type Busy struct {
	Retry time.Duration // after which asking again is worth it
	Own   bool          // they are the asker's own
}

// Error says whose questions they are.
func (b *Busy) Error() string {
	if b.Own {
		return fmt.Sprintf("too many questions of the same asker are waiting for the database; ask again in %v", b.Retry)
	}
	return fmt.Sprintf("too many questions are waiting for the database; ask again in %v", b.Retry)
}
