package aggregate

// The reasons for which a record is not aggregated. The list is closed: metrics
// use it as label values.
const (
	// ReasonNoAddress: the record has no source or no destination address.
	ReasonNoAddress = "no_address"
	// ReasonSamplingUnknown: no sampling rate is known for the record, and it
	// is never taken for 1. Give the exporter a line in exporters.sampling.
	ReasonSamplingUnknown = "sampling_unknown"
	// ReasonNotInternal: neither end is in networks.internal.
	ReasonNotInternal = "not_internal"
	// ReasonTooLate: the record ended more than MaxAge before it arrived. The
	// exporter's clock is behind, or its active timeout is far too long.
	ReasonTooLate = "too_late"
	// ReasonTableFull: more hosts at once than MaxKeys allows.
	ReasonTableFull = "table_full"
)

// Reasons lists every reason in a fixed order.
func Reasons() []string {
	return []string{ReasonNoAddress, ReasonSamplingUnknown, ReasonNotInternal, ReasonTooLate, ReasonTableFull}
}

// reason is the index into Stats.dropped, so that counting allocates nothing.
type reason int

const (
	dropNoAddress reason = iota
	dropSamplingUnknown
	dropNotInternal
	dropTooLate
	dropTableFull
	numReasons
)
