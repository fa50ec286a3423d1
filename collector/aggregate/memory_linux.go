package aggregate

import "golang.org/x/sys/unix"

// mapPages returns that many bytes of zeros, or more, from the system, nil if it
// has none. The kernel fills them with large pages where it can
// (transparent_hugepage: madvise or always), as they are touched.
func mapPages(size int) []byte {
	size = (size + pageSize - 1) &^ (pageSize - 1)
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // small pages do, too
	return b
}

func unmapPages(b []byte) { _ = unix.Munmap(b) }
