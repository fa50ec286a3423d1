package parse

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var received = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// FuzzParse holds for any input: no panic, within the bounds, and nothing
// claimed that a line cannot carry.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("../testdata/*")
	if err != nil || len(files) < 60 {
		f.Fatalf("%d samples, %v", len(files), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, ".want.json") {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, strings.HasSuffix(name, ".eml"))
	}
	f.Fuzz(func(t *testing.T, data []byte, mail bool) {
		in := Input{Data: data, Received: received}
		if mail {
			in.Type = "message/rfc822"
		}
		c, err := Parse(context.Background(), in)
		if err != nil {
			if c != nil {
				t.Error("an error and a result")
			}
			return
		}
		check(t, c)
	})
}

// check asserts what holds for every complaint.
func check(t *testing.T, c *Complaint) {
	t.Helper()
	if len(c.Observations) > maxObservations || len(c.Unread) > maxUnread || len(c.Parts) > maxParts || len(c.Notes) > 50 || c.UnreadCount < len(c.Unread) {
		t.Errorf("beyond the bounds: %d observations, %d of %d not understood, %d parts, %d notes", len(c.Observations), len(c.Unread), c.UnreadCount, len(c.Parts), len(c.Notes))
	}
	for _, o := range c.Observations {
		switch {
		case o.Time.IsZero() || o.Time.Location() != time.UTC || o.Time.Year() < 1960 || o.Time.Year() > 2101:
			t.Errorf("time %v of %q", o.Time, o.Raw)
		case !isPublicUnicast(o.Src.Addr) || o.Src.Addr.Zone() != "" || o.Src.Addr.Is4In6():
			t.Errorf("source %v of %q", o.Src.Addr, o.Raw)
		case o.Zone.Source == "" || o.Shape == "" || o.What == "":
			t.Errorf("incomplete: %+v", o)
		case !o.Zone.Known() && len(o.Assumed) == 0:
			t.Errorf("assumed in silence: %+v", o)
		case o.Part < 0 || o.Part >= len(c.Parts) || o.Line < 1:
			t.Errorf("at %d:%d of %d parts", o.Part, o.Line, len(c.Parts))
		case len(o.Raw) > maxRaw+8 || !utf8.ValidString(o.Raw) || strings.ContainsAny(o.Raw, "\x00\x1b\n\r"):
			t.Errorf("raw %q", o.Raw)
		}
	}
	for _, u := range c.Unread {
		if u.Reason == "" || u.Detail == "" || len(u.Raw) > maxRaw+8 || strings.ContainsAny(u.Raw+u.Detail, "\x00\x1b\n\r") {
			t.Errorf("not understood: %+v", u)
		}
	}
}
