package vsphere

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A page that is no SOAP answer, above all one that repeats the question, is an
// error of the hypervisor, and shows nothing of what it was asked.
func TestAnswerThatIsNoAnswer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"repeats the question": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.Copy(w, r.Body)
		},
		"says nothing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewTLSServer(answer)
			defer srv.Close()
			a := New(Config{Name: "vc", URL: srv.URL + "/sdk", Username: "u", Password: "the secret of the test", Thumbprint: thumbprint(srv), Timeout: time.Minute}, Deps{})
			_, err := a.Status(t.Context(), flow.NIC{VDS: "vm-1", MAC: "52:54:00:00:00:01"})
			var ae *flow.ActError
			if !errors.As(err, &ae) || ae.Class != flow.ErrTransient || strings.Contains(err.Error(), "the secret") || !strings.Contains(err.Error(), "no SOAP") {
				t.Errorf("%v", err)
			}
		})
	}
}

func thumbprint(srv *httptest.Server) string {
	sum := sha256.Sum256(srv.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}
