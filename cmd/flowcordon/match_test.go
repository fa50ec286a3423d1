package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/complaint"
	"github.com/flowcordon/flowcordon/complaint/parse"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/store"
)

const matchLine = "2026-11-20T10:00:01Z 198.18.0.7:52218 -> 203.0.113.9:22 tcp\nNov 20 10:00:02 half a line\n"

func match(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = matchCommand(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func complaintFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMatchUsage(t *testing.T) {
	file := complaintFile(t, "a.log", matchLine)
	for _, tt := range []struct {
		name string
		args []string
		code int
		say  string
	}{
		{"no file", nil, 2, "usage: flowcordon match"},
		{"two files", []string{file, file}, 2, "usage: flowcordon match"},
		{"help", []string{"-h"}, 0, "--offline"},
		{"a language", []string{"--reply", "de", file}, 2, "usage"},
		{"parse and offline", []string{"--parse", "--offline", file}, 2, "usage"},
		{"no such file", []string{"--parse", file + ".none"}, 1, "no such file"},
		{"no such configuration", []string{"--config", file + ".none", file}, 1, "no such file"},
		{"a zone", []string{"--parse", "--zone", "IST", file}, 1, "several meanings"},
		{"a time", []string{"--parse", "--received", "once", file}, 1, "--received"},
		{"an address", []string{"--parse", "--target", "x", file}, 1, "--target"},
		{"an empty file", []string{"--parse", complaintFile(t, "b.log", " \n")}, 1, "empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := match(t, tt.args...)
			if code != tt.code || !strings.Contains(errs, tt.say) || out != "" {
				t.Errorf("exit %d, stdout %q, stderr %q", code, out, errs)
			}
		})
	}
}

func TestMatchParse(t *testing.T) {
	file := complaintFile(t, "a.log", matchLine)
	code, out, errs := match(t, "--parse", file)
	if code != 0 || errs != "" || !strings.Contains(out, "198.18.0.7:52218") || !strings.Contains(out, "1 line(s) were not understood") || !strings.Contains(out, "half a line") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	code, out, _ = match(t, "--parse", "--json", file)
	var c parse.Complaint
	if err := json.Unmarshal([]byte(out), &c); code != 0 || err != nil || len(c.Observations) != 1 || c.UnreadCount != 1 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

// canned is an answer as the service gives it.
func canned() *complaint.Result {
	at := time.Date(2026, 11, 20, 10, 0, 1, 0, time.UTC)
	return &complaint.Result{Received: at, Counts: map[complaint.Verdict]int{complaint.Confirmed: 1}, Notes: []string{"a note"}, UnreadCount: 1,
		Unread: []parse.Unread{{Line: 2, Reason: parse.NoAddress, Detail: "no whole address", Raw: "half a line"}},
		Lines: []complaint.Line{{Observation: parse.Observation{Line: 1, Time: at, Shape: parse.ShapeArrow}, Verdict: complaint.Confirmed, Text: "It is so.", TextRU: "Так и есть.",
			Traffic: &complaint.Traffic{Verdict: complaint.Confirmed, Why: complaint.WhyTried, Chance: 0.5, Resolution: complaint.ResolutionHour}, Notes: []complaint.Note{{Code: "shared", EN: "several customers", RU: "несколько"}}}},
		Skew:  &complaint.Skew{OffsetS: 3600, Name: "+01:00", Text: "an hour off"},
		Cases: []complaint.Case{{Lines: 1, First: at, Last: at, Counts: map[complaint.Verdict]int{complaint.Confirmed: 1}, Incident: &complaint.IncidentRef{ID: "inc-1", State: "verified"}}},
		Draft: complaint.Draft{EN: "Hello", RU: "Здравствуйте"}}
}

func TestMatchRemote(t *testing.T) {
	type asked struct{ path, token, typ, body string }
	var got asked
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = asked{r.URL.String(), r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(b)}
		if r.URL.Query().Get("zone") == "bad" {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"detail":"zone: write an offset"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(canned())
	}))
	defer srv.Close()
	token := complaintFile(t, "token", "0123456789abcdef\n")
	mail := complaintFile(t, "a.eml", "From: a@example.org\nTo: b\n\n"+matchLine)
	args := func(more ...string) []string {
		return append(append([]string{"--url", srv.URL, "--token-file", token}, more...), mail)
	}

	code, out, errs := match(t, args("--target", "203.0.113.9", "--received", "-2h")...)
	for _, want := range []string{"confirmed", "1 h sums", "It is so.", "! several customers", "half a line", "an hour off", "a note", "inc-1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	want := asked{"/api/v1/complaints?received=-2h&target=203.0.113.9", "Bearer 0123456789abcdef", "message/rfc822", "From: a@example.org\nTo: b\n\n" + matchLine}
	if code != 0 || errs != "" || got != want {
		t.Errorf("exit %d, %q\nasked %+v\nwant  %+v", code, errs, got, want)
	}
	if _, out, _ = match(t, args("--reply", "ru")...); out != "Здравствуйте" {
		t.Errorf("the reply: %q", out)
	}
	_, out, _ = match(t, args("--json")...)
	var back complaint.Result
	if err := json.Unmarshal([]byte(out), &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(canned(), &back, cmpopts.EquateEmpty(), cmpopts.EquateComparable(canned().Lines[0].Host, canned().Lines[0].Src.Prefix)); d != "" {
		t.Errorf("the answer changed on its way:\n%s", d)
	}
	if code, _, errs = match(t, args("--zone", "bad")...); code != exitFailed || errs != "flowcordon match: zone: write an offset\n" {
		t.Errorf("refused: exit %d, %q", code, errs)
	}
	srv.Close()
	if code, _, errs = match(t, args()...); code != exitAway || !strings.Contains(errs, "is it running?") || strings.Contains(errs, "0123456789abcdef") {
		t.Errorf("nobody there: exit %d, %q", code, errs)
	}
}

// The token and the address of the configuration are used where no flag says
// otherwise.
func TestMatchConfigured(t *testing.T) {
	var token string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token = r.Header.Get("Authorization")
		_ = json.NewEncoder(w).Encode(canned())
	}))
	defer srv.Close()
	s := newSite(t, siteOptions{HTTP: strings.TrimPrefix(srv.URL, "http://")})
	if code, out, errs := match(t, "--config", s.config, complaintFile(t, "a.log", matchLine)); code != 0 || errs != "" || !strings.Contains(out, "It is so.") || token != "Bearer "+s.token {
		t.Errorf("exit %d, %q, %q, token %q", code, out, errs, token)
	}
}

