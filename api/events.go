package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/flowcordon/flowcordon/flow"
)

// Feed is the log of incidents as it grows.
type Feed interface {
	// LastSeq is the number of the newest event, 0 before the first.
	LastSeq() uint64
	// After gives the events with numbers above seq, oldest first, at most limit;
	// changed is closed when there are more.
	After(seq uint64, limit int) (news []flow.News, changed <-chan struct{})
}

type eventsInput struct {
	LastEventID string `header:"Last-Event-ID" maxLength:"20" doc:"id of the last event that was seen; what came since is sent first" example:"124"`
}

// helloEvent begins every stream.
type helloEvent struct {
	Seq     uint64        `json:"seq" doc:"of the event that the stream goes on after"`
	Time    time.Time     `json:"time" doc:"the server's clock"`
	Live    int           `json:"live" doc:"incidents that are not over"`
	Freezes []flow.Frozen `json:"freezes"`
	Resumed bool          `json:"resumed" doc:"nothing was missed since Last-Event-ID; if false, load the lists again"`
}

// incidentEvent says that something happened to an incident; how it stands is as of now.
type incidentEvent struct {
	Seq      uint64      `json:"seq"`
	Time     time.Time   `json:"time"`
	Incident string      `json:"incident"`
	Kind     string      `json:"kind" doc:"of the event, as in the audit"`
	Actor    string      `json:"actor"`
	Reason   string      `json:"reason,omitempty"`
	Text     string      `json:"text,omitempty" doc:"for people"`
	Tenant   netip.Addr  `json:"tenant"`
	Customer string      `json:"customer,omitempty"`
	VDS      string      `json:"vds,omitempty"`
	State    flow.State  `json:"state"`
	Tier     flow.Tier   `json:"tier"`
	Rules    []flow.Rule `json:"rules"`
	Opened   time.Time   `json:"opened"`
	Updated  time.Time   `json:"updated"`
}

type freezeEvent struct {
	Seq     uint64        `json:"seq"`
	Time    time.Time     `json:"time"`
	Kind    string        `json:"kind" enum:"acts_frozen,acts_unfrozen"`
	Freezes []flow.Frozen `json:"freezes" doc:"that last now"`
}

// exporterEvent is sent when an exporter's status or problems change.
type exporterEvent struct {
	Exporter netip.Addr          `json:"exporter"`
	Status   string              `json:"status" enum:"ok,problem,silent,gone"`
	Problems []string            `json:"problems"`
	LastSeen time.Time           `json:"last_seen"`
	Health   flow.ExporterHealth `json:"health"`
}

type byeEvent struct {
	Reason string `json:"reason" enum:"token,shutdown"`
}

// The kinds of events that are about freezes, not about their incident.
const (
	kindFrozen   = "acts_frozen"
	kindUnfrozen = "acts_unfrozen"
)

// streams counts the streams that are open, and ends them all.
type streams struct {
	mu    sync.Mutex
	all   int
	by    map[string]int
	ended chan struct{}
	once  sync.Once
}

func newStreams() *streams { return &streams{by: map[string]int{}, ended: make(chan struct{})} }

func (s *streams) enter(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxStreams || s.by[name] >= maxStreamsOf {
		return false
	}
	s.all++
	s.by[name]++
	return true
}

func (s *streams) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.by[name]--; s.by[name] == 0 {
		delete(s.by, name)
	}
}

func (s *streams) end() { s.once.Do(func() { close(s.ended) }) }

const eventsDoc = "A stream of server-sent events (text/event-stream): hello first, then incident and freeze events with ids that Last-Event-ID " +
	"resumes from, and exporter events without ids. A comment comes every 15 seconds. " +
	"A client that does not read for 10 seconds is cut off; it may resume. Read it with fetch: a token is needed, and EventSource can send none."

