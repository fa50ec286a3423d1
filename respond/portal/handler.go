package portal

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/flowcordon/flowcordon/flow"
)

// Config is what the pages say beyond the incident.
type Config struct {
	Company string // may be empty
	Contact string // mail address of the abuse desk, shown where a link is of no use; may be empty
}

// Deps are what the handler works with. Log, Registerer and Now may be nil.
type Deps struct {
	Links      *Links
	Incidents  Incidents
	Nonces     Nonces
	Log        *zap.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Handler serves the pages below the path of the links' BaseURL. It needs no
// login and sets no cookie: the link is the key.
type Handler struct {
	cfg    Config
	deps   Deps
	m      *metrics
	limits limiter
	lines  *rate.Limiter // of the log: strangers must not fill the disk
}

// New makes the handler.
func New(cfg Config, deps Deps) (*Handler, error) {
	if deps.Links == nil || deps.Incidents == nil || deps.Nonces == nil {
		return nil, errors.New("portal: links, incidents and nonces are needed")
	}
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	deps.Log = deps.Log.Named("portal")
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Handler{cfg: cfg, deps: deps, m: newMetrics(deps.Registerer), limits: limiter{seen: map[string]*share{}}, lines: rate.NewLimiter(10, 100)}, nil
}

// Path is the prefix under which the handler is to be mounted, with a slash at
// the end.
func (h *Handler) Path() string { return h.deps.Links.path + "/" }

// visit is one request with a good link.
type visit struct {
	claims
	token string
	inc   flow.Incident
	lang  string
	now   time.Time
}

// ServeHTTP answers {base}/{token} and {base}/{token}/log/{n}.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	now := h.deps.Now().UTC()
	rest, ok := strings.CutPrefix(r.URL.Path, h.Path())
	token, sub, deeper := strings.Cut(rest, "/")
	n, isLog := logNumber(sub)
	switch {
	case !ok || deeper && !isLog:
		h.refuse(w, r, ReasonPath, "")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead && (r.Method != http.MethodPost || isLog):
		// By the path's form only: it must not tell a good link from a bad one.
		w.Header().Set("Allow", map[bool]string{true: "GET, HEAD", false: "GET, HEAD, POST"}[isLog])
		h.page(w, r, http.StatusMethodNotAllowed, h.stranger(r, "method"))
		h.note(r, ReasonMethod, "")
		return
	}
	c, reason := h.deps.Links.open(token, now)
	if reason != "" {
		h.refuse(w, r, reason, c.incident)
		return
	}
	if !h.limits.allow(c.id(), r.Method == http.MethodPost, now) {
		w.Header().Set("Retry-After", "60")
		h.page(w, r, http.StatusTooManyRequests, h.stranger(r, "rate"))
		h.note(r, ReasonRate, c.incident)
		return
	}
	inc, ok := h.deps.Incidents.Incident(c.incident)
	switch {
	case !ok:
		h.refuse(w, r, ReasonIncident, c.incident)
	case !c.of(inc):
		h.refuse(w, r, ReasonHolder, c.incident)
	default:
		h.serve(w, r, visit{claims: c, token: token, inc: inc, lang: language(r, inc.Holder.Language), now: now}, n, isLog)
	}
}

// serve answers a request whose link is good for the incident.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, v visit, n int, isLog bool) {
	if v.purpose != purposeStatement {
		switch {
		case v.purpose < purposeReleased || v.purpose > purposeRefused || isLog || r.Method == http.MethodPost:
			h.refuse(w, r, ReasonPurpose, v.incident)
		default:
			h.page(w, r, http.StatusOK, h.result(v))
		}
		return
	}
	switch {
	case h.deps.Nonces.Used(v.use()):
		h.refuse(w, r, ReasonUsed, v.incident)
	case isLog:
		h.download(w, r, v, n)
	case r.Method == http.MethodPost:
		h.submit(w, r, v)
	case answerable(v.inc.State):
		h.page(w, r, http.StatusOK, h.form(r.Context(), v))
	default:
		h.page(w, r, http.StatusOK, h.over(v))
	}
}

// answerable reports whether an answer can still change something.
func answerable(s flow.State) bool { return s.Live() && s != flow.StateReleasing }

// secure sets what holds for every answer. The address of a page is a secret,
// so it is kept out of caches, referrers and search engines.
func secure(head http.Header) {
	for k, v := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src '" + styleHash + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"Referrer-Policy":         "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Cache-Control": "no-store", "X-Robots-Tag": "noindex, nofollow, noarchive",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy": "camera=(), geolocation=(), microphone=()",
	} {
		head.Set(k, v)
	}
}

// refuse gives the one answer to whatever is wrong with a link. incident is
// empty unless the signature was good.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, reason Reason, incident string) {
	h.page(w, r, http.StatusNotFound, h.stranger(r, "dead"))
	h.note(r, reason, incident)
}

// note counts and logs a refusal, without the link.
func (h *Handler) note(r *http.Request, reason Reason, incident string) {
	h.m.refused.WithLabelValues(string(reason)).Inc()
	if h.lines.Allow() {
		h.deps.Log.Warn("request refused", zap.String("reason", string(reason)), zap.String("incident", incident),
			zap.String("method", clip(r.Method, 16)), zap.String("from", from(r)))
	}
}

// from is the connection's address. What a proxy says in headers is not
// trusted: anybody can write those.
func from(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return clip(r.RemoteAddr, 64)
	}
	return host
}

func logNumber(sub string) (int, bool) {
	s, ok := strings.CutPrefix(sub, "log/")
	n, err := strconv.Atoi(s)
	return n, ok && err == nil && n >= 0 && n < 100 && s == strconv.Itoa(n)
}

// download gives one log as it was frozen.
func (h *Handler) download(w http.ResponseWriter, r *http.Request, v visit, n int) {
	e, err := h.deps.Incidents.Evidence(r.Context(), v.incident)
	if err != nil || n >= len(e.Logs) {
		h.page(w, r, http.StatusNotFound, h.stranger(r, "nolog"))
		return
	}
	l := e.Logs[n]
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+fileName(l.Name, v.incident+".txt")+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(l.Text)))
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(l.Text))
	}
}

// fileName keeps what is harmless in a header and on any disk.
func fileName(name, otherwise string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return -1
	}, name)
	if clean = strings.TrimLeft(clip(clean, 100), "."); clean == "" {
		return fileName(otherwise, "log.txt")
	}
	return clean
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "?")
}

// store hands an answer on, once.
func (h *Handler) store(ctx context.Context, v visit, s Statement) (Outcome, error) {
	use := v.use()
	if err := h.deps.Nonces.Begin(use); err != nil {
		return "", err
	}
	o, err := h.deps.Incidents.Statement(ctx, v.incident, "customer:link", s)
	if err != nil && !errors.Is(err, ErrUsed) {
		return "", errors.Join(err, h.deps.Nonces.Undo(use))
	}
	if derr := h.deps.Nonces.Done(use); derr != nil {
		// The answer is stored; that the link is spent holds until a restart.
		h.deps.Log.Error("a used link could not be written down", zap.String("incident", v.incident), zap.Error(derr))
	}
	return o, err
}
