package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/portal"
)

// TestLinksAtTheService: the pages as the service serves them. A link that is
// another tenant's, forged, expired, of another key or for another incident
// opens nothing and gives nothing back; the customer's own does, once.
func TestLinksAtTheService(t *testing.T) {
	t.Parallel()
	second := netip.MustParseAddr("198.18.0.67")
	s := newSite(t, siteOptions{
		Mode: flow.ModeEnforce, Inventory: holder(scanner, "panel") + holder(second, "panel"),
		Respond: "  portal: {url: \"https://abuse.example.net/case\", key_files: [KEY], release_offences: 1}",
	})
	key := "0123456789abcdef0123456789abcdef-portal"
	s.write(t, "key", key)
	s.edit(t, "KEY", filepath.Join(s.dir, "key"))
	l := s.start(t)
	l.awaitDatabase(t)
	addr := l.listener.Addr().String()
	c := s.client(addr)
	r := newRouter(t, "127.0.0.1", l.netflow())
	r.export(t, scanMinute(scanner)...)
	r.export(t, scanMinute(second)...)
	var inc, other flow.Incident
	eventually(t, 5*time.Minute, "two cuts", func() (bool, string) {
		all, err := c.incidents()
		if err != nil || len(all[scanner]) == 0 || len(all[second]) == 0 {
			return false, fmt.Sprint(all, err)
		}
		inc, other = all[scanner][0], all[second][0]
		cut := func(i flow.Incident) bool { return i.State == flow.StateSuspended || i.State == flow.StateVerified }
		return cut(inc) && cut(other), fmt.Sprint(inc.State, other.State)
	})

	links := func(secret string) *portal.Links {
		l, err := portal.NewLinks(portal.LinkConfig{BaseURL: "http://" + addr + "/case", Secrets: [][]byte{[]byte(secret)}})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	ours := links(key)
	now := time.Now()
	own := ours.Statement(inc, now)
	stranger := inc
	stranger.Holder.Tenant = "c-another"
	flipped := []byte(own)
	flipped[len(flipped)-5] ^= 1
	for name, link := range map[string]string{
		"another tenant's":        ours.Statement(stranger, now),
		"of another key":          links("another key of thirty-two bytes or more").Statement(inc, now),
		"expired":                 ours.Statement(inc, now.Add(-ours.TTL()-time.Minute)),
		"with one bit changed":    string(flipped),
		"cut short":               own[:len(own)-1],
		"another's page after it": own + "/log/99",
		"nothing at all":          "http://" + addr + "/case/",
		"an incident's number":    "http://" + addr + "/case/" + inc.ID,
		"with something before":   strings.Replace(own, "/case/", "/case/x", 1),
	} {
		for _, form := range []string{"", answerOf("a made-up form")} {
			if status, text := visit(t, link, form); status == http.StatusOK || strings.Contains(text, "vds-"+scanner.String()) || strings.Contains(text, inc.ID) {
				t.Errorf("a link %s: %d %.300s", name, status, text)
			}
		}
	}
	if all, err := c.incidents(); err != nil || all[scanner][0].Statement != "" || all[scanner][0].Restore != nil || !s.panel.IsCut(macOf(scanner)) {
		t.Fatalf("something was given back or stored: %+v, %v", all[scanner], err)
	}

	status, page := visit(t, own, "")
	form := regexp.MustCompile(`name="form" value="([^"]+)"`).FindStringSubmatch(page)
	if status != http.StatusOK || form == nil {
		t.Fatalf("the customer's own: %d %.300s", status, page)
	}
	// The form of one link is no answer to another.
	if status, _ := visit(t, ours.Statement(other, now), answerOf(form[1])); status != http.StatusBadRequest {
		t.Errorf("another link's form: %d", status)
	}
	if status, text := visit(t, own, answerOf(form[1])); status != http.StatusSeeOther {
		t.Fatalf("the answer: %d %.300s", status, text)
	}
	eventually(t, 5*time.Minute, "the release", func() (bool, string) {
		all, err := c.incidents()
		if err != nil || len(all[scanner]) == 0 {
			return false, fmt.Sprint(err)
		}
		i := all[scanner][len(all[scanner])-1]
		return i.ID == inc.ID && i.State == flow.StateReleased && strings.Contains(i.Statement, "a hacked plugin") && !s.panel.IsCut(macOf(scanner)), string(i.State)
	})
	for _, form := range []string{"", answerOf(form[1])} {
		if status, text := visit(t, own, form); status != http.StatusNotFound || strings.Contains(text, inc.ID) {
			t.Errorf("the used link: %d %.300s", status, text)
		}
	}
	if !s.panel.IsCut(macOf(second)) {
		t.Error("the other server was given back")
	}
	token := own[strings.LastIndex(own, "/")+1:]
	if said(l.logs.all(), token) || said(l.logs.all(), key) {
		t.Error("the link or its key is in the log")
	}
}

func answerOf(form string) string {
	return url.Values{"form": {form}, "happened": {"It was a hacked plugin."}, "fixed": {"Reinstalled all of it."}, "changed": {"Updates are automatic now."}}.Encode()
}

// visit makes one request as a browser does, and follows nothing.
func visit(t *testing.T, address, form string) (status int, text string) {
	t.Helper()
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	c := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
