package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// tagged are the operations that screens and scripts poll: their answers carry
// an ETag, and If-None-Match is answered with 304 while they are the same.
var tagged = map[string]bool{
	"incidents": true, "incident": true, "exporters": true, "freezes": true, "exemptions": true, "policy": true, "precision": true,
	"proposals": true, "cases": true, "tenants": true, "tenant": true, "complaints": true,
}

const tagDoc = " The answer has an ETag; with If-None-Match it is 304 without a body while nothing has changed."

// withETag describes it. If-None-Match is HTTP's, not a parameter of the operation:
// clients that are made from the document would ask for it at each call.
func withETag(op huma.Operation) huma.Operation {
	op.Description += tagDoc
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["304"] = &huma.Response{Description: "Nothing has changed."}
	return op
}

// versioned is what a part of Deps may be as well: Version is another number after
// each change of what its answers are made of.
type versioned interface{ Version() uint64 }

// version names the state that an answer is made of, where that is known before it
// is made: the process, the number of the last change, who asks for what. Empty
// where it is not known, or the answer changes with the clock.
func (h *Handler) version(ctx huma.Context) string {
	of := func(part any) (uint64, bool) {
		v, ok := part.(versioned)
		if !ok {
			return 0, false
		}
		return v.Version(), true
	}
	var n uint64
	var ok bool
	now := h.deps.Now().UTC()
	day := ""
	switch ctx.Operation().OperationID {
	case "incidents":
		if relative(ctx.Query("since")) || relative(ctx.Query("until")) {
			return ""
		}
		n, ok = of(h.deps.Incidents)
	case "incident", "freezes":
		n, ok = of(h.deps.Incidents)
	case "complaints":
		n, ok = of(h.deps.Cases)
	case "precision", "proposals", "cases":
		n, ok = of(h.deps.Rules)
		day = now.Format(time.DateOnly)
	case "exemptions":
		// Which of them count is a matter of the clock: the book counts the ends, too.
		var v interface{ Version(time.Time) uint64 }
		if v, ok = h.deps.Exemptions.(interface{ Version(time.Time) uint64 }); ok {
			n, day = v.Version(now), now.Format(time.DateOnly)
		}
	}
	if !ok {
		return ""
	}
	u := ctx.URL()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s %s %s?%s", h.boot, n, day, caller(ctx.Context()).Role, u.Path, u.RawQuery))
	return hex.EncodeToString(sum[:9])
}

// relative reports whether a time is told from now on.
func relative(s string) bool { return strings.HasPrefix(s, "-") || strings.HasPrefix(s, "now") }

// conditional compares an answer with the client's If-None-Match. A tag is the
// hash of the answer and, behind a dot, the version that it was made of: while
// that is the same the answer is not made at all; else it is held in memory until
// its hash is known. The version is read before the answer is made, so that a
// change meanwhile makes the tag too old, never too new.
func (h *Handler) conditional(ctx huma.Context, next func(huma.Context)) {
	asked, version := ctx.Header("If-None-Match"), h.version(ctx)
	if asked != "" && version != "" {
		if tag := withVersion(asked, version); tag != "" {
			ctx.SetHeader("ETag", tag)
			ctx.SetStatus(http.StatusNotModified)
			h.metrics.unmade.Inc()
			return
		}
	}
	b := &buffered{humaContext: ctx, code: http.StatusOK}
	next(b)
	if b.code == http.StatusOK {
		sum := sha256.Sum256(b.body.Bytes())
		hash := hex.EncodeToString(sum[:12])
		tag := hash
		if version != "" {
			tag += "." + version
		}
		// Weak: what stands for the same may be written in another order one day.
		ctx.SetHeader("ETag", `W/"`+tag+`"`)
		if matches(asked, hash) {
			ctx.SetStatus(http.StatusNotModified)
			return
		}
	}
	ctx.SetStatus(b.code)
	_, _ = ctx.BodyWriter().Write(b.body.Bytes()) // the client is gone if this fails; the access log has the request
}

// tagsOf are the tags of an If-None-Match, compared weakly (RFC 9110 §13.1.2),
// without their quotes.
func tagsOf(value string) []string {
	var out []string
	for one := range strings.SplitSeq(value, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == "*" || len(one) >= 2 && one[0] == '"' && one[len(one)-1] == '"' {
			out = append(out, strings.Trim(one, `"`))
		}
	}
	return out
}

// withVersion gives the first of the tags that is of a version, as a header has
// it; empty: none is.
func withVersion(value, version string) string {
	for _, tag := range tagsOf(value) {
		if strings.HasSuffix(tag, "."+version) {
			return `W/"` + tag + `"`
		}
	}
	return ""
}

// matches reports whether one of the tags is of an answer with this hash.
func matches(value, hash string) bool {
	for _, tag := range tagsOf(value) {
		if own, _, _ := strings.Cut(tag, "."); own == hash || tag == "*" {
			return true
		}
	}
	return false
}

// humaContext is called otherwise than its method Context.
type humaContext = huma.Context

// buffered keeps an answer until its tag is known.
type buffered struct {
	humaContext
	code int
	body bytes.Buffer
}

// SetStatus keeps the status.
func (b *buffered) SetStatus(code int) { b.code = code }

// Status is the status so far.
func (b *buffered) Status() int { return b.code }

// BodyWriter keeps the body.
func (b *buffered) BodyWriter() io.Writer { return &b.body }