func TestMatchOffline(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{Inventory: "[{ip: 198.18.0.7, tenant: c-42, vds: vds-1}]"})
	if code, _, errs := invoke(t, "migrate", "--config", s.config); code != 0 {
		t.Fatal(errs)
	}
	code, out, errs := match(t, "--config", s.config, "--offline", "--received", "2026-11-21T00:00:00Z", complaintFile(t, "a.log", matchLine))
	if code != 0 || errs != "" || !strings.Contains(out, "no_data") || !strings.Contains(out, "held by c-42 vds-1") {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
}

func TestComplaintErrors(t *testing.T) {
	m, err := complaint.New(complaint.Config{}, complaint.Deps{Store: &store.Store{}, Inventory: inventory.New(inventory.Config{}, inventory.Deps{}),
		TenantKey: func(netip.Addr) netip.Addr { return netip.Addr{} }}) // nothing is ours, so the store is never asked
	if err != nil {
		t.Fatal(err)
	}
	c := complaints{m}
	for _, tt := range []struct {
		name   string
		req    api.ComplaintRequest
		status int
	}{
		{"empty", api.ComplaintRequest{Data: []byte("\n")}, 422},
		{"too large", api.ComplaintRequest{Data: bytes.Repeat([]byte("x"), 17<<20)}, 413},
		{"an ambiguous zone", api.ComplaintRequest{Data: []byte(matchLine), Zone: "CST"}, 422},
	} {
		_, err := c.Match(context.Background(), tt.req)
		if e := (*api.Error)(nil); !errors.As(err, &e) || e.Status != tt.status {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	res, err := c.Match(context.Background(), api.ComplaintRequest{Data: []byte(matchLine)})
	if err != nil || res.(*complaint.Result).Counts[complaint.NotOurs] != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}
