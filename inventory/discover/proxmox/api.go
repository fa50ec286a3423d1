package proxmox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxAnswer = 32 << 20 // /cluster/resources takes some 500 bytes a guest
	workers   = 8        // calls at once: the panel needs the server too
)

// api reads from the cluster. It only ever says GET.
type api struct {
	cfg  Config
	http *http.Client
}

func newAPI(cfg Config) (*api, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	tc, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	return &api{cfg: cfg, http: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: tc, DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: workers,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// answerError is an answer other than 200.
type answerError struct {
	code int
	text string // PVE writes what was wrong into the status line
}

func (e *answerError) Error() string { return "answered " + e.text }

// get reads one path; a node that cannot be reached is passed over.
func (a *api) get(ctx context.Context, path string, data any) error {
	var err error
	for _, base := range a.cfg.URLs {
		if err = a.one(ctx, base, path, data); err == nil {
			return nil
		}
		var ae *answerError
		if errors.As(err, &ae) || ctx.Err() != nil {
			return fmt.Errorf("GET %s: %w", path, err)
		}
	}
	return fmt.Errorf("GET %s: %w", path, err)
}

func (a *api) one(ctx context.Context, base, path string, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/api2/json"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "PVEAPIToken="+a.cfg.Token)
	req.Header.Set("User-Agent", "flowcordon")
	resp, err := a.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if resp.StatusCode != http.StatusOK {
		return &answerError{resp.StatusCode, fmt.Sprintf("%.200s", resp.Status)}
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(body, &struct {
		Data any `json:"data"`
	}{data}); err != nil {
		return fmt.Errorf("the answer is not what the API documents: %w", err)
	}
	return nil
}

// text is a JSON string, number or boolean: PVE writes one setting now as the
// one, now as the other.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		*t = text(s)
		return nil
	}
	*t = text(strings.Trim(string(b), `"`)) // a list or an object is nothing that we read
	return nil
}
