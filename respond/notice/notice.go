// Package notice writes the texts of notices: what a customer or the staff
// reads about an incident, in English or Russian, from text/template files
// that a directory may override. In comes a flow.Notice, out goes a subject
// and a text. It also has what every channel needs beside the text: the record
// of a delivery, the waiting that a busy receiver asks for, the digest of many
// notices, and a trial of each kind. No goroutine is started. It imports flow
// only.
package notice

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
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

// The audiences. Kinds says who gets what.
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
	// Details adds to a notice what the incident does not hold, above all the
	// customer's signed link. It may be nil.
	Details func(flow.Notice) Details
}

// Details are what templates may use beside the incident. Zero values mean that
// it is not known, and the texts leave it out.
type Details struct {
	// Link leads the customer to the form for his statement. It is given to
	// texts for customers only: whoever has it may answer in his name.
	Link      string
	LinkUntil time.Time
	Deadline  time.Time // by when an answer is asked for
	Probation time.Time // until when the holder is on probation after a release
}

// Kind is one kind of notice and who has a text for it.
type Kind struct {
	Name            string
	Customer, Staff bool
}

// Kinds are the kinds of notices that have a text of their own. Staff get any
// other kind by the template staff-other, so that no notice is lost for want of
// a text; customers get none of those.
var Kinds = []Kind{
	{"suspended", true, true},        // a measure is in force; with a milder one than the cut, restricted is written
	{"restricted", true, true},       // a port is blocked, or the rate is limited
	{"notified", true, true},         // only told
	{"released", true, true},         // everything was given back
	{"lifted", true, false},          // the time of a temporary measure is over
	{"statement", true, true},        // the customer has answered
	{"reminder", true, false},        // the customer has not answered
	{"refuse", true, true},           // too many offences: a human decides on further service
	{"probation_ended", true, false}, // the higher bar counts again
	{"held", false, true},
	{"failed", false, true},
	{"unverified", false, true},
	{"frozen", false, true},    // many tenants at once: automatic acts have stopped
	{"escalated", false, true}, // a human must decide
	{"orphan", false, true},    // a NIC carries our mark without an incident that holds it
}

// Names are the template files of each language: common holds shared blocks,
// the others are named audience-kind. A file's first line is the subject, after
// "Subject: "; an empty line follows, then the text.
var Names = func() []string {
	names := []string{"common"}
	for _, k := range Kinds {
		if k.Customer {
			names = append(names, "customer-"+k.Name)
		}
		if k.Staff {
			names = append(names, "staff-"+k.Name)
		}
	}
	return append(names, staffOther, staffDigest)
}()

const (
	staffOther  = "staff-other"
	staffDigest = "staff-digest"
)

// CustomerKinds are the kinds that customers are written to about. Refuse is a
// word with staff; what the customer gets is the suspension, in other words.
func CustomerKinds() []string {
	var names []string
	for _, k := range Kinds {
		if k.Customer && k.Name != "refuse" {
			names = append(names, k.Name)
		}
	}
	return names
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
		errs = append(errs, w.try(lang))
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
			if strings.HasSuffix(d.Name(), ".txt") {
				errs = append(errs, fmt.Errorf("%s%s: templates lie in a directory for each language, for example en/%s", from, d.Name(), d.Name()))
			}
			continue
		}
		lang := d.Name()
		errs = append(errs, unknown(tree, lang, from))
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

// unknown reports templates whose name nothing asks for: a slip of the pen
// would otherwise leave the built-in text in force, unseen.
func unknown(tree fs.FS, lang, from string) error {
	files, err := fs.ReadDir(tree, lang)
	if err != nil {
		return fmt.Errorf("read templates in %s%s: %w", from, lang, err)
	}
	var errs []error
	for _, f := range files {
		name, isText := strings.CutSuffix(f.Name(), ".txt")
		if isText && !slices.Contains(Names, name) {
			errs = append(errs, fmt.Errorf("%s%s/%s: no such template; there are %s", from, lang, f.Name(), strings.Join(Names, ", ")))
		}
	}
	return errors.Join(errs...)
}

// try renders every template of a language on everything that it may meet.
func (w *Writer) try(lang string) error {
	var errs []error
	for _, name := range Names[1:] {
		if name == staffDigest {
			_, err := w.WriteDigest(ExampleBatch(), lang)
			errs = append(errs, err)
			continue
		}
		aud, kind, _ := strings.Cut(name, "-")
		errs = append(errs, w.tryOne(lang, name, kind, Audience(aud)))
	}
	return errors.Join(errs...)
}

// tryOne gives the first error only: the others are mostly the same.
func (w *Writer) tryOne(lang, name, kind string, to Audience) error {
	for _, n := range variants(kind) {
		v := w.view(n, to)
		for _, d := range []Details{v.Details, {}, exampleDetails(to)} {
			v.Details = d
			for _, v.Outcome = range []string{"", "released", "queued", "refused"} {
				v.Mistake = !v.Mistake
				if _, err := w.write(lang, name, v); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// templateOf names the template of a notice. A cut and a milder measure are one
// kind to the controller; to whoever reads it, they are not.
func (w *Writer) templateOf(n flow.Notice, to Audience) string {
	kind := n.Kind
	if kind == "suspended" {
		switch a := n.Incident.Action; {
		case to == Customer && n.Incident.Refuse:
			kind = "refuse"
		case a != nil && a.Taken() != flow.MeasureCut:
			kind = "restricted"
		}
	}
	name := string(to) + "-" + kind
	if to == Staff && (!slices.Contains(Names, name) || name == staffDigest) {
		return staffOther
	}
	return name
}

// Write renders a notice for an audience in a language.
func (w *Writer) Write(n flow.Notice, to Audience, language string) (Message, error) {
	return w.write(w.language(language), w.templateOf(n, to), w.view(n, to))
}

// language is the nearest that has templates: ru-RU is ru.
func (w *Writer) language(l string) string {
	l, _, _ = strings.Cut(strings.ToLower(l), "-")
	if w.langs[l] == nil {
		return DefaultLanguage
	}
	return l
}

// write renders a template. Answers are found by the id in the subject.
func (w *Writer) write(language, name string, v view) (Message, error) {
	m, err := w.render(language, name, v)
	if err != nil {
		return m, fmt.Errorf("write notice %s: %w", v.Key, err)
	}
	if id := "[" + v.ID + "]"; v.ID != "" && !strings.Contains(m.Subject, id) {
		m.Subject = id + " " + m.Subject
	}
	return m, nil
}

func (w *Writer) render(language, name string, data any) (Message, error) {
	var b strings.Builder
	if w.langs[language].Lookup(name) == nil {
		return Message{}, fmt.Errorf("there is no text %s/%s.txt", language, name)
	}
	if err := w.langs[language].ExecuteTemplate(&b, name, data); err != nil {
		return Message{}, fmt.Errorf("%s/%s.txt: %w", language, name, err)
	}
	head, text, ok := strings.Cut(strings.TrimLeft(b.String(), "\n"), "\n")
	subject, found := strings.CutPrefix(head, "Subject: ")
	if !ok || !found {
		return Message{}, fmt.Errorf("template %s/%s.txt: the first line must be \"Subject: …\", it is %q", language, name, head)
	}
	subject = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1 // a name from the inventory must not start another header
		}
		return r
	}, subject)
	m := Message{Subject: strings.TrimSpace(subject), Text: strings.Trim(text, "\n") + "\n", Language: language}
	if m.Subject == "" || strings.TrimSpace(m.Text) == "" {
		return Message{}, fmt.Errorf("template %s/%s.txt: subject and text must not be empty", language, name)
	}
	return m, nil
}
