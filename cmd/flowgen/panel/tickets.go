package panel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Ticket is what the ticket webhook posts.
type Ticket struct {
	Event    string             `json:"event"`
	Incident flow.Incident      `json:"incident"`
	Subject  string             `json:"subject"`
	Text     string             `json:"text"`
	Language string             `json:"language"`
	Logs     []flow.EvidenceLog `json:"logs"`
}

// Tickets is an http.Handler that writes each ticket once as a JSON file.
type Tickets struct {
	// Dir is where the files go; it must exist.
	Dir    string
	Secret []byte
	// OnTicket is called after a new ticket was written.
	OnTicket func(t Ticket, file string)

	mu   sync.Mutex
	keys map[string]bool
	n    int
}

// ServeHTTP accepts a signed ticket. A repeated idempotency key is accepted
// and writes nothing; a log whose SHA-256 does not match is refused.
func (t *Tickets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := verify(r, t.Secret, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	var ticket Ticket
	if err := json.Unmarshal(body, &ticket); err != nil || key == "" {
		http.Error(w, fmt.Sprintf("ticket: %v, key %q", err, key), http.StatusBadRequest)
		return
	}
	for _, l := range ticket.Logs {
		if sum := sha256.Sum256([]byte(l.Text)); hex.EncodeToString(sum[:]) != l.SHA256 {
			http.Error(w, "sha256 of log "+l.Name+" does not match", http.StatusBadRequest)
			return
		}
	}
	file, fresh, err := t.write(key, ticket.Event, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if fresh && t.OnTicket != nil {
		t.OnTicket(ticket, file)
	}
	w.WriteHeader(http.StatusCreated)
}

func (t *Tickets) write(key, event string, body []byte) (file string, fresh bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys[key] {
		return "", false, nil
	}
	file = filepath.Join(t.Dir, fmt.Sprintf("%03d-%s.json", t.n+1, filepath.Base(event)))
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return "", false, fmt.Errorf("write ticket: %w", err)
	}
	if t.keys == nil {
		t.keys = map[string]bool{}
	}
	t.n++
	t.keys[key] = true
	return file, true, nil
}
