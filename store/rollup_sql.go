package store

import (
	"fmt"
	"strings"
)

// rollJob is one INSERT of a roll.
type rollJob struct {
	table, sql string
	args       []any
}

// rollJobs are the statements that sum an hour, in their order: host_1h is made
// of host_1m.
func rollJobs(d slotState) []rollJob {
	const slot = 3600
	var jobs []rollJob
	between := func(from, to int64, more ...any) []any {
		return append([]any{named("from", from), named("to", to)}, more...)
	}
	// Minutes are groups by themselves, so time is cut into pieces.
	pieces := int64(1)
	for _, n := range []int64{2, 3, 4, 6, 10, 12, 15, 20, 30, 60} {
		if d.rows[0]+d.rows[1] > uint64(pieces)*rollRows {
			pieces = n
		}
	}
	for i := range pieces {
		args := between(d.slot+i*slot/pieces, d.slot+(i+1)*slot/pieces)
		jobs = append(jobs, rollJob{"host_1m", hostMinuteSQL, args}, rollJob{"fleet_1m", fleetMinuteSQL, args})
	}
	jobs = append(jobs, rollJob{"host_1h", hostHourSQL, between(d.slot, d.slot+slot)})
	// What is grouped over the hour is cut by tenant.
	cut := func(table, sql string, rows uint64) {
		n := 1 + rows/rollRows
		for k := range n {
			jobs = append(jobs, rollJob{table, sql, between(d.slot, d.slot+slot, named("parts", n), named("part", k))})
		}
	}
	cut("service_1h", serviceHourSQL, d.rows[1])
	cut("pair_1h", pairHourSQL, d.rows[2])
	return jobs
}

var (
	rollCounts  = names(countFields)
	rollClasses = []string{"syn_out", "est_out", "synack_out", "rst_out", "syn_in", "est_in", "synack_in", "rst_in"}
	// hostSums are the counters of host_1m and host_1h that host_window has.
	hostSums = concat(rollCounts, rollClasses, []string{"udp_out_packets", "icmp_out_packets", "bogon_out", "spoof_out"})
)

func names(fields []field) []string {
	l := make([]string, len(fields))
	for i, f := range fields {
		l[i] = f.name
	}
	return l
}

