package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestEventsFollow: each event is a line, what a customer wrote drives no terminal,
// and after the stream was cut it goes on behind the last event.
func TestEventsFollow(t *testing.T) {
	var asked atomic.Int32
	seen := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Last-Event-ID")
		w.Header().Set("Content-Type", "text/event-stream")
		if asked.Add(1) == 1 {
			_, _ = io.WriteString(w, "retry: 3000\n\nid: 6\nevent: hello\ndata: {\"time\":\"2026-11-22T07:00:00Z\",\"live\":3,\"freezes\":[]}\n\n"+
				": beat\n\nid: 7\nevent: incident\ndata: {\"time\":\"2026-11-22T07:00:01Z\",\"incident\":\"inc-1\",\"kind\":\"opened\",\"actor\":\"detector\",\"tenant\":\"198.18.0.7\",\"state\":\"open\",\"rules\":[\"netscan\"],\"text\":\"a \\u001b[31mred\"}\n\n")
			return
		}
		_, _ = io.WriteString(w, "event: bye\ndata: {\"reason\":\"shutdown\"}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer srv.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a-token-of-the-tests-0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"events", "-f", "--url", srv.URL, "--token-file", token}, &out, &errs)
	}()
	for _, want := range []string{"", "7"} {
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("Last-Event-ID %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatal("the stream is not asked for again")
		}
	}
	cancel()
	if code := <-done; code != 130 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	for _, want := range []string{"connected: 3 incidents are not over, 0 freezes", "inc-1  198.18.0.7  netscan  open  opened by detector: a ?[31mred"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("missing %q in\n%s", want, out.String())
		}
	}
}
