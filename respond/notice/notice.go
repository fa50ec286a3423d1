// Package notice writes the texts of notices: what a customer or the staff
// reads about an incident, in English or Russian, from text/template files
// that a directory may override. In comes a flow.Notice, out goes a subject
// and a text; nothing is sent here and no goroutine is started. It imports
// flow only.
package notice

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"
	"time"
	"unicode"

	"github.com/flowcordon/flowcordon/flow"
)

//go:embed templates
var embedded embed.FS

// Audience is who reads a notice.
type Audience string

// The audiences. Customers get suspended, notified and released; staff all.
const (
	Customer Audience = "customer"
	Staff    Audience = "staff"
)

// DefaultLanguage is used where a holder has none, or one without templates.
const DefaultLanguage = "en"

// Config says where the templates come from and what they may name.
type Config struct {
	// Dir holds templates that replace the built-in ones: <language>/<name>.txt
	// with the names of Names, and may add languages. Empty: built-in only.
	Dir string
	// Company signs the messages to customers; may be empty.
	Company string
	// PortalURL is where staff look at an incident; "{id}" is replaced. May be empty.
	PortalURL string
}

// Names are the template files of each language: common holds shared blocks,
// the others are named audience-kind. A file's first line is the subject, after
// "Subject: "; an empty line follows, then the text.
var Names = []string{
	"common", "customer-suspended", "customer-notified", "customer-released", "staff-suspended", "staff-notified",
	"staff-released", "staff-held", "staff-failed", "staff-unverified",
}

// Message is a text that is ready to be sent.
type Message struct {
	Subject  string
	Text     string
	Language string // the one that was found
}

// Writer renders notices. It is safe for concurrent use.
type Writer struct {
	cfg   Config
	langs map[string]*template.Template
}

// New parses the built-in templates and those of cfg.Dir, and tries each on an
// example, so that a broken template is found at the start and not in an
// incident. All errors are reported at once, each with its file.
func New(cfg Config) (*Writer, error) {
	w := &Writer{cfg: cfg, langs: map[string]*template.Template{}}
	built, err := fs.Sub(embedded, "templates")
	if err != nil {
		return nil, fmt.Errorf("built-in templates: %w", err)
	}
	errs := []error{w.parse(built, "built-in ")}
	if cfg.Dir != "" {
		errs = append(errs, w.parse(os.DirFS(cfg.Dir), cfg.Dir+string(filepath.Separator)))
	}
	for lang := range w.langs {
		for _, name := range Names[1:] {
			aud, kind, _ := strings.Cut(name, "-")
			if _, err := w.write(lang, Audience(aud), Example(kind)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return w, nil
}

// parse adds the templates of a tree of <language>/<name>.txt. A language that
// is new starts as a copy of the default one.
func (w *Writer) parse(tree fs.FS, from string) error {
	dirs, err := fs.ReadDir(tree, ".")
	if err != nil {
		return fmt.Errorf("read templates in %s: %w", from, err)
	}
	var errs []error
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		lang := d.Name()
		set := w.langs[lang]
		if set == nil {
			set = template.New("").Option("missingkey=error").Funcs(funcs)
			if base := w.langs[DefaultLanguage]; base != nil {
				set = template.Must(base.Clone())
			}
		}
		for _, name := range Names {
			file := path.Join(lang, name+".txt")
			text, err := fs.ReadFile(tree, file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				_, err = set.New(name).Parse(string(text))
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s%s: %w", from, file, err))
			}
		}
		w.langs[lang] = set
	}
	return errors.Join(errs...)
}

// Write renders a notice for an audience in a language.
func (w *Writer) Write(n flow.Notice, to Audience, language string) (Message, error) {
	language, _, _ = strings.Cut(strings.ToLower(language), "-") // ru-RU is ru
	if w.langs[language] == nil {
		language = DefaultLanguage
	}
	return w.write(language, to, n)
}

func (w *Writer) write(language string, to Audience, n flow.Notice) (Message, error) {
	name := string(to) + "-" + n.Kind
	var b strings.Builder
	if err := w.langs[language].ExecuteTemplate(&b, name, w.view(n)); err != nil {
		return Message{}, fmt.Errorf("write notice %s (%s/%s.txt): %w", n.Key, language, name, err)
	}
	head, text, ok := strings.Cut(b.String(), "\n")
	subject, found := strings.CutPrefix(head, "Subject: ")
	if !ok || !found {
		return Message{}, fmt.Errorf("template %s/%s.txt: the first line must be \"Subject: …\", it is %q", language, name, head)
	}
	id := "[" + n.Incident.ID + "]"
	if !strings.Contains(subject, id) {
		subject = id + " " + subject // answers are found by it
	}
	subject = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1 // a name from the inventory must not start another header
		}
		return r
	}, subject)
	return Message{Subject: strings.TrimSpace(subject), Text: strings.Trim(text, "\n") + "\n", Language: language}, nil
}

// view is what templates may use.
type view struct {
	flow.Notice
	ID, IP, Server string
	Company, URL   string
	Rules          []flow.Rule
	Findings       []flow.Finding // at most ten, strongest first
	More           int            // findings beyond those
	CutAt          time.Time      // when the network was read back as cut
	RestoredAt     time.Time
	Nth            int // which incident of this holder it is, from 1
}

const maxShown = 10

func (w *Writer) view(n flow.Notice) view {
	inc := n.Incident
	v := view{
		Notice: n, ID: inc.ID, IP: inc.Tenant.String(), Server: inc.Holder.VDS, Company: w.cfg.Company, Rules: inc.Rules,
		Findings: inc.Findings, Nth: inc.Prior + 1, URL: strings.ReplaceAll(w.cfg.PortalURL, "{id}", inc.ID),
	}
	if len(v.Findings) > maxShown {
		v.More, v.Findings = len(v.Findings)-maxShown, v.Findings[:maxShown]
	}
	v.CutAt, v.RestoredAt = n.At, n.At
	if inc.Action != nil && !inc.Action.Done.IsZero() {
		v.CutAt = inc.Action.Done
	}
	if inc.Restore != nil && !inc.Restore.Done.IsZero() {
		v.RestoredAt = inc.Restore.Done
	}
	return v
}

var funcs = template.FuncMap{
	"utc": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"proto": func(p uint8) string {
		switch p {
		case flow.ProtoTCP:
			return "TCP"
		case flow.ProtoUDP:
			return "UDP"
		case flow.ProtoICMP, flow.ProtoICMPv6:
			return "ICMP"
		}
		return fmt.Sprintf("IP/%d", p)
	},
	"scan": func(r flow.Rule) bool {
		switch r {
		case flow.RuleNetscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep:
			return true
		}
		return false
	},
	"ports": func(r flow.Rule) bool { return r == flow.RulePortscan },
	"whole": func(f float64) string { return fmt.Sprintf("%.0f", f) },
	"join":  strings.Join,
	// quote keeps every line of a person's text apart from ours.
	"quote": func(s string) string { return "> " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n> ") },
}
