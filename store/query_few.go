package store

import (
	"context"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// bothSQL is a question for sums by tenant: for all tenants, and for few (among).
type bothSQL struct{ all, few string }

// scoped writes a question for both.
func scoped(write func(scope) string) bothSQL {
	return bothSQL{all: write(scope{}), few: write(scope{few: true})}
}

// of is the question for all tenants, or that for few where ctx wants those.
func (q bothSQL) of(ctx context.Context) string {
	if _, ok := flow.WantedOf(ctx); ok {
		return q.few
	}
	return q.all
}

// scope writes what differs between a question for all tenants and that for few.
// Of few what finds the tenants first is left out, and so is what finds thinned
// rows: their sets fit into memory, so that one pass does. Of an index granule all
// rows are read for one of them.
type scope struct{ few bool }

// with is the question's WITH: of what both need ("": nothing), and before it of
// what all tenants need.
func (c scope) with(both string, all ...string) string {
	var parts []string
	if !c.few {
		parts = all
	}
	if both != "" {
		parts = append(parts[:len(parts):len(parts)], both)
	}
	if len(parts) == 0 {
		return ""
	}
	return "WITH " + strings.Join(parts, ",\n") + "\n"
}

// found is one more condition, on the tenants found first.
func (c scope) found(condition string) string {
	if c.few {
		return ""
	}
	return " AND (" + condition + ")"
}

// notFound is the HAVING of a question whose condition is else on the tenants
// found first.
func (c scope) notFound(condition string) string {
	if c.few {
		return " HAVING " + condition
	}
	return ""
}

// noIndexForFound ends a question with found: the index begins with time, so that
// trying the tenants on its marks is wasted.
func (c scope) noIndexForFound() string {
	if c.few {
		return ""
	}
	return "\nSETTINGS use_index_for_in_with_subqueries = 0"
}

// distinctRemotes counts the distinct destinations of a group: for few in one pass.
func (c scope) distinctRemotes() string {
	if c.few {
		return fewDistinct
	}
	return distinctRemotes
}

// fewDistinct is distinctRemotes in one pass, for sets that fit into memory.
const fewDistinct = `bitShiftLeft(arrayCount(h -> bitAnd(h, bitShiftLeft(toUInt64(1), max(remotes_level)) - 1) = 0, groupUniqArrayArray(remotes)), max(remotes_level))`

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
