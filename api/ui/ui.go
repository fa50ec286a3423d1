// Package ui holds the dashboard: static files, compiled into the binary, which
// are made from web/ (see there) and committed. They hold no data and need no
// token; their script asks the REST interface with the token that the user
// types. The package imports nothing of ours and starts nothing.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed dist
var files embed.FS

// Files gives a handler for each path of the dashboard.
func Files() map[string]http.HandlerFunc {
	out := map[string]http.HandlerFunc{}
	list, err := fs.ReadDir(files, "dist")
	if err != nil {
		panic("ui: " + err.Error()) // go:embed above holds it
	}
	for _, f := range list {
		at := "/" + f.Name()
		if f.Name() == "index.html" {
			at = "/"
		}
		out[at] = serve(f.Name())
	}
	return out
}

func serve(name string) http.HandlerFunc {
	b, err := files.ReadFile("dist/" + name)
	if err != nil {
		panic("ui: " + err.Error())
	}
	sum := sha256.Sum256(b)
	etag := hex.EncodeToString(sum[:8])
	small := squeeze(b)
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType(name))
		h.Set("Cache-Control", "no-cache") // ask each time; a new binary shows at once
		h.Set("Vary", "Accept-Encoding")
		body, tag := b, etag
		if len(small) < len(b) && acceptsGzip(r.Header.Get("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			body, tag = small, etag+"-gz"
		}
		h.Set("ETag", `"`+tag+`"`)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(body))
	}
}

// contentType does not ask the system's table, which may say anything.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

func squeeze(b []byte) []byte {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	_, _ = z.Write(b) // to memory
	_ = z.Close()
	return out.Bytes()
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3) as far as browsers write
// it: gzip is refused by q=0 only.
func acceptsGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q := strings.ReplaceAll(params, " ", "")
			return q != "q=0" && !strings.HasPrefix(q, "q=0.000")
		}
	}
	return false
}