func concat(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// each writes format, with the name for %[1]s, for every name.
func each(l []string, format string) string {
	out := make([]string, len(l))
	for i, n := range l {
		out[i] = fmt.Sprintf(format, n)
	}
	return strings.Join(out, ", ")
}

var hostMinuteSQL = `INSERT INTO host_1m (start, tenant, rate, windows, ` + each(hostSums, "%[1]s") + `, attempts, roll)
SELECT toStartOfMinute(w.start) AS minute, w.tenant, w.rate, toUInt32(sum(w.windows)), ` + each(hostSums, "sum(w.%[1]s)") + `, sum(w.attempts), {roll:UInt64}
FROM (
	SELECT start, tenant, rate, 1 AS windows, ` + each(hostSums, "%[1]s") + `, 0 AS attempts FROM host_window WHERE ` + inRange + `
	UNION ALL
	SELECT start, tenant, rate, 0 AS windows, ` + each(hostSums, "0 AS %[1]s") + `, attempts FROM service_window WHERE ` + inRange + ` AND attempts > 0) AS w
GROUP BY minute, w.tenant, w.rate`

var hostHourSQL = `INSERT INTO host_1h (start, tenant, rate, windows, ` + each(hostSums, "%[1]s") + `, attempts, roll)
SELECT toStartOfHour(h.start) AS slot, h.tenant, h.rate, sum(h.windows), ` + each(hostSums, "sum(h.%[1]s)") + `, sum(h.attempts), {roll:UInt64}
FROM host_1m AS h WHERE ` + inRange + ` AND h.roll = {roll:UInt64}
GROUP BY slot, h.tenant, h.rate`

var fleetSums = concat(rollCounts, []string{"syn_out", "synack_in", "attempts"})

var fleetMinuteSQL = `INSERT INTO fleet_1m (start, rate, ` + each(fleetSums, "%[1]s") + `, tenants, roll)
SELECT toStartOfMinute(w.start) AS minute, w.rate, ` + each(fleetSums, "sum(w.%[1]s)") + `, toUInt32(uniqExact(w.tenant)), {roll:UInt64}
FROM service_window AS w WHERE ` + inRange + `
GROUP BY minute, w.rate`

// maxHourRemotes are kept of a service's destinations in an hour, about: with
// 256 the number of all is known to 6 % (1/sqrt 256).
const maxHourRemotes = 256

const tenantPart = `cityHash64(tenant) % {parts:UInt64} = {part:UInt64}`

// hourKey names a service of one rate for serviceHourSQL's first pass.
const hourKey = `cityHash64(tenant, svc_port, ip_proto, role, rate)`

var serviceSums = concat(rollCounts, rollClasses, []string{"attempts"})

// serviceHourSQL unites the sets of destinations as the detector does
// (withThinned): the first pass estimates how many there are and says to which
// level each large set has to be thinned, the second reads only what is left of
// it, so that neither needs memory by the number of destinations.
var serviceHourSQL = `INSERT INTO service_1h (start, tenant, rate, ip_proto, role, svc_port, ` + each(serviceSums, "%[1]s") + `, remotes_level, remotes, roll)
WITH (SELECT (groupArray(k), groupArray(l)) FROM (
	SELECT ` + hourKey + ` AS k, toUInt8(greatest(max(remotes_level), ceil(log2(greatest(1,
		uniqCombinedArrayIf(12)(remotes, remotes_level = 0) / ` + fmt.Sprint(maxHourRemotes) + `,
		uniqCombinedArrayIf(12)(remotes, remotes_level > 0) / ` + fmt.Sprint(maxHourRemotes) + `
			* sumIf(length(remotes) * exp2(remotes_level), remotes_level > 0) / greatest(sumIf(length(remotes), remotes_level > 0), 1)))))) AS l
	FROM service_window
	WHERE ` + inRange + ` AND ` + tenantPart + ` AND (notEmpty(remotes) OR remotes_level > 0)
	GROUP BY k HAVING l > 0)) AS big
SELECT toStartOfHour(w.start) AS slot, w.tenant, w.rate, w.ip_proto, w.role, w.svc_port, ` + each(serviceSums, "sum(w.%[1]s)") + `,
	any(w.level), arraySort(groupUniqArrayArray(arrayFilter(h -> bitAnd(h, bitShiftLeft(toUInt64(1), w.level) - 1) = 0, w.remotes))), {roll:UInt64}
FROM (
	SELECT *, transform(` + hourKey + `, big.1, big.2, toUInt8(0)) AS level
	FROM service_window WHERE ` + inRange + ` AND ` + tenantPart + `) AS w
GROUP BY slot, w.tenant, w.rate, w.ip_proto, w.role, w.svc_port`

var pairSums = concat(rollCounts, []string{"syn_out", "est_out", "synack_in", "rst_in"})

var pairHourSQL = `INSERT INTO pair_1h (start, tenant, rate, remote, ip_proto, first, last, ` + each(pairSums, "%[1]s") + `, ports, roll)
SELECT toStartOfHour(w.start) AS slot, w.tenant, w.rate, w.remote, w.ip_proto, min(w.start), max(w.start), ` + each(pairSums, "sum(w.%[1]s)") + `,
	arraySort(groupUniqArrayArray(64)(w.ports)), {roll:UInt64}
FROM pair_window AS w WHERE ` + inRange + ` AND ` + tenantPart + `
GROUP BY slot, w.tenant, w.rate, w.remote, w.ip_proto`

// uintsText is a parameter of type Array(UInt64).
func uintsText(l []uint64) string {
	q := make([]string, len(l))
	for i, n := range l {
		q[i] = fmt.Sprint(n)
	}
	return "[" + strings.Join(q, ",") + "]"
}
