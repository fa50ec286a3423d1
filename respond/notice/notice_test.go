package notice

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each kind in each language, as a customer or the staff will read it: with the
// incident alone, and with a link and dates.
func TestGolden(t *testing.T) {
	cfg := Config{Company: "Example Hosting", PortalURL: "https://abuse.example.org/i/{id}"}
	plain, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Details = func(flow.Notice) Details { return exampleDetails(Customer) }
	linked, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, lang := range []string{"en", "ru"} {
		for _, name := range Names[1:] {
			for sub, w := range map[string]*Writer{"": plain, "linked": linked} {
				t.Run(filepath.Join(lang, sub, name), func(t *testing.T) {
					aud, kind, _ := strings.Cut(name, "-")
					var m Message
					if name == staffDigest {
						m, err = w.WriteDigest(ExampleBatch(), lang)
					} else {
						n := Example(kind)
						if sub == "linked" && kind == "statement" {
							n.Outcome = "queued"
						}
						m, err = w.Write(n, Audience(aud), lang)
					}
					if err != nil {
						t.Fatal(err)
					}
					got := "Subject: " + m.Subject + "\n\n" + m.Text
					if link := exampleDetails(Customer).Link; aud == "staff" && strings.Contains(got, link) {
						t.Errorf("staff read the customer's link")
					}
					golden(t, filepath.Join("testdata", lang, sub, name+".golden"), got)
				})
			}
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// What a customer must read before anything else.
func TestFirstLines(t *testing.T) {
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for lang, words := range map[string][]string{
		"en": {"suspended the network", "198.18.0.7", "UTC", "runs on", "VNC console", "reply", "what happened", "how you fixed it", "does not happen again"},
		"ru": {"приостановили сетевой доступ", "198.18.0.7", "UTC", "продолжает работать", "VNC-консоль", "ответьте", "что произошло", "как вы это устранили", "не повторилось"},
	} {
		m, err := w.Write(Example("suspended"), Customer, lang)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(m.Text, "\n")
		head := strings.Join(lines[:min(12, len(lines))], " ")
		at := 0
		for _, word := range words {
			i := strings.Index(head[at:], word)
			if i < 0 {
				t.Errorf("%s: %q is not, or not in this order, in the first 12 lines:\n%s", lang, word, head)
				continue
			}
			at += i
		}
		if !strings.HasPrefix(m.Subject, "[FC-ABCDEFGHIJ] ") {
			t.Errorf("%s: subject %q does not begin with the incident", lang, m.Subject)
		}
	}
}

// Whoever was cut by mistake is not threatened.
func TestMistake(t *testing.T) {
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for lang, words := range map[string][2]string{"en": {"We are sorry", "same traffic"}, "ru": {"Приносим извинения", "такой трафик"}} {
		n := Example("released")
		n.Incident.Statement, n.Mistake = "", true
		m, err := w.Write(n, Customer, lang)
		if err != nil || !strings.Contains(m.Text, words[0]) || strings.Contains(m.Text, words[1]) || !strings.Contains(m.Text, "2026-11-22 07:53:16 UTC") {
			t.Errorf("%s: %v\n%s\n%s", lang, err, m.Subject, m.Text)
		}
		golden(t, filepath.Join("testdata", lang, "mistake", "customer-released.golden"), "Subject: "+m.Subject+"\n\n"+m.Text)
	}
}

func TestLanguageOfHolder(t *testing.T) {
	w, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"": "en", "en": "en", "ru": "ru", "RU": "ru", "ru-RU": "ru", "de": "en", "../ru": "en"} {
		m, err := w.Write(Example("notified"), Customer, in)
		if err != nil || m.Language != want {
			t.Errorf("language %q: %q, %v; want %q", in, m.Language, err, want)
		}
	}
}

func TestDirOverrides(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("en/customer-released.txt", "Subject: back again\n\nHello {{.Incident.Holder.Contact}}\n")
	write("de/customer-released.txt", "Subject: [{{.ID}}] Netz wieder da\n\nHallo\n")
	w, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for lang, want := range map[string]Message{
		"en": {"[FC-ABCDEFGHIJ] back again", "Hello owner@example.org\n", "en"},
		"de": {"[FC-ABCDEFGHIJ] Netz wieder da", "Hallo\n", "de"},
	} {
		got, err := w.Write(Example("released"), Customer, lang)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", lang, d)
		}
	}
	if m, err := w.Write(Example("suspended"), Customer, "de"); err != nil || !strings.Contains(m.Text, "VNC console") {
		t.Errorf("a language without a template must fall back to English: %v\n%s", err, m.Text)
	}

	write("en/staff-held.txt", "Subject: x\n\n{{.NoSuchField}}\n")
	write("ru/staff-held.txt", "no subject\n\ntext\n")
	_, err = New(Config{Dir: dir})
	if err == nil {
		t.Fatal("broken templates were accepted")
	}
	for _, want := range []string{"NoSuchField", "en/staff-held.txt", `ru/staff-held.txt: the first line must be "Subject`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %q:\n%v", want, err)
		}
	}
	write("en/staff-hold.txt", "Subject: x\n\ny\n")
	write("staff-held.txt", "Subject: x\n\ny\n")
	write("ru/customer-reminder.txt", "Subject:  \n\ny\n")
	if _, err = New(Config{Dir: dir}); err == nil {
		t.Fatal("templates that nothing asks for were accepted")
	}
	for _, want := range []string{"en/staff-hold.txt: no such template; there are common, customer-suspended,", "staff-held.txt: templates lie in a directory for each language", "ru/customer-reminder.txt: subject and text must not be empty"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
	if _, err := New(Config{Dir: filepath.Join(dir, "missing")}); err == nil {
		t.Error("a directory that does not exist was accepted")
	}
}
