// Package detect turns the windows of the store into findings: which tenant
// scans or floods whom, how sure that is, and what held the verdict back.
//
// What comes in: sums of windows over ranges of event time (flow.ServiceStat,
// flow.PairStat, flow.HostStat), asked for through Windows. What goes out:
// []flow.Finding to Deps.Emit, one strongest finding for each tenant, rule and
// port or remote. What is done about a finding (modes, caps, protected lists)
// is not decided here.
//
// Every rule is a pure function in a file of its own; its thresholds are in
// Thresholds and their sources in docs/detectors.md. Tick is pure given the
// windows. Run owns the only goroutine, the caller's. The package imports flow.
//
// # Event time and lag
//
// Tick(ts) judges event time up to ts, and ts is the wall clock's slot: rows of
// busy keys are written within seconds, so a scan or flood is in the windows
// while it goes on. Rows that come later (NetFlow after its inactive or active
// timeout) are found by the longer windows. A range always begins and ends on
// a window's edge, and the benign expectation μ0 = R0·T/N is computed with the
// full length of the range, so that missing or late rows can only make a
// finding weaker: nothing is judged over less time than its rows may cover.
package detect
