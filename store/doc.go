// Package store keeps windows, flow rows, findings, the event log and evidence
// in ClickHouse. In go flow.Batch and the other flow values, out come the sums
// that the detector and the API ask for.
//
// Write puts a batch into the spool, a directory on local disk, and returns;
// it never waits for the database. A spooled batch is inserted under one
// deduplication token until ClickHouse has acknowledged it, over any number of
// restarts of either side, so that its rows are stored exactly once. Windows are
// partial sums, so a row stored twice would be wrong for good and a row lost
// would be silent: the one thing that a batch may lose is detail, when the spool
// is full, and that is counted.
//
// Rows become columns in ClickHouse's own format in Write, and stay that on disk
// and on the way to the server (encode.go, frame.go, link_insert.go). Everything
// else that touches the database is clickhouse-go over the native protocol;
// whether the server is the embedded engine or somebody's cluster makes no
// difference here.
//
// Run owns the goroutines that send. The package imports flow and migrations;
// store/embedded and store/storetest are apart.
package store
