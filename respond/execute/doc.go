// Package execute cuts the network of a VDS by running a command of the
// hoster's: for products that no adapter knows, and for scripts that are there
// already.
//
// # The protocol
//
// For each action the command is run once, without a shell, with nothing but
// PATH, LANG and the configured variables in its environment. On stdin it reads
// one JSON object:
//
//	{"version": 1, "action": "status|cut|restore|restrict|lift|list", "adapter": "panel",
//	 "nic": {"vds": "vds-1001", "hypervisor": "panel", "mac": "52:54:00:aa:10:01", "ip": "11.20.0.10"},
//	 "measure": {"kind": "block_port", "ports": [{"proto": 6, "port": 22}]} or {"kind": "rate_limit", "kbit_s": 8000},
//	 "mark": {"incident": "…", "key": "…", "by": "…", "reason": "…", "at": "RFC 3339"},
//	 "receipt": {"nic": {…}, "before": {…}, "after": {…}, "undo": …}}
//
// where mark comes with cut, restore, restrict and lift, measure with restrict
// and lift (there only its kind), receipt with restore and lift. mark.key is
// the act's idempotency key. A number of version that the command does not know
// is to be refused with 14; fields that it does not know are to be ignored.
//
// On stdout it writes one JSON object, the state after the action:
//
//	{"live": "up|down|unknown", "config": "up|down|unknown", "running": true,
//	 "mark": {…} or null, "restrictions": [{"measure": {…}, "mark": {…}}],
//	 "before": {"live": …}, "node": "node7", "undo": …}
//
// mark is that of the cut; config is what the next power-on will have; before
// is the state before the incident's first act of this kind, undo whatever the
// command needs to give back exactly that; before, node and undo may be left
// out. list, which may be refused with 14, is answered with
// {"nics": [{"nic": {…}, "status": {…}}]}: all that carry a mark.
//
// The exit code says how it went: 0 done; 10 there is no such NIC; 11 it is
// locked, by a backup say; 12 it carries another incident's mark or changed
// meanwhile; 13 refused for good; 14 not possible here; anything else is worth a
// retry. Why stands on stderr, of which the last 400 characters are shown to
// staff. Every action may be repeated, also after a run that was killed at the
// deadline: cut and restrict then keep the state remembered first.
//
// request.schema.json and answer.schema.json say the same to programs, and
// testdata/panel.py is such a command.
//
// # FastNetMon's scripts
//
// In ModeFastNetMon the command gets the arguments of FastNetMon's notify
// script instead: address, "outgoing", packets/s and ban or unban, with the
// attack's details on stdin of a ban. It answers nothing, so what it banned is
// kept in a file.
//
// The Adapter owns no goroutine beyond a call. The package imports flow and no
// sibling.
package execute
