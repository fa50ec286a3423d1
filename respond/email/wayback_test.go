package email

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
	"github.com/flowcordon/flowcordon/respond/portal"
)

// cases stands in for the controller.
type cases struct {
	inc map[string]flow.Incident
	got []portal.Statement
}

func (c *cases) Incident(id string) (flow.Incident, bool) { i, ok := c.inc[id]; return i, ok }

func (c *cases) Evidence(_ context.Context, id string) (flow.Evidence, error) {
	e := notice.Example("suspended").Evidence
	e.Incident = id
	return e, nil
}

func (c *cases) Statement(_ context.Context, _, _ string, s portal.Statement) (portal.Outcome, error) {
	c.got = append(c.got, s)
	return portal.OutcomeReleased, nil
}

// The customer's whole way back, with a real mail server: the mail in his
// language with the log and the link, the page, the answer, the page after it;
// and then the link is of no use any more, not to him and not for anybody else's
// server. Nothing that was logged on the way holds it.
func TestWayBack(t *testing.T) {
	srv := startExim(t, true)
	core, logs := observer.New(zapcore.DebugLevel)
	log := zap.New(core)
	n := notice.Example("suspended")
	n.At = time.Now().UTC()
	n.Incident.State, n.Incident.Holder.Language = flow.StateSuspended, "ru"
	other := n.Incident
	other.ID, other.Holder.Tenant = "FC-ZZZZZZZZZZ", "c-88"
	c := &cases{inc: map[string]flow.Incident{n.Incident.ID: n.Incident, other.ID: other}}

	var h http.Handler
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	defer web.Close()
	links, err := portal.NewLinks(portal.LinkConfig{BaseURL: web.URL + "/case", Secrets: [][]byte{[]byte("thirty-two bytes that nobody else has")}})
	if err != nil {
		t.Fatal(err)
	}
	used, err := portal.OpenFileNonces(filepath.Join(t.TempDir(), "used"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = used.Close() }()
	if h, err = portal.New(portal.Config{Company: "Example Hosting"}, portal.Deps{Links: links, Incidents: c, Nonces: used, Log: log}); err != nil {
		t.Fatal(err)
	}
	texts, err := notice.New(notice.Config{Details: func(n flow.Notice) notice.Details {
		return notice.Details{Link: links.Statement(n.Incident, n.At), LinkUntil: n.At.Add(links.TTL())}
	}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Server: srv.addr, RootCAs: srv.ca, Username: eximUser, Password: eximPassword, From: "abuse@example.net", Staff: []string{"desk@example.net"}, Timeout: time.Minute}
	var b book
	for _, to := range []notice.Audience{notice.Customer, notice.Staff} {
		m, err := New(cfg, to, Deps{Texts: texts, Log: log, Deliveries: &b})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Notify(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	find := regexp.MustCompile(regexp.QuoteMeta(web.URL) + `/case/[A-Za-z0-9_-]+`)
	if desk := parse(t, srv.delivered(t, "desk", 1)[0]); find.MatchString(desk.text) {
		t.Error("staff got the customer's link")
	}
	mail := parse(t, srv.delivered(t, "owner", 1)[0])
	link := find.FindString(mail.text)
	if link == "" || mail.files["FC-ABCDEFGHIJ-packets.txt"] == "" || !strings.Contains(mail.text, "приостановили сетевой доступ") {
		t.Fatalf("the mail:\n%s", mail.text)
	}

	get := func(address string) (int, string) {
		t.Helper()
		resp, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	status, page := get(link)
	form := regexp.MustCompile(`name="form" value="([^"]+)"`).FindStringSubmatch(page)
	if status != http.StatusOK || form == nil || !strings.Contains(page, "Сеть вашего сервера отключена") {
		t.Fatalf("%d %s", status, page)
	}
	if status, text := get(link + "/log/1"); status != http.StatusOK || text != "packets\n" {
		t.Errorf("the log: %d %q", status, text)
	}
	answer := url.Values{"form": {form[1]}, "happened": {"Взломали сайт через старый плагин."}, "fixed": {"Переустановил систему."}, "changed": {"Обновления теперь автоматические."}}
	send := func(address string) (int, string) {
		t.Helper()
		resp, err := http.PostForm(address, answer) // follows to the page after it
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if status, text := send(strings.Replace(link, "/case/", "/case/A", 1)); status != http.StatusNotFound || len(c.got) != 0 {
		t.Errorf("a forged link: %d %s", status, text)
	}
	if status, text := send(link); status != http.StatusOK || !strings.Contains(text, "мы возвращаем сеть") {
		t.Errorf("after the answer: %d %s", status, text)
	}
	if len(c.got) != 1 || !strings.Contains(c.got[0].Text(), "1. Что произошло?\nВзломали сайт через старый плагин.") {
		t.Fatalf("stored: %+v", c.got)
	}
	for _, try := range []func() (int, string){func() (int, string) { return get(link) }, func() (int, string) { return send(link) }, func() (int, string) { return get(link + "/log/1") }} {
		if status, _ := try(); status != http.StatusNotFound {
			t.Errorf("a used link: %d", status)
		}
	}
	// The same server goes to another customer: the link that was made for the
	// first shows nothing of it.
	fresh := links.Statement(other, n.At)
	if status, _ := get(fresh); status != http.StatusOK {
		t.Fatalf("the other's own link: %d", status)
	}
	other.Holder.Tenant = "c-99"
	if c.inc[other.ID] = other; len(c.got) != 1 {
		t.Error("stored twice")
	}
	if status, text := get(fresh); status != http.StatusNotFound || strings.Contains(text, "vds-1042") {
		t.Errorf("another tenant's: %d %s", status, text)
	}
	all := fmt.Sprintf("%+v", b.got)
	for _, e := range logs.All() {
		all += fmt.Sprint(e.Message, e.ContextMap())
	}
	for _, secret := range []string{link[strings.LastIndex(link, "/")+1:], fresh[strings.LastIndex(fresh, "/")+1:], eximPassword, "thirty-two bytes"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q was logged", secret)
		}
	}
}