func (h *Handler) registerEvents() {
	if h.deps.Feed == nil {
		return
	}
	op := h.secured(RoleViewer, huma.Operation{OperationID: "events", Method: http.MethodGet, Path: "/events", Tags: []string{"incidents"},
		Summary: "What happens, as it happens", Description: eventsDoc,
		Responses: map[string]*huma.Response{"200": {Description: "The stream.", Content: map[string]*huma.MediaType{
			"text/event-stream": {Schema: h.eventSchema(), Example: "retry: 3000\n\nid: 123\nevent: hello\ndata: {\"seq\":123,\"live\":4,\"freezes\":[],\"resumed\":false}\n\n"}}}}})
	huma.Register(h.rest, op, func(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
		s, err := h.openStream(ctx, in)
		if err != nil {
			return nil, h.problem(ctx, err)
		}
		return &huma.StreamResponse{Body: s.serve}, nil
	})
}

// eventSchema describes the data of each event by its name.
func (h *Handler) eventSchema() *huma.Schema {
	reg := h.rest.OpenAPI().Components.Schemas
	s := &huma.Schema{Type: huma.TypeString, Description: "Frames of id, event and data. The data by the event's name is in x-events."}
	events := map[string]any{}
	for name, t := range map[string]reflect.Type{
		"hello": reflect.TypeFor[helloEvent](), "incident": reflect.TypeFor[incidentEvent](), "freeze": reflect.TypeFor[freezeEvent](),
		"exporter": reflect.TypeFor[exporterEvent](), "bye": reflect.TypeFor[byeEvent](),
	} {
		events[name] = reg.Schema(t, true, "Event"+name)
	}
	s.Extensions = map[string]any{"x-events": events}
	return s
}

// stream is one client's.
type stream struct {
	h       *Handler
	token   Token
	seq     uint64
	resumed bool
	w       http.ResponseWriter
	rc      *http.ResponseController
	known   map[netip.Addr]string // exporters and what was last said of them
	at      time.Time             // when exporters were last looked at
}

func (h *Handler) openStream(ctx context.Context, in *eventsInput) (*stream, error) {
	s := &stream{h: h, token: caller(ctx), seq: h.deps.Feed.LastSeq()}
	if in.LastEventID != "" {
		last, err := strconv.ParseUint(in.LastEventID, 10, 64)
		if err != nil {
			return nil, errParam("Last-Event-ID", in.LastEventID, "the id of an event, a number")
		}
		if last <= s.seq && s.seq-last <= maxResume {
			s.seq, s.resumed = last, true
		}
	}
	if !h.streams.enter(s.token.Name) {
		return nil, &tooMany{streamRetry, fault(http.StatusTooManyRequests, "streams", maxStreams, maxStreamsOf)}
	}
	return s, nil
}

// serve writes until the client goes away or does not read, the token is not
// accepted any more, or the service ends.
func (s *stream) serve(hc huma.Context) {
	defer s.h.streams.leave(s.token.Name)
	s.h.metrics.streams.Inc()
	defer s.h.metrics.streams.Dec()
	_, s.w = humachi.Unwrap(hc)
	s.rc = http.NewResponseController(s.w)
	hd := s.w.Header()
	hd.Set("Content-Type", "text/event-stream")
	hd.Set("X-Accel-Buffering", "no") // a proxy that collects the answer would hold events back
	s.w.WriteHeader(http.StatusOK)
	if err := s.run(hc.Context()); err != nil && hc.Context().Err() == nil {
		s.h.metrics.streamsCut.Inc()
	}
}

func (s *stream) run(ctx context.Context) error {
	_, live, err := s.h.deps.Incidents.List(ctx, ListQuery{States: liveStates(), Limit: 1})
	if err != nil {
		return err
	}
	hello := helloEvent{Seq: s.seq, Time: s.h.deps.Now().UTC(), Live: live, Freezes: s.freezes(), Resumed: s.resumed}
	if err := s.write([]byte("retry: 3000\n\n")); err != nil {
		return err
	}
	if err := s.send("hello", s.seq, hello); err != nil {
		return err
	}
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	look := time.NewTicker(exporterEvery)
	defer look.Stop()
	for {
		changed, err := s.news()
		if err == nil {
			err = s.exporters()
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.h.streams.ended:
			return s.send("bye", 0, byeEvent{"shutdown"})
		case <-changed:
		case <-look.C:
		case <-beat.C:
			if err := s.write([]byte(": beat\n\n")); err != nil {
				return err
			}
		}
		if !s.h.accepted(s.token) {
			return s.send("bye", 0, byeEvent{"token"})
		}
	}
}

