package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/migrations"
)

// Migrate makes the database if it is missing, applies the migrations that it
// has not seen, and sets storage policies and TTLs. It may be run again at any time and from
// several processes; a run that ended half-way is continued. A database that a
// newer flowcordon has migrated, or one whose applied migrations differ from
// this build's, is an error.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.createDatabase(ctx); err != nil {
		return fmt.Errorf("create database %s: %w", s.cfg.Database, err)
	}
	// Bookkeeping comes first and is not itself a migration.
	err := s.conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS migration (
		version UInt32, name String, sha256 String, applied DateTime('UTC') DEFAULT now('UTC')
	) ENGINE = MergeTree ORDER BY version`)
	if err != nil {
		return fmt.Errorf("create table migration: %w", err)
	}
	all, err := migrations.All()
	if err != nil {
		return err
	}
	if err := s.apply(ctx, all); err != nil {
		return err
	}
	if err := s.setRetention(ctx); err != nil {
		return err
	}
	return s.moveCoarse(ctx)
}

// createDatabase asks first, so that an account without the right to create
// databases can be given one that exists. It has a connection of its own: the
// others name the database when they connect.
func (s *Store) createDatabase(ctx context.Context) error {
	conn, err := clickhouse.Open(s.cfg.options(""))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var n uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = {name:String}",
		clickhouse.Named("name", s.cfg.Database)).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return nil
	}
	return conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS `"+s.cfg.Database+"`") // checked by Config.check
}

func (s *Store) apply(ctx context.Context, all []migrations.Migration) error {
	applied, err := s.applied(ctx)
	if err != nil {
		return fmt.Errorf("read table migration: %w", err)
	}
	known := map[uint32]bool{}
	for _, m := range all {
		known[m.Version] = true
		switch sum, ok := applied[m.Version]; {
		case !ok:
			if err := s.conn.Exec(ctx, m.SQL); err != nil {
				return fmt.Errorf("migration %04d_%s: %w", m.Version, m.Name, err)
			}
			if err := s.conn.Exec(ctx, "INSERT INTO migration (version, name, sha256) VALUES (?, ?, ?)", m.Version, m.Name, m.SHA256); err != nil {
				return fmt.Errorf("record migration %04d_%s: %w", m.Version, m.Name, err)
			}
			s.log.Info("migration applied", zap.Uint32("version", m.Version), zap.String("name", m.Name))
		case sum != m.SHA256:
			return fmt.Errorf("migration %04d_%s: %w", m.Version, m.Name, errChanged)
		}
	}
	for v := range applied {
		if !known[v] {
			return fmt.Errorf("migration %04d: %w", v, errNewer)
		}
	}
	return nil
}

var (
	errChanged = errors.New("was applied with other contents: this database belongs to another build of flowcordon; use that, or another database")
	errNewer   = errors.New("is in the database and unknown here: a newer flowcordon has migrated it; use that")
)

// applied maps the versions in the database to their checksums. A version may
// be there twice, when two processes migrated at the same time.
func (s *Store) applied(ctx context.Context) (map[uint32]string, error) {
	rows, err := s.conn.Query(ctx, "SELECT version, any(sha256) FROM migration GROUP BY version")
	if err != nil {
		return nil, err
	}
	return collect(rows, map[uint32]string{}, func(m map[uint32]string) (map[uint32]string, error) {
		var v uint32
		var sum string
		err := rows.Scan(&v, &sum)
		m[v] = sum
		return m, err
	})
}

// collect reads all rows with each and closes them.
func collect[A any](rows driver.Rows, into A, each func(A) (A, error)) (A, error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var err error
		if into, err = each(into); err != nil {
			return into, err
		}
	}
	return into, rows.Err()
}
