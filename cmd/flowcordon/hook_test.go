package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
)

// hook stands before a panel and lets a test act in the middle of a suspend.
type hook struct {
	next http.Handler

	mu sync.Mutex
	// before runs when a suspend has come and is not carried out yet, after
	// when it is and the caller has no answer yet. Both may wait.
	before, after func(panel.Request)
}

func (h *hook) set(before, after func(panel.Request)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before, h.after = before, after
}

// ServeHTTP passes everything on to the panel.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller was killed while it wrote
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var q panel.Request
	if json.Unmarshal(body, &q) != nil || q.Action != "suspend" {
		h.next.ServeHTTP(w, r)
		return
	}
	h.mu.Lock()
	before, after := h.before, h.after
	h.mu.Unlock()
	if before != nil {
		before(q)
	}
	// As a real panel does, this one finishes what it began although the
	// caller may be gone.
	rec := httptest.NewRecorder()
	h.next.ServeHTTP(rec, r)
	if after != nil {
		after(q)
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// once makes f run at the first suspend only.
func once(f func(panel.Request)) func(panel.Request) {
	var o sync.Once
	return func(r panel.Request) { o.Do(func() { f(r) }) }
}
