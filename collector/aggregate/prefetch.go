//go:build amd64 || arm64

package aggregate

// prefetch asks for the cache lines at the addresses, without waiting for them.
// Reading a word of each would do nearly the same, but a read that waits for
// memory keeps the processor from looking more than a few hundred instructions
// further; and Go has no other way to say it.
//
//go:noescape
func prefetch(lines []uintptr)
