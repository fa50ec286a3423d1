package netbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// api reads NetBox's REST API (v4). It only ever says GET.
type api struct {
	base, auth string
	http       *http.Client
}

func newAPI(c Config) (*api, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	tc, err := c.tls()
	if err != nil {
		return nil, err
	}
	a := &api{base: strings.TrimSuffix(c.URL, "/") + "/api", auth: "Token " + c.Token, http: &http.Client{
		Transport: &http.Transport{TLSClientConfig: tc, ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second},
		// A redirect would hand the token on to a host nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if strings.HasPrefix(c.Token, "nbt_") { // tokens since v4.5
		a.auth = "Bearer " + c.Token
	}
	return a, nil
}

// list reads all objects of a path, page by page. It counts by itself: the
// "next" that NetBox writes holds the host name as the web server before it
// passed it on. The order by id keeps pages from shifting when objects change
// meanwhile.
func list[T any](ctx context.Context, a *api, path string) ([]T, error) {
	var all []T
	for {
		q := url.Values{"limit": {strconv.Itoa(pageSize)}, "offset": {strconv.Itoa(len(all))}, "ordering": {"id"}}
		var page struct {
			Count   int     `json:"count"`
			Next    *string `json:"next"`
			Results []T     `json:"results"`
		}
		if err := a.get(ctx, path, q, &page); err != nil {
			return nil, fmt.Errorf("GET %s at %d: %w", path, len(all), err)
		}
		if page.Results == nil {
			return nil, fmt.Errorf("GET %s: no list of results; is this NetBox?", path)
		}
		all = append(all, page.Results...)
		switch {
		case page.Next == nil:
			return all, nil
		case len(page.Results) == 0:
			return nil, fmt.Errorf("GET %s: an empty page at %d of %d", path, len(all), page.Count)
		case len(all) > maxObjects:
			return nil, fmt.Errorf("GET %s: more than %d objects", path, maxObjects)
		}
	}
}

func (a *api) get(ctx context.Context, path string, q url.Values, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", a.auth)
	req.Header.Set("Accept", "application/json")
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
		var d struct {
			Detail string `json:"detail"`
		}
		_ = json.Unmarshal(body, &d) // an error page of the web server has none
		if d.Detail != "" {
			return fmt.Errorf("answered %s: %.200s", resp.Status, d.Detail)
		}
		return fmt.Errorf("answered %s", resp.Status)
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("the answer is not what the API documents: %w", err)
	}
	return nil
}

// The objects, with the fields that are read; of objects in objects NetBox
// gives the brief form alone (id, display, name, slug, description).

type ref struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	Slug string `json:"slug"`
}

type choice struct {
	Value string `json:"value"`
}

type fields map[string]any

// text is a custom field as a text; an object or a selection is its name.
func (f fields) text(name string) string {
	switch v := f[name].(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case map[string]any:
		for _, k := range []string{"name", "display"} {
			if s, ok := v[k].(string); ok {
				return s
			}
		}
	}
	return ""
}

type ipAddress struct {
	ID         int     `json:"id"`
	Address    string  `json:"address"`
	VRF        *ref    `json:"vrf"`
	Tenant     *ref    `json:"tenant"`
	Status     choice  `json:"status"`
	Role       *choice `json:"role"`
	ObjectType string  `json:"assigned_object_type"`
	ObjectID   *int    `json:"assigned_object_id"`
	Tags       []ref   `json:"tags"`
}

type prefix struct {
	ID     int    `json:"id"`
	Prefix string `json:"prefix"`
	VRF    *ref   `json:"vrf"`
	Tenant *ref   `json:"tenant"`
	Status choice `json:"status"`
	Tags   []ref  `json:"tags"`
}

type vmInterface struct {
	ID   int     `json:"id"`
	VM   ref     `json:"virtual_machine"`
	MAC  *string `json:"mac_address"` // since v4.2: of the primary one
	MACs []struct {
		MAC string `json:"mac_address"`
	} `json:"mac_addresses"`
}

type machine struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Tenant  *ref   `json:"tenant"`
	Cluster *ref   `json:"cluster"`
	Tags    []ref  `json:"tags"`
	Fields  fields `json:"custom_fields"`
}

type tenant struct {
	ID     int    `json:"id"`
	Name   string `json:"name"`
	Slug   string `json:"slug"`
	Fields fields `json:"custom_fields"`
}

type contact struct {
	ID    int    `json:"id"`
	Email string `json:"email"`
}

type assignment struct {
	ObjectType string  `json:"object_type"`
	ObjectID   int     `json:"object_id"`
	Contact    ref     `json:"contact"`
	Priority   *choice `json:"priority"`
}
