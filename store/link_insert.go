package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/ClickHouse/ch-go/proto"
)

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
		case proto.ServerCodeLog: // where the account's settings ask for it
			err = l.skipLog()
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

// skipLog reads lines of the server's log, which are never compressed.
func (l *link) skipLog() error {
	if _, err := l.r.Str(); err != nil { // of a temporary table
		return err
	}
	var lines proto.Logs
	return new(proto.Block).DecodeBlock(l.r, l.version, lines.Result())
}
