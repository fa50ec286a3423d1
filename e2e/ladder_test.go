package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
)

// ladderPolicy blocks the port first, cuts when the abuse goes on, lets the
// customer's first statement give the network back and leaves the second
// offence to people.
const ladderPolicy = `  ladders: {netscan: [{measure: block_port, after: 20s}, {measure: cut}]}
  probation: 24h
  refuse_after: 2
  notify:
    company: Example Hosting
    email: {address: "MAIL", tls: mandatory, user: USER, password_file: PASSWORD, ca_file: CA, from: abuse@example.net, staff: [desk@example.net], staff_language: ru}
  portal: {url: "PORTAL", key_files: [KEY], release_offences: 1, contact: abuse@example.net}`

const portalURL = "http://" + lab.MgmtIP + ":8080/case"

// customer is who owns the guest: his mail, his browser, and the order that the
// scanner in his server has.
type customer struct {
	*story
	orders *lab.Orders
	mails  *lab.MailServer
}

func beginLadder(t *testing.T) *customer {
	c := &customer{}
	c.story = begin(t, ladderPolicy, func(w *world) *strings.Replacer {
		var err error
		c.orders, err = w.Orders()
		lab.Require(t, err)
		t.Cleanup(c.orders.Close)
		c.mails, err = w.Mail()
		lab.Require(t, err)
		t.Cleanup(c.mails.Close)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("exim: %s", c.mails.Log())
			}
		})
		pass, key := filepath.Join(w.Dir, "smtp-password"), filepath.Join(w.Dir, "portal-key")
		for name, text := range map[string]string{pass: lab.MailPassword, key: strings.Repeat("a key of the tests, of no worth ", 2)} {
			if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return strings.NewReplacer("MAIL", c.mails.Addr, "USER", lab.MailUser, "PASSWORD", pass, "CA", c.mails.CA, "PORTAL", portalURL, "KEY", key)
	}, lab.OrderArgs())
	return c
}

// TestLadder is the whole story of a customer, with nothing simulated: the scan's
// port is blocked; it goes on at another port and the network is cut; he reads
// the mail, answers by its link, and the network comes back without staff; the
// scan begins again, the network is cut at once, and people decide.
func TestLadder(t *testing.T) {
	c := beginLadder(t)
	cut := c.climbs()
	link := c.reads("owner", cut.ID, "suspended", "приостановлен", "Мы приостановили сетевой доступ")
	c.answers(cut, link)

	c.orders.Scan(22)
	c.step("the guest is told to scan again")
	second := c.s.waitState(flow.StateVerified, func(i flow.Incident) bool {
		return i.ID != cut.ID && i.Action != nil && i.Action.Taken() == flow.MeasureCut
	})
	c.wantCut(second)
	if !second.Probation || !second.Refuse || second.Prior != 1 {
		t.Errorf("the second incident: probation %t, refuse %t, prior %d", second.Probation, second.Refuse, second.Prior)
	}
	if _, reason := c.intentOf(second.ID, flow.MeasureCut); reason != "refuse_service" {
		t.Errorf("cut again because of %q, want it for the offence itself and not for its going on", reason)
	}
	c.refused(second)
	c.end()
}

// climbs is from the scan to the cut.
func (c *customer) climbs() flow.Incident {
	t := c.t
	blocked := c.s.waitState(flow.StateVerified, func(flow.Incident) bool { return true })
	c.checkBlocked(c.a, c.s, blocked)
	if link := c.reads("owner", blocked.ID, "restricted", "ограничен", "мы закрыли исходящий трафик"); link == "" {
		t.Error("the mail about the block has no link")
	}
	c.orders.Scan(23)
	c.step("the guest is told to scan port 23")
	cut := c.s.waitState(flow.StateSuspended, func(i flow.Incident) bool {
		return i.Action != nil && i.Action.Taken() == flow.MeasureCut && len(i.Others) > 0 && !i.Others[0].Lifted.IsZero()
	})
	time.Sleep(200 * time.Millisecond) // what is on its way
	if cut.ID != blocked.ID || len(cut.Others) != 1 || cut.Others[0].Taken() != flow.MeasureBlockPort || cut.Others[0].Lifted.Before(cut.Action.Done) {
		t.Errorf("cut as %s beside %+v, want it in %s and the block lifted after the cut", cut.ID, cut.Others, blocked.ID)
	}
	if _, reason := c.intentOf(cut.ID, flow.MeasureCut); reason != "abuse_goes_on" {
		t.Errorf("cut because of %q", reason)
	}
	if !slices.ContainsFunc(cut.Findings, func(f flow.Finding) bool { return f.Rule == flow.RuleNetscan && f.Port == 23 }) {
		t.Errorf("no finding of the scan on port 23: %+v", cut.Findings)
	}
	c.wantCut(cut)
	return cut
}

// answers is from the mail to the traffic that passes again, without staff.
func (c *customer) answers(inc flow.Incident, link string) {
	t := c.t
	c.orders.Scan(0) // the customer cleans his server; it hears of it when it is online
	text := c.fillIn(link, "Сеть вашего сервера отключена")
	if !strings.Contains(text, "мы возвращаем сеть") && !strings.Contains(text, "Сеть снова работает") {
		t.Errorf("the page after the answer:\n%s", text)
	}
	c.step("the statement is given by the link of the mail")
	released := c.s.waitState(flow.StateReleased, func(i flow.Incident) bool { return i.ID == inc.ID })
	if !strings.Contains(released.Statement, "Взломали сайт через старый плагин.") {
		t.Errorf("statement %q", released.Statement)
	}
	if actor, _ := c.intentOf(inc.ID, ""); actor != "customer:link" {
		t.Errorf("given back by %q, want it by the statement alone", actor)
	}
	c.waitTalk("given back")
	c.reads("owner", inc.ID, "statement", "получили ваш ответ", "Сетевой доступ сейчас восстанавливается")
	c.reads("owner", inc.ID, "released", "восстановлен", "мы следим за сервером внимательнее")
	if status, _ := c.browse(http.MethodGet, link, ""); status != http.StatusNotFound {
		t.Errorf("the used link: %d", status)
	}
}

