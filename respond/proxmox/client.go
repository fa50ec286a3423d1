package proxmox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

const (
	// maxAnswer bounds an answer: /cluster/resources takes some 500 bytes a
	// guest, so this is a cluster of 60,000.
	maxAnswer = 32 << 20
	// dialTimeout leaves time for another node of the cluster.
	dialTimeout = 3 * time.Second
	// taskPoll is between two looks at a task.
	taskPoll = 100 * time.Millisecond
	// taskWait is how long the server itself waits for a task before it
	// answers with its id (background_delay, 1 to 30 s).
	taskWait = 5
)

// client speaks PVE's API: JSON answers, form parameters, errors in the reason
// phrase.
type client struct {
	cfg  Config
	http func() (*http.Client, error) // made at the first call
	good atomic.Uint32                // index of the endpoint that answered last
}

func newClient(cfg Config) *client {
	return &client{cfg: cfg, http: sync.OnceValues(func() (*http.Client, error) {
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
				TLSClientConfig: tc, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
				IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: listWorkers, MaxResponseHeaderBytes: 64 << 10,
			},
			// A redirect would hand the token on to a host nobody configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}, nil
	})}
}

// call makes one call. params are the query of GET and DELETE and the form of
// POST and PUT: the server reads a body with no other method. data gets the
// answer's data; nil: it is left out.
func (c *client) call(ctx context.Context, method, path string, params url.Values, data any) error {
	h, err := c.http()
	if err != nil {
		return err
	}
	first := c.good.Load()
	for i := range c.cfg.URLs {
		n := (int(first) + i) % len(c.cfg.URLs)
		var body []byte
		body, err = c.one(ctx, h, c.cfg.URLs[n], method, path, params)
		if err == nil {
			c.good.Store(uint32(n))
			return decode(body, data)
		}
		// Only what was never sent goes to another node: a call that was may
		// have acted.
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (c *client) one(ctx context.Context, h *http.Client, base, method, path string, params url.Values) ([]byte, error) {
	u := strings.TrimSuffix(base, "/") + "/api2/json" + path
	var body io.Reader
	if method == http.MethodPost || method == http.MethodPut {
		body = strings.NewReader(params.Encode())
	} else if len(params) > 0 {
		u += "?" + params.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fail(flow.ErrUnsupported, "configuration: %w", plain(err))
	}
	req.Header.Set("Authorization", "PVEAPIToken="+c.cfg.Token)
	req.Header.Set("User-Agent", "flowcordon")
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, plain(err))
	}
	defer resp.Body.Close()
	// One byte more, to tell an answer that is too long from one that just fits.
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %w", method, path, refusal(resp, text))
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if len(text) > maxAnswer {
		return nil, fail(flow.ErrUnsupported, "%s %s: the answer is longer than %d bytes", method, path, maxAnswer)
	}
	return text, nil
}

func decode(body []byte, data any) error {
	if data == nil {
		return nil
	}
	if err := json.Unmarshal(body, &struct {
		Data any `json:"data"`
	}{data}); err != nil {
		return fmt.Errorf("the answer is not what the API documents: %w", err)
	}
	return nil
}

// refusal reads the reason: PVE writes it into the status line, newer versions
// into the body's message too (pve-http-server, Formatter/Standard.pm).
func refusal(resp *http.Response, text []byte) *apiError {
	var b struct {
		Message string            `json:"message"`
		Errors  map[string]string `json:"errors"`
	}
	_ = json.Unmarshal(text, &b) // a plain text page has neither, and that is fine
	e := &apiError{Code: resp.StatusCode, Text: b.Message, Fields: b.Errors}
	if strings.TrimSpace(e.Text) == "" {
		e.Text = strings.TrimPrefix(resp.Status, strconv.Itoa(resp.StatusCode))
	}
	e.Text = fmt.Sprintf("%.300s", strings.Join(strings.Fields(e.Text), " "))
	return e
}

// change makes a call that changes something, and waits for the task if the
// answer names one.
func (c *client) change(ctx context.Context, node, method, path string, params url.Values) error {
	var upid text
	if err := c.call(ctx, method, path, params, &upid); err != nil || !strings.HasPrefix(string(upid), "UPID:") {
		return err
	}
	for {
		var st struct {
			Status string `json:"status"`
			Exit   string `json:"exitstatus"`
		}
		err := c.call(ctx, http.MethodGet, "/nodes/"+url.PathEscape(node)+"/tasks/"+url.PathEscape(string(upid))+"/status", nil, &st)
		if err != nil {
			return fmt.Errorf("the call was taken as a task, whose end is not known: %w", err)
		}
		if st.Status == "stopped" {
			return exit(st.Exit)
		}
		select {
		case <-time.After(taskPoll):
		case <-ctx.Done():
			return fmt.Errorf("the task %s goes on: %w", upid, context.Cause(ctx))
		}
	}
}

// exit is the error of a task: OK and "WARNINGS: n" are none.
func exit(s string) error {
	if s == "OK" || strings.HasPrefix(s, "WARNINGS") {
		return nil
	}
	return &apiError{Code: http.StatusInternalServerError, Text: fmt.Sprintf("the task ended with: %.300s", s)}
}

// text is a JSON string, number or boolean: PVE writes one setting now as the
// one, now as the other. Booleans are 0 and 1.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	switch s := string(b); {
	case s == "null":
		*t = ""
	case s == "true":
		*t = "1"
	case s == "false":
		*t = "0"
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, (*string)(t))
	default:
		*t = text(s)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
