package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/flow"
)

// liveService is a running flowcordon as its HTTP side shows it.
type liveService struct {
	at      *serviceAt
	token   error    // why no token could be found; nil with one
	ready   bool     // /readyz
	reasons []string // why not
	metrics liveMetrics
	noScrap error // why there are no metrics
}

// liveMetrics are a scrape: name → series.
type liveMetrics map[string][]liveSeries

type liveSeries struct {
	labels map[string]string
	value  float64
}

// sum adds up a metric's series whose label has the value (name "": all).
func (m liveMetrics) sum(name, label, value string) (total float64) {
	for _, s := range m[name] {
		if label == "" || s.labels[label] == value {
			total += s.value
		}
	}
	return total
}

// findService asks the service's health; nil where nobody answers.
func (d *doctor) findService(ctx context.Context) *liveService {
	e, err := d.endpoint(api.RoleViewer)
	l := &liveService{at: e, token: err}
	if err != nil { // what is open needs no token
		r := d.remote
		if r.url == "" {
			r.url = "http://" + hostFor(d.cfg.HTTP.Address)
		}
		c, cerr := r.client()
		if cerr != nil {
			return nil
		}
		l.at = &serviceAt{base: strings.TrimSuffix(strings.TrimRight(r.url, "/"), api.Prefix), http: c}
	}
	if status, _, err := l.get(ctx, "/healthz"); err != nil || status != http.StatusOK {
		return nil
	}
	status, body, err := l.get(ctx, "/readyz")
	var h struct {
		Reasons []string `json:"reasons"`
	}
	if err == nil {
		l.ready = status == http.StatusOK
		_ = json.Unmarshal(body, &h) // without reasons it is only not ready
		l.reasons = h.Reasons
	}
	if status, body, err = l.get(ctx, "/metrics"); err == nil && status == http.StatusOK {
		l.metrics, err = parseMetrics(body)
	}
	l.noScrap = err
	return l
}

// hostFor is a listen address as one to ask.
func hostFor(addr string) string {
	if host, port, ok := strings.Cut(addr, ":"); ok && (host == "" || host == "0.0.0.0") {
		return "127.0.0.1:" + port
	}
	return strings.Replace(addr, "[::]", "[::1]", 1)
}

func (l *liveService) get(ctx context.Context, path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.at.base+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if l.at.token != "" {
		req.Header.Set("Authorization", "Bearer "+l.at.token)
	}
	res, err := l.at.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or given up
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, b, err
}

// exporters asks for their health in words.
func (l *liveService) exporters(ctx context.Context) ([]flow.ExporterHealth, error) {
	if l.token != nil {
		return nil, l.token
	}
	status, b, err := l.get(ctx, api.Prefix+"/exporters")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, failf(exitFailed, "the service answers %d", status)
	}
	var body struct{ Exporters []flow.ExporterHealth }
	return body.Exporters, json.Unmarshal(b, &body)
}

// parseMetrics reads Prometheus' text format as far as our own service writes
// it: no time stamps; labels hold no escaped quotes.
func parseMetrics(text []byte) (liveMetrics, error) {
	out := liveMetrics{}
	for line := range bytes.Lines(text) {
		l := strings.TrimSpace(string(line))
		if l == "" || l[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(l, ' ')
		if i < 0 {
			return nil, failf(exitFailed, "%q is no sample", l)
		}
		v, err := strconv.ParseFloat(l[i+1:], 64)
		if err != nil {
			return nil, failf(exitFailed, "%q is no sample", l)
		}
		name, rest, _ := strings.Cut(l[:i], "{")
		s := liveSeries{labels: map[string]string{}, value: v}
		for rest = strings.TrimSuffix(rest, "}"); rest != ""; {
			key, after, ok := strings.Cut(rest, `="`)
			value, more, ok2 := strings.Cut(after, `"`)
			if !ok || !ok2 {
				return nil, failf(exitFailed, "%q is no sample", l)
			}
			s.labels[key] = value
			rest = strings.TrimPrefix(more, ",")
		}
		out[name] = append(out[name], s)
	}
	return out, nil
}
