//go:build !linux

package aggregate

// mapPages has nothing to offer: the tables lie in Go's heap.
func mapPages(int) []byte { return nil }

func unmapPages([]byte) {}
