// Package bound bounds what one answer of an API may make a client read. It
// imports the standard library only.
package bound

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// Answers is a transport whose answers end after Max bytes; what reads them then
// finds them cut short, instead of the memory full.
type Answers struct {
	*http.Transport
	Max int64
	// Check refuses an answer before anybody reads it; nil: none is refused.
	Check func(*http.Response) error
}

// RoundTrip implements http.RoundTripper.
func (b Answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if b.Check != nil {
		if err := b.Check(resp); err != nil {
			_ = resp.Body.Close()
			return nil, err
		}
	}
	resp.Body = body{io.LimitReader(resp.Body, b.Max), resp.Body}
	return resp, nil
}

type body struct {
	io.Reader
	io.Closer
}

// SOAP refuses a fault that is not XML. govmomi takes any XML for an answer, and
// dereferences what is not in it: a proxy's page that repeats the question would
// be one.
func SOAP(resp *http.Response) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusInternalServerError && !strings.HasSuffix(kind, "xml") {
		return fmt.Errorf("%s answered %s with %q, which is no SOAP", resp.Request.URL.Host, resp.Status, kind)
	}
	return nil
}
