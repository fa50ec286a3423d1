// Package ui holds the dashboard: three static files and an icon, compiled into
// the binary. They hold no data and need no token; their script asks the REST
// interface with the token that the user types. The package imports nothing of
// ours and starts nothing.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"time"
)

//go:embed index.html app.js style.css icon.svg
var files embed.FS

// Files gives a handler for each path of the dashboard.
func Files() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/":          serve("index.html", "text/html; charset=utf-8"),
		"/app.js":    serve("app.js", "text/javascript; charset=utf-8"),
		"/style.css": serve("style.css", "text/css; charset=utf-8"),
		"/icon.svg":  serve("icon.svg", "image/svg+xml"),
	}
}

func serve(name, contentType string) http.HandlerFunc {
	b, err := files.ReadFile(name)
	if err != nil {
		panic("ui: " + name + " is not embedded") // go:embed above names it
	}
	sum := sha256.Sum256(b)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("ETag", etag)
		w.Header().Set("Cache-Control", "no-cache") // ask each time; a new binary shows at once
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
	}
}
