package decode_test

import "slices"

// refOpen says of a record that decoder and reference are known to read it in
// different ways, until that is settled:
//   - a number of an unusable length (elements 231, 298, 304, 310) that stands
//     behind a usable one of the same element;
//   - running totals beside counters that are none (the one packet of a sampled
//     header too), without deltas;
//   - uptimes in IPFIX beside the time of an observation.
//
// What such a datagram does to the state is not compared either: the pair ends
// there.
func refOpen(c refContext, fs refFields) bool {
	has := func(pen uint32, ids ...uint16) bool {
		return slices.ContainsFunc(fs, func(f refField) bool { return f.pen == pen && slices.Contains(ids, f.id) })
	}
	unusable := slices.ContainsFunc(fs, func(f refField) bool {
		return f.pen == 0 && slices.Contains([]uint16{231, 298, 304, 310}, f.id) && (len(f.b) == 0 || len(f.b) > 8)
	})
	mixed := has(0, 85, 86) && (has(0, 23, 24, 231, 232, 298, 299, 104, 313, 315) || has(refReversePEN, 1, 2))
	return unusable || mixed || c.version == 10 && has(0, 21) && has(0, 22) && has(0, 322, 323, 324, 325)
}
