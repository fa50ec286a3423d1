// Package parse reads what arrives at an abuse desk: pasted log lines, whole
// mails with attachments, and the reporting formats (ARF, X-ARF, XARF). In comes
// the text, out go observations — when, who, whom, how — and, for each line that
// is none, the reason.
//
// Nothing is guessed in silence: a zone, a year or a direction that the text
// does not state is assumed by a rule, and the observation says so. The input is
// an attacker's: sizes, lines, nesting and the unpacked bytes are bounded, and
// no input may panic. The package starts no goroutine and imports nothing of
// ours.
package parse
