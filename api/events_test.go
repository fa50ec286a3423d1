package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// frame is one event of a stream.
type frame struct {
	id, event, data string
}

// follow opens a stream and gives its events. The end of ctx ends it.
func (b *bench) follow(ctx context.Context, t testing.TB, head ...string) (answer, <-chan frame) {
	t.Helper()
	res := b.open(ctx, t, RoleViewer, Prefix+"/events", head...)
	t.Cleanup(func() { _ = res.Body.Close() })
	out := make(chan frame, 5000)
	if res.StatusCode != http.StatusOK {
		close(out)
		return answer{code: res.StatusCode, head: res.Header}, out
	}
	go func() {
		defer close(out)
		var f frame
		sc := bufio.NewScanner(res.Body)
		for sc.Scan() {
			key, value, _ := strings.Cut(sc.Text(), ": ")
			switch key {
			case "id":
				f.id = value
			case "event":
				f.event = value
			case "data":
				f.data += value
			case "":
				if f.event != "" {
					out <- f
				}
				f = frame{}
			}
		}
	}()
	return answer{code: res.StatusCode, head: res.Header}, out
}

// next waits for an event; half a minute is a hang.
func next(t testing.TB, ch <-chan frame, event string, into any) frame {
	t.Helper()
	select {
	case f, ok := <-ch:
		if !ok || f.event != event {
			t.Fatalf("got %+v (open %v), want the event %s", f, ok, event)
		}
		if err := json.Unmarshal([]byte(f.data), into); err != nil {
			t.Fatalf("%v in %s", err, f.data)
		}
		return f
	case <-time.After(30 * time.Second):
		t.Fatalf("no event %s", event)
	}
	return frame{}
}

func TestEvents(t *testing.T) {
	b := newBench(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res, ch := b.follow(ctx, t)
	if ct := res.head.Get("Content-Type"); ct != "text/event-stream" || res.head.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", res.head)
	}
	var hello helloEvent
	if f := next(t, ch, "hello", &hello); f.id != "2" || hello.Seq != 2 || hello.Live != 4 || hello.Resumed || hello.Freezes == nil {
		t.Errorf("%+v %+v", f, hello)
	}
	inc := sampleIncidents()[2]
	b.feed.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0, Actor: "detector", Kind: "opened", Incident: inc.ID, Tenant: inc.Tenant, Customer: inc.Holder.Tenant, Text: "a\nb" + hostile}, Now: inc})
	var got incidentEvent
	if f := next(t, ch, "incident", &got); f.id != "3" || got.Incident != "inc-3" || got.Kind != "opened" || got.State != flow.StateHeld || got.Customer != hostile || got.Text != "a\nb"+hostile || strings.Contains(f.data, "<") {
		t.Errorf("%+v %+v", f, got)
	}
	b.feed.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0, Kind: kindFrozen, Incident: inc.ID}, Now: inc})
	var fr freezeEvent
	if next(t, ch, "freeze", &fr); fr.Seq != 4 || len(fr.Freezes) != len(b.h.deps.Control.Freezes()) {
		t.Errorf("%+v", fr)
	}
	if m := b.get(t, "/metrics").body; !strings.Contains(m, "flowcordon_http_streams 1\n") {
		t.Error("the stream is not counted")
	}
}

func TestEventsResume(t *testing.T) {
	b := newBench(t, nil)
	for range maxResume {
		b.feed.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0, Kind: "finding", Incident: "inc-1"}, Now: sampleIncidents()[0]})
	}
	last := b.feed.LastSeq()
	for name, tc := range map[string]struct {
		id      string
		resumed bool
		first   uint64
	}{
		"nothing missed":     {fmt.Sprint(last), true, last + 1},
		"three missed":       {fmt.Sprint(last - 3), true, last - 2},
		"as many as allowed": {fmt.Sprint(last - maxResume), true, last - maxResume + 1},
		"one more":           {fmt.Sprint(last - maxResume - 1), false, last + 1},
		"of another log":     {fmt.Sprint(last + 1), false, last + 1},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		_, ch := b.follow(ctx, t, "Last-Event-ID", tc.id)
		var hello helloEvent
		next(t, ch, "hello", &hello)
		if hello.Resumed != tc.resumed || hello.Seq != tc.first-1 {
			t.Errorf("%s: %+v", name, hello)
		}
		if tc.first <= last {
			for want := tc.first; want <= last; want++ {
				var e incidentEvent
				if f := next(t, ch, "incident", &e); e.Seq != want || f.id != fmt.Sprint(want) {
					t.Fatalf("%s: %d, want %d", name, e.Seq, want)
				}
			}
		}
		cancel()
	}
	b.head(t, RoleViewer, Prefix+"/events") // without an id
	for _, id := range []string{"x", "-1", "1.5", "99999999999999999999"} {
		res, _ := b.follow(t.Context(), t, "Last-Event-ID", id)
		if res.code != http.StatusUnprocessableEntity {
			t.Errorf("Last-Event-ID %s: %d", id, res.code)
		}
	}
}

