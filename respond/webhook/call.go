package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
)

// The actions, also the op label of the metrics. Those from restrict on came
// with version 2.
const (
	actionStatus   = "status"
	actionSuspend  = "suspend"
	actionRestore  = "restore"
	actionRestrict = "restrict"
	actionLift     = "lift"
	actionList     = "list"
)

// protocolVersion is in the body of the actions that receivers of before it do
// not know. The others' bodies are as they ever were, so that a receiver which
// reads them strictly goes on.
const protocolVersion = 2

// request is the body of a call.
type request struct {
	Version    int       `json:"version,omitempty"`
	Action     string    `json:"action"`
	Key        string    `json:"key"`
	Incident   string    `json:"incident"`
	VDS        string    `json:"vds"`
	Hypervisor string    `json:"hypervisor"`
	MAC        string    `json:"mac"`
	IP         string    `json:"ip"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at,omitzero"`

	Measure *flow.Measure   `json:"measure,omitempty"`
	Undo    json.RawMessage `json:"undo,omitempty"` // only what the receiver gave us
}

// reply is the body of an answer.
type reply struct {
	state
	Mark   *flow.Mark       `json:"mark"`
	Before *state           `json:"before"`
	Undo   json.RawMessage  `json:"undo"`
	NICs   []flow.MarkedNIC `json:"nics"` // of list
}

type state struct {
	Live         flow.LinkState     `json:"live"`
	Config       flow.LinkState     `json:"config"`
	Running      bool               `json:"running"`
	Restrictions []flow.Restriction `json:"restrictions"`
}

func (s state) status() flow.NICStatus {
	st := flow.NICStatus{Live: known(s.Live), Config: known(s.Config), Running: s.Running}
	if len(s.Restrictions) > 0 {
		st.Restrictions = slices.Clone(s.Restrictions)
	}
	return st
}

func (r reply) status() flow.NICStatus {
	st := r.state.status()
	st.Mark = r.Mark
	return st
}

// known maps whatever a receiver invents to the state that proves nothing.
func known(l flow.LinkState) flow.LinkState {
	if l == flow.LinkUp || l == flow.LinkDown {
		return l
	}
	return flow.LinkUnknown
}

func newClient(cfg Config) (*http.Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fail(flow.ErrUnsupported, "configuration: %w", err)
	}
	tc, err := cfg.tls()
	if err != nil {
		return nil, fail(flow.ErrUnsupported, "configuration: %w", err)
	}
	return &http.Client{
		// No proxy from the environment: the call carries a customer's fate
		// and goes to the configured host or nowhere.
		Transport: &http.Transport{
			TLSClientConfig: tc, ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 2,
			MaxResponseHeaderBytes: maxBody,
		},
		// A redirect would hand the signed call on to a host nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// body is the request for an action. The measure and undo are of the actions
// that act.
func (a *Adapter) body(action string, nic flow.NIC, m flow.Mark, me *flow.Measure, undo json.RawMessage) request {
	q := request{
		Action: action, Incident: m.Incident, VDS: nic.VDS, Hypervisor: nic.Hypervisor, MAC: nic.MAC,
		Reason: m.Reason, At: m.At.UTC(), Undo: undo,
	}
	if nic.IP.IsValid() {
		q.IP = nic.IP.Unmap().String()
	}
	switch action {
	case actionRestrict, actionLift:
		q.Version, q.Measure = protocolVersion, me
	case actionList:
		q.Version = protocolVersion
	}
	if action != actionStatus {
		q.Key = m.Key // a status must never be answered from a memory of answers
	}
	return q
}

// call makes one signed call.
func (a *Adapter) call(ctx context.Context, action string, nic flow.NIC, m flow.Mark, me *flow.Measure, undo json.RawMessage) (reply, error) {
	client, err := a.client()
	if err != nil {
		return reply{}, err
	}
	q := a.body(action, nic, m, me, undo)
	body, err := json.Marshal(q)
	if err != nil {
		return reply{}, fail(flow.ErrUnsupported, "encode: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return reply{}, fail(flow.ErrUnsupported, "configuration: the url cannot be called")
	}
	ts := strconv.FormatInt(a.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "flowcordon")
	req.Header.Set("X-Flowcordon-Timestamp", ts)
	req.Header.Set("X-Flowcordon-Signature", "sha256="+sign(a.cfg.Secret, ts, body))
	if q.Key != "" {
		req.Header.Set("Idempotency-Key", q.Key)
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	// One byte more, to tell an answer that is too long from one that just fits.
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if resp.StatusCode != http.StatusOK {
		return reply{}, refusal(resp, text)
	}
	if err != nil {
		return reply{}, fmt.Errorf("read the answer: %w", err)
	}
	return parse(text, action)
}

func sign(secret []byte, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(timestamp + "."))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

func parse(text []byte, action string) (reply, error) {
	if len(text) > maxBody {
		return reply{}, fmt.Errorf("the answer is longer than %d bytes", maxBody)
	}
	var r reply
	if !utf8.Valid(text) { // it would be taken with other characters in the marks
		return reply{}, errors.New("the answer is not UTF-8")
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return reply{}, fmt.Errorf("the answer is not the JSON that docs/webhook.md asks for: %w", err)
	}
	if action != actionList && (r.Live == "" || r.Config == "") {
		return reply{}, errors.New("the answer lacks live or config")
	}
	return r, nil
}

// refusal is the error for any status but 200.
func refusal(resp *http.Response, text []byte) error {
	var e struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(text, &e) // a plain text error page has none, and that is fine
	said := ""
	if e.Error != "" {
		said = fmt.Sprintf(": %.200q", e.Error)
	}
	if loc := resp.Header.Get("Location"); loc != "" && resp.StatusCode/100 == 3 {
		said = fmt.Sprintf(" to %.200q; redirects are not followed, write the right url", loc)
	}
	return fail(classOfStatus(resp.StatusCode), "answered %d %s%s", resp.StatusCode, http.StatusText(resp.StatusCode), said)
}

// classOfStatus is the table of docs/webhook.md.
func classOfStatus(code int) flow.ErrClass {
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return flow.ErrNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return flow.ErrConflict
	case http.StatusLocked:
		return flow.ErrLocked
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return flow.ErrUnsupported
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return flow.ErrTransient
	}
	switch code / 100 {
	case 5:
		return flow.ErrTransient
	case 2: // 202, 204: it said yes and not what came of it
		return flow.ErrUnsupported
	}
	return flow.ErrDenied // 401, 403, other 4xx, redirects: no retry changes that
}

func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

// classify gives an error its class. What is not known to be lasting is worth a
// retry: every action may be repeated.
func classify(ctx context.Context, err error) *flow.ActError {
	var ae *flow.ActError
	if errors.As(err, &ae) {
		return &flow.ActError{Class: ae.Class, Err: ae.Err}
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // without the URL: it may carry a token
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return &flow.ActError{Class: flow.ErrDenied, Err: err}
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return &flow.ActError{Class: flow.ErrTransient, Err: err}
}
