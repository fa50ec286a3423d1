package ticket

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/notice"
)

const panelSecret = "panel-s3cret-password"

// panel is a double of both products: it keeps tickets, and takes only the
// parameters that the references name.
type panel struct {
	t       *testing.T
	mu      sync.Mutex
	tickets []*talk
	calls   []string
	fail    func(w http.ResponseWriter, action string) bool // true: it has answered
	lose    string                                          // the action whose answer gets lost after it was done
}

type talk struct {
	id              int
	subject, client string
	said            []string
	files           []string
}

var whmcsParameters = map[string]string{
	"GetTickets":     "limitstart limitnum deptid clientid email status subject ignore_dept_assignments",
	"GetTicket":      "ticketnum ticketid repliessort",
	"OpenTicket":     "deptid subject message clientid userid contactid name email priority created serviceid domainid admin noemail markdown customfields attachments preventClientClosure",
	"AddTicketReply": "ticketid message markdown clientid contactid adminusername name email status noemail customfields attachments created",
}

func (p *panel) find(id string) *talk {
	for _, t := range p.tickets {
		if strconv.Itoa(t.id) == id {
			return t
		}
	}
	return nil
}

func (p *panel) whmcs(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.RawQuery != "" {
		p.t.Errorf("%s %s: %v: logins must not be in an address", r.Method, r.URL, err)
	}
	f := r.PostForm
	action := f.Get("action")
	p.calls = append(p.calls, action)
	if p.fail != nil && p.fail(w, action) {
		return
	}
	problem := func(text string) {
		_, _ = fmt.Fprintf(w, `{"result":"error","message":%q}`, text)
	}
	if f.Get("identifier") != "id" || f.Get("secret") != panelSecret || f.Get("accesskey") != "key" || f.Get("responsetype") != "json" {
		w.WriteHeader(http.StatusForbidden)
		problem("Authentication Failed")
		return
	}
	known := append(strings.Fields(whmcsParameters[action]), "identifier", "secret", "accesskey", "action", "responsetype")
	for k := range f {
		if !slices.Contains(known, k) {
			p.t.Errorf("%s has no parameter %s", action, k)
		}
	}
	var t *talk
	switch action {
	case "GetTickets":
		var list []string
		for _, t := range p.tickets {
			limit, _ := strconv.Atoi(f.Get("limitnum"))
			about := strings.Trim(f.Get("subject"), "[]")
			if f.Get("clientid") == t.client && len(list) < limit && strings.Contains(t.subject, about[:len(about)-1]) { // its search is approximate
				list = append(list, fmt.Sprintf(`{"id":"%d","tid":"ABC-%d","subject":%q}`, t.id, t.id, html.EscapeString(t.subject)))
			}
		}
		if len(list) == 0 {
			_, _ = fmt.Fprint(w, `{"result":"success","totalresults":0,"startnumber":0,"numreturned":0,"tickets":""}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"result":"success","totalresults":%d,"tickets":{"ticket":[%s]}}`, len(list), strings.Join(list, ","))
		return
	case "GetTicket":
		if t = p.find(f.Get("ticketid")); t == nil {
			problem("Ticket ID Not Found")
			return
		}
		b, _ := json.Marshal(t.said)
		_, _ = fmt.Fprintf(w, `{"result":"success","ticketid":%d,"replies":{"reply":%s}}`, t.id, strings.ReplaceAll(string(b), "/", `\/`))
		return
	case "OpenTicket":
		if f.Get("deptid") != "4" {
			problem("Department ID not found")
			return
		}
		if f.Get("clientid") == "999" {
			problem("Client ID Not Found")
			return
		}
		if f.Get("clientid") == "" && (f.Get("name") == "" || f.Get("email") == "") {
			problem("Name and email address are required if not a client")
			return
		}
		t = &talk{id: 100 + len(p.tickets), subject: f.Get("subject"), client: f.Get("clientid")}
		p.tickets = append(p.tickets, t)
	case "AddTicketReply":
		if t = p.find(f.Get("ticketid")); t == nil || f.Get("adminusername") != "abuse" {
			problem("Ticket ID Not Found")
			return
		}
	default:
		problem("Command Not Found")
		return
	}
	t.said = append(t.said, html.EscapeString(f.Get("message")))
	t.files = append(t.files, p.files(f.Get("attachments"))...)
	if p.lose == action {
		p.lose = ""
		panic(http.ErrAbortHandler)
	}
	_, _ = fmt.Fprintf(w, `{"result":"success","id":%d,"tid":"ABC-%d","c":"x"}`, t.id, t.id)
}

func (p *panel) files(text string) (out []string) {
	if text == "" {
		return nil
	}
	var list []struct{ Name, Data string }
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	for _, f := range list {
		data, derr := base64.StdEncoding.DecodeString(f.Data)
		err = errors.Join(err, derr)
		out = append(out, f.Name+": "+string(data))
	}
	if err != nil {
		p.t.Errorf("attachments: %v", err)
	}
	return out
}

var billParameters = map[string]string{
	"ticket_all":         "p_cnt p_num",
	"ticket_all.message": "elid",
	"ticket_all.edit":    "sok elid name message client_department ticket_account clicked_button project",
}

func (p *panel) bill(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.URL.RawQuery != "" {
		p.t.Errorf("%s: %v", r.URL, err)
	}
	f := r.PostForm
	function := f.Get("func")
	p.calls = append(p.calls, function)
	if p.fail != nil && p.fail(w, function) {
		return
	}
	if f.Get("authinfo") != "robot:"+panelSecret || f.Get("out") != "json" {
		_, _ = fmt.Fprint(w, `{"doc":{"error":{"$type":"auth","msg":{"$":"Invalid username or password"}}}}`)
		return
	}
	for k := range f {
		if !slices.Contains(append(strings.Fields(billParameters[function]), "authinfo", "out", "lang", "func"), k) {
			p.t.Errorf("%s has no parameter %s", function, k)
		}
	}
	quoted := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	list := func(items []string) {
		switch len(items) {
		case 0:
			_, _ = fmt.Fprint(w, `{"doc":{"$lang":"en"}}`)
		case 1: // one alone has no brackets
			_, _ = fmt.Fprintf(w, `{"doc":{"elem":%s}}`, items[0])
		default:
			_, _ = fmt.Fprintf(w, `{"doc":{"elem":[%s]}}`, strings.Join(items, ","))
		}
	}
	var items []string
	switch function {
	case "ticket_all":
		n, _ := strconv.Atoi(f.Get("p_num"))
		for i, t := range p.tickets {
			if i/billPage == n-1 {
				items = append(items, fmt.Sprintf(`{"id":{"$":"%d"},"name":{"$":%s}}`, t.id, quoted(t.subject)))
			}
		}
		list(items)
	case "ticket_all.message":
		for _, s := range p.find(f.Get("elid")).said {
			items = append(items, fmt.Sprintf(`{"id":{"$":"1"},"message":{"$":%s}}`, quoted(s)))
		}
		list(items)
	case "ticket_all.edit":
		if f.Get("sok") != "ok" {
			_, _ = fmt.Fprint(w, `{"doc":{"message":{"$":""}}}`)
			return
		}
		t := p.find(f.Get("elid"))
		if t == nil && f.Get("ticket_account") == "999" {
			_, _ = fmt.Fprint(w, `{"doc":{"error":{"$type":"value","$object":"ticket_account","msg":{"$":"The field 'ticket_account' has invalid value"}}}}`)
			return
		}
		if t == nil {
			t = &talk{id: 100 + len(p.tickets), subject: f.Get("name"), client: f.Get("ticket_account")}
			p.tickets = append(p.tickets, t)
		}
		t.said = append(t.said, f.Get("message"))
		if p.lose == function {
			p.lose = ""
			panic(http.ErrAbortHandler)
		}
		_, _ = fmt.Fprint(w, `{"doc":{"ok":{"$":"top"}}}`)
	}
}

type entries struct{ got []notice.Delivery }

func (e *entries) Delivered(_ context.Context, d notice.Delivery) { e.got = append(e.got, d) }

// linked are texts with a customer's link, tried out once.
var linked = sync.OnceValues(func() (*notice.Writer, error) {
	return notice.New(notice.Config{Details: func(flow.Notice) notice.Details { return notice.Details{Link: "https://abuse.example.net/case/x"} }})
})

// both gives a notifier and a double for each product.
func both(t *testing.T, run func(t *testing.T, tk *Panel, p *panel, e *entries, log *observer.ObservedLogs)) {
	w, err := linked()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"whmcs", "billmanager"} {
		t.Run(name, func(t *testing.T) {
			p := &panel{t: t}
			h := p.whmcs
			if name == "billmanager" {
				h = p.bill
			}
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p.mu.Lock() // a lost answer ends on another connection
				defer p.mu.Unlock()
				h(w, r)
			}))
			srv.Start()
			t.Cleanup(srv.Close)
			core, logs := observer.New(zapcore.DebugLevel)
			var e entries
			now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
			deps := Deps{Texts: w, Log: zap.New(core), Deliveries: &e, Now: func() time.Time { return now }}
			cfg := PanelConfig{URL: srv.URL + "/api", Timeout: time.Minute, ClientPrefix: "c-"}
			var tk *Panel
			var err error
			if name == "whmcs" {
				tk, err = NewWHMCS(WHMCS{PanelConfig: cfg, Identifier: "id", Secret: panelSecret, AccessKey: "key", Department: 4, Admin: "abuse", NoEmail: true}, deps)
			} else {
				tk, err = NewBILLmanager(BILLmanager{PanelConfig: cfg, User: "robot", Password: panelSecret, Department: "3", Extra: map[string]string{"project": "1"}}, deps)
			}
			if err != nil {
				t.Fatal(err)
			}
			run(t, tk, p, &e, logs)
		})
	}
}

