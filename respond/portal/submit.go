package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
)

// fields are the names of the form's answers, in the order of the questions.
var fields = [3]string{"happened", "fixed", "changed"}

// answers is what was typed, cleaned, and what is wrong with it: a key of
// words, by field.
type answers struct {
	text  [3]string
	wrong [3]string
}

func (a answers) bad() bool { return a.wrong != [3]string{} }

// submit takes a sent form. What the customer typed is never lost to an error
// that is not his: the form comes back with it.
func (h *Handler) submit(w http.ResponseWriter, r *http.Request, v visit) {
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site != "" && site != "same-origin" && site != "none", !h.sameOrigin(r):
		h.refuse(w, r, ReasonSite, v.incident)
		return
	case !answerable(v.inc.State):
		h.page(w, r, http.StatusOK, h.over(v))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		var long *http.MaxBytesError
		status, key, reason := http.StatusBadRequest, "err.form", ReasonForm
		if errors.As(err, &long) {
			status, key, reason = http.StatusRequestEntityTooLarge, "err.size", ReasonSize
		}
		f := h.form(r.Context(), v)
		f.Alert = key
		h.page(w, r, status, f)
		h.note(r, reason, v.incident)
		return
	}
	a := read(r.PostForm)
	again := func(status int, alert string) {
		f := h.form(r.Context(), v)
		f.Alert, f.Answers = alert, a
		h.page(w, r, status, f)
	}
	switch {
	case !v.formGood(r.PostForm.Get("form"), v.now):
		again(http.StatusBadRequest, "err.form")
		h.note(r, ReasonForm, v.incident)
		return
	case a.bad():
		again(http.StatusUnprocessableEntity, "err.answers")
		h.note(r, ReasonIncomplete, v.incident)
		return
	}
	s := Statement{Happened: a.text[0], Fixed: a.text[1], Changed: a.text[2], Language: v.lang, Key: v.id(), From: from(r), At: v.now}
	o, err := h.store(r.Context(), v, s)
	var p purpose
	switch {
	case errors.Is(err, ErrUsed):
		h.refuse(w, r, ReasonUsed, v.incident)
		return
	case errors.Is(err, ErrClosed):
		h.page(w, r, http.StatusOK, h.over(v))
		return
	case err != nil:
		h.m.answers.WithLabelValues("not_stored").Inc()
		h.deps.Log.Error("a customer's answer could not be stored", zap.String("incident", v.incident), zap.Error(err))
		w.Header().Set("Retry-After", "30")
		again(http.StatusServiceUnavailable, "err.store")
		return
	case o == OutcomeReleased:
		p = purposeReleased
	case o == OutcomeRefused:
		p = purposeRefused
	default:
		p = purposeQueued // what is not known to go by itself goes to people
	}
	h.m.answers.WithLabelValues(outcomeOf(p)).Inc()
	h.deps.Log.Info("a customer answered", zap.String("incident", v.incident), zap.String("outcome", string(o)), zap.String("from", s.From))
	// See other: a reload of the page after the answer sends nothing again.
	w.Header().Set("Location", h.deps.Links.path+"/"+h.deps.Links.token(v.inc, p, v.now.Add(resultAge))+"?lang="+v.lang)
	w.WriteHeader(http.StatusSeeOther)
}

// sameOrigin compares the Origin header, which browsers send with every form,
// with where the portal is reached.
func (h *Handler) sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || origin == "null" {
		// Browsers write null when the page forbids referrers, as ours does;
		// the form's own token stands against the rest.
		return true
	}
	u, err := url.Parse(origin)
	base, _ := url.Parse(h.deps.Links.base)
	return err == nil && u.Scheme == base.Scheme && strings.EqualFold(u.Host, base.Host)
}

func read(form url.Values) answers {
	var a answers
	for i, name := range fields {
		t := clean(form.Get(name))
		switch n := utf8.RuneCountInString(t); {
		case n > maxAnswer:
			a.wrong[i] = "err.long"
		case n == 0:
			a.wrong[i] = "err.empty"
		case n < minAnswer:
			a.wrong[i] = "err.short"
		}
		a.text[i] = t
	}
	// Answers in many-byte runes may each be short enough and too long together.
	// The language costs some bytes more or less; the longer one counts.
	if whole := (Statement{Happened: a.text[0], Fixed: a.text[1], Changed: a.text[2], Language: "ru"}).Text(); len(whole) > maxText && !a.bad() {
		for i := range a.text {
			if len(a.text[i]) > maxText/4 {
				a.wrong[i] = "err.whole"
			}
		}
	}
	return a
}

// clean makes one kind of line ends and drops what could disguise a text in a
// mail, a ticket or a terminal: control characters, and those that turn the
// direction of writing (Unicode TR 36, 3.2).
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return '\n'
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069, r == 0x200E, r == 0x200F, r == 0xFEFF:
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}
