package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/flowcordon/flowcordon/internal/bound"
	"github.com/flowcordon/flowcordon/internal/login"
)

const (
	// maxAnswer bounds one answer: a port is some 2 kB, a page 1,000 of them.
	maxAnswer = 64 << 20

	// byeTimeout bounds what is tidied up after a context has ended.
	byeTimeout = 5 * time.Second

	maxPages = 1000

	loginCall = "log in"
)

// client is a token with the address of Neutron.
type client struct {
	p       *gophercloud.ProviderClient
	neutron string // …/v2.0/
}

// newKeeper keeps one token and logs in again when it is refused.
func newKeeper(cfg Config) *login.Keeper[client] {
	return login.New(func(ctx context.Context) (*client, error) { return logIn(ctx, cfg) },
		func(err error) bool { return isStatus(err, http.StatusUnauthorized) },
		func(c *client) { c.p.HTTPClient.CloseIdleConnections() })
}

func logIn(ctx context.Context, cfg Config) (*client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	endpoint, err := cfg.endpoint()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	tc, err := cfg.tls()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	p, err := openstack.NewClient(endpoint)
	if err != nil {
		return nil, fmt.Errorf("%w: auth_url: %w", errConfig, err)
	}
	p.UserAgent.Prepend("flowcordon")
	p.HTTPClient = http.Client{
		// No proxy from the environment: it would see a customer's fate.
		Transport: bound.Answers{Max: maxAnswer, Transport: &http.Transport{
			DialContext:     (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig: tc, TLSHandshakeTimeout: cfg.timeout(), ForceAttemptHTTP2: true,
			IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 8, MaxResponseHeaderBytes: 64 << 10,
		}},
		// Go sends X-Auth-Token on to wherever a redirect points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// Should gophercloud make a call without our context.
		Timeout: 2 * cfg.timeout(),
	}
	// Logging in again is ours: gophercloud's compares tokens outside of its lock.
	if err := openstack.AuthenticateV3(ctx, p, cfg.authOptions(endpoint), gophercloud.EndpointOpts{}); err != nil {
		p.HTTPClient.CloseIdleConnections()
		return nil, fmt.Errorf("log in at %s: %w", endpoint, asAPIError("log", "in", err))
	}
	neutron, err := cfg.neutron(p)
	if err != nil {
		p.HTTPClient.CloseIdleConnections()
		return nil, err
	}
	return &client{p: p, neutron: neutron}, nil
}

func (c Config) authOptions(endpoint string) *gophercloud.AuthOptions {
	if c.AppCredential != "" {
		return &gophercloud.AuthOptions{
			IdentityEndpoint: endpoint, ApplicationCredentialID: c.AppCredential, ApplicationCredentialSecret: c.AppSecret,
		}
	}
	domain := orDefault(c.UserDomain, "Default")
	return &gophercloud.AuthOptions{
		IdentityEndpoint: endpoint, Username: c.Username, Password: c.Password, DomainName: domain,
		Scope: &gophercloud.AuthScope{ProjectName: c.Project, DomainName: orDefault(c.ProjectDomain, domain)},
	}
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// neutron is the network service's address in the catalogue that came with the
// token. The token is asked and not gophercloud's locator, which makes calls of
// its own without a context.
func (c Config) neutron(p *gophercloud.ProviderClient) (string, error) {
	res, ok := p.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return "", errors.New("log in: the answer holds no catalogue")
	}
	cat, err := res.ExtractServiceCatalog()
	if err != nil {
		return "", fmt.Errorf("read the catalogue: %w", err)
	}
	var urls, regions []string
	for _, e := range cat.Entries {
		if e.Type != "network" {
			continue
		}
		for _, ep := range e.Endpoints {
			if ep.Interface != orDefault(c.Interface, "public") {
				continue
			}
			region := orDefault(ep.RegionID, ep.Region)
			regions = append(regions, region)
			if c.Region == "" || region == c.Region {
				urls = append(urls, ep.URL)
			}
		}
	}
	switch {
	case len(urls) == 1:
		s := strings.TrimRight(urls[0], "/")
		if !strings.HasSuffix(s, "/v2.0") {
			s += "/v2.0"
		}
		return s + "/", nil
	case len(regions) == 0:
		return "", fmt.Errorf("%w: interface: the catalogue has no %s address of a network service", errConfig, orDefault(c.Interface, "public"))
	}
	slices.Sort(regions)
	return "", fmt.Errorf("%w: region: %q names %d network services; the catalogue has %s",
		errConfig, c.Region, len(urls), strings.Join(slices.Compact(regions), ", "))
}

// call makes one call of Neutron's API. path is relative to its version.
func (c *client) call(ctx context.Context, method, path string, query url.Values, in, out any, headers map[string]string) error {
	u := c.neutron + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	opts := &gophercloud.RequestOpts{JSONBody: in, JSONResponse: out, MoreHeaders: headers, OkCodes: []int{200, 201, 202, 204}}
	resp, err := c.p.Request(ctx, method, u, opts)
	if err != nil {
		return asAPIError(method, "/v2.0/"+path, err)
	}
	_ = resp.Body.Close()
	return nil
}

func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, query, nil, out, nil)
}

// list reads a list whole: an operator may have bounded what one answer holds
// (pagination_max_limit).
func list[T any](ctx context.Context, c *client, path, key string, query url.Values) ([]T, error) {
	var all []T
	for range maxPages {
		var out map[string]json.RawMessage
		if err := c.get(ctx, path, query, &out); err != nil {
			return nil, err
		}
		var page []T
		if err := json.Unmarshal(out[key], &page); err != nil {
			return nil, fmt.Errorf("GET /v2.0/%s: the answer holds no list of %s: %w", path, key, err)
		}
		all = append(all, page...)
		marker := nextMarker(out[key+"_links"])
		if len(page) == 0 || marker == "" {
			return all, nil
		}
		query = maps.Clone(query)
		query.Set("marker", marker)
	}
	return nil, fmt.Errorf("GET /v2.0/%s: more than %d pages", path, maxPages)
}

// nextMarker is where the next page begins. Only that is taken from the link,
// so that an answer cannot send our token elsewhere.
func nextMarker(raw json.RawMessage) string {
	var links []struct{ Rel, Href string }
	if json.Unmarshal(raw, &links) != nil {
		return ""
	}
	for _, l := range links {
		if u, err := url.Parse(l.Href); err == nil && l.Rel == "next" {
			return u.Query().Get("marker")
		}
	}
	return ""
}

// remove deletes; what is not there is no error.
func (c *client) remove(ctx context.Context, path string) error {
	err := c.call(ctx, http.MethodDelete, path, nil, nil, nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}
