package portal

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
)

//go:embed page.html
var pageText string

//go:embed style.css
var styleText string

// styleHash lets exactly our style in, and nothing that somebody writes into a page.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(styleText))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}()

var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"w":        word,
	"question": func(p page, i int) question { return question{p, i, i + 1, fields[i]} },
	"utc": func(t time.Time) string {
		return t.UTC().Format("2006-01-02 15:04 UTC")
	},
	"style": func() template.CSS { return template.CSS(styleText) }, //nolint:gosec // a constant of ours
}).Parse(pageText))

// page is what the template may use.
type page struct {
	Kind    string // form, result, over or stranger
	Lang    string
	Other   string // the other language, and the address of the page in it
	OtherAt string
	Key     string // of the texts: dead, released, …
	Company string
	Contact string

	ID, IP, Server string
	State          string // cut, restricted or warned
	Findings       []line
	More           int
	Logs           []logPart
	Expires        time.Time

	Action  string // address of the form
	Form    string // its token
	Alert   string // a key of words
	Answers answers
	Max     int
}

// question is one of the form's three.
type question struct {
	Page page
	I, N int // from 0, and from 1
	Name string
}

// line is one finding in plain words.
type line struct{ Rule, Detail string }

// logPart is a log on the page.
type logPart struct {
	Form, Name, At, Head string
	Lines, Rest          int
}

// Wrong is what is wrong with an answer.
func (p page) Wrong(i int) string { return p.Answers.wrong[i] }

// Text is what was typed.
func (p page) Text(i int) string { return p.Answers.text[i] }

const maxFindings = 10

// language is that of the address, else the holder's, else the browser's.
func language(r *http.Request, holder string) string {
	for _, l := range []string{r.URL.Query().Get("lang"), holder} {
		l, _, _ = strings.Cut(strings.ToLower(l), "-")
		if words[l] != nil {
			return l
		}
	}
	for _, l := range strings.Split(clip(r.Header.Get("Accept-Language"), 200), ",") {
		l, _, _ = strings.Cut(strings.TrimSpace(strings.ToLower(l)), ";")
		l, _, _ = strings.Cut(l, "-")
		if words[l] != nil {
			return l
		}
	}
	return defaultLanguage
}

func otherLanguage(lang string) string {
	if lang == "ru" {
		return "en"
	}
	return "ru"
}

func (h *Handler) base(lang string) page {
	return page{Lang: lang, Other: otherLanguage(lang), Company: h.cfg.Company, Contact: h.cfg.Contact, Max: maxAnswer}
}

// stranger is a page that knows nothing of any incident: it depends on the
// request's language only.
func (h *Handler) stranger(r *http.Request, key string) page {
	p := h.base(language(r, ""))
	p.Kind, p.Key = "stranger", key
	return p
}

func (h *Handler) about(v visit) page {
	p := h.base(v.lang)
	at := h.deps.Links.path + "/" + v.token
	p.OtherAt, p.Action = at+"?lang="+p.Other, at+"?lang="+p.Lang
	p.ID, p.IP, p.Server, p.Expires = v.inc.ID, v.inc.Tenant.String(), v.inc.Holder.VDS, v.expires
	p.State = standing(v.inc)
	return p
}

// standing is what an incident means to the customer now.
func standing(inc flow.Incident) string {
	switch {
	case !inc.State.Cut():
		return "warned"
	case inc.Action != nil && inc.Action.Taken() != flow.MeasureCut:
		return "restricted"
	}
	return "cut"
}

// form is the page with the questions.
func (h *Handler) form(ctx context.Context, v visit) page {
	p := h.about(v)
	p.Kind, p.Form = "form", v.form(v.now)
	for i, f := range v.inc.Findings {
		if i == maxFindings {
			p.More = len(v.inc.Findings) - i
			break
		}
		p.Findings = append(p.Findings, plain(f, v.lang))
	}
	e, err := h.deps.Incidents.Evidence(ctx, v.incident)
	if err != nil {
		h.deps.Log.Info("page without its logs", zap.String("incident", v.incident), zap.Error(err))
		return p
	}
	for i, l := range e.Logs {
		lines := strings.SplitAfter(l.Text, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		part := logPart{
			Form: l.Form, Name: fileName(l.Name, v.incident+".txt"), Lines: len(lines),
			At: h.deps.Links.path + "/" + v.token + "/log/" + strconv.Itoa(i),
		}
		if part.Rest = len(lines) - maxShown; part.Rest > 0 {
			lines = lines[:maxShown]
		}
		part.Head = strings.Join(lines, "")
		p.Logs = append(p.Logs, part)
	}
	return p
}

// plain is a finding for somebody who does not know the words of the trade.
func plain(f flow.Finding, lang string) line {
	rule := "rule." + string(f.Rule)
	if words[lang][rule] == "" {
		rule = "rule.other"
	}
	proto := map[uint8]string{flow.ProtoTCP: "TCP", flow.ProtoUDP: "UDP", flow.ProtoICMP: "ICMP", flow.ProtoICMPv6: "ICMP"}[f.IPProto]
	parts := []string{}
	if f.Port != 0 {
		parts = append(parts, fmt.Sprintf(word(lang, "port"), proto, f.Port))
	} else if proto != "" {
		parts = append(parts, proto)
	}
	if f.Remote.IsValid() {
		parts = append(parts, fmt.Sprintf(word(lang, "to"), f.Remote))
	}
	switch {
	case f.Distinct > 1 && f.Rule == flow.RulePortscan:
		parts = append(parts, fmt.Sprintf(word(lang, "ports"), f.Distinct))
	case f.Distinct > 1:
		parts = append(parts, fmt.Sprintf(word(lang, "hosts"), f.Distinct))
	case f.EstRate >= 1:
		parts = append(parts, fmt.Sprintf(word(lang, "pps"), f.EstRate))
	}
	const form = "2006-01-02 15:04:05"
	parts = append(parts, f.From.UTC().Format(form)+" – "+f.To.UTC().Format(form+" UTC"))
	return line{Rule: word(lang, rule), Detail: strings.Join(parts, ", ")}
}

// result is the page after an answer. The incident may have moved on since.
func (h *Handler) result(v visit) page {
	p := h.about(v)
	p.Kind = "result"
	p.Key = map[purpose]string{purposeReleased: "released", purposeQueued: "queued", purposeRefused: "refused"}[v.purpose]
	if v.purpose == purposeReleased && v.inc.State == flow.StateReleased {
		p.Key = "back"
	}
	return p
}

// over is for a good link to an incident that has ended, or is about to.
func (h *Handler) over(v visit) page {
	p := h.about(v)
	if p.Kind, p.Key = "result", "over"; v.inc.State == flow.StateReleasing {
		p.Key = "releasing"
	}
	return p
}

// page writes a page. It is made whole first, so that an error is no half page.
func (h *Handler) page(w http.ResponseWriter, r *http.Request, status int, p page) {
	var b bytes.Buffer
	if err := pages.Execute(&b, p); err != nil {
		h.deps.Log.Error("page could not be made", zap.String("kind", p.Kind), zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", p.Lang)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b.Bytes())
	}
}
