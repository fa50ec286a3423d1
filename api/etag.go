package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/netip"
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

// clocked is versioned for what changes with the clock, too.
type clocked interface{ Version(ts time.Time) uint64 }

// state is what an answer is made of: the numbers of the last changes of its parts,
// and what else tells it from another.
type state struct {
	now     time.Time
	numbers []any
	unknown bool // a part has no number, or none at this moment
}

// of adds parts; one that is not there changes nothing.
func (s *state) of(parts ...any) {
	for _, part := range parts {
		switch v := part.(type) {
		case nil:
		case versioned:
			s.numbers = append(s.numbers, v.Version())
		case clocked:
			s.numbers = append(s.numbers, v.Version(s.now))
		default:
			s.unknown = true
		}
	}
}

// day adds the date: what counts days is another answer on each.
func (s *state) day() { s.numbers = append(s.numbers, s.now.Format(time.DateOnly)) }

// version names the state that an answer is made of, where that is known before it
// is made: the process, the numbers of the last changes, who asks for what. Empty
// where it is not known, or what was asked for changes with the clock. Exporters
// have none: their counts change with each datagram.
func (h *Handler) version(ctx huma.Context) string {
	d, s := &h.deps, &state{now: h.deps.Now().UTC()}
	switch ctx.Operation().OperationID {
	case "incidents":
		s.of(d.Incidents)
		s.unknown = s.unknown || relative(ctx.Query("since")) || relative(ctx.Query("until"))
	case "incident", "freezes":
		s.of(d.Incidents)
	case "complaints":
		s.of(d.Cases)
	case "precision", "proposals", "cases":
		s.of(d.Rules)
		s.day()
	case "policy":
		h.policyState(s, ctx.Param("ip"))
	case "exemptions":
		s.of(d.Exemptions) // which of them count is a matter of the clock: the book counts the ends, too
		s.day()
	case "tenants":
		s.of(d.Incidents, d.Inventory)
	case "tenant":
		s.of(d.Incidents, d.Inventory, d.Exemptions, d.Cases)
		s.day()
		if d.Standing != nil {
			s.unknown = s.unknown || d.StandingVersion == nil
			s.of(d.StandingVersion)
		}
	default:
		return ""
	}
	if s.unknown {
		return ""
	}
	u := ctx.URL()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %v %s %s?%s", h.boot, s.numbers, caller(ctx.Context()).Role, u.Path, u.RawQuery))
	return hex.EncodeToString(sum[:9])
}

// VersionAt is the version of what is said at a moment.
type VersionAt func(ts time.Time) uint64

// Version is the function itself, and 0 without one.
func (f VersionAt) Version(ts time.Time) uint64 {
	if f == nil {
		return 0
	}
	return f(ts)
}

// policyState adds what the policy of an address is made of.
func (h *Handler) policyState(s *state, ip string) {
	v, ok := h.deps.Rules.(interface {
		PolicyVersion(ip netip.Addr, ts time.Time) uint64
	})
	_, tenant, err := h.host("ip", ip)
	if !ok || err != nil {
		s.unknown = true
		return
	}
	s.numbers = append(s.numbers, v.PolicyVersion(tenant, s.now))
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
