package panel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// ServeHTTP answers POST with the webhook protocol, and GET …/console/<vds>
// with what a customer's serial console would show: whether the VM runs, which
// a cut network must not change.
func (p *Panel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		p.console(w, r)
		return
	}
	p.mu.Lock()
	p.requests++
	hang, fail := p.hang, p.fail
	p.mu.Unlock()
	if hang > 0 {
		// net/http tells that a caller has gone only once its body was read.
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-time.After(hang):
		case <-r.Context().Done():
			p.log(logLine{Time: p.cfg.Now(), Error: "caller gave up while the panel hung"})
			return
		}
	}
	if fail != 0 {
		p.refuse(w, nil, fail, fmt.Errorf("the panel was told to fail"))
		return
	}
	if r.Method != http.MethodPost {
		p.refuse(w, nil, http.StatusMethodNotAllowed, fmt.Errorf("method %s", r.Method))
		return
	}
	now := p.cfg.Now()
	body, err := verify(r, p.cfg.Secret, now)
	if err != nil {
		p.refuse(w, nil, http.StatusUnauthorized, err)
		return
	}
	var req Request
	if err := json.Unmarshal(body, &req); err != nil {
		p.refuse(w, nil, http.StatusBadRequest, fmt.Errorf("body: %w", err))
		return
	}
	if h := r.Header.Get("Idempotency-Key"); h != req.Key {
		p.refuse(w, &req, http.StatusBadRequest, fmt.Errorf("Idempotency-Key %q is not the body's key %q", h, req.Key))
		return
	}
	state, change, status, err := p.apply(req, now)
	if err != nil {
		p.refuse(w, &req, status, err)
		return
	}
	p.log(logLine{Time: now, Status: status, Changed: change != nil, Request: &req, State: &state})
	if change != nil && p.cfg.OnChange != nil {
		p.cfg.OnChange(*change)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(state) // the caller has gone; it will ask again
}

func (p *Panel) refuse(w http.ResponseWriter, req *Request, status int, err error) {
	p.log(logLine{Time: p.cfg.Now(), Status: status, Request: req, Error: err.Error()})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

func (p *Panel) console(w http.ResponseWriter, r *http.Request) {
	_, vds, ok := strings.Cut(r.URL.Path, "/console/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nics {
		if n.VDS != vds {
			continue
		}
		if !n.state.Running {
			http.Error(w, vds+" is powered off", http.StatusConflict)
			return
		}
		_, _ = fmt.Fprintf(w, "%s login: (up %s, link %s)\n", vds, p.cfg.Now().Sub(p.booted).Round(time.Second), n.state.Live)
		return
	}
	http.NotFound(w, r)
}
