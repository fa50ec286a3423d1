package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
	"golang.org/x/sys/unix"
)

const (
	dialWait = 10 * time.Second
	// linkVersion of the protocol is the last without profile events, which
	// nobody reads here.
	linkVersion = int(proto.FeatureQueryStartTime)
	// maxPackets between a query and its answer: progress and the like. More
	// is not a ClickHouse.
	maxPackets = 1 << 20
	// compressChunk is what is compressed at a time. ClickHouse takes a block
	// in any number of pieces.
	compressChunk = 1 << 20
)

// link is a sender's connection to ClickHouse for inserts, made when it is
// needed and given up after any error. It speaks the native protocol with the
// primitives of clickhouse-go's own base: the driver itself would want values.
// It is used by one goroutine.
type link struct {
	cfg        *Config
	conn       net.Conn
	r          *proto.Reader
	w          *proto.Writer
	version    int
	compressor *compress.Writer // nil: not compressed
	chunk      []byte
}

// clientName is shown in the server's logs.
const clientName = "flowcordon"

// connect makes sure that there is a connection.
func (l *link) connect(ctx context.Context) error {
	if l.conn != nil && alive(l.conn) {
		return nil
	}
	l.close()
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	var err error
	if l.conn, err = l.dial(ctx); err != nil {
		l.conn = nil
		return err
	}
	l.r, l.w = proto.NewReader(l.conn), proto.NewWriter(l.conn, new(proto.Buffer))
	if l.cfg.compress() && l.compressor == nil {
		l.compressor = compress.NewWriter(compress.LevelZero, compress.LZ4)
	}
	if err := l.during(ctx, l.hello); err != nil {
		l.close()
		return err
	}
	return nil
}

// hello logs in.
func (l *link) hello() error {
	l.w.ChainBuffer(func(buf *proto.Buffer) {
		proto.ClientHello{
			Name: clientName, ProtocolVersion: linkVersion,
			Database: l.cfg.Database, User: l.cfg.User, Password: l.cfg.Password,
		}.Encode(buf)
	})
	if _, err := l.w.Flush(); err != nil {
		return err
	}
	n, err := l.r.UVarInt()
	if err != nil {
		return err
	}
	switch proto.ServerCode(n) {
	case proto.ServerCodeHello:
		var h proto.ServerHello
		if err := h.DecodeAware(l.r, linkVersion); err != nil {
			return err
		}
		l.version = min(h.Revision, linkVersion)
		return nil
	case proto.ServerCodeException:
		var ex exception
		if err := ex.DecodeAware(l.r, linkVersion); err != nil {
			return err
		}
		return &ex
	}
	return fmt.Errorf("unexpected packet %d from ClickHouse at login", n)
}

// dial tries the addresses in their order, so that what was written is read.
func (l *link) dial(ctx context.Context) (conn net.Conn, err error) {
	for _, addr := range l.cfg.Addr {
		switch {
		case l.cfg.DialContext != nil:
			conn, err = l.cfg.DialContext(ctx, addr)
		case l.cfg.TLS != nil:
			conn, err = (&tls.Dialer{Config: l.cfg.TLS}).DialContext(ctx, "tcp", addr)
		default:
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close() // of no more use
	}
	l.conn, l.r, l.w = nil, nil, nil
}

// alive reports whether the other side has left an idle connection open. A
// restart of the engine should not cost a failed insert.
func alive(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var rerr error
	if err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, rerr = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return true
	}); err != nil {
		return false
	}
	return n <= 0 && errors.Is(rerr, unix.EAGAIN)
}
