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

// exception is an error that the server reported.
type exception struct{ proto.Exception }

func (e *exception) Error() string {
	return fmt.Sprintf("code %d: %s", int(e.Code), e.Message)
}

// insert sends one block and returns when ClickHouse has acknowledged it.
func (l *link) insert(ctx context.Context, sql, token string, b *block) error {
	ctx, cancel := context.WithTimeout(ctx, insertWait)
	defer cancel()
	if err := l.connect(ctx); err != nil {
		return err
	}
	err := l.during(ctx, func() error { return l.exchange(sql, token, b) })
	if err != nil {
		l.close() // what is still under way on it is not known
	}
	return err
}

// during runs an exchange with the server that ends when ctx does.
func (l *link) during(ctx context.Context, exchange func() error) error {
	conn := l.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err := exchange()
	if !stop() && err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return err
}

func (l *link) exchange(sql, token string, b *block) error {
	compression := proto.CompressionDisabled
	if l.compressor != nil {
		compression = proto.CompressionEnabled
	}
	l.w.ChainBuffer(func(buf *proto.Buffer) {
		proto.Query{
			Body: sql, Stage: proto.StageComplete, Compression: compression,
			Info: proto.ClientInfo{
				ProtocolVersion: l.version, Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial,
				InitialAddress: "0.0.0.0:0", ClientName: clientName,
			},
			Settings: []proto.Setting{
				{Key: "insert_deduplicate", Value: "1", Important: true},
				{Key: "insert_deduplication_token", Value: token, Important: true},
				{Key: "async_insert", Value: "0", Important: true},
				{Key: "send_logs_level", Value: "none", Important: true},
				// A replay, or an exporter's wrong clock, may span many days.
				{Key: "max_partitions_per_insert_block", Value: "0", Important: true},
			},
		}.EncodeAware(buf, l.version)
	})
	if err := l.send(&block{}); err != nil { // no tables of ours
		return err
	}
	if err := l.await(proto.ServerCodeData); err != nil { // the table's columns
		return err
	}
	if err := l.send(b); err != nil {
		return err
	}
	if err := l.send(&block{}); err != nil { // the end
		return err
	}
	return l.await(proto.ServerCodeEndOfStream)
}

// send writes one block.
func (l *link) send(b *block) error {
	l.w.ChainBuffer(func(buf *proto.Buffer) {
		proto.ClientCodeData.Encode(buf)
		proto.ClientData{}.EncodeAware(buf, l.version)
	})
	if l.compressor == nil {
		b.write(l.w.ChainBuffer, l.w.ChainWrite)
		_, err := l.w.Flush()
		return err
	}
	var err error
	l.chunk = l.chunk[:0]
	add := func(p []byte) {
		for len(p) > 0 && err == nil {
			n := min(len(p), compressChunk-len(l.chunk))
			l.chunk, p = append(l.chunk, p[:n]...), p[n:]
			if len(l.chunk) == compressChunk {
				err = l.flushChunk()
			}
		}
	}
	var small proto.Buffer
	b.write(func(put func(*proto.Buffer)) {
		small.Reset()
		put(&small)
		add(small.Buf)
	}, add)
	if err != nil {
		return err
	}
	return l.flushChunk()
}

// flushChunk compresses and writes what has gathered.
func (l *link) flushChunk() error {
	if err := l.compressor.Compress(l.chunk); err != nil {
		return err
	}
	l.chunk = l.chunk[:0]
	l.w.ChainWrite(l.compressor.Data)
	_, err := l.w.Flush()
	return err
}

// await reads packets up to one of the kind want. Others than a query's usual
// ones are an error, as is an exception.
func (l *link) await(want proto.ServerCode) error {
	for range maxPackets {
		n, err := l.r.UVarInt()
		if err != nil {
			return err
		}
		code := proto.ServerCode(n)
		switch code {
		case proto.ServerCodeEndOfStream:
		case proto.ServerCodeData:
			err = l.skipBlock()
		case proto.ServerCodeException:
			var ex exception
			if err = ex.DecodeAware(l.r, l.version); err == nil {
				return &ex
			}
		case proto.ServerCodeProgress:
			err = new(proto.Progress).DecodeAware(l.r, l.version)
		case proto.ServerCodeProfile:
			err = new(proto.Profile).DecodeAware(l.r, l.version)
		case proto.ServerCodeTableColumns:
			err = new(proto.TableColumns).DecodeAware(l.r, l.version)
		default:
			return fmt.Errorf("unexpected packet %d from ClickHouse", n)
		}
		if err != nil {
			return err
		}
		if code == want {
			return nil
		}
		if code == proto.ServerCodeEndOfStream {
			return errors.New("ClickHouse ended the insert early")
		}
	}
	return errors.New("ClickHouse does not come to an end")
}

// skipBlock reads a block without rows, which is how the server says what
// columns it expects.
func (l *link) skipBlock() error {
	if _, err := l.r.Str(); err != nil { // of a temporary table
		return err
	}
	if l.compressor != nil {
		l.r.EnableCompression()
		defer l.r.DisableCompression()
	}
	return new(proto.Block).DecodeBlock(l.r, l.version, nil)
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
