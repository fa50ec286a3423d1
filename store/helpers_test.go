package store_test

import (
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/store"
)

// raw is a connection past the store, to look at what is really there.
func raw(t testing.TB, cfg store.Config) driver.Conn {
	t.Helper()
	c, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{"engine"}, DialContext: cfg.DialContext,
		Auth: clickhouse.Auth{Username: cfg.User, Password: cfg.Password, Database: cfg.Database},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
