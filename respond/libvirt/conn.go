package libvirt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

var errRefused = errors.New("the daemon refused our certificate or address")

// maxAtOnce is how many operations run on a node at once, each on a connection
// of its own: a domain that a backup or a migration holds makes its operation
// wait for the whole deadline, and the other VDS of the node are not to wait
// with it. libvirtd itself serves 20 at once (libvirtd.conf, max_workers).
const maxAtOnce = 4

// connector keeps connections to the daemon and gives each to one operation at
// a time. It redials when one has died, e.g. by a daemon restart.
type connector struct {
	cfg  Config
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	turn chan struct{} // holds one token for each operation that runs
	rest chan struct{} // and for each rest of a cut, see pulls
	pulls

	mu   sync.Mutex
	idle []*session // the one used last at the end
	used map[*session]bool
}

// session is an open connection.
type session struct {
	l    *golibvirt.Libvirt
	conn *guardConn
	host string // the node's own name, for receipts
}

// with runs fn on a live connection. When the context ends the connection is
// closed, so fn returns whatever the daemon does. fn may run a second time on
// a new connection if the one from before turns out dead: operations are
// idempotent for that.
func (c *connector) with(ctx context.Context, fn func(*session) error) error {
	return c.on(ctx, c.turn, fn)
}

func (c *connector) on(ctx context.Context, turn chan struct{}, fn func(*session) error) error {
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait for earlier operations on the node: %w", context.Cause(ctx))
	}
	for {
		s, fresh, err := c.session(ctx)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, s.conn.kill)
		err = fn(s)
		ended := !stop()
		c.giveBack(s)
		switch {
		case err == nil || isReply(err):
			return err // also when the context ended in the same moment
		case ended:
			c.dropIdle() // where one hangs the others may: a node that was cut off
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		s.conn.kill()
		if fresh {
			return fmt.Errorf("connection lost: %w", err)
		}
	}
}

// session gives an idle connection, or a fresh one.
func (c *connector) session(ctx context.Context) (s *session, fresh bool, err error) {
	c.mu.Lock()
	for s == nil && len(c.idle) > 0 {
		last := len(c.idle) - 1
		s, c.idle = c.idle[last], c.idle[:last]
		if s.conn.dead() {
			s = nil
		}
	}
	if s != nil {
		c.used[s] = true
	}
	c.mu.Unlock()
	if s != nil {
		return s, false, nil
	}
	if s, err = c.open(ctx); err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	c.used[s] = true
	c.mu.Unlock()
	return s, true, nil
}

func (c *connector) giveBack(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.used, s)
	if !s.conn.dead() {
		c.idle = append(c.idle, s)
	}
}

func (c *connector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.used {
		s.conn.kill()
	}
	for _, s := range c.idle {
		s.conn.kill()
	}
	c.idle = nil
}

func (c *connector) dropIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.idle {
		s.conn.kill()
	}
	c.idle = nil
}

// open dials by itself: go-libvirt's own dialers keep the connection out of
// reach, and its Disconnect sends a request that hangs as the call before did.
func (c *connector) open(ctx context.Context) (*session, error) {
	e, err := c.cfg.endpoint()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	nc, err := c.dial(ctx, e.network, e.address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", e.address, orCause(ctx, err))
	}
	raw := nc
	if e.pki != "" {
		if nc, err = startTLS(ctx, raw, e); err != nil {
			return nil, fmt.Errorf("tls with %s: %w", e.address, orCause(ctx, err))
		}
	}
	g := &guardConn{Conn: nc, raw: raw, gone: make(chan struct{})}
	stop := context.AfterFunc(ctx, g.kill)
	defer stop()
	s := &session{l: golibvirt.NewWithDialer(dialers.NewAlreadyConnected(g)), conn: g}
	if err = s.l.ConnectToURI(golibvirt.ConnectURI(e.driver)); err == nil {
		g.opened()
		s.host, err = s.l.ConnectGetHostname()
	}
	if err != nil {
		g.kill()
		return nil, fmt.Errorf("open %s at %s: %w", e.driver, e.address, orCause(ctx, err))
	}
	return s, nil
}

// orCause puts the context's end before the error that it led to.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}

func startTLS(ctx context.Context, nc net.Conn, e endpoint) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(e.address)
	tc, err := tlsConfig(e.pki, host)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	conn := tls.Client(nc, tc)
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	if err = conn.HandshakeContext(ctx); err == nil {
		// After the handshake the daemon writes one byte: 1 when it accepts
		// the client's certificate and address (libvirt, remote_driver.c,
		// "wait for ACL").
		var ok [1]byte
		switch _, err = conn.Read(ok[:]); {
		case err == nil && ok[0] != 1:
			err = errRefused
		case errors.Is(err, io.EOF):
			// TLS 1.3 lets the client finish first, and libvirtd hangs up
			// without an alert. It does so too when it is being restarted, so
			// this is worth a retry.
			err = fmt.Errorf("the daemon hung up after the handshake: does it trust our certificate? %w", err)
		}
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return conn, nil
}

func tlsConfig(dir, host string) (*tls.Config, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "cacert.pem"))
	if err != nil {
		return nil, fmt.Errorf("%w: read the CA: %w", errConfig, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%w: no certificate in %s", errConfig, filepath.Join(dir, "cacert.pem"))
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "clientcert.pem"), filepath.Join(dir, "clientkey.pem"))
	if err != nil {
		return nil, fmt.Errorf("%w: client certificate: %w", errConfig, err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12,
	}, nil
}

const (
	minPacket = 28 // length word and header: six words (libvirt, virnetprotocol.x)
	// maxPacket is libvirt's VIR_NET_MESSAGE_MAX and its length word.
	maxPacket = 32<<20 + 4
)

// guardConn watches the daemon's stream for go-libvirt, which makes a buffer of
// the length that the peer claims, less the header, unchecked: a short packet
// would panic in its goroutine and take the whole process along.
type guardConn struct {
	net.Conn
	raw  net.Conn // below TLS: closing that never waits for the peer
	once sync.Once
	gone chan struct{} // closed once the connection is of no more use

	mu   sync.Mutex
	left int // bytes of the packet still to come
	head []byte
}

func (g *guardConn) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	g.mu.Lock()
	defer g.mu.Unlock()
	if ferr := g.check(b[:n]); ferr != nil {
		n, err = 0, ferr
	}
	if err != nil {
		g.kill()
	}
	return n, err
}

func (g *guardConn) check(b []byte) error {
	for len(b) > 0 {
		if g.left == 0 {
			take := min(4-len(g.head), len(b))
			g.head, b = append(g.head, b[:take]...), b[take:]
			if len(g.head) < 4 {
				return nil
			}
			size := binary.BigEndian.Uint32(g.head)
			if size < minPacket || size > maxPacket {
				return fmt.Errorf("not libvirt's protocol: a packet of %d bytes", size)
			}
			g.left, g.head = int(size)-4, g.head[:0]
		}
		skip := min(g.left, len(b))
		g.left, b = g.left-skip, b[skip:]
	}
	return nil
}

// opened orders the end of go-libvirt's connect before the reader's end, which
// go-libvirt itself leaves unordered.
func (g *guardConn) opened() {
	g.mu.Lock()
	defer g.mu.Unlock()
}

func (g *guardConn) kill() {
	g.once.Do(func() {
		close(g.gone)
		_ = g.raw.Close()
	})
}

func (g *guardConn) dead() bool {
	select {
	case <-g.gone:
		return true
	default:
		return false
	}
}

// Close is what go-libvirt calls.
func (g *guardConn) Close() error {
	g.kill()
	return nil
}
