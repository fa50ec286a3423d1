package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/migrations"
	"github.com/flowcordon/flowcordon/store"
	"github.com/flowcordon/flowcordon/store/storetest"
)

// schema returns every table's definition.
func schema(t *testing.T, cfg store.Config) map[string]string {
	t.Helper()
	rows, err := raw(t, cfg).Query(within(t, 2*time.Minute), "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase()")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	m := map[string]string{}
	for rows.Next() {
		var name, sql string
		if err := rows.Scan(&name, &sql); err != nil {
			t.Fatal(err)
		}
		m[name] = strings.ReplaceAll(sql, cfg.Database+".", "")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return m
}

func count(t *testing.T, cfg store.Config, sql string) uint64 {
	t.Helper()
	var n uint64
	if err := raw(t, cfg).QueryRow(within(t, 2*time.Minute), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func mustExec(t *testing.T, cfg store.Config, sql string) {
	t.Helper()
	if err := raw(t, cfg).Exec(within(t, 2*time.Minute), sql); err != nil {
		t.Fatal(err)
	}
}

func TestMigrate(t *testing.T) {
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	cfg := storetest.Config(t)
	s, _ := storetest.Start(t, cfg, store.Deps{})
	ctx := within(t, 60*time.Second)
	if err := s.Migrate(ctx); err != nil {
		t.Fatalf("from empty: %v", err)
	}
	want := schema(t, cfg)
	tables := map[string]bool{"migration": true}
	for _, m := range all {
		if _, rest, ok := strings.Cut(m.SQL, "CREATE TABLE IF NOT EXISTS "); ok {
			tables[strings.Fields(rest)[0]] = true
		}
	}
	if len(want) != len(tables) {
		t.Errorf("%d tables, want %d", len(want), len(tables))
	}
	var numbers numbered
	if err := s.Write(numbers.batch(10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		if err := s.Migrate(ctx); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if d := cmp.Diff(want, schema(t, cfg)); d != "" {
			t.Errorf("%s: schema -want +got\n%s", when, d)
		}
		if n := count(t, cfg, "SELECT count() FROM migration"); n != uint64(len(all)) {
			t.Errorf("%s: %d migrations recorded, want %d", when, n, len(all))
		}
		checkNumbers(t, raw(t, cfg), 10)
	}
	check("twice")
	// An earlier run made a table and ended before it recorded that.
	mustExec(t, cfg, "DELETE FROM migration WHERE version >= 3")
	check("table made, not recorded")
	// An earlier run ended before the last two.
	mustExec(t, cfg, "DROP TABLE event SYNC")
	mustExec(t, cfg, "DROP TABLE evidence SYNC")
	mustExec(t, cfg, "DELETE FROM migration WHERE version >= 6")
	check("ended half-way")
}

// A database of before 0022 and 0024, with rows of two partitions, of which a run
// that ended half-way has moved one.
func TestMoveCoarse(t *testing.T) {
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		table, insert string
		old, now      []int // migrations that made it, and make it
	}{
		{"flows", "(time, tenant, packets) SELECT fromUnixTimestamp64Nano(toInt64({at} + number) * 1000000000, 'UTC'), toIPv6('2001:db8::1'), number", []int{4}, []int{23}},
		{"host_window", "(start, tenant, out_packets) SELECT toDateTime({at} + 10 * (number % 1000), 'UTC'), toIPv6('2001:db8::1'), number", []int{1, 20}, []int{25, 26}},
	} {
		t.Run(tt.table, func(t *testing.T) {
			cfg := migrated(t)
			ctx := within(t, 60*time.Second)
			want := schema(t, cfg)
			fill := func(at string) {
				mustExec(t, cfg, "INSERT INTO "+tt.table+" "+strings.Replace(tt.insert, "{at}", at, 1)+" FROM numbers(20000)")
			}
			mustExec(t, cfg, "DROP TABLE "+tt.table+" SYNC")
			for _, v := range tt.old {
				mustExec(t, cfg, all[v-1].SQL)
			}
			fill("1800000000")
			fill("1800100000")
			rows, sum := "SELECT count() FROM "+tt.table, "SELECT sum(cityHash64(*)) FROM "+tt.table
			before := count(t, cfg, sum)
			coarse := tt.table + "_coarse"
			mustExec(t, cfg, "RENAME TABLE "+tt.table+" TO "+coarse)
			for _, v := range tt.now {
				mustExec(t, cfg, all[v-1].SQL)
			}
			mustExec(t, cfg, "ALTER TABLE "+coarse+" MOVE PARTITION ID '"+partition(t, cfg, coarse)+"' TO TABLE "+tt.table)
			s, _ := storetest.Start(t, cfg, store.Deps{})
			for _, when := range []string{"half-way", "again"} {
				if err := s.Migrate(ctx); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				if d := cmp.Diff(want, schema(t, cfg)); d != "" {
					t.Errorf("%s: schema -want +got\n%s", when, d)
				}
				if n := count(t, cfg, rows); n != 40_000 {
					t.Errorf("%s: %d rows, want 40000", when, n)
				}
				if count(t, cfg, sum) != before {
					t.Errorf("%s: other rows than before", when)
				}
			}
			// Old and new parts are merged as if nothing were between them.
			fill("1800000000")
			mustExec(t, cfg, "OPTIMIZE TABLE "+tt.table+" FINAL")
			if n := count(t, cfg, rows); n != 60_000 {
				t.Errorf("merged: %d rows, want 60000", n)
			}
		})
	}
}

// partition is the first one of a table.
func partition(t *testing.T, cfg store.Config, table string) (id string) {
	t.Helper()
	err := raw(t, cfg).QueryRow(within(t, 2*time.Minute), "SELECT min(partition_id) FROM system.parts WHERE database = currentDatabase() AND table = '"+table+"' AND active").Scan(&id)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestMigrateRefuses(t *testing.T) {
	for _, tt := range []struct{ name, sql, want string }{
		{"newer database", "INSERT INTO migration (version, name, sha256) VALUES (999, 'future', 'x')", "newer flowcordon"},
		{"other contents", "ALTER TABLE migration UPDATE sha256 = 'x' WHERE version = 2 SETTINGS mutations_sync = 2", "0002_service_window"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := migrated(t)
			mustExec(t, cfg, tt.sql)
			err := idle(t, cfg, store.Deps{}).Migrate(within(t, 2*time.Minute))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestMigrateTTL(t *testing.T) {
	cfg := migrated(t)
	mutations := func() uint64 {
		return count(t, cfg, "SELECT count() FROM system.mutations WHERE database = currentDatabase()")
	}
	ttl := func(table string) string {
		_, engine, _ := strings.Cut(schema(t, cfg)[table], " ENGINE = ") // comments say TTL as well
		_, after, _ := strings.Cut(engine, " TTL ")
		after, _, _ = strings.Cut(after, " SETTINGS ")
		return after
	}
	steps := []struct {
		name          string
		window, flows time.Duration
		host, flow    string
	}{
		{"none", -1, -1, "", ""},
		{"set", 48 * time.Hour, 90 * time.Minute, "start + toIntervalSecond(172800)", "toDateTime(time) + toIntervalSecond(5400)"},
		{"the same", 48 * time.Hour, 90 * time.Minute, "start + toIntervalSecond(172800)", "toDateTime(time) + toIntervalSecond(5400)"},
		{"changed", 24 * time.Hour, 90 * time.Minute, "start + toIntervalSecond(86400)", "toDateTime(time) + toIntervalSecond(5400)"},
		{"defaults", 0, 0, "start + toIntervalSecond(1209600)", "toDateTime(time) + toIntervalSecond(604800)"},
		{"taken away", -1, -1, "", ""},
	}
	for _, st := range steps {
		cfg.WindowTTL, cfg.FlowTTL = st.window, st.flows
		before := mutations()
		s := idle(t, cfg, store.Deps{})
		if err := s.Migrate(within(t, 60*time.Second)); err != nil {
			t.Fatalf("%s: %v", st.name, err)
		}
		for table, want := range map[string]string{"host_window": st.host, "service_window": st.host, "pair_window": st.host, "flows": st.flow} {
			if got := ttl(table); got != want {
				t.Errorf("%s: TTL of %s is %q, want %q", st.name, table, got, want)
			}
		}
		if st.name == "the same" && mutations() != before {
			t.Errorf("an unchanged TTL was altered: %d mutations, %d before", mutations(), before)
		}
	}
}

// Rows past their TTL go, with the partition they are in.
func TestTTLDropsRows(t *testing.T) {
	cfg := storetest.Config(t)
	cfg.WindowTTL, cfg.FlowTTL = 24*time.Hour, 24*time.Hour
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	var numbers numbered
	b := numbers.batch(30) // of March, long past
	now := time.Now().Truncate(flow.WindowSeconds * time.Second)
	b.Hosts[0].Start, b.Flows[0].Time = now.Unix(), now.UnixNano()
	if err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"host_window", "flows"} {
		mustExec(t, cfg, "OPTIMIZE TABLE "+table+" FINAL")
		if n := count(t, cfg, "SELECT count() FROM "+table); n != 1 {
			t.Errorf("%s: %d rows are left, want the one of today", table, n)
		}
	}
}

// clickhouse.addr: the same code against a server that is merely somewhere.
func TestExternalServer(t *testing.T) {
	e := storetest.Engine(t)
	cfg := storetest.Config(t)
	cfg.DialContext, cfg.Addr = nil, []string{e.Addr()}
	s, _ := storetest.Start(t, cfg, store.Deps{})
	if err := s.Migrate(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(within(t, 2*time.Minute)); err != nil {
		t.Error(err)
	}
	var numbers numbered
	for range 4 { // 9 MB: blocks are compressed in several pieces
		if err := s.Write(numbers.batch(3000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(within(t, 60*time.Second)); err != nil {
		t.Fatal(err)
	}
	inside := cfg
	inside.DialContext = e.DialContext
	checkNumbers(t, raw(t, inside), numbers.next)

	t.Run("wrong password", func(t *testing.T) {
		bad := cfg
		bad.Password, bad.SpoolDir = "wrong", t.TempDir()
		err := idle(t, bad, store.Deps{}).Ping(within(t, 2*time.Minute))
		if err == nil || !strings.Contains(err.Error(), "Authentication failed") || strings.Contains(err.Error(), cfg.Password) {
			t.Errorf("got %v, want a refusal without the password in it", err)
		}
	})
	t.Run("database missing", func(t *testing.T) {
		bad := cfg
		bad.Database, bad.SpoolDir = "absent", t.TempDir()
		if err := idle(t, bad, store.Deps{}).Ping(within(t, 2*time.Minute)); err == nil {
			t.Error("a ping of an absent database succeeds")
		}
	})
	t.Run("plain server, TLS wanted", func(t *testing.T) {
		bad := cfg
		bad.TLS, bad.SpoolDir = &tls.Config{ServerName: "clickhouse.test"}, t.TempDir()
		if err := idle(t, bad, store.Deps{}).Ping(within(t, 2*time.Minute)); err == nil {
			t.Error("TLS was asked for and a plain connection was made")
		}
	})
	t.Run("TLS", func(t *testing.T) { testTLS(t, cfg, e.Addr(), &numbers) })
	checkNumbers(t, raw(t, inside), numbers.next)
}

// testTLS puts a TLS listener before the server: the right authority is let
// through, an unknown one is refused before the password is sent.
func testTLS(t *testing.T, cfg store.Config, server string, numbers *numbered) {
	cert, roots := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go relay(c, server)
		}
	}()
	for _, tt := range []struct {
		name  string
		roots *x509.CertPool
		host  string
		ok    bool
	}{
		{"trusted", roots, "clickhouse.test", true},
		{"unknown authority", x509.NewCertPool(), "clickhouse.test", false},
		{"wrong name", roots, "other.test", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := cfg
			c.Addr, c.SpoolDir = []string{l.Addr().String()}, t.TempDir()
			c.TLS = &tls.Config{RootCAs: tt.roots, ServerName: tt.host}
			err := idle(t, c, store.Deps{}).Ping(within(t, 2*time.Minute))
			if (err == nil) != tt.ok {
				t.Errorf("got %v, want success %v", err, tt.ok)
			}
			// Inserts have connections of their own.
			s, _ := storetest.Start(t, c, store.Deps{})
			before := numbers.next
			if err := s.Write(numbers.batch(50)); err != nil {
				t.Fatal(err)
			}
			wait := time.Second
			if tt.ok {
				wait = 2 * time.Minute
			} else {
				numbers.next = before
			}
			if err := s.Sync(within(t, wait)); (err == nil) != tt.ok {
				t.Errorf("insert: got %v, want success %v", err, tt.ok)
			}
		})
	}
}

func relay(c net.Conn, server string) {
	defer func() { _ = c.Close() }()
	var d net.Dialer
	s, err := d.DialContext(context.Background(), "tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	go func() { _, _ = io.Copy(s, c) }()
	_, _ = io.Copy(c, s)
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clickhouse.test"}, DNSNames: []string{"clickhouse.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  store.Config
		want []string
	}{
		{"empty", store.Config{}, []string{"addr", "spool directory"}},
		{"database name", store.Config{Addr: []string{"a:1"}, SpoolDir: "x", Database: "a`; DROP DATABASE b"}, []string{"database"}},
		{"TTL", store.Config{Addr: []string{"a:1"}, SpoolDir: "x", FlowTTL: time.Second}, []string{"flow TTL"}},
		{"negative", store.Config{Addr: []string{"a:1"}, SpoolDir: "x", BatchRows: -1}, []string{"negative"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := store.New(tt.cfg, store.Deps{})
			for _, w := range tt.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want an error with %q", err, w)
				}
			}
		})
	}
}
