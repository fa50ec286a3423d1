package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// client asks flowcordon's API.
type client struct {
	base, token string
	http        *http.Client
}

func newClient(base, token string) *client {
	return &client{base: base, token: token, http: &http.Client{Timeout: 5 * time.Second}}
}

func (c *client) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %.300s", path, resp.Status, body)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// incidents returns all of them, up to the API's page.
func (c *client) incidents(ctx context.Context) ([]flow.Incident, error) {
	var page struct {
		Incidents []flow.Incident `json:"incidents"`
	}
	err := c.get(ctx, "/api/v1/incidents?limit=500", &page)
	return page.Incidents, err
}

// awaitReady returns when flowcordon says that everything it needs is there.
func (c *client) awaitReady(ctx context.Context) error {
	for {
		err := c.get(ctx, "/readyz", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("flowcordon was never ready: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