// news sends what there is and gives what to wait for.
func (s *stream) news() (<-chan struct{}, error) {
	for {
		list, changed := s.h.deps.Feed.After(s.seq, streamBatch)
		for i := range list {
			if err := s.one(&list[i]); err != nil {
				return nil, err
			}
			s.seq = list[i].Seq
		}
		if len(list) < streamBatch {
			return changed, nil
		}
	}
}

func (s *stream) one(n *flow.News) error {
	switch n.Kind {
	case kindFrozen, kindUnfrozen:
		return s.send("freeze", n.Seq, freezeEvent{n.Seq, n.Time, n.Kind, s.freezes()})
	}
	return s.send("incident", n.Seq, incidentEvent{Seq: n.Seq, Time: n.Time, Incident: n.Incident, Kind: n.Kind, Actor: n.Actor, Reason: n.Reason, Text: n.Text,
		Tenant: n.Tenant, Customer: n.Customer, VDS: n.VDS, State: n.Now.State, Tier: n.Now.Tier, Rules: notNil(n.Now.Rules), Opened: n.Now.Opened, Updated: n.Now.Updated})
}

func (s *stream) freezes() []flow.Frozen {
	if s.h.deps.Control == nil {
		return []flow.Frozen{}
	}
	return notNil(s.h.deps.Control.Freezes())
}

// exporters sends those whose status or problems changed since the last look.
func (s *stream) exporters() error {
	for _, e := range s.exporterNews() {
		if err := s.send("exporter", 0, e); err != nil {
			return err
		}
	}
	return nil
}

// exporterNews are those that changed; the first look only remembers.
func (s *stream) exporterNews() []exporterEvent {
	if s.h.deps.Exporters == nil || s.known != nil && time.Since(s.at) < exporterEvery/2 {
		return nil
	}
	now := s.h.deps.Now()
	s.at = time.Now()
	first := s.known == nil
	seen := map[netip.Addr]string{}
	var news []exporterEvent
	for _, e := range s.h.snapshot.get(s.h.exporterList) {
		ev := exporterEvent{e.Exporter, exporterStatus(&e, now), e.Problems, e.LastSeen, e}
		said := fmt.Sprint(ev.Status, ev.Problems)
		if seen[e.Exporter] = said; !first && s.known[e.Exporter] != said {
			news = append(news, ev)
		}
	}
	for a := range s.known {
		if _, ok := seen[a]; !ok {
			news = append(news, exporterEvent{Exporter: a, Status: "gone", Problems: []string{}, Health: tidyExporter(flow.ExporterHealth{Exporter: a})})
		}
	}
	s.known = seen
	slices.SortFunc(news, func(a, b exporterEvent) int { return a.Exporter.Compare(b.Exporter) })
	return news
}

// exporterStatus in one word.
func exporterStatus(e *flow.ExporterHealth, now time.Time) string {
	switch {
	case now.Sub(e.LastSeen) > exporterSilent:
		return "silent"
	case len(e.Problems) > 0:
		return "problem"
	}
	return "ok"
}

func (s *stream) send(event string, id uint64, data any) error {
	var b bytes.Buffer
	if id > 0 || event == "hello" {
		fmt.Fprintf(&b, "id: %d\n", id)
	}
	b.WriteString("event: " + event + "\ndata: ")
	if err := json.NewEncoder(&b).Encode(data); err != nil { // one line, and its end
		return fmt.Errorf("write event %s: %w", event, err)
	}
	b.WriteByte('\n')
	return s.write(b.Bytes())
}

// write gives the client streamWrite to take it.
func (s *stream) write(b []byte) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.rc.Flush()
}

// snapshot keeps the exporters for all streams: each look locks the collector for a moment.
type snapshot struct {
	mu   sync.Mutex
	at   time.Time
	list []flow.ExporterHealth
}

func (s *snapshot) get(look func() []flow.ExporterHealth) []flow.ExporterHealth {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || time.Since(s.at) >= exporterEvery/2 {
		s.list, s.at = look(), time.Now()
	}
	return s.list
}
