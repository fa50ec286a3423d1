package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// queryWait bounds a query whose caller has set no deadline of its own.
const queryWait = 60 * time.Second

// query runs a SELECT with bound parameters and scans each row. Of the tenants,
// those that ctx wants (among).
func query[T any](ctx context.Context, s *Store, what, sql string, args []any, scan func(driver.Rows, *T) error) ([]T, error) {
	ctx, cancel := withDeadline(ctx, queryWait)
	defer cancel()
	sql, args = among(ctx, sql, args)
	ctx, conn, end, err := s.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", what, err)
	}
	defer end()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", what, err)
	}
	all, err := collect(rows, nil, func(all []T) ([]T, error) {
		if len(all) == cap(all) {
			all = slices.Grow(all, max(16, len(all))) // append alone adds a quarter at a time, and clears and copies twice as much
		}
		all = append(all, *new(T)) // scanned where it lies: a row by itself would be on the heap
		return all, scan(rows, &all[len(all)-1])
	})
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", what, err)
	}
	return all, nil
}

func withDeadline(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// Sums of flow.Counts and flow.Classes, in the order of countDest and classDest.
var (
	countSums = sums(countFields)
	classSums = sums(classFields)
)

func sums(fields []field) string {
	l := make([]string, len(fields))
	for i, f := range fields {
		l[i] = thinned(f.name)
	}
	return strings.Join(l, ", ")
}

// thinnest is the sampling rate that thinned brings sums to.
const thinnest = `greatest(max(rate), 1)`

// thinned is the sum of a column as it would have been counted if everything had
// been sampled at the thinnest rate among the rows; with one rate it is the sum.
// Packets seen at 1:10 by one router and at 1:1000 by another must not be added
// up as they are, nor answers at one rate be weighed against packets at another.
//
// The rules' bounds hold for these counts: for weights w ≤ W, exp(θw/W) is below
// 1 + (w/W)(exp θ − 1), so that Σ w·n / W has no heavier tail than a Poisson
// count of the same mean, which is what all of them are derived from.
func thinned(name string) string {
	return "intDiv(sum(" + name + " * rate) + intDiv(" + thinnest + ", 2), " + thinnest + ")"
}

// thinnedDistinct scales a number of distinct members as the events that they
// were seen by: the fewest that thinning leaves.
func thinnedDistinct(distinct, events string) string {
	return "intDiv(" + distinct + " * " + thinned(events) + ", greatest(sum(" + events + "), 1))"
}

// distinctRemotes counts the distinct destinations of a group of service_window's
// rows with one tenant, port, protocol and role: exactly while all of them are
// complete, and else, with L the greatest remotes_level among them, as 2^L times
// the distinct hashes whose lowest L bits are zero. Which groups those are is
// known before, from withThinned; while there are none, as nearly always, the
// condition is a constant and the query is the simple one.
const distinctRemotes = `if(empty(thinned.1), uniqExactArray(remotes), bitShiftLeft(
	uniqExactArray(arrayFilter(h -> bitAnd(h, bitShiftLeft(toUInt64(1), transform(` + remotesKey + `, thinned.1, thinned.2, toUInt8(0))) - 1) = 0, remotes)),
	max(remotes_level)))`

// withThinned, a part of WITH, has the keys of groups with rows whose destinations
// are thinned, and their greatest levels.
const withThinned = `(SELECT (groupArray(k), groupArray(l)) FROM (
	SELECT ` + remotesKey + ` AS k, max(remotes_level) AS l FROM service_window
	WHERE ` + inRange + ` AND remotes_level > 0 ` + amongMark + ` GROUP BY k)) AS thinned`

const remotesKey = `cityHash64(tenant, svc_port, ip_proto, role)`

func countDest(c *flow.Counts) []any {
	return []any{&c.OutRecords, &c.InRecords, &c.OutPackets, &c.InPackets, &c.OutBytes, &c.InBytes}
}

func classDest(c *flow.Classes) []any {
	return []any{&c.SYNOut, &c.EstOut, &c.SYNACKOut, &c.RSTOut, &c.SYNIn, &c.EstIn, &c.SYNACKIn, &c.RSTIn, &c.RawSYN, &c.NoFlags}
}

// dest joins scan destinations.
func dest(parts ...[]any) []any {
	var all []any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// inRange is the condition that a window begins in the range bound by rangeArgs.
const inRange = `start >= toDateTime({from:Int64}, 'UTC') AND start < toDateTime({to:Int64}, 'UTC')`

// rangeArgs binds a range for inRange. Windows begin at whole seconds, so
// rounding both ends up keeps From ≤ start < To exact.
func rangeArgs(r flow.Range, more ...any) []any {
	return append([]any{
		clickhouse.Named("from", fmt.Sprint(ceilSeconds(r.From))),
		clickhouse.Named("to", fmt.Sprint(ceilSeconds(r.To))),
	}, more...)
}

func ceilSeconds(t time.Time) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return min(max(s, 0), 1<<32-1) // what DateTime can hold
}

func named(name string, v any) any { return clickhouse.Named(name, fmt.Sprint(v)) }

// namedAddr binds an address for a parameter of type IPv6.
func namedAddr(name string, a netip.Addr) any {
	return clickhouse.Named(name, addrText(a))
}

// namedAddrs binds addresses for a parameter of type Array(IPv6). Their text
// holds nothing that would have to be escaped.
func namedAddrs(name string, l []netip.Addr) any {
	q := make([]string, len(l))
	for i, a := range l {
		q[i] = "'" + addrText(a) + "'"
	}
	return clickhouse.Named(name, "["+strings.Join(q, ",")+"]")
}

func addrText(a netip.Addr) string { return mapped(a).WithZone("").String() }

// unmap returns addresses as the rest of the project has them.
func unmap(a netip.Addr) netip.Addr { return a.Unmap() }

// toDB and fromDB carry the zero time, which DateTime64(9) cannot hold (its
// years are 1900 to 2262), as the epoch.
func toDB(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}

func fromDB(t time.Time) time.Time {
	if t.UnixNano() == 0 {
		return time.Time{}
	}
	return t.UTC()
}
