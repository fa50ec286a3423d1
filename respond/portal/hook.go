package portal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// maxSkew is how far a call's time may be off ours, as with the calls that we
// make ourselves (respond/ticket).
const maxSkew = 300 * time.Second

// HookConfig is who may hand in customers' answers: a ticket system or a panel
// whose own form asks the three questions.
type HookConfig struct {
	Name    string   // of the system, in the audit log
	Secrets [][]byte // at least 32 bytes each; all verify, so that one can be replaced
}

// HookDeps are what a Hook works with. Log, Registerer and Now may be nil.
type HookDeps struct {
	Incidents  Incidents
	Log        *zap.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Hook takes customers' answers from another system as signed JSON: POST with
//
//	{"key", "incident", "customer", "language", "happened", "fixed", "changed"}
//
// X-Flowcordon-Timestamp, Unix seconds, and X-Flowcordon-Signature, "sha256="
// and the hex HMAC-SHA256 by the secret of timestamp, ".", body. customer is the
// incident's holder as the inventory names it: the system vouches that it was
// he who answered. key names the answer; sent again, it is stored once.
//
// 200 {"outcome"}: stored. 401: signature or time. 404: no such incident of
// this customer. 409: nothing is left to answer. 413, 422 {"error", "field"}: not
// to be sent again as it is. 503: to be sent again.
type Hook struct {
	cfg   HookConfig
	deps  HookDeps
	m     *prometheus.CounterVec
	lines *rate.Limiter
}

// NewHook checks the configuration.
func NewHook(cfg HookConfig, deps HookDeps) (*Hook, error) {
	var errs []error
	if cfg.Name == "" {
		errs = append(errs, errors.New("portal hook: no name"))
	}
	if len(cfg.Secrets) == 0 {
		errs = append(errs, errors.New("portal hook: no secret: write a file with 32 random bytes, for example by openssl rand -base64 32"))
	}
	for i, s := range cfg.Secrets {
		if len(s) < 32 {
			errs = append(errs, fmt.Errorf("portal hook: secret %d has %d bytes: write at least 32 random ones", i+1, len(s)))
		}
	}
	if deps.Incidents == nil {
		errs = append(errs, errors.New("portal hook: no incidents"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	deps.Log = deps.Log.Named("portal_hook")
	if deps.Now == nil {
		deps.Now = time.Now
	}
	h := &Hook{cfg: cfg, deps: deps, lines: rate.NewLimiter(10, 100), m: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "flowcordon", Subsystem: "portal", Name: "hook_total", ConstLabels: prometheus.Labels{"hook": cfg.Name},
		Help: "Calls that hand in customers' answers, by result.",
	}, []string{"result"})}
	for _, r := range hookResults {
		h.m.WithLabelValues(r)
	}
	h.m = register(deps.Registerer, h.m)
	return h, nil
}

var hookResults = []string{"stored", "again", "forged", "stale", "not_found", "closed", "bad", "too_long", "not_stored", "method"}

// handed is the body of a call.
type handed struct {
	Key      string `json:"key"`
	Incident string `json:"incident"`
	Customer string `json:"customer"`
	Language string `json:"language"`
	Happened string `json:"happened"`
	Fixed    string `json:"fixed"`
	Changed  string `json:"changed"`
}

// ServeHTTP takes one answer.
func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		h.say(w, r, http.StatusMethodNotAllowed, "method", "", map[string]string{"error": "use POST"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		h.say(w, r, http.StatusRequestEntityTooLarge, "too_long", "", map[string]string{"error": fmt.Sprintf("more than %d bytes, or cut short", maxBody)})
		return
	}
	now := h.deps.Now().UTC()
	if result := h.verify(r.Header, body, now); result != "" {
		// One answer for both: whoever guesses learns nothing.
		h.say(w, r, http.StatusUnauthorized, result, "", map[string]string{"error": "signature or timestamp"})
		return
	}
	var a handed
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil || dec.More() {
		h.say(w, r, http.StatusUnprocessableEntity, "bad", "", map[string]string{"error": "not the JSON object that is asked for"})
		return
	}
	h.store(w, r, a, now)
}

// verify says what is wrong with a call's signature; "": nothing.
func (h *Hook) verify(head http.Header, body []byte, now time.Time) string {
	stamp := head.Get("X-Flowcordon-Timestamp")
	for _, s := range h.cfg.Secrets {
		want := "sha256=" + hex.EncodeToString(mac(s, []byte(stamp), []byte{'.'}, body))
		if !hmac.Equal([]byte(want), []byte(head.Get("X-Flowcordon-Signature"))) {
			continue
		}
		sec, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || now.Sub(time.Unix(sec, 0)).Abs() > maxSkew {
			return "stale"
		}
		return ""
	}
	return "forged"
}

// store checks an answer as the form does and hands it on.
func (h *Hook) store(w http.ResponseWriter, r *http.Request, a handed, now time.Time) {
	if a.Key == "" || len(a.Key) > 200 {
		h.say(w, r, http.StatusUnprocessableEntity, "bad", a.Incident, map[string]string{"error": "1 to 200 bytes", "field": "key"})
		return
	}
	inc, ok := h.deps.Incidents.Incident(a.Incident)
	if !ok || a.Customer == "" || a.Customer != inc.Holder.Tenant {
		h.say(w, r, http.StatusNotFound, "not_found", a.Incident, map[string]string{"error": "no such incident of this customer"})
		return
	}
	text := read(map[string][]string{fields[0]: {a.Happened}, fields[1]: {a.Fixed}, fields[2]: {a.Changed}})
	for i, wrong := range text.wrong {
		if wrong != "" {
			h.say(w, r, http.StatusUnprocessableEntity, "bad", a.Incident, map[string]string{"error": word(defaultLanguage, wrong), "field": fields[i]})
			return
		}
	}
	if words[a.Language] == nil {
		a.Language = defaultLanguage
	}
	sum := sha256.Sum256([]byte("hook " + h.cfg.Name + "\n" + a.Key))
	o, err := h.deps.Incidents.Statement(r.Context(), a.Incident, "hook:"+h.cfg.Name, Statement{
		Happened: text.text[0], Fixed: text.text[1], Changed: text.text[2], Language: a.Language, Key: hex.EncodeToString(sum[:16]), From: from(r), At: now,
	})
	switch {
	case errors.Is(err, ErrUsed):
		h.say(w, r, http.StatusOK, "again", a.Incident, map[string]string{"outcome": "stored before"})
	case errors.Is(err, ErrClosed):
		h.say(w, r, http.StatusConflict, "closed", a.Incident, map[string]string{"error": "nothing is left to answer"})
	case err != nil:
		h.deps.Log.Error("a customer's answer could not be stored", zap.String("incident", a.Incident), zap.Error(err))
		w.Header().Set("Retry-After", "30")
		h.say(w, r, http.StatusServiceUnavailable, "not_stored", a.Incident, map[string]string{"error": "not stored, send again"})
	default:
		h.say(w, r, http.StatusOK, "stored", a.Incident, map[string]string{"outcome": string(o)})
	}
}

func (h *Hook) say(w http.ResponseWriter, r *http.Request, status int, result, incident string, v map[string]string) {
	h.m.WithLabelValues(result).Inc()
	if h.lines.Allow() {
		h.deps.Log.Info("answer handed in", zap.String("result", result), zap.String("hook", h.cfg.Name), zap.String("incident", clip(incident, maxIncident)), zap.String("from", from(r)))
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("portal: an answer cannot be written: " + err.Error()) // strings only
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
