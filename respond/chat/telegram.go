package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/respond/notice"
)

// maxTelegramText is the most that a message holds after its entities are
// parsed (Bot API, sendMessage: 4096), less the subject's line.
const maxTelegramText = 3500

// Telegram is a bot and where it writes.
type Telegram struct {
	Token   string // of the bot, as BotFather gave it
	ChatID  string // a number, negative for groups, or @name of a channel
	Topic   int    // message_thread_id in a group with topics; 0: none
	Silent  bool   // without a sound
	BaseURL string // empty: https://api.telegram.org
}

var (
	telegramToken = regexp.MustCompile(`^[0-9]{5,20}:[A-Za-z0-9_-]{20,100}$`)
	telegramChat  = regexp.MustCompile(`^(-?[0-9]{1,20}|@[A-Za-z][A-Za-z0-9_]{3,40})$`)
)

// NewTelegram makes a notifier for a Telegram chat. All errors of the
// configuration are reported at once, without the token.
func NewTelegram(cfg Config, t Telegram, deps Deps) (*Room, error) {
	if t.BaseURL == "" {
		t.BaseURL = "https://api.telegram.org"
	}
	var errs []error
	if !telegramToken.MatchString(t.Token) {
		errs = append(errs, errors.New("token: write what BotFather gave, for example 123456789:AA…"))
	}
	if !telegramChat.MatchString(t.ChatID) {
		errs = append(errs, fmt.Errorf("chat_id %q: write a number, for example -1001234567890, or @channel", t.ChatID))
	}
	if u, err := url.Parse(t.BaseURL); err != nil || u.Host == "" {
		errs = append(errs, errors.New("base url: write https:// and a host"))
	}
	return newRoom(cfg, telegram{t}, deps, errs)
}

type telegram struct{ Telegram }

func (telegram) name() string        { return "telegram" }
func (t telegram) secrets() []string { return []string{t.Token} }

func (t telegram) post(m message) (string, http.Header, []byte, error) {
	text := "<b>" + html.EscapeString(cut(m.Subject, 300)) + "</b>\n<pre>" + html.EscapeString(strings.TrimRight(cut(m.Text, maxTelegramText), "\n")) + "</pre>"
	p := map[string]any{
		"chat_id": t.ChatID, "text": text, "parse_mode": "HTML", "link_preview_options": map[string]bool{"is_disabled": true},
	}
	if t.Topic != 0 {
		p["message_thread_id"] = t.Topic
	}
	if t.Silent {
		p["disable_notification"] = true
	}
	b, err := encode(p)
	return strings.TrimRight(t.BaseURL, "/") + "/bot" + t.Token + "/sendMessage", nil, b, err
}

// judge: every answer is {"ok", "description", "error_code", "parameters"};
// 429 has parameters.retry_after in seconds, a group that became a supergroup
// parameters.migrate_to_chat_id. A message that cannot be parsed or is too long
// will never be taken; a bot that was thrown out may be let in again.
func (t telegram) judge(status int, h http.Header, body []byte, now time.Time) *notice.Error {
	var a struct {
		OK          bool   `json:"ok"`
		Description string `json:"description"`
		Parameters  struct {
			RetryAfter uint32 `json:"retry_after"`
			MigrateTo  int64  `json:"migrate_to_chat_id"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		if e := byStatus(status, h, notice.Clip(string(body)), now); e != nil {
			e.Perm = false // not Telegram that speaks: a proxy, a portal
			return e
		}
		return &notice.Error{Status: status, Err: errors.New("answered something that is not the Bot API's JSON")}
	}
	if a.OK && status == http.StatusOK {
		return nil
	}
	e := &notice.Error{Status: status, Err: fmt.Errorf("answered %d: %s", status, notice.Clip(a.Description))}
	if a.Parameters.MigrateTo != 0 {
		e.Err = fmt.Errorf("the group has become a supergroup: write chat_id %d", a.Parameters.MigrateTo)
	}
	if status == http.StatusTooManyRequests {
		e.After = max(time.Duration(a.Parameters.RetryAfter)*time.Second, notice.RetryAfter(h, now))
	}
	said := strings.ToLower(a.Description)
	e.Perm = status == http.StatusBadRequest && (strings.Contains(said, "can't parse entities") || strings.Contains(said, "message is too long") || strings.Contains(said, "message text is empty"))
	return e
}
