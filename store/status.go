package store

import (
	"context"
	"fmt"
	"time"

	"github.com/flowcordon/flowcordon/migrations"
)

// Status is the database as a doctor sees it.
type Status struct {
	Version string        // of the server
	Skew    time.Duration // its clock minus ours, to a round trip
	Missing []string      // migrations of this build that were not applied
	Foreign []string      // migrations that this build does not know, or knows differently
	Behind  time.Duration // age of the oldest hour that should be rolled up, 0: none
}

// Status asks the database for what it is. It changes nothing.
func (s *Store) Status(ctx context.Context) (Status, error) {
	var st Status
	var at time.Time
	began := time.Now()
	err := s.conn.QueryRow(ctx, "SELECT version(), now64(3, 'UTC')").Scan(&st.Version, &at)
	if err != nil {
		return st, fmt.Errorf("ask ClickHouse for its version: %w", err)
	}
	st.Skew = at.Sub(began.Add(time.Since(began) / 2))
	all, err := migrations.All()
	if err != nil {
		return st, err
	}
	var tables uint64
	if err := s.conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'migration'").Scan(&tables); err != nil {
		return st, fmt.Errorf("look for table migration: %w", err)
	}
	applied := map[uint32]string{}
	if tables > 0 {
		if applied, err = s.applied(ctx); err != nil {
			return st, fmt.Errorf("read table migration: %w", err)
		}
	}
	for _, m := range all {
		sum, ok := applied[m.Version]
		name := fmt.Sprintf("%04d_%s", m.Version, m.Name)
		if !ok {
			st.Missing = append(st.Missing, name)
		} else if sum != m.SHA256 {
			st.Foreign = append(st.Foreign, name)
		}
		delete(applied, m.Version)
	}
	for v := range applied {
		st.Foreign = append(st.Foreign, fmt.Sprintf("%04d", v))
	}
	if len(st.Missing) > 0 {
		return st, nil
	}
	due, err := s.dueSlots(ctx, time.Now().Add(-2*rollEvery)) // those of now are about to be done
	if err == nil && len(due) > 0 {
		st.Behind = time.Since(time.Unix(due[0].slot, 0))
	}
	return st, err
}