func TestEventsExporters(t *testing.T) {
	var mu sync.Mutex
	list := sampleExporters()
	b := newBench(t, func(_ *Config, d *Deps) {
		d.Exporters = func() []flow.ExporterHealth {
			mu.Lock()
			defer mu.Unlock()
			return append([]flow.ExporterHealth{}, list...)
		}
	})
	s := &stream{h: b.h}
	look := func() []exporterEvent {
		s.at = time.Time{}
		b.h.snapshot = snapshot{}
		return s.exporterNews()
	}
	if got := look(); got != nil {
		t.Errorf("the first look says %v", got)
	}
	mu.Lock()
	list[0].Datagrams++ // no news
	mu.Unlock()
	if got := look(); len(got) != 0 {
		t.Errorf("counters are news: %v", got)
	}
	mu.Lock()
	list[0].LastSeen = t0.Add(-exporterSilent - 1)
	mu.Unlock()
	if got := look(); len(got) != 1 || got[0].Status != "silent" {
		t.Errorf("silent: %+v", got)
	}
	mu.Lock()
	list[0].LastSeen, list[0].Problems = t0.Add(-exporterSilent), []string{"clock"}
	mu.Unlock()
	if got := look(); len(got) != 1 || got[0].Status != "problem" || got[0].Problems[0] != "clock" {
		t.Errorf("problem: %+v", got)
	}
	mu.Lock()
	gone := list[1].Exporter
	list = list[:1]
	mu.Unlock()
	if got := look(); len(got) != 1 || got[0].Status != "gone" || got[0].Exporter != gone {
		t.Errorf("gone: %+v", got)
	}
}

func TestEventsBounded(t *testing.T) {
	b := newBench(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	for range maxStreamsOf {
		if a, _ := b.follow(ctx, t); a.code != http.StatusOK {
			t.Fatal(a.code)
		}
	}
	a := b.head(t, RoleViewer, Prefix+"/events")
	if p := a.problem(t, http.StatusTooManyRequests); a.head.Get("Retry-After") != "30" || !strings.Contains(p.Detail, "8 of this token") {
		t.Errorf("%v %q", a.head, p.Detail)
	}
	if a := b.head(t, RoleAbuse, Prefix+"/events"); a.code != http.StatusOK {
		t.Errorf("another token: %d", a.code)
	}
	cancel() // they are free again once the server has seen it
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if a := b.head(t, RoleViewer, Prefix+"/events"); a.code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("places of clients that went away are not given to others")
		}
	}
}

func TestEventsEnd(t *testing.T) {
	b := newBench(t, nil)
	_, ch := b.follow(t.Context(), t)
	var hello helloEvent
	next(t, ch, "hello", &hello)
	if err := b.h.SetTokens(roleTokens()[1:]); err != nil {
		t.Fatal(err)
	}
	b.feed.add(flow.News{AuditEntry: flow.AuditEntry{Time: t0, Kind: "finding", Incident: "inc-1"}, Now: sampleIncidents()[0]})
	var bye byeEvent
	if f := <-ch; f.event == "incident" { // what is sent with the news that wakes it is allowed
		next(t, ch, "bye", &bye)
	} else if err := json.Unmarshal([]byte(f.data), &bye); err != nil {
		t.Fatal(err)
	}
	if bye.Reason != "token" {
		t.Errorf("%+v", bye)
	}
	if _, more := <-ch; more {
		t.Error("the stream goes on after its token was taken back")
	}
	if err := b.h.SetTokens(roleTokens()); err != nil {
		t.Fatal(err)
	}
	_, ch = b.follow(t.Context(), t)
	next(t, ch, "hello", &hello)
	if err := b.Config.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if next(t, ch, "bye", &bye); bye.Reason != "shutdown" {
		t.Errorf("%+v", bye)
	}
}

// deafWriter is a client that does not read.
type deafWriter struct {
	http.ResponseWriter
	deadlines int
}

func (d *deafWriter) Header() http.Header              { return http.Header{} }
func (d *deafWriter) Write([]byte) (int, error)        { return 0, io.ErrShortWrite }
func (d *deafWriter) Flush()                           {}
func (d *deafWriter) SetWriteDeadline(time.Time) error { d.deadlines++; return nil }

func TestEventsSlowClient(t *testing.T) {
	b := newBench(t, nil)
	w := &deafWriter{}
	s := &stream{h: b.h, token: roleTokens()[0], w: w, rc: http.NewResponseController(w)}
	if err := s.run(t.Context()); err == nil || w.deadlines != 1 {
		t.Errorf("a client that takes nothing: %v, %d deadlines", err, w.deadlines)
	}
}
