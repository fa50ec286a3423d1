package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const whoamiAnswer = `{"name":"noc","role":"viewer","time":"2026-11-22T07:00:00Z"}`

func jsonServer(answer func(n int64, w http.ResponseWriter, r *http.Request)) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer(n.Add(1), w, r)
	})
}

// TestTLS: a certificate that nobody knows, the file that makes it known, and
// the environment instead of flags.
func TestTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(jsonServer(func(_ int64, w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Replace(whoamiAnswer, "noc", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), 1))
	}))
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	ca := complaintFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	t.Setenv("FLOWCORDON_URL", srv.URL)
	t.Setenv("FLOWCORDON_TOKEN_FILE", complaintFile(t, "token", " s3cret\n"))
	if code, out, errs := invoke(t, "whoami"); code != exitAway || out != "" || !strings.Contains(errs, "write --ca FILE") {
		t.Errorf("exit %d, %q %q", code, out, errs)
	}
	for _, args := range [][]string{{"whoami", "--ca", ca}, {"whoami", "--json", "--ca=" + ca}} {
		if code, out, errs := invoke(t, args...); code != 0 || !strings.Contains(out, "s3cret") || errs != "" {
			t.Errorf("%v: exit %d, %q %q", args, code, out, errs)
		}
	}
	t.Setenv("FLOWCORDON_CA_FILE", ca)
	if code, _, errs := invoke(t, "whoami"); code != 0 {
		t.Errorf("by the environment: exit %d, %q", code, errs)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no certificate":   {[]string{"--ca", filepath.Join(t.TempDir(), "none")}, "cannot be read"},
		"no PEM":           {[]string{"--ca", complaintFile(t, "x", "hello")}, "no certificate in PEM"},
		"an empty token":   {[]string{"--token-file", complaintFile(t, "empty", "\n")}, "is empty"},
		"two lines":        {[]string{"--token-file", complaintFile(t, "two", "a\nb\n")}, "nothing else"},
		"no URL":           {[]string{"--url", "flowcordon.example"}, "is no address"},
		"a token argument": {[]string{"--token", "s3cret"}, "--token-file FILE"},
	} {
		if code, _, errs := invoke(t, append([]string{"whoami"}, tc.args...)...); code != exitUsage || !strings.Contains(errs, tc.want) || strings.Contains(errs, "s3cret") {
			t.Errorf("%s: exit %d, %q", name, code, errs)
		}
	}
}

// TestStrangeAnswers: what is not flowcordon, or not as it should be, gives one
// line; a redirect is not followed with the token; too many calls are waited out.
func TestStrangeAnswers(t *testing.T) {
	t.Setenv("FLOWCORDON_TOKEN", "s3cret")
	for _, tc := range []struct {
		name   string
		answer func(n int64, w http.ResponseWriter, r *http.Request)
		code   int
		want   string
	}{
		{"a web page", func(_ int64, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, exitAway, "not understood"},
		{"another service", func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, exitAway, "502 Bad Gateway, but not as flowcordon does"},
		{"a redirect", func(n int64, w http.ResponseWriter, r *http.Request) {
			if n > 1 {
				t.Error("the redirect was followed")
			}
			http.Redirect(w, r, "https://other.example/", http.StatusMovedPermanently)
		}, exitAway, "https://other.example/"},
		{"too many calls, once", func(n int64, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			_, _ = io.WriteString(w, whoamiAnswer)
		}, 0, ""},
		{"an error that would drive the terminal", func(_ int64, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"detail":"no \u001b[2J such"}`)
		}, exitFailed, "no ?[2J such"},
		{"away", func(_ int64, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(503)
			_, _ = io.WriteString(w, `{"detail":"the database is away"}`)
		}, exitAway, "the database is away"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewServer(jsonServer(tc.answer))
			defer srv.Close()
			code, _, errs := invoke(t, "whoami", "--url", srv.URL)
			if code != tc.code || !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != min(tc.code, 1) || strings.Contains(errs, "s3cret") || strings.Contains(errs, "\x1b") {
				t.Errorf("exit %d, want %d; %q, want %q", code, tc.code, errs, tc.want)
			}
		})
	}
}

// TestWatch: each answer is a line of JSON; a service that is away for a while
// is waited for; Ctrl-C is a good end, and a mistake at the first try is none.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs strings.Builder
		d := &desk{json: true, out: &out, errs: &errs, now: time.Now}
		n := 0
		err := d.watch(ctx, 5*time.Second, func(_ context.Context, d *desk) error {
			switch n++; n {
			case 2:
				return failf(exitAway, "it is away")
			case 4:
				cancel()
			}
			return d.writeJSON(fmt.Appendf(nil, "{\n\"n\": %d}", n))
		})
		if err != nil || out.String() != "{\"n\":1}\n{\"n\":3}\n" || !strings.Contains(errs.String(), "it is away") {
			t.Errorf("%v, %q, %q", err, out.String(), errs.String())
		}
		if err := d.watch(t.Context(), time.Second, func(context.Context, *desk) error { return failf(exitAway, "away") }); exitCode(err) != exitAway {
			t.Errorf("away from the beginning: %v", err)
		}
	})
	var w watchFlag
	for s, want := range map[string]time.Duration{"true": 2 * time.Second, "10s": 10 * time.Second} {
		if err := w.Set(s); err != nil || time.Duration(w) != want {
			t.Errorf("%s: %v, %v", s, time.Duration(w), err)
		}
	}
	if w.Set("1ms") == nil || w.Set("often") == nil {
		t.Error("times that make no sense are taken")
	}
}

func TestMixedWords(t *testing.T) {
	for _, tc := range []struct {
		words string
		code  int
		want  string
	}{
		{"incidents shwo x", exitUsage, "what can follow is show, evidence, bundle, release"},
		{"incidents show", exitUsage, "ID is missing"},
		{"incidents show a b", exitUsage, `unexpected argument "b"`},
		{"incidents show x --nothing", exitUsage, "not defined"},
		{"incidents release -h", 0, "--statement text"},
		{"incidents -h", 0, "incidents release ID"},
		{"top --watch=soon", exitUsage, "--watch=5s"},
		{"flows --json --format csv --url http://127.0.0.1:1 --token-file /dev/null", exitUsage, "is empty"},
	} {
		code, out, errs := invoke(t, strings.Fields(tc.words)...)
		if code != tc.code || !strings.Contains(out+errs, tc.want) {
			t.Errorf("%s: exit %d, %q", tc.words, code, out+errs)
		}
	}
}
