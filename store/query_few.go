package store

import (
	"context"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// The questions for few tenants (among). What finds the tenants first is left
// out, and so is what finds thinned rows: their sets fit into memory, so that one
// pass does. Of an index granule all rows are read for one of them.
var (
	fewServicesSQL = few(serviceSQL, "({min:UInt64} = 0 OR tenant IN k)", "")
	fewTotalsSQL   = few(serviceTotalsSQL, "", "")
	fewPairsSQL    = few(pairSQL, "(({packets:UInt64} = 0 AND {ports:UInt64} = 0) OR tenant IN k)", "")
	fewAttemptsSQL = few(attemptSQL, "tenant IN k", "FROM p GROUP BY tenant HAVING sum(tries) >= {min:UInt64} AND sum(scaled) >= {scaled:UInt64}")
)

// few rewrites a question: known is its condition on the tenants found first,
// last what its last line becomes, if anything.
func few(sql, known, last string) string {
	sql = strings.ReplaceAll(sql, distinctRemotes, fewDistinct)
	sql = strings.Replace(sql, "FROM p GROUP BY tenant\nSETTINGS use_index_for_in_with_subqueries = 0", last, 1)
	sql = strings.Replace(sql, "\nSETTINGS use_index_for_in_with_subqueries = 0", "", 1)
	if known != "" {
		sql = strings.Replace(sql, known, "1", 1)
	}
	sql = strings.Replace(sql, withThinned, "", 1)
	if at := strings.Index(sql, "p AS ("); at >= 0 {
		return "WITH " + sql[at:]
	}
	first := "SELECT tenant, " + keyOf(sql)
	_, rest, _ := strings.Cut(sql, first)
	return first + rest
}

// keyOf is the second column of a question, which tells its SELECT from those
// within it.
func keyOf(sql string) string {
	if strings.Contains(sql, "FROM pair_window") {
		return "remote, intDiv("
	}
	return "svc_port, intDiv("
}

// fewDistinct is distinctRemotes in one pass, for sets that fit into memory.
const fewDistinct = `bitShiftLeft(arrayCount(h -> bitAnd(h, bitShiftLeft(toUInt64(1), max(remotes_level)) - 1) = 0, groupUniqArrayArray(remotes)), max(remotes_level))`

// oneOf is the question for all tenants, or that for few where ctx wants those.
func oneOf(ctx context.Context, all, few string) string {
	if _, ok := flow.WantedOf(ctx); ok {
		return few
	}
	return all
}

// fleetPairsSQL has thinned sums for each pair, as pairSQL has.
var fleetPairsSQL = `SELECT tenant, sum(e), sum(i) FROM (
	SELECT tenant, ` + thinned("est_out_packets") + ` AS e, ` + thinned("in_packets") + ` AS i
	FROM pair_window WHERE ` + inRange + ` AND ip_proto = 6
	GROUP BY tenant, remote HAVING sum(out_packets) >= {packets:UInt64})
WHERE e > 0 GROUP BY tenant`

// FleetPairs sums, by tenant, what PairStats says of TCP pairs with at least
// minOutPackets outgoing packets and any of an established connection:
// EstOutPackets and InPackets, nothing else. The order is undefined.
func (s *Store) FleetPairs(ctx context.Context, r flow.Range, minOutPackets uint64) ([]flow.PairStat, error) {
	return query(ctx, s, "pairs of the fleet", fleetPairsSQL, rangeArgs(r, named("packets", minOutPackets)),
		func(rows driver.Rows, v *flow.PairStat) error {
			v.IPProto = flow.ProtoTCP
			err := rows.Scan(&v.Tenant, &v.EstOutPackets, &v.InPackets)
			v.Tenant = unmap(v.Tenant)
			return err
		})
}
