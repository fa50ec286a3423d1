package api

import (
	"context"
	"encoding/json"
	"net/http"

	"go.uber.org/zap"
)

type health struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons,omitempty"`
}

// healthz: the process is alive and answers. It asks nothing of others, so that
// a database that is away does not get the service restarted.
func (h *Handler) healthz(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, http.StatusOK, health{Status: "ok"})
}

// readyz: everything that the service needs is there. The reasons are those that
// the parts give for people; the database's own error goes to the log only.
func (h *Handler) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	var reasons []string
	if err := h.deps.Store.Ping(ctx); err != nil {
		h.log.Warn("store does not answer", zap.Error(err))
		reasons = append(reasons, "store: ClickHouse does not answer; the log of flowcordon has its error")
	}
	if h.deps.Ready != nil {
		for _, err := range h.deps.Ready() {
			reasons = append(reasons, err.Error())
		}
	}
	if len(reasons) > 0 {
		w.Header().Set("Retry-After", "5")
		writeHealth(w, r, http.StatusServiceUnavailable, health{"not ready", reasons})
		return
	}
	writeHealth(w, r, http.StatusOK, health{Status: "ready"})
}

func writeHealth(w http.ResponseWriter, r *http.Request, code int, v health) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(v) // the prober is gone if this fails
	}
}
