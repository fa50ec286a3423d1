// Package httpjson discovers who holds which address from any HTTP source of
// JSON: a panel's or a billing system's list.
//
// In comes a URL and a jq expression; out goes a list of discover.Entry. The expression
// yields the entries, and what it yields is checked as an inventory file is: an
// unknown key, an address that is none or a tenant of two lines is an error,
// never half a list. Time, answer and number of entries are bounded.
//
// The Source keeps idle HTTP connections and starts no goroutine of its own.
// The package imports no sibling.
package httpjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

// Source is one list. It is safe for concurrent use.
type Source struct {
	cfg   Config
	now   func() time.Time
	ready func() (*ready, error) // made at the first call
}

type ready struct {
	client   *http.Client
	mapping  expression
	next     *expression
	origin   string
	firstURL *url.URL
}

// New returns a Source. It does no I/O: a wrong configuration shows at the
// first call (Config.Validate tells it beforehand). now may be nil.
func New(cfg Config, now func() time.Time) *Source {
	if now == nil {
		now = time.Now
	}
	return &Source{cfg: cfg, now: now, ready: sync.OnceValues(cfg.ready)}
}

func (c Config) ready() (*ready, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	tc, err := c.tls()
	if err != nil {
		return nil, err
	}
	r := &ready{client: &http.Client{
		Transport: &http.Transport{TLSClientConfig: tc, ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second},
		// A redirect would hand the headers on to a host nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if r.mapping, err = compile("map", c.Map); err != nil {
		return nil, err
	}
	if c.Next != "" {
		n, err := compile("next", c.Next)
		if err != nil {
			return nil, err
		}
		r.next = &n
	}
	if r.firstURL, err = url.Parse(c.URL); err != nil {
		return nil, err
	}
	r.origin = r.firstURL.Scheme + "://" + r.firstURL.Host
	return r, nil
}

// Name is the source's name in the configuration.
func (s *Source) Name() string { return s.cfg.Name }

// Discover reads the whole list, or gives an error: a part of it would make
// the rest of the customers unknown. A list without any entry is an error too,
// because that is what a broken export looks like.
func (s *Source) Discover(ctx context.Context) ([]discover.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.timeout())
	defer cancel()
	out, err := s.discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", s.cfg.Name, err)
	}
	return out, nil
}

func (s *Source) discover(ctx context.Context) ([]discover.Entry, error) {
	r, err := s.ready()
	if err != nil {
		return nil, err
	}
	var out []discover.Entry
	seen := s.now().UTC()
	at := r.firstURL
	for page := 1; at != nil; page++ {
		if page > maxPages {
			return nil, fmt.Errorf("next: more than %d pages", maxPages)
		}
		doc, err := s.get(ctx, r, at)
		if err != nil {
			return nil, err
		}
		err = r.mapping.run(ctx, doc, func(v any) error {
			list, ok := v.([]any)
			if !ok {
				list = []any{v}
			}
			for _, x := range list {
				e, err := entry(x)
				if err != nil {
					return fmt.Errorf("map: entry %d (%.200s): %w", len(out)+1, show(x), err)
				}
				if len(out) == maxEntries {
					return fmt.Errorf("map: yields more than %d entries", maxEntries)
				}
				e.Source, e.Seen = fmt.Sprintf("%s entry %d", s.cfg.Name, len(out)+1), seen
				out = append(out, e)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if at, err = r.after(ctx, at, doc); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, errors.New("map: yields no entry; an empty list is taken for a broken export")
	}
	return out, nil
}

// after is the next page's URL; nil: there is none. It must be of the same
// scheme and host: the headers are secrets.
func (r *ready) after(ctx context.Context, at *url.URL, doc any) (*url.URL, error) {
	if r.next == nil {
		return nil, nil
	}
	var next *url.URL
	err := r.next.run(ctx, doc, func(v any) error {
		s, ok := v.(string)
		switch {
		case v == nil, ok && s == "":
			return nil
		case !ok:
			return fmt.Errorf("next: %.60s is not a URL", show(v))
		}
		u, err := at.Parse(s)
		if err != nil {
			return fmt.Errorf("next: %.200q is not a URL", s)
		}
		if u.Scheme+"://"+u.Host != r.origin {
			return fmt.Errorf("next: %s://%s is not %s; our headers are for that alone", u.Scheme, u.Host, r.origin)
		}
		next = u
		return nil
	})
	if next != nil && next.String() == at.String() {
		return nil, errors.New("next: points to the page that it is of")
	}
	return next, err
}

func (s *Source) get(ctx context.Context, r *ready, at *url.URL) (any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "flowcordon")
	for k, v := range s.cfg.Headers {
		req.Header.Set(k, v)
	}
	where := r.origin + at.Path // the query may hold a key
	resp, err := r.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("GET %s: %w", where, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: answered %s", where, resp.Status)
	}
	// One byte more, to tell an answer that is too long from one that just fits.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("GET %s: read the answer: %w", where, err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("GET %s: the answer is longer than %d bytes; use pages", where, maxBody)
	}
	doc, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("GET %s: the answer is not JSON: %w", where, err)
	}
	return doc, nil
}

// decode keeps whole numbers whole: a float64 would round an id of 17 digits
// to another customer's.
func decode(body []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return numbers(doc), nil
}

// numbers turns json.Number into what jq computes with.
func numbers(v any) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = numbers(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = numbers(x[k])
		}
	case json.Number:
		if n, err := strconv.Atoi(x.String()); err == nil {
			return n
		}
		if b, ok := new(big.Int).SetString(x.String(), 10); ok {
			return b
		}
		f, err := x.Float64()
		if err != nil {
			return x.String()
		}
		return f
	}
	return v
}

func sorted(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// show is a value for an error text.
func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%T", v)
	}
	return string(b)
}
