package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
)

// quietLog passes the speaker's warnings and errors on. What it says while it
// is being stopped is of no use to anybody.
type quietLog struct {
	log   *zap.Logger
	quiet atomic.Bool
}

func (q *quietLog) slog() *slog.Logger { return slog.New(handler{q: q}) }

type handler struct {
	q      *quietLog
	fields []zap.Field
}

func (h handler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && !h.q.quiet.Load()
}

func (h handler) Handle(_ context.Context, r slog.Record) error {
	fields := append([]zap.Field{zap.String("what", r.Message)}, h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		fields = append(fields, field(a))
		return true
	})
	h.q.log.Warn("bgp speaker", fields...)
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := append([]zap.Field{}, h.fields...)
	for _, a := range attrs {
		fields = append(fields, field(a))
	}
	return handler{q: h.q, fields: fields}
}

func (h handler) WithGroup(string) slog.Handler { return h }

// field keeps what a router may have sent within bounds.
func field(a slog.Attr) zap.Field {
	return zap.String(a.Key, fmt.Sprintf("%.200s", a.Value.String()))
}
