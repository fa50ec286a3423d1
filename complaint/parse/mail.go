package parse

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/mail"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // mails come in any charset
)

var headerLine = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*):(?: |\t|$)`)

// mailHeaders are fields of which two at the beginning show that a text is the
// source of a mail.
var mailHeaders = map[string]bool{"received": true, "return-path": true, "from": true, "to": true, "subject": true, "date": true, "message-id": true,
	"mime-version": true, "content-type": true, "delivered-to": true, "x-original-to": true, "reply-to": true, "dkim-signature": true, "x-xarf": true, "x-arf": true, "auto-submitted": true}

// looksLikeMail reports whether the text begins with a mail's header, which
// ends with an empty line.
func looksLikeMail(s string) bool {
	seen, strong := 0, false
	for l := range strings.Lines(s[:min(len(s), 64<<10)]) {
		l = strings.TrimRight(l, "\r\n")
		if l == "" {
			return seen >= 3 || seen == 2 && strong
		}
		if l[0] == ' ' || l[0] == '\t' {
			if seen == 0 {
				return false
			}
			continue
		}
		m := headerLine.FindStringSubmatch(l)
		if m == nil {
			return seen == 0 && strings.HasPrefix(l, "From ") && len(s) > len(l)+1 && looksLikeMail(s[len(l)+1:])
		}
		name := strings.ToLower(m[1])
		if mailHeaders[name] {
			seen++
		}
		strong = strong || name == "mime-version" || name == "received" || name == "message-id"
	}
	return false
}

// mail reads a mail and everything in it.
func (r *reader) mail(data []byte, depth int, name string) error {
	if bytes.HasPrefix(data, []byte("From ")) { // mbox
		if i := bytes.IndexByte(data, '\n'); i > 0 {
			data = data[i+1:]
		}
	}
	e, err := message.Read(bytes.NewReader(data))
	if e == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return errors.Join(errors.New("no mail"), err)
	}
	date := mailDate(e.Header.Get("Date"))
	if depth == 0 {
		r.c.From, r.c.Subject = decoded(e.Header, "From"), decoded(e.Header, "Subject")
		r.c.MessageID, r.c.Date = clip(strings.Trim(e.Header.Get("Message-Id"), "<> "), maxName), date
		if date.IsZero() && e.Header.Get("Date") != "" {
			r.note("the mail's Date is not understood: " + clip(e.Header.Get("Date"), 60))
		}
	}
	w := walk{r: r, date: date, name: name}
	t, params, _ := e.Header.ContentType()
	w.report = t == "multipart/report" && strings.EqualFold(params["report-type"], "feedback-report")
	w.xarf = e.Header.Get("X-Arf") != "" || e.Header.Get("X-Xarf") != ""
	return w.entity(e, depth)
}

func decoded(h message.Header, name string) string {
	s, err := h.Text(name)
	if err != nil {
		s = h.Get(name)
	}
	return clip(s, maxName)
}

func mailDate(s string) time.Time {
	if t, err := mail.ParseDate(strings.TrimSpace(s)); err == nil && t.Year() > 1990 {
		return t
	}
	return time.Time{}
}

// walk goes through one mail.
type walk struct {
	r            *reader
	date         time.Time
	name         string // of the mail, when it is an attachment
	report, xarf bool
}

func (w *walk) entity(e *message.Entity, depth int) error {
	if depth > maxDepth {
		w.r.skipped(w.label("part"), "", "not read: nested too deep")
		return nil
	}
	mr := e.MultipartReader()
	if mr == nil {
		return w.leaf(e, depth)
	}
	t, _, _ := e.Header.ContentType()
	first := len(w.r.pieces)
	for n := 0; ; n++ {
		c, err := mr.NextPart()
		if c == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
			if err != nil && !errors.Is(err, io.EOF) {
				w.r.note("the mail ends in the middle of its parts, or they are broken; what came before was read")
			}
			break
		}
		if len(w.r.c.Parts) >= maxParts || n >= maxParts {
			w.r.note("the mail has too many parts; the rest was not read")
			break
		}
		if err := w.entity(c, depth+1); err != nil {
			return err
		}
	}
	if t == "multipart/alternative" {
		w.r.alternatives(first)
	}
	return nil
}

// alternatives keeps, of several forms of one text, the plain one.
func (r *reader) alternatives(first int) {
	plain := false
	for _, p := range r.pieces[first:] {
		plain = plain || p.typ != "text/html" && strings.TrimSpace(p.text) != ""
	}
	if !plain {
		return
	}
	kept := r.pieces[:first:first]
	for _, p := range r.pieces[first:] {
		if p.typ == "text/html" {
			r.c.Parts[p.part].Note = "not read: the same text as the plain one"
			continue
		}
		kept = append(kept, p)
	}
	r.pieces = kept
}

func (w *walk) label(s string) string {
	if w.name != "" {
		return w.name + ": " + s
	}
	return s
}

func (w *walk) leaf(e *message.Entity, depth int) error {
	t, params, err := e.Header.ContentType()
	if err != nil && t == "" {
		t = "text/plain"
	}
	name := fileName(e.Header, params)
	data, cut := w.r.limited(e.Body)
	label := name
	if label == "" {
		label = "text"
	}
	label = w.label(label)
	switch {
	case cut:
		w.r.note("the parts are larger than what is read of one complaint; the rest was left out")
	case (t == "message/rfc822" || t == "text/rfc822-headers" || t == "message/rfc822-headers") && (w.report || w.xarf):
		w.r.skipped(label, t, "not read: the reported mail itself")
		return nil
	case t == "message/rfc822" || strings.HasSuffix(strings.ToLower(name), ".eml"):
		if label == "text" {
			label = "forwarded mail"
		}
		if err := w.r.mail(data, depth+1, label); err != nil {
			w.r.add(piece{name: label, typ: t, text: decodeText(data), mail: w.date})
		}
		return nil
	}
	q := piece{mail: w.date, depth: depth}
	if t == "message/feedback-report" {
		q.shape = ShapeARF
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".log", ".csv", ".gz", ".zip", ".tsv":
		q.log = true
	}
	w.r.unpack(label, t, data, q)
	return nil
}

func fileName(h message.Header, params map[string]string) string {
	name := params["name"]
	if _, p, err := h.ContentDisposition(); err == nil && p["filename"] != "" {
		name = p["filename"]
	}
	if d, err := new(mime.WordDecoder).DecodeHeader(name); err == nil {
		name = d
	}
	return name
}
