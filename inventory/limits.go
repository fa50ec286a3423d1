package inventory

// Limits of one file. The file is trusted, but a mishap (a dump of something
// else, an endless export) must not take the service down at a reload.
const (
	// maxFileBytes: a million entries of 250 bytes each, the size of a large
	// hoster's whole address space written one address a line.
	maxFileBytes = 256 << 20
	// maxText bounds a name or a tag: they travel into ticket subjects.
	maxText = 200
	// maxList bounds macs and tags of one entry.
	maxList = 64
	// maxShown is how many errors a message spells out; the number of all of
	// them is always given. One wrong column of 100,000 lines stays readable.
	maxShown = 200
)
