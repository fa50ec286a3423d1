package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"

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

// conditional compares an answer with the client's If-None-Match. It holds the
// answer in memory until its tag is known.
func (h *Handler) conditional(ctx huma.Context, next func(huma.Context)) {
	b := &buffered{humaContext: ctx, code: http.StatusOK}
	next(b)
	if b.code == http.StatusOK {
		sum := sha256.Sum256(b.body.Bytes())
		// Weak: what stands for the same may be written in another order one day.
		tag := `W/"` + hex.EncodeToString(sum[:12]) + `"`
		ctx.SetHeader("ETag", tag)
		if matches(ctx.Header("If-None-Match"), tag) {
			ctx.SetStatus(http.StatusNotModified)
			return
		}
	}
	ctx.SetStatus(b.code)
	_, _ = ctx.BodyWriter().Write(b.body.Bytes()) // the client is gone if this fails; the access log has the request
}

// matches compares weakly, as RFC 9110 §13.1.2 says for If-None-Match.
func matches(value, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for one := range strings.SplitSeq(value, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
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
