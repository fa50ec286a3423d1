package parse

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func parsed(t testing.TB, data []byte, typ string) *Complaint {
	t.Helper()
	c, err := Parse(t.Context(), Input{Data: data, Type: typ, Received: received})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func noted(c *Complaint, s string) bool {
	return strings.Contains(strings.Join(c.Notes, "\n"), s)
}

func attach(name string, data []byte) string {
	return "--b\nContent-Type: application/octet-stream; name=\"" + name + "\"\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(data) + "\n"
}

func mailOf(parts string) []byte {
	return []byte("From: a@example.org\nTo: b@example.org\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + parts + "--b--\n")
}

func gz(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data) // into memory
	_ = w.Close()
	return b.Bytes()
}

const logLine = "2026-11-20T10:00:01Z 198.18.0.7:52218 -> 203.0.113.9:22 tcp\n"

func TestInputBounds(t *testing.T) {
	if _, err := Parse(t.Context(), Input{Data: make([]byte, maxInput+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := Parse(t.Context(), Input{Data: []byte(" \n\t\n")}); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Parse(ctx, Input{Data: []byte(logLine)}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
	c := parsed(t, []byte(strings.Repeat("x\n", maxLines+10)), "")
	if c.TextLines != maxLines || !noted(c, "lines") {
		t.Errorf("%d lines, notes %q", c.TextLines, c.Notes)
	}
	c = parsed(t, []byte(strings.Repeat(logLine, maxObservations+10)), "")
	if len(c.Observations) != maxObservations || !noted(c, "observations") {
		t.Errorf("%d observations, notes %q", len(c.Observations), c.Notes)
	}
	c = parsed(t, []byte(strings.Repeat("2026-11-20 10:00:01 nothing\n", maxUnread+500)), "")
	if len(c.Unread) != maxUnread || c.UnreadCount != maxUnread+500 {
		t.Errorf("%d of %d not understood are listed", len(c.Unread), c.UnreadCount)
	}
	c = parsed(t, []byte(logLine+strings.Repeat("198.18.0.7 2026 ", maxLine/16+1)+"\n"+logLine), "")
	if len(c.Observations) != 2 || len(c.Unread) != 1 || c.Unread[0].Reason != TooLong {
		t.Errorf("a long line: %d observations, %+v", len(c.Observations), c.Unread)
	}
}

// Archives and nestings that grow are cut, and the rest is read.
func TestBombs(t *testing.T) {
	bomb := bytes.Repeat([]byte(strings.Repeat("a", 999)+"\n"), 2*maxUnpacked/1000)
	var zipped bytes.Buffer
	z := zip.NewWriter(&zipped)
	for i := range maxFiles + 5 {
		w, _ := z.Create(fmt.Sprintf("../../etc/%d.log", i))
		_, _ = w.Write([]byte(logLine)) // into memory
	}
	_ = z.Close()
	nested := logLine
	for range maxDepth + 5 {
		nested = "From: a@example.org\nTo: b@example.org\nDate: Fri, 20 Nov 2026 10:00:00 +0000\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\n" + nested
	}
	packed := []byte(logLine)
	for range maxDepth + 5 {
		packed = gz(packed)
	}
	var many strings.Builder
	for range maxParts + 50 {
		many.WriteString("--b\nContent-Type: text/plain\n\n" + logLine)
	}
	for _, tt := range []struct {
		name string
		data []byte
		say  string // among the notes and the parts'
		obs  int    // -1: any number
	}{
		{"a gzip bomb", mailOf(attach("a.gz", gz(bomb))), "more than what is read", -1},
		{"many files", mailOf(attach("a.zip", zipped.Bytes())), "more files than are read", maxFiles},
		{"mails in mails", []byte(nested), "", -1},
		{"gzip in gzip", mailOf(attach("a.gz", packed)), "nested too deep", 0},
		{"many parts", mailOf(many.String()), "too many parts", -1},
		{"no text", mailOf(attach("a.bin", []byte{0, 1, 2, 3})), "no text", 0},
		{"broken gzip", mailOf(attach("a.gz", []byte{0x1f, 0x8b, 9, 9, 9, 9})), "broken gzip", 0},
		{"broken zip", mailOf(attach("a.zip", []byte("PK\x03\x04nothing"))), "broken zip", 0},
		{"cut in the middle", mailOf("--b\nContent-Type: text/plain\n\n" + logLine)[:200], "", -1},
		{"a mail that is none", []byte("Content-Type: multipart/mixed\nFrom: x\nTo: y\n\n" + logLine), "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parsed(t, tt.data, "message/rfc822")
			said := strings.Join(c.Notes, "\n")
			for _, p := range c.Parts {
				said += "\n" + p.Note
			}
			if !strings.Contains(said, tt.say) || tt.obs >= 0 && len(c.Observations) != tt.obs {
				t.Errorf("%d observations; said %q", len(c.Observations), said)
			}
			check(t, c)
		})
	}
}

// A deep JSON document is refused by the decoder, or read without harm.
func TestDeepJSON(t *testing.T) {
	for _, doc := range []string{strings.Repeat(`{"a":`, 100_000), strings.Repeat(`[`, 100_000), `{"src_ip":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000) + "}"} {
		check(t, parsed(t, []byte(doc), "application/json"))
	}
}

// The bytes allocated for each byte read stay within a bound, whatever the text.
func TestAllocations(t *testing.T) {
	limit := 400.0
	if underRace {
		limit = 10_000
	}
	for name, unit := range map[string]string{
		"log lines": logLine, "dots": "1.2.3.4.", "colons": "a:b::", "digits": "20261120 ", "keys": "time: 1\nip: 198.18.0.7\n", "equals": "src=198.18.0.7 ", "commas": "2026-11-20 10:00:01,198.18.0.7,\n",
		"braces": `{"src_ip":"198.18.0.7"}` + "\n", "arrows": "->", "quotes": `"`, "brackets": "[.]", "nothing": "\n",
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte(strings.Repeat(unit, 1<<17/len(unit)))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := Parse(t.Context(), Input{Data: data, Received: received}); err != nil && !errors.Is(err, ErrEmpty) {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if per := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(data)); per > limit {
				t.Errorf("%.0f bytes are allocated for each byte read", per)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	data := []byte(strings.Repeat(logLine+"Nov 20 10:00:01 web1 sshd[12345]: Failed password for root from 198.18.10.7 port 52218 ssh2\n", 2000))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(b.Context(), Input{Data: data, Received: received}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*4000/b.Elapsed().Seconds(), "lines/s")
}
