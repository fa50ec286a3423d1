// Package complaint answers what an abuse desk is asked from outside: did this
// address of ours do that, then, and whose was it? In comes a complaint as it
// arrived; it is read by complaint/parse, each line is held against the stored
// flows, the sampling rate and the inventory of that moment, and out go verdicts,
// cases by customer, and a draft of the reply.
//
// Nothing is claimed that the data cannot carry: what sampling hides is said
// with the chance of having seen it, and a clock that seems wrong is reported,
// never corrected in silence. The package starts no goroutine and imports flow
// and complaint/parse, nothing else of ours.
package complaint
