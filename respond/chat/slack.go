package chat

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/respond/notice"
)

// maxSlackText is the most that a section's text may hold (Slack: Block Kit,
// section block, 3000 characters), less what the code fence takes.
const maxSlackText = 2900

// NewSlack makes a notifier for a Slack channel, by the address of an incoming
// webhook. All errors of the configuration are reported at once.
func NewSlack(cfg Config, webhook string, deps Deps) (*Room, error) {
	var errs []error
	if err := goodURL(webhook); err != nil {
		errs = append(errs, err)
	}
	return newRoom(cfg, slack{webhook}, deps, errs)
}

type slack struct{ url string }

func (slack) name() string        { return "slack" }
func (s slack) secrets() []string { return []string{s.url, pathOf(s.url)} }

// pathOf is the part of an address that makes it a secret.
func pathOf(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		if _, path, ok := strings.Cut(rest, "/"); ok && len(path) > 8 {
			return path
		}
	}
	return ""
}

// slackEscape is what Slack asks for in texts: these three, and no others.
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (s slack) post(m message) (string, http.Header, []byte, error) {
	type text struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Verbatim bool   `json:"verbatim,omitempty"`
	}
	type block struct {
		Type string `json:"type"`
		Text text   `json:"text"`
	}
	// A fence in the text would end ours.
	body := strings.ReplaceAll(cut(m.Text, maxSlackText), "```", "'''")
	escaped := slackEscape.Replace(body)
	for n := len([]rune(body)); len([]rune(escaped)) > maxSlackText; { // escaping makes it longer
		n -= len([]rune(escaped)) - maxSlackText
		body = cut(body, max(n, 2))
		escaped = slackEscape.Replace(body)
	}
	b, err := encode(map[string]any{
		"text": slackEscape.Replace(m.Subject), // what a notification shows
		"blocks": []block{
			{"header", text{Type: "plain_text", Text: cut(m.Subject, 150)}}, // at most 150
			{"section", text{Type: "mrkdwn", Text: "```\n" + strings.TrimRight(escaped, "\n") + "\n```", Verbatim: true}},
		},
		"unfurl_links": false, "unfurl_media": false,
	})
	return s.url, nil, b, err
}

// judge: incoming webhooks answer 200 "ok", else a word in plain text. 400, 403,
// 404 and 410 name what is wrong with the message or the channel; of those only
// a message that Slack cannot read will never be taken.
func (slack) judge(status int, h http.Header, body []byte, now time.Time) *notice.Error {
	said := notice.Clip(string(body))
	if status == http.StatusOK && said != "ok" {
		return &notice.Error{Status: status, Err: fmt.Errorf("answered 200 %q instead of ok", said)}
	}
	e := byStatus(status, h, said, now)
	if e != nil {
		e.Perm = status == http.StatusBadRequest && (strings.HasPrefix(said, "invalid_payload") || strings.HasPrefix(said, "invalid_blocks") || said == "no_text" || said == "too_many_attachments")
	}
	return e
}
