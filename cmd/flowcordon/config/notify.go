package config

import (
	"fmt"
	"time"
)

// Notify is who is told, and how.
type Notify struct {
	Email       *Email       `yaml:"email"`
	Ticket      *Ticket      `yaml:"ticket"`
	WHMCS       *WHMCS       `yaml:"whmcs"`
	BILLmanager *BILLmanager `yaml:"billmanager"`
	Slack       *Slack       `yaml:"slack"`
	Telegram    *Telegram    `yaml:"telegram"`
	Room        *Room        `yaml:"room"`
	Digest      Digest       `yaml:"digest"`

	Company   string `yaml:"company"`    // signs what customers get
	PortalURL string `yaml:"portal_url"` // where staff look at an incident; {id} is replaced
}

// Email is the SMTP server that takes our mail.
type Email struct {
	Address       string        `yaml:"address"` // host:port
	From          string        `yaml:"from"`
	ReplyTo       string        `yaml:"reply_to"`
	Staff         []string      `yaml:"staff"`
	StaffLanguage string        `yaml:"staff_language"`
	TLS           string        `yaml:"tls"` // mandatory, opportunistic, implicit, none
	User          string        `yaml:"user"`
	PasswordFile  string        `yaml:"password_file"`
	CAFile        string        `yaml:"ca_file"`
	Timeout       time.Duration `yaml:"timeout"`

	Password string `yaml:"-"`
}

// Ticket is the signed webhook that opens tickets.
type Ticket struct {
	URL        string        `yaml:"url"`
	SecretFile string        `yaml:"secret_file"`
	Timeout    time.Duration `yaml:"timeout"`
	CAFile     string        `yaml:"ca_file"`
	Language   string        `yaml:"language"` // empty: the holder's

	Secret string `yaml:"-"`
}

// Desk is what every panel that takes tickets has.
type Desk struct {
	URL          string        `yaml:"url"`
	Timeout      time.Duration `yaml:"timeout"`
	CAFile       string        `yaml:"ca_file"`
	Language     string        `yaml:"language"`      // empty: the holder's
	ClientPrefix string        `yaml:"client_prefix"` // what the inventory writes before the panel's number of the customer
}

// WHMCS opens tickets in WHMCS.
type WHMCS struct {
	Desk
	Identifier    string `yaml:"identifier"`
	SecretFile    string `yaml:"secret_file"`
	AccessKeyFile string `yaml:"access_key_file"`
	Department    int    `yaml:"department"`
	Admin         string `yaml:"admin"`
	NoEmail       bool   `yaml:"no_email"`

	Secret    string `yaml:"-"`
	AccessKey string `yaml:"-"`
}

// BILLmanager opens tickets in BILLmanager 6.
type BILLmanager struct {
	Desk
	User         string            `yaml:"user"`
	PasswordFile string            `yaml:"password_file"`
	Department   string            `yaml:"department"`
	Extra        map[string]string `yaml:"extra"`

	Password string `yaml:"-"`
}

// Slack is an incoming webhook, whose address is a secret.
type Slack struct {
	WebhookFile string   `yaml:"webhook_file"`
	Language    string   `yaml:"language"`
	Kinds       []string `yaml:"kinds"` // empty: all

	Webhook string `yaml:"-"`
}

// Telegram is a bot and a chat.
type Telegram struct {
	TokenFile string   `yaml:"token_file"`
	ChatID    string   `yaml:"chat_id"`
	Topic     int      `yaml:"topic"`
	Silent    bool     `yaml:"silent"`
	Language  string   `yaml:"language"`
	Kinds     []string `yaml:"kinds"` // empty: all

	Token string `yaml:"-"`
}

// Room is any room that takes JSON by a web address, which is a secret.
type Room struct {
	URLFile    string   `yaml:"url_file"`
	Body       string   `yaml:"body"` // text/template that gives JSON; mattermost and discord stand for theirs
	SecretFile string   `yaml:"secret_file"`
	Language   string   `yaml:"language"`
	Kinds      []string `yaml:"kinds"` // empty: all

	URL    string `yaml:"-"`
	Secret string `yaml:"-"`
}

