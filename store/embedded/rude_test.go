package embedded

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// rude is what the tests of ill-mannered clients need of the engine.
type rude struct {
	t *testing.T
	e *Engine
}

// send dials, writes b, waits and goes, with a reset if rst.
func (r rude) send(b []byte, wait time.Duration, rst bool) {
	c, err := net.Dial("tcp", r.e.Addr())
	if err != nil {
		r.t.Errorf("dial: %v", err)
		return
	}
	_, _ = c.Write(b) // the server may have hung up already
	time.Sleep(wait)
	if rst {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	_ = c.Close()
}

// login pings once as somebody and returns what came of it.
func (r rude) login(user, password, database string) error {
	c, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{r.e.Addr()}, DialTimeout: time.Minute,
		Auth: clickhouse.Auth{Username: user, Password: password, Database: database},
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return c.Ping(context.Background())
}

// dying opens a connection that the test can tear down under the driver.
func (r rude) dying() (clickhouse.Conn, func()) {
	var tc *net.TCPConn
	c, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{r.e.Addr()},
		Auth: clickhouse.Auth{Username: r.e.User(), Password: r.e.Password()},
		DialContext: func(_ context.Context, a string) (net.Conn, error) {
			n, err := net.Dial("tcp", a)
			if err == nil {
				tc = n.(*net.TCPConn)
			}
			return n, err
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return c, func() {
		_ = tc.SetLinger(0)
		_ = tc.Close()
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// hello is the beginning of a native handshake: packet 0, client name "abc",
// version 24.1, revision 54449.
var hello = []byte{0, 3, 'a', 'b', 'c', 24, 1, 0xb1, 0xa9, 3}

// Without the pseudo terminal several of these end the engine (see fakeTTY).
// They are the first thing to run with a new version of the library.
func TestRudeClients(t *testing.T) {
	e, _ := start(t, t.TempDir())
	r := rude{t, e}
	ctx := context.Background()
	mustFail := func(what string, err error) {
		if err == nil {
			t.Errorf("%s was let in", what)
		}
	}
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"connect and close", func() { r.send(nil, 0, false) }},
		{"connect and reset", func() { r.send(nil, 0, true) }},
		{"HTTP on the native port", func() { r.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 50*time.Millisecond, false) }},
		{"random bytes", func() {
			for i := range 50 {
				r.send(noise(200), time.Millisecond, i%2 == 0)
			}
		}},
		{"hello and random bytes", func() {
			for i := range 50 {
				r.send(append(hello[:len(hello):len(hello)], noise(60)...), time.Millisecond, i%2 == 0)
			}
		}},
		{"truncated hello", func() { r.send([]byte{0, 50, 'a', 'b'}, 5*time.Millisecond, true) }},
		{"string of 4 GiB announced", func() {
			r.send([]byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f, 'a'}, 20*time.Millisecond, false)
		}},
		{"wrong password", func() {
			for range 5 {
				mustFail("a wrong password", r.login(e.User(), "bad", ""))
			}
		}},
		{"unknown user", func() { mustFail("an unknown user", r.login("nobody", "bad", "")) }},
		{"unknown database", func() { mustFail("an unknown database", r.login(e.User(), e.Password(), "nope")) }},
		{"dies in the middle of a result", func() {
			for range 20 {
				c, die := r.dying()
				rows, err := c.Query(ctx, "SELECT number, toString(number) FROM numbers(100000000)")
				if err != nil {
					t.Fatal(err)
				}
				rows.Next()
				die()
				_ = rows.Close()
				_ = c.Close()
			}
		}},
		{"dies in the middle of an insert", func() { dieInInsert(r, e) }},
		{"cancels queries", func() {
			c := own(t, e)
			for i := range 20 {
				x, cancel := context.WithTimeout(ctx, time.Duration(5+i*5)*time.Millisecond)
				var n uint64
				mustFail("a query of minutes in its deadline", c.QueryRow(x, "SELECT sum(sipHash64(number)) FROM numbers(10000000000)").Scan(&n))
				cancel()
			}
		}},
		{"150 connections at once", func() {
			var cs []net.Conn
			for range 150 {
				if c, err := net.Dial("tcp", e.Addr()); err == nil {
					cs = append(cs, c)
				}
			}
			time.Sleep(100 * time.Millisecond)
			for _, c := range cs {
				_ = c.Close()
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pid := e.Pid()
			tt.do()
			time.Sleep(100 * time.Millisecond) // a dying engine needs a moment
			if err := own(t, e).Ping(within(t, 2*time.Minute)); err != nil {
				t.Errorf("ping afterwards: %v", err)
			}
			if now := e.Pid(); now != pid {
				t.Errorf("the engine died of it: process %d became %d", pid, now)
			}
		})
	}
}

func dieInInsert(r rude, e *Engine) {
	ctx := context.Background()
	if err := own(r.t, e).Exec(ctx, "CREATE TABLE IF NOT EXISTS default.rude (a UInt64) ENGINE = MergeTree ORDER BY a"); err != nil {
		r.t.Fatal(err)
	}
	for i := range 20 {
		c, die := r.dying()
		b, err := c.PrepareBatch(ctx, "INSERT INTO default.rude (a)")
		if err != nil {
			r.t.Fatal(err)
		}
		for j := range 1000 {
			if err := b.Append(uint64(j)); err != nil {
				r.t.Fatal(err)
			}
		}
		if i%2 == 0 {
			if err := b.Flush(); err != nil {
				r.t.Fatal(err)
			}
		}
		die()
		_ = b.Abort()
		_ = c.Close()
	}
}
