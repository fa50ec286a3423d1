package ticket

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// WHMCS is an API credential and where tickets go. The role of the credential
// needs OpenTicket, AddTicketReply, GetTickets and GetTicket.
type WHMCS struct {
	PanelConfig
	Identifier, Secret string
	AccessKey          string // $api_access_key of configuration.php; may be empty
	Department         int    // deptid
	Admin              string // user name under which replies are shown
	NoEmail            bool   // WHMCS sends no mail of its own: ours has gone already
}

// NewWHMCS makes a notifier for WHMCS, by the parameters that its reference
// gives (developers.whmcs.com, API reference: OpenTicket, AddTicketReply,
// GetTickets, GetTicket). All errors of the configuration are reported at once.
func NewWHMCS(cfg WHMCS, deps Deps) (*Panel, error) {
	if cfg.Name == "" {
		cfg.Name = "whmcs"
	}
	var errs []error
	if cfg.Identifier == "" || cfg.Secret == "" {
		errs = append(errs, errors.New("identifier and secret: write those of an API credential (Configuration, API Credentials)"))
	}
	if cfg.Department <= 0 {
		errs = append(errs, errors.New("department: write the number of a support department"))
	}
	if cfg.Admin == "" {
		errs = append(errs, errors.New("admin: write the user name under which replies are shown"))
	}
	p := &whmcs{WHMCS: cfg, caller: newCaller(&cfg.PanelConfig, &deps)}
	return newPanel(cfg.PanelConfig, p, deps, errs)
}

type whmcs struct {
	WHMCS
	caller
}

func (w *whmcs) attaches() bool    { return true }
func (w *whmcs) secrets() []string { return []string{w.Secret, w.AccessKey} }

func (w *whmcs) serves(client, contact string) bool { return isNumber(client) || contact != "" }

func isNumber(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0
}

// number is an id that PHP writes as a number or as a string.
type number string

// UnmarshalJSON takes both.
func (n *number) UnmarshalJSON(b []byte) error {
	*n = number(strings.Trim(string(b), `"`))
	return nil
}

func (w *whmcs) act(ctx context.Context, action string, form url.Values, into any) (string, error) {
	form.Set("identifier", w.Identifier)
	form.Set("secret", w.Secret)
	if w.AccessKey != "" {
		form.Set("accesskey", w.AccessKey)
	}
	form.Set("action", action)
	form.Set("responsetype", "json")
	var raw json.RawMessage
	body, status, err := w.call(ctx, form, &raw)
	if err != nil {
		return "", err
	}
	var r struct {
		Result  string `json:"result"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(raw, &r); err != nil || r.Result != "success" {
		said := strings.ToLower(r.Message)
		e := &Error{Status: status, Err: fmt.Errorf("%s: %s", action, r.Message)}
		// Wrong logins, addresses and departments are for the operator to put
		// right; a customer that is not there, and an empty field, stay so.
		for _, final := range []string{"client id not found", "name and email address are required", "message is required", "subject is required"} {
			e.Perm = e.Perm || strings.Contains(said, final)
		}
		return "", e
	}
	if into == nil {
		return body, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return "", &Error{Status: status, Err: fmt.Errorf("%s: answers a form that is not known: %w", action, err)}
	}
	return body, nil
}

func (w *whmcs) find(ctx context.Context, p post) (string, error) {
	form := url.Values{"subject": {"[" + p.incident + "]"}, "limitnum": {"100"}, "ignore_dept_assignments": {"true"}}
	if isNumber(p.client) {
		form.Set("clientid", p.client)
	}
	var r struct {
		Tickets json.RawMessage `json:"tickets"` // an empty one is written as ""
	}
	if _, err := w.act(ctx, "GetTickets", form, &r); err != nil {
		return "", err
	}
	var list struct {
		Ticket []struct {
			ID      number `json:"id"`
			Subject string `json:"subject"`
		} `json:"ticket"`
	}
	if len(r.Tickets) == 0 || r.Tickets[0] != '{' {
		return "", nil
	}
	if err := json.Unmarshal(r.Tickets, &list); err != nil {
		return "", &Error{Err: fmt.Errorf("GetTickets: answers a form that is not known: %w", err)}
	}
	for _, t := range list.Ticket {
		if strings.Contains(t.Subject, "["+p.incident+"]") { // theirs is approximate
			return string(t.ID), nil
		}
	}
	return "", nil
}

func (w *whmcs) said(ctx context.Context, ticket string) (string, error) {
	return w.act(ctx, "GetTicket", url.Values{"ticketid": {ticket}}, nil)
}

func (w *whmcs) open(ctx context.Context, p post) (string, error) {
	form := w.message(p)
	form.Set("deptid", strconv.Itoa(w.Department))
	form.Set("subject", p.subject)
	form.Set("priority", map[bool]string{true: "High", false: "Medium"}[p.urgent])
	form.Set("admin", "true")
	if isNumber(p.client) {
		form.Set("clientid", p.client)
	} else {
		form.Set("name", p.contact)
		form.Set("email", p.contact)
	}
	var r struct {
		ID number `json:"id"`
	}
	if _, err := w.act(ctx, "OpenTicket", form, &r); err != nil {
		return "", err
	}
	return string(r.ID), nil
}

func (w *whmcs) reply(ctx context.Context, ticket string, p post) error {
	form := w.message(p)
	form.Set("ticketid", ticket)
	form.Set("adminusername", w.Admin)
	_, err := w.act(ctx, "AddTicketReply", form, nil)
	return err
}

// message is what opening and replying have in common.
func (w *whmcs) message(p post) url.Values {
	form := url.Values{"message": {p.text}, "markdown": {"false"}}
	if w.NoEmail {
		form.Set("noemail", "true")
	}
	type file struct {
		Name string `json:"name"`
		Data string `json:"data"`
	}
	var files []file
	for _, l := range p.logs {
		files = append(files, file{l.Name, base64.StdEncoding.EncodeToString([]byte(l.Text))})
	}
	if len(files) > 0 {
		b, err := json.Marshal(files)
		if err != nil {
			panic("ticket: attachments cannot be written: " + err.Error()) // strings only
		}
		form.Set("attachments", base64.StdEncoding.EncodeToString(b))
	}
	return form
}
