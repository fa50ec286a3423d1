//go:build race

package parse

// underRace: sync.Pool drops at random then, so that regular expressions
// allocate their machines again and again.
const underRace = true
