package bound

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kind := r.FormValue("fault"); kind != "" {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	}))
	t.Cleanup(srv.Close)
	for name, c := range map[string]struct {
		max   int64
		query string
		check func(*http.Response) error
		read  int
		says  string
	}{
		"just fits":              {max: 100, read: 100},
		"one byte too long":      {max: 99, read: 99},
		"a fault in XML":         {max: 10, query: "?fault=text/xml", check: SOAP, read: 10},
		"a fault in SOAP 1.2":    {max: 10, query: "?fault=application/soap%2bxml", check: SOAP, read: 10},
		"a fault in HTML":        {max: 10, query: "?fault=text/html", check: SOAP, says: `with "text/html", which is no SOAP`},
		"not asked about faults": {max: 10, query: "?fault=text/html", read: 10},
		"no fault":               {max: 10, check: SOAP, read: 10},
	} {
		tr := &http.Transport{DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: Answers{Transport: tr, Max: c.max, Check: c.check}}).Get(srv.URL + "/" + c.query)
		if err != nil {
			if c.says == "" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if c.says != "" || err != nil || len(got) != c.read {
			t.Errorf("%s: read %d bytes, %v", name, len(got), err)
		}
	}
}