// Digest makes one message for staff of many.
type Digest struct {
	Max    int           `yaml:"max"` // that go one by one within the window; 0: no digest
	Window time.Duration `yaml:"window"`
}

// Portal is the customer's way back: the signed link and its pages.
type Portal struct {
	URL      string        `yaml:"url"`       // where the pages are reached from outside, for example https://abuse.example.net/case
	KeyFiles []string      `yaml:"key_files"` // 32 random bytes or more each; the first signs, all verify
	LinkTTL  time.Duration `yaml:"link_ttl"`
	// ReleaseOffences is how many offences of a customer are released by his
	// statement, without staff: 1 is the first only, 0 none.
	ReleaseOffences int           `yaml:"release_offences"`
	RemindAfter     time.Duration `yaml:"remind_after"`  // the customer of the answer that is owed; 0: never
	AnswerWithin    time.Duration `yaml:"answer_within"` // after which staff must decide; 0: never
	Contact         string        `yaml:"contact"`       // mail address of the abuse desk

	Keys []string `yaml:"-"`
}

// XARF is who a report of an incident is from.
type XARF struct {
	Org     string `yaml:"org"`
	Contact string `yaml:"contact"` // mail address
	Domain  string `yaml:"domain"`
}

func (c *Config) checkNotify(d *decoder) {
	n := &c.Respond.Notify
	if m := n.Email; m != nil {
		d.hostPort("respond.notify.email.address", m.Address)
		if m.TLS == "" {
			m.TLS = "mandatory"
		}
		d.oneOf("respond.notify.email.tls", m.TLS, "mandatory", "opportunistic", "implicit", "none")
		if m.From == "" {
			d.bad("respond.notify.email.from", "is missing; write the address that customers may answer to")
		}
		m.Password = d.secret("respond.notify.email.password_file", m.PasswordFile)
	}
	if t := n.Ticket; t != nil {
		d.url("respond.notify.ticket.url", t.URL)
		if t.SecretFile == "" {
			d.bad("respond.notify.ticket.secret_file", "is missing; tickets are signed, see docs/webhook.md")
		}
		t.Secret = d.secret("respond.notify.ticket.secret_file", t.SecretFile)
	}
	if p := n.WHMCS; p != nil {
		p.Secret = d.secret("respond.notify.whmcs.secret_file", p.SecretFile)
		p.AccessKey = d.secret("respond.notify.whmcs.access_key_file", p.AccessKeyFile)
	}
	if p := n.BILLmanager; p != nil {
		p.Password = d.secret("respond.notify.billmanager.password_file", p.PasswordFile)
	}
	if r := n.Slack; r != nil {
		r.Webhook = d.secret("respond.notify.slack.webhook_file", r.WebhookFile)
	}
	if r := n.Telegram; r != nil {
		r.Token = d.secret("respond.notify.telegram.token_file", r.TokenFile)
	}
	if r := n.Room; r != nil {
		r.URL = d.secret("respond.notify.room.url_file", r.URLFile)
		r.Secret = d.secret("respond.notify.room.secret_file", r.SecretFile)
	}
	if n.Digest.Max < 0 {
		d.bad("respond.notify.digest.max", "%d is less than zero; write 0 for no digest", n.Digest.Max)
	}
	d.positive("respond.notify.digest.window", n.Digest.Window)
	c.checkPortal(d)
}

func (c *Config) checkPortal(d *decoder) {
	p := c.Respond.Portal
	if p == nil {
		return
	}
	d.url("respond.portal.url", p.URL)
	if p.ReleaseOffences < 0 {
		d.bad("respond.portal.release_offences", "%d is less than zero; write 0 to have staff look at each statement", p.ReleaseOffences)
	}
	if len(p.KeyFiles) == 0 {
		d.bad("respond.portal.key_files", "is missing; write a file with 32 random bytes (openssl rand -base64 32)")
	}
	for i, f := range p.KeyFiles {
		p.Keys = append(p.Keys, d.secret(fmt.Sprintf("respond.portal.key_files[%d]", i), f))
	}
}