// The first notice opens a ticket, later ones reply, each once; another
// incident gets its own.
func TestConversation(t *testing.T) {
	both(t, func(t *testing.T, tk *Panel, p *panel, e *entries, _ *observer.ObservedLogs) {
		p.tickets = append(p.tickets, &talk{id: 7, subject: "about FC-ABCDEFGHIJ, by hand", client: "77"}, &talk{id: 8, subject: "[FC-ABCDEFGHIX] another", client: "77"})
		send := func(kind string) {
			t.Helper()
			n := notice.Example(kind)
			n.Incident.Holder.Language = "ru"
			for range 2 { // a second time, as after a crash
				if err := tk.Notify(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
		}
		send("suspended")
		send("reminder")
		send("released")
		if len(p.tickets) != 3 {
			t.Fatalf("%d tickets", len(p.tickets))
		}
		got := p.tickets[2]
		if got.client != "77" || !strings.Contains(got.subject, "[FC-ABCDEFGHIJ] Сетевой доступ") || len(got.said) != 3 {
			t.Errorf("client %s, subject %q, %d messages", got.client, got.subject, len(got.said))
		}
		for i, want := range []string{"приостановили сетевой доступ", "ответа от вас мы не получили", "восстановлен"} {
			if !strings.Contains(got.said[i], want) {
				t.Errorf("message %d does not say %q:\n%s", i, want, got.said[i])
			}
		}
		if !strings.Contains(got.said[0], "https://abuse.example.net/case/x") {
			t.Error("the customer's link is not in his ticket")
		}
		attached := len(got.files) > 0 && got.files[0] == "FC-ABCDEFGHIJ-summary.txt: summary\n"
		if promised := strings.Contains(got.said[0], "во вложении"); promised != attached || attached != (tk.Name() == "whmcs") {
			t.Errorf("logs promised %t, attached %v", promised, got.files)
		}
		want := []string{"opened", "was there already", "replied", "was there already", "replied", "was there already"}
		for i, d := range e.got {
			if d.Response != want[i] || d.ID != strconv.Itoa(got.id) || d.To[0] != "customer 77" || d.Error != "" || d.Server == "" {
				t.Errorf("delivery %d: %+v, want %s", i, d, want[i])
			}
		}
		if len(e.got) != len(want) {
			t.Errorf("%d deliveries", len(e.got))
		}
	})
}

// The panel acted and its answer was lost: nothing is said twice.
func TestAnswerLost(t *testing.T) {
	both(t, func(t *testing.T, tk *Panel, p *panel, _ *entries, _ *observer.ObservedLogs) {
		opens, replies := "OpenTicket", "AddTicketReply"
		if tk.Name() == "billmanager" {
			opens, replies = "ticket_all.edit", "ticket_all.edit"
		}
		for _, step := range []struct{ lose, kind string }{{opens, "suspended"}, {replies, "released"}} {
			p.lose = step.lose
			n := notice.Example(step.kind)
			err := tk.Notify(t.Context(), n)
			var x *Error
			if !errors.As(err, &x) || x.Permanent() {
				t.Fatalf("%s: %v: want an error that is worth a retry", step.kind, err)
			}
			if err := tk.Notify(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.tickets) != 1 || len(p.tickets[0].said) != 2 {
			t.Errorf("%d tickets, %v", len(p.tickets), p.tickets[0].said)
		}
	})
}

func TestPanelErrors(t *testing.T) {
	both(t, func(t *testing.T, tk *Panel, p *panel, e *entries, log *observer.ObservedLogs) {
		for _, tc := range []struct {
			name   string
			status int
			head   string
			body   string
			perm   bool
			after  time.Duration
			says   string
		}{
			{"busy", 429, "40", "slow down", false, 40 * time.Second, "429"},
			{"deployed", 503, "", "<html>", false, 0, "503"},
			{"broken", 500, "", "", false, 0, "500"},
			{"a page instead", 200, "", "<html>log in: " + panelSecret + "</html>", false, 0, "not the interface's JSON"},
			{"redirect", 302, "", "", false, 0, "302"},
			{"nothing known", 200, "", `{"what":1}`, false, 0, ""},
			{"address refused", 403, "", `{"result":"error","message":"Invalid IP 192.0.2.1"}`, false, 0, ""},
		} {
			p.fail = func(w http.ResponseWriter, _ string) bool {
				w.Header().Set("Retry-After", tc.head)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tc.status)
				_, _ = fmt.Fprint(w, tc.body)
				return true
			}
			err := tk.Notify(t.Context(), notice.Example("suspended"))
			var x *Error
			if !errors.As(err, &x) || x.Permanent() != tc.perm || x.RetryAfter() != tc.after || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s: %v", tc.name, err)
			}
			if tc.after > 0 {
				n := len(p.calls)
				if err := tk.Notify(t.Context(), notice.Example("suspended")); err == nil || len(p.calls) != n {
					t.Errorf("%s: it was asked before its time: %v", tc.name, err)
				}
				tk.gate = notice.Gate{}
			}
		}
		p.fail = nil
		n := notice.Example("suspended")
		n.Incident.Holder.Tenant = "c-999"
		var x *Error
		if err := tk.Notify(t.Context(), n); !errors.As(err, &x) || !x.Permanent() {
			t.Errorf("no such customer: %v", err)
		}
		if len(p.tickets) != 0 {
			t.Errorf("%d tickets", len(p.tickets))
		}
		for _, d := range e.got {
			if d.Error == "" || strings.Contains(fmt.Sprintf("%+v", d), panelSecret) {
				t.Errorf("%+v", d)
			}
		}
		for _, l := range log.All() {
			if strings.Contains(fmt.Sprint(l.Message, l.ContextMap()), panelSecret) {
				t.Errorf("the log holds the password: %v", l)
			}
		}
	})
}

// A wrong login is worth a retry: the operator puts it right while the notice
// waits. The password is in no error.
func TestPanelLogin(t *testing.T) {
	both(t, func(t *testing.T, tk *Panel, _ *panel, _ *entries, _ *observer.ObservedLogs) {
		switch p := tk.p.(type) {
		case *whmcs:
			p.Secret = "wrong-s3cret-password"
		case *bill:
			p.Password = "wrong-s3cret-password"
		}
		err := tk.Notify(t.Context(), notice.Example("suspended"))
		var x *Error
		if !errors.As(err, &x) || x.Permanent() || strings.Contains(err.Error(), "wrong-s3cret") {
			t.Errorf("%v", err)
		}
	})
}

func TestPanelAway(t *testing.T) {
	w, err := written()
	if err != nil {
		t.Fatal(err)
	}
	tk, err := NewBILLmanager(BILLmanager{PanelConfig: PanelConfig{URL: "http://127.0.0.1:1/billmgr"}, User: "robot", Password: panelSecret}, Deps{Texts: w})
	if err != nil {
		t.Fatal(err)
	}
	err = tk.Notify(t.Context(), notice.Example("suspended"))
	var x *Error
	if !errors.As(err, &x) || x.Permanent() || strings.Contains(err.Error(), url.QueryEscape(panelSecret)) {
		t.Errorf("%v", err)
	}
	inc := notice.Example("suspended").Incident
	if !tk.Wants("suspended", inc) || tk.Wants("held", inc) || tk.Wants("suspended", flow.Incident{Holder: flow.Holder{Contact: "x@example.org"}}) {
		t.Error("who is written to")
	}
}

// Far down a long list.
func TestManyTickets(t *testing.T) {
	both(t, func(t *testing.T, tk *Panel, p *panel, _ *entries, _ *observer.ObservedLogs) {
		for i := range 2*billPage + 1 {
			p.tickets = append(p.tickets, &talk{id: i, subject: fmt.Sprintf("[FC-%d] x", i), client: "77"})
		}
		p.tickets[2*billPage].subject = "Re: [FC-ABCDEFGHIJ] x"
		if err := tk.Notify(t.Context(), notice.Example("released")); err != nil {
			t.Fatal(err)
		}
		if len(p.tickets) != 2*billPage+1 || len(p.tickets[2*billPage].said) != 1 {
			t.Errorf("%d tickets: the one of the incident was not found", len(p.tickets))
		}
	})
}

func TestPanelConfig(t *testing.T) {
	_, e1 := NewWHMCS(WHMCS{PanelConfig: PanelConfig{URL: "https://admin:hunter22@x/"}}, Deps{})
	_, e2 := NewBILLmanager(BILLmanager{PanelConfig: PanelConfig{Name: "bill-eu", URL: "x"}, User: "a:b"}, Deps{})
	for err, want := range map[error][]string{
		e1: {"whmcs: ", "identifier and secret", "department: write the number", "admin: write", "url: write https://", "no texts"},
		e2: {"bill-eu: ", "user and password", "must hold none", "url: write https://"},
	} {
		if err == nil {
			t.Error("accepted")
			continue
		}
		for _, w := range append(want, "") {
			if !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "hunter22") {
				t.Errorf("the error does not say %q, or too much: %v", w, err)
			}
		}
	}
}

