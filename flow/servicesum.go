package flow

import "time"

// ServiceSum is one service of a tenant, summed over a window or an hour, with
// which of some destinations it tried.
type ServiceSum struct {
	Key                   // Start begins the sum
	Length  time.Duration // of the sum: a window, or an hour
	IPProto uint8
	Role    Role
	SvcPort uint16
	Counts
	Attempts uint64
	// Tried are those of the hashes asked for (RemoteHash) that are among the
	// destinations of the attempts; hashes whose lowest Level bits are not all
	// zero cannot be among them, since the sum keeps a sample only.
	Tried []uint64
	Level uint8
}

// ServiceSums are the sums of a range.
type ServiceSums struct {
	Rows []ServiceSum
	// Whole: they account for every record that the tenant sent in the range, to
	// destinations that are routed; nothing of them was lost or left out.
	Whole bool
}
