package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

type requestKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// observe gives the request an id of our own making (a client's could be
// anything), logs and counts it. Addresses are the connection's: proxy headers
// are the client's word.
func (h *Handler) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		id := hex.EncodeToString(b[:])
		w.Header().Set("X-Request-Id", id)
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		defer func() {
			code := ww.Status()
			if code == 0 {
				code = http.StatusOK
			}
			route := chi.RouteContext(r.Context()).RoutePattern()
			if route == "" || code == http.StatusNotFound && route[len(route)-1] == '*' {
				route = "none"
			}
			took := time.Since(start)
			h.metrics.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
			h.metrics.duration.WithLabelValues(route).Observe(took.Seconds())
			level := zapcore.DebugLevel // a dashboard asks every three seconds
			switch {
			case code >= 500:
				level = zapcore.WarnLevel
			case r.Method != http.MethodGet && r.Method != http.MethodHead:
				level = zapcore.InfoLevel
			}
			h.log.Log(level, "request", zap.String("request", id), zap.String("method", r.Method), zap.String("path", h.shown(r.URL.Path)),
				zap.Int("code", code), zap.Int("bytes", ww.BytesWritten()), zap.Duration("took", took), zap.String("remote", r.RemoteAddr))
		}()
		next.ServeHTTP(ww, r)
	})
}

// recoverer answers a panic with a problem that shows nothing of the inside.
func (h *Handler) recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p) // the way to end a connection, not a fault
			}
			h.metrics.panics.Inc()
			h.log.Error("panic in a handler", zap.String("request", requestID(r.Context())), zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
			if ww, ok := w.(middleware.WrapResponseWriter); ok && ww.Status() != 0 {
				panic(http.ErrAbortHandler) // half an answer is out; cut it so that it is not taken for a whole one
			}
			writeProblem(w, r, internal(r.Context()))
		}()
		next.ServeHTTP(w, r)
	})
}

// deadline ends calls that take too long; the context reaches the database.
func (h *Handler) deadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == Prefix+"/events" { // which bounds each write instead
			next.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hd := w.Header()
		hd.Set("Content-Security-Policy", "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		hd.Set("X-Content-Type-Options", "nosniff")
		hd.Set("X-Frame-Options", "DENY")
		hd.Set("Referrer-Policy", "no-referrer")
		hd.Set("Cross-Origin-Opener-Policy", "same-origin")
		hd.Set("Cross-Origin-Resource-Policy", "same-origin")
		hd.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		next.ServeHTTP(w, r)
	})
}

// noStore keeps tenants' data out of caches.
func noStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// shown is a path as it may be logged: what follows a page's own path is the
// secret of whoever has its link.
func (h *Handler) shown(path string) string {
	for page := range h.deps.Pages {
		if len(path) > len(page) && strings.HasPrefix(path, page) {
			return page + "***"
		}
	}
	return path
}