// Whatever a panel answers is an answer or an error, and no ticket's number
// comes out of nothing.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"doc":{"elem":[{"id":{"$":"1"},"name":{"$":"[FC-A] x"}}]}}`))
	f.Add([]byte(`{"doc":{"elem":{"id":1,"name":null}}}`))
	f.Add([]byte(`{"result":"success","tickets":{"ticket":[{"id":"7","subject":"[FC-A]"}]}}`))
	f.Add([]byte(`{"doc":{"error":{"$type":"auth","msg":"x"}}}`))
	w, err := notice.New(notice.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		client := &http.Client{Transport: says(answer)}
		for _, make := range []func() (*Panel, error){
			func() (*Panel, error) {
				return NewWHMCS(WHMCS{PanelConfig: PanelConfig{URL: "http://panel"}, Identifier: "id", Secret: panelSecret, Department: 1, Admin: "a"}, Deps{Texts: w, Client: client})
			},
			func() (*Panel, error) {
				return NewBILLmanager(BILLmanager{PanelConfig: PanelConfig{URL: "http://panel"}, User: "u", Password: panelSecret}, Deps{Texts: w, Client: client})
			},
		} {
			tk, err := make()
			if err != nil {
				t.Fatal(err)
			}
			id, err := tk.p.find(t.Context(), post{incident: "FC-A", client: "77"})
			if err == nil && id != "" && !strings.Contains(string(answer), "FC-A") && !strings.Contains(string(answer), `\u`) {
				t.Errorf("ticket %q from %q", id, answer)
			}
			_, _ = tk.p.said(t.Context(), "1")
			_ = tk.p.reply(t.Context(), "1", post{text: "x"})
		}
	})
}

type says []byte

func (s says) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(s)))}, nil
}
