package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// BILLmanager is an administrator of a BILLmanager 6 and where tickets go.
type BILLmanager struct {
	PanelConfig
	User, Password string
	Department     string            // client_department, a number; may be empty
	Extra          map[string]string // more parameters of a new ticket, as an installation wants them
}

// The pages of the list of tickets that are looked through for an incident.
const (
	billPage  = 500
	billPages = 40
)

// NewBILLmanager makes a notifier for BILLmanager 6, by the functions ticket_all,
// ticket_all.message and ticket_all.edit of its reference (ispsystem.com/docs/b6c,
// BILLmanager API: All tickets). It was never tried on an installation. All errors
// of the configuration are reported at once.
func NewBILLmanager(cfg BILLmanager, deps Deps) (*Panel, error) {
	if cfg.Name == "" {
		cfg.Name = "billmanager"
	}
	var errs []error
	if cfg.User == "" || cfg.Password == "" {
		errs = append(errs, errors.New("user and password: write those of an administrator with the right to answer tickets"))
	}
	if strings.Contains(cfg.User, ":") {
		errs = append(errs, errors.New("user: authinfo parts user and password by a colon, the name must hold none"))
	}
	p := &bill{BILLmanager: cfg, caller: newCaller(&cfg.PanelConfig, &deps)}
	return newPanel(cfg.PanelConfig, p, deps, errs)
}

type bill struct {
	BILLmanager
	caller
}

func (b *bill) attaches() bool    { return false } // files go in by the browser's form only
func (b *bill) secrets() []string { return []string{b.Password} }

func (b *bill) serves(client, _ string) bool { return client != "" }

// node is a value as BILLmanager writes it in JSON: {"$": "text"}.
type node struct {
	Text string `json:"$"`
}

// UnmarshalJSON takes a bare value as well.
func (n *node) UnmarshalJSON(raw []byte) error {
	type plain node
	if len(raw) > 0 && raw[0] == '{' {
		return json.Unmarshal(raw, (*plain)(n))
	}
	if string(raw) != "null" {
		n.Text = strings.Trim(string(raw), `"`)
	}
	return nil
}

// elems are the elements of a list; one alone is written without brackets.
type elems []struct {
	ID      node `json:"id"`
	Name    node `json:"name"`
	Message node `json:"message"`
}

// UnmarshalJSON takes both.
func (e *elems) UnmarshalJSON(raw []byte) error {
	type plain elems
	if len(raw) > 0 && raw[0] == '{' {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	return json.Unmarshal(raw, (*plain)(e))
}

type billDoc struct {
	Elem  elems           `json:"elem"`
	OK    json.RawMessage `json:"ok"`
	Error *struct {
		Type string `json:"$type"`
		Msg  node   `json:"msg"`
	} `json:"error"`
}

func (b *bill) act(ctx context.Context, function string, form url.Values) (billDoc, error) {
	form.Set("authinfo", b.User+":"+b.Password)
	form.Set("out", "json")
	form.Set("lang", "en")
	form.Set("func", function)
	var r struct {
		Doc *billDoc `json:"doc"`
	}
	_, status, err := b.call(ctx, form, &r)
	switch {
	case err != nil:
		return billDoc{}, err
	case r.Doc == nil:
		return billDoc{}, &Error{Status: status, Err: fmt.Errorf("%s: answers JSON without doc", function)}
	case r.Doc.Error != nil:
		e := r.Doc.Error
		// auth and access are for the operator to put right; a value that is
		// wrong or missing stays so.
		return billDoc{}, &Error{Status: status, Err: fmt.Errorf("%s: %s: %s", function, e.Type, e.Msg.Text), Perm: e.Type == "value" || e.Type == "missed"}
	}
	return *r.Doc, nil
}

func (b *bill) find(ctx context.Context, p post) (string, error) {
	for page := 1; page <= billPages; page++ {
		doc, err := b.act(ctx, "ticket_all", url.Values{"p_cnt": {strconv.Itoa(billPage)}, "p_num": {strconv.Itoa(page)}})
		if err != nil {
			return "", err
		}
		for _, e := range doc.Elem {
			if strings.Contains(e.Name.Text, "["+p.incident+"]") {
				return e.ID.Text, nil
			}
		}
		if len(doc.Elem) < billPage {
			break
		}
	}
	return "", nil
}

func (b *bill) said(ctx context.Context, ticket string) (string, error) {
	doc, err := b.act(ctx, "ticket_all.message", url.Values{"elid": {ticket}})
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for _, e := range doc.Elem {
		all.WriteString(e.Message.Text + "\n")
	}
	return all.String(), nil
}

func (b *bill) edit(ctx context.Context, form url.Values) error {
	form.Set("sok", "ok")
	doc, err := b.act(ctx, "ticket_all.edit", form)
	if err == nil && doc.OK == nil {
		err = &Error{Err: errors.New("ticket_all.edit: answers neither ok nor an error: is sok lost on the way?")}
	}
	return err
}

func (b *bill) open(ctx context.Context, p post) (string, error) {
	form := url.Values{"name": {p.subject}, "message": {p.text}, "ticket_account": {p.client}}
	if b.Department != "" {
		form.Set("client_department", b.Department)
	}
	for k, v := range b.Extra {
		form.Set(k, v)
	}
	if err := b.edit(ctx, form); err != nil {
		return "", err
	}
	// The answer does not reliably say the number; the list does.
	id, err := b.find(ctx, p)
	if err != nil {
		return "", nil //nolint:nilerr // it was opened: a list that cannot be read changes nothing about that
	}
	return id, nil
}

func (b *bill) reply(ctx context.Context, ticket string, p post) error {
	return b.edit(ctx, url.Values{"elid": {ticket}, "message": {p.text}, "clicked_button": {"ok_message"}})
}
