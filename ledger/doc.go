// Package ledger keeps what each rule would have done, whatever its mode lets it
// do: one case for a tenant, a rule and a day. Staff mark cases right or wrong;
// out come the precision of each rule with its interval, and thresholds at which
// the wrong ones would not have been.
//
// Findings come in after the detector's gates and before modes. Everything that
// is known is the fold of an append-only log (Log), so that a restart loses
// nothing. The package starts no goroutine and imports flow.
package ledger
