package httpjson

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func source(t *testing.T, h http.HandlerFunc, change ...func(*Config)) *Source {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := Config{
		Name: "billing", URL: srv.URL + "/api/servers?key=topsecret", Headers: map[string]string{"Authorization": "Bearer t0ken"},
		Map: `.servers[] | {ip: .ips, tenant: .client, vds: .id, mac, contact: .email, language: .lang, tags, valid_from: .since}`, Timeout: 30 * time.Second,
	}
	for _, f := range change {
		f(&cfg)
	}
	return New(cfg, func() time.Time { return noon })
}

func body(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, s)
	}
}

func TestDiscover(t *testing.T) {
	s := source(t, body(`{"servers":[
		{"id":1001,"client":"c-42","ips":["11.7.0.10","11.7.0.11/24","2608:7::/64"],"mac":"BC-24-11-AA-10-01","email":"a@example.net","lang":"ru","tags":["vip"],"since":"2026-01-31"},
		{"id":90071992547409931,"client":77,"ips":"11.7.0.12","mac":null,"tags":null,"since":1767225600}]}`))
	got, err := s.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []discover.Entry{
		{
			Prefixes: prefixes("11.7.0.10/32", "11.7.0.11/32", "2608:7::/64"), Tenant: "c-42", VDS: "1001", MAC: "bc:24:11:aa:10:01",
			Contact: "a@example.net", Language: "ru", Tags: []string{"vip"}, ValidFrom: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
			Source: "billing entry 1", Seen: noon,
		},
		{
			Prefixes: prefixes("11.7.0.12/32"), Tenant: "77", VDS: "90071992547409931",
			ValidFrom: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Source: "billing entry 2", Seen: noon,
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestPages(t *testing.T) {
	page := func(w http.ResponseWriter, r *http.Request) {
		n := r.URL.Query().Get("page")
		if n == "" {
			_, _ = fmt.Fprint(w, `{"servers":[{"ips":"11.0.0.1","client":"a"}],"next":"?page=2"}`)
			return
		}
		_, _ = fmt.Fprint(w, `{"servers":[{"ips":"11.0.0.2","client":"b"}],"next":null}`)
	}
	got, err := source(t, page, func(c *Config) { c.Next = ".next" }).Discover(t.Context())
	if err != nil || len(got) != 2 || got[1].Tenant != "b" {
		t.Errorf("Discover = %+v, %v, want both pages", got, err)
	}
	for name, next := range map[string]string{
		"another host":   `"https://elsewhere.example/"`,
		"the same page":  `"?page=1"`,
		"no text":        `7`,
		"another scheme": `"ftp://127.0.0.1/"`,
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			s := source(t, func(w http.ResponseWriter, _ *http.Request) {
				calls++
				_, _ = fmt.Fprintf(w, `{"servers":[{"ips":"11.0.0.1","client":"a"}],"next":%s}`, next)
			}, func(c *Config) { c.Next = ".next" })
			if _, err := s.Discover(t.Context()); err == nil || !strings.Contains(err.Error(), "next: ") || calls > 2 {
				t.Errorf("after %d calls: %v, want it refused", calls, err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ body, says string }{
		"no address":          {`{"servers":[{"client":"a"}]}`, "ip: missing"},
		"nobody":              {`{"servers":[{"ips":"11.0.0.1"}]}`, "whose address"},
		"no list":             {`{"servers":{}}`, "no entry"},
		"an empty list":       {`{"servers":[]}`, "no entry"},
		"another shape":       {`{"servers":3}`, "map: "},
		"no JSON":             {`<html>`, "not JSON"},
		"cut short":           {`{"servers":[`, "not JSON"},
		"two documents":       {`{"servers":[]} {}`, "not JSON"},
		"an address":          {`{"servers":[{"ips":"11.0.0.256","client":"a"}]}`, "not an address"},
		"a zone":              {`{"servers":[{"ips":"fe80::1%eth0","client":"a"}]}`, "not an address"},
		"the whole Internet":  {`{"servers":[{"ips":"0.0.0.0/0","client":"a"}]}`, "whole Internet"},
		"a header":            {`{"servers":[{"ips":"11.0.0.1","client":"a\nBcc: x@y"}]}`, "cannot be printed"},
		"a long name":         {`{"servers":[{"ips":"11.0.0.1","client":"` + strings.Repeat("a", 201) + `"}]}`, "201 bytes"},
		"a broken MAC":        {`{"servers":[{"ips":"11.0.0.1","client":"a","mac":"xx"}]}`, "not a MAC"},
		"a multicast MAC":     {`{"servers":[{"ips":"11.0.0.1","client":"a","mac":"01:00:5e:00:00:01"}]}`, "not a MAC"},
		"a mail with a name":  {`{"servers":[{"ips":"11.0.0.1","client":"a","email":"A <a@b.example>"}]}`, "not a mail address"},
		"a language":          {`{"servers":[{"ips":"11.0.0.1","client":"a","lang":"de"}]}`, "en or ru"},
		"a tag of two words":  {`{"servers":[{"ips":"11.0.0.1","client":"a","tags":["a b"]}]}`, "not a tag"},
		"a time":              {`{"servers":[{"ips":"11.0.0.1","client":"a","since":"yesterday"}]}`, "not a time"},
		"a number with rests": {`{"servers":[{"ips":"11.0.0.1","client":1.5}]}`, "not a text"},
		"the second of three": {`{"servers":[{"ips":"11.0.0.1","client":"a"},{"ips":"x","client":"b"},{"ips":"11.0.0.3","client":"c"}]}`, "entry 2"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := source(t, body(c.body)).Discover(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.says) || got != nil {
				t.Errorf("Discover = %+v, %v, want nothing and %q", got, err, c.says)
			}
			if err != nil && (strings.Contains(err.Error(), "topsecret") || strings.Contains(err.Error(), "t0ken")) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
	t.Run("an unknown key", func(t *testing.T) {
		_, err := source(t, body(`{}`), func(c *Config) { c.Map = `{ip: "11.0.0.1", client: "a"}` }).Discover(t.Context())
		if err == nil || !strings.Contains(err.Error(), "client: is no key") || !strings.Contains(err.Error(), "tenant") {
			t.Errorf("%v, want the key and the keys that there are", err)
		}
	})
	for name, h := range map[string]http.HandlerFunc{
		"a 500": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", 500) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := source(t, h).Discover(t.Context()); err == nil || !strings.Contains(err.Error(), "answered") || strings.Contains(err.Error(), "topsecret") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestExpressionErrors(t *testing.T) {
	for name, c := range map[string]struct{ expr, says string }{
		"a bracket":            {`.servers[ | {ip: .a}`, "map: column 11: "},
		"an unknown function":  {`.servers[] | lookup(.id)`, "map: column 14: "},
		"on the third line":    {".servers[]\n| {\n  ip: .a,,\n}", "map: line 3, column 10: "},
		"behind Cyrillic":      {`"ж" | nosuch`, "map: column 7: "},
		"cut short":            {`.servers[] | {ip: `, "map: column 19: "},
		"an unknown variable":  {`.a | {ip: $b}`, "map: column 11: "},
		"a module":             {`import "a" as a; .`, "map: "},
		"the environment":      {`$ENV.HOME | nosuch`, "map: column 13: "},
		"an expression of two": {`. .`, "map: column 4: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := Config{Name: "x", URL: "http://h/", Map: c.expr}.Validate()
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Validate = %v, want it to begin with %q", err, c.says)
			}
		})
	}
	t.Run("the environment is not seen", func(t *testing.T) {
		t.Setenv("FLOWCORDON_SECRET", "x")
		s := source(t, body(`{}`), func(c *Config) {
			c.Map = `{ip: "11.0.0.1", tenant: ($ENV.FLOWCORDON_SECRET // env.FLOWCORDON_SECRET // "none")}`
		})
		if got, err := s.Discover(t.Context()); err != nil || got[0].Tenant != "none" {
			t.Errorf("Discover = %+v, %v", got, err)
		}
	})
	t.Run("without end", func(t *testing.T) {
		for _, expr := range []string{`def f: f; f`, `last(repeat(1))`, `[limit(1e9; repeat({}))] | length`} {
			s := source(t, body(`{}`), func(c *Config) { c.Map, c.Timeout = expr, 300*time.Millisecond })
			done := make(chan error, 1)
			go func() { _, err := s.Discover(context.Background()); done <- err }()
			select {
			case err := <-done:
				if err == nil {
					t.Errorf("%s: no error", expr)
				}
			case <-time.After(time.Minute): // hang guard
				t.Fatalf("%s: the deadline does not end it", expr)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	good := Config{Name: "x", URL: "https://h/a", Map: ".[]"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no name":          {func(c *Config) { c.Name = "" }, "name: "},
		"no url":           {func(c *Config) { c.URL = "h/a" }, "url: "},
		"a password":       {func(c *Config) { c.URL = "https://u:p@h/a" }, "url: "},
		"no expression":    {func(c *Config) { c.Map = "" }, "map: "},
		"next":             {func(c *Config) { c.Next = ".[" }, "next: column 3: "},
		"a header of two":  {func(c *Config) { c.Headers = map[string]string{"A": "b\r\nC: d"} }, "headers: "},
		"no such CA":       {func(c *Config) { c.CAFile = "/nonexistent" }, "ca_file: "},
		"negative timeout": {func(c *Config) { c.Timeout = -1 }, "timeout: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Validate = %v, want %q", err, c.says)
			}
		})
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"ip":"11.0.0.1/24","tenant":1e3,"tags":["a"],"valid_from":1}`))
	f.Add([]byte(`[{"prefix":["2608::/32"],"vds":123456789012345678901234567890}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := decode(b)
		if err != nil {
			return
		}
		e, err := entry(doc)
		if err == nil && (len(e.Prefixes) == 0 || e.Tenant == "" && e.VDS == "") {
			t.Errorf("%s gives %+v", b, e)
		}
		for _, p := range e.Prefixes {
			if p != p.Masked() || p.Bits() == 0 {
				t.Errorf("%s gives the prefix %s", b, p)
			}
		}
	})
}
