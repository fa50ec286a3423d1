package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"
)

// Level is a layer of detail that expires on its own.
type Level string

// The levels, by detail.
const (
	LevelFlows   Level = "flows"   // single flow rows
	LevelWindows Level = "windows" // 10 s: hosts, services, pairs
	LevelMinutes Level = "minutes" // 1 min: hosts, fleet
	LevelHours   Level = "hours"   // 1 h: hosts, services, pairs
)

// Storage is where rows lie on a server with several disks. The zero value
// leaves the tables where the server puts them.
type Storage struct {
	Policy     string                  // storage policy of the server for all tables of a level
	ColdVolume string                  // volume of the policy that old rows are moved to
	ColdAfter  map[Level]time.Duration // age at which they are; absent: never
}

// leveled is a table with rows of a level.
type leveled struct {
	table, time string
	level       Level
}

var leveledTables = []leveled{
	{flowTable.name, "toDateTime(time)", LevelFlows},
	{hostTable.name, "start", LevelWindows},
	{serviceTable.name, "start", LevelWindows},
	{pairTable.name, "start", LevelWindows},
	{"host_1m", "start", LevelMinutes},
	{"host_1h", "start", LevelHours},
	{"service_1h", "start", LevelHours},
	{"pair_1h", "start", LevelHours},
	// A few rows a minute, and complaints ask whether anything was collected.
	{"fleet_1m", "start", LevelHours},
}

// Table is a table with rows of a level.
type Table struct {
	Name  string
	Level Level
}

// Tables are those that have a level.
func Tables() []Table {
	out := make([]Table, len(leveledTables))
	for i, t := range leveledTables {
		out[i] = Table{t.table, t.level}
	}
	return out
}

// ttl of a level; negative: for ever.
func (c *Config) ttl(l Level) time.Duration {
	switch l {
	case LevelFlows:
		return c.FlowTTL
	case LevelWindows:
		return c.WindowTTL
	case LevelMinutes:
		return c.MinuteTTL
	}
	return c.HourTTL
}

// setRetention gives every table the policy and the TTL of its level where they
// are not so already.
func (s *Store) setRetention(ctx context.Context) error {
	for _, t := range leveledTables {
		if err := s.setPolicy(ctx, t.table); err != nil {
			return fmt.Errorf("set the storage policy of %s: %w", t.table, err)
		}
		if err := s.setTTL(ctx, t); err != nil {
			return fmt.Errorf("set the TTL of %s: %w", t.table, err)
		}
	}
	return nil
}

// setPolicy changes a table's storage policy. ClickHouse refuses one that lacks
// a disk of the present policy, so that no row gets lost on the way.
func (s *Store) setPolicy(ctx context.Context, table string) error {
	want := s.cfg.Storage.Policy
	if want == "" {
		return nil
	}
	l, err := query(ctx, s, "storage policy", "SELECT storage_policy FROM system.tables WHERE database = currentDatabase() AND name = {table:String}",
		[]any{named("table", table)}, func(rows driver.Rows, v *string) error { return rows.Scan(v) })
	if err != nil || len(l) == 1 && l[0] == want {
		return err
	}
	if err := s.conn.Exec(ctx, "ALTER TABLE "+table+" MODIFY SETTING storage_policy = '"+want+"'"); err != nil { // an identifier, by Config.check
		return err
	}
	s.log.Info("storage policy set", zap.String("table", table), zap.String("policy", want))
	return nil
}

// setTTL changes a table's TTL if it is not what it should be.
func (s *Store) setTTL(ctx context.Context, t leveled) error {
	var engine string
	if err := s.conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}",
		clickhouse.Named("database", s.cfg.Database), clickhouse.Named("table", t.table)).Scan(&engine); err != nil {
		return err
	}
	_, now, has := strings.Cut(engine, " TTL ")
	now, _, _ = strings.Cut(now, " SETTINGS ")
	want := s.cfg.ttlText(t)
	if want == "" {
		if !has {
			return nil
		}
		return s.conn.Exec(ctx, "ALTER TABLE "+t.table+" REMOVE TTL")
	}
	if now == want {
		return nil
	}
	// Existing parts get new dates in the background and are not rewritten
	// (materialize_ttl_recalculate_only).
	if err := s.conn.Exec(ctx, "ALTER TABLE "+t.table+" MODIFY TTL "+want); err != nil {
		return err
	}
	s.log.Info("TTL set", zap.String("table", t.table), zap.String("ttl", want))
	return nil
}

// ttlText is a table's TTL as ClickHouse writes it back.
func (c *Config) ttlText(t leveled) string {
	var l []string
	after := func(d time.Duration) string {
		return fmt.Sprintf("%s + toIntervalSecond(%d)", t.time, int64(d/time.Second))
	}
	ttl := c.ttl(t.level)
	if cold, ok := c.Storage.ColdAfter[t.level]; ok && c.Storage.ColdVolume != "" && (ttl < 0 || cold < ttl) {
		l = append(l, after(cold)+" TO VOLUME '"+c.Storage.ColdVolume+"'")
	}
	if ttl >= 0 {
		l = append(l, after(ttl))
	}
	return strings.Join(l, ", ")
}

// checkRetention is a part of check.
func (c *Config) checkRetention(bad func(string, ...any)) {
	for _, l := range []struct {
		level Level
		of    *time.Duration
		def   time.Duration
	}{
		{LevelFlows, &c.FlowTTL, DefaultFlowTTL}, {LevelWindows, &c.WindowTTL, DefaultWindowTTL},
		{LevelMinutes, &c.MinuteTTL, DefaultMinuteTTL}, {LevelHours, &c.HourTTL, DefaultHourTTL},
	} {
		if *l.of == 0 {
			*l.of = l.def
		}
		if d := *l.of; d > 0 && d < time.Minute {
			bad("%s TTL: %v is under a minute", strings.TrimSuffix(string(l.level), "s"), d)
		}
	}
	st := c.Storage
	for name, v := range map[string]string{"storage policy": st.Policy, "cold volume": st.ColdVolume} {
		if v != "" && !identifier.MatchString(v) {
			bad("%s: %q is not a name of letters, digits and underscores", name, v)
		}
	}
	if len(st.ColdAfter) > 0 && st.ColdVolume == "" {
		bad("cold after: needs a cold volume")
	}
	for level, d := range st.ColdAfter {
		switch level {
		case LevelFlows, LevelWindows, LevelMinutes, LevelHours:
		default:
			bad("cold after: %q is no level; want flows, windows, minutes or hours", level)
		}
		if d < time.Minute {
			bad("cold after: %v of %s is under a minute", d, level)
		}
	}
}