// refused is that people decide: the statement comes, and nothing is given back.
func (c *customer) refused(inc flow.Incident) {
	t := c.t
	c.orders.Scan(0)
	c.reads("desk", inc.ID, "refuse", "ОТКАЗАТЬ В ОБСЛУЖИВАНИИ", "Само больше ничего не возвращается")
	link := c.reads("owner", inc.ID, "suspended", "решение примут сотрудники", "Сам сервер продолжает работать")
	if text := c.fillIn(link, "Сеть вашего сервера отключена"); !strings.Contains(text, "вернуть сеть по нему нельзя") {
		t.Errorf("the page after the answer:\n%s", text)
	}
	c.reads("desk", inc.ID, "statement", "клиент ответил", "РЕШЕНИЕ ЗА ВАМИ")
	now := c.s.waitState(flow.StateVerified, func(i flow.Incident) bool { return i.ID == inc.ID })
	if now.Restore != nil || !now.Refuse {
		t.Errorf("after the statement: refuse %t, restore %+v", now.Refuse, now.Restore)
	}
	c.wantMarked(inc.ID)
	c.wantSilence("refused")
	c.s.release(inc.ID, "moved to another contract")
	c.s.waitState(flow.StateReleased, func(i flow.Incident) bool { return i.ID == inc.ID })
}

// intentOf is who took the measure, and why; without one, who gave back.
func (c *customer) intentOf(id string, kind flow.MeasureKind) (actor, reason string) {
	c.t.Helper()
	var out struct{ Events []flow.Event }
	if err := c.s.call(http.MethodGet, "/api/v1/incidents/"+id, "", &out); err != nil {
		c.t.Fatal(err)
	}
	for _, ev := range out.Events {
		var b struct{ Action flow.Action }
		if ev.Kind != "action_intent" || json.Unmarshal(ev.Body, &b) != nil {
			continue
		}
		if kind == "" && b.Action.Kind == "restore" || b.Action.Kind == "suspend" && b.Action.Taken() == kind {
			actor, reason = ev.Actor, ev.Reason
		}
	}
	return actor, reason
}

var linkOf = regexp.MustCompile(regexp.QuoteMeta(portalURL) + `/[A-Za-z0-9_-]+`)

// reads waits for the mail of a kind about an incident in a mailbox, checks it,
// and gives the signed link that is in it.
func (c *customer) reads(box, id, kind, subject, text string) (link string) {
	t := c.t
	t.Helper()
	var got lab.Mail
	if err := lab.Until(hang, func() error {
		all, err := c.mails.Box(box)
		if err != nil {
			return err
		}
		var seen []string
		for _, m := range all {
			if m.Head.Get("X-Flowcordon-Incident") == id && m.Head.Get("X-Flowcordon-Notice") == kind {
				got = m
				return nil
			}
			seen = append(seen, m.Subject)
		}
		return fmt.Errorf("%s has no mail %q about %s; there: %q", box, kind, id, seen)
	}); err != nil {
		t.Fatal(err)
	}
	c.step("%s reads %q", box, got.Subject)
	// Lines are broken where they fit.
	plain := strings.Join(strings.Fields(got.Text), " ")
	if !strings.Contains(got.Subject, id) || !strings.Contains(got.Subject, subject) || !strings.Contains(plain, text) {
		t.Errorf("the mail %q lacks %q or %q:\n%s", got.Subject, subject, text, got.Text)
	}
	link = linkOf.FindString(got.Text)
	if box == "desk" && link != "" {
		t.Error("staff got the customer's link")
	}
	if kind == "suspended" || kind == "restricted" {
		log := got.Files[id+"-netscan.txt"]
		if !strings.Contains(log, scannerIP) || !strings.Contains(log, "93.184.") {
			t.Errorf("the mail %q has no log of the scan: %d files, netscan %.200q", got.Subject, len(got.Files), log)
		}
	}
	return link
}

// fillIn opens the link as a browser does, reads the page in Russian, downloads
// the log and sends the form; it gives the page after it.
func (c *customer) fillIn(link, title string) string {
	t := c.t
	t.Helper()
	status, page := c.browse(http.MethodGet, link, "")
	form := formOf(page)
	if status != http.StatusOK || form == "" || !strings.Contains(page, `lang="ru"`) || !strings.Contains(page, title) || !strings.Contains(page, "1. Что произошло?") {
		t.Fatalf("%d %s", status, page)
	}
	if status, log := c.browse(http.MethodGet, link+"/log/0", ""); status != http.StatusOK || !strings.Contains(log, scannerIP) {
		t.Errorf("the log on the page: %d %.200q", status, log)
	}
	status, page = c.browse(http.MethodPost, link, form)
	if status != http.StatusOK || !strings.Contains(page, `lang="ru"`) {
		t.Fatalf("the answer: %d %s", status, page)
	}
	return page
}
