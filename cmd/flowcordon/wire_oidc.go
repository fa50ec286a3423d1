package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/flowcordon/flowcordon/api"
	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
)

// oidcConfig is how people sign in; nil: they do not.
func oidcConfig(o *config.OIDC) (*api.OIDC, error) {
	if o == nil {
		return nil, nil
	}
	out := &api.OIDC{
		Label: o.Label, Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret, PublicURL: o.PublicURL, Scopes: o.Scopes,
		RoleClaim: o.RoleClaim, NameClaim: o.NameClaim, Roles: map[string]api.Role{}, SessionFor: o.Session, IdleFor: o.Idle, ProviderLogout: o.ProviderLogout,
	}
	for group, name := range o.Roles {
		role, err := api.ParseRole(name)
		if err != nil {
			return nil, fmt.Errorf("api.oidc.roles.%s: %w", group, err)
		}
		out.Roles[group] = role
	}
	client, err := httpClient(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("api.oidc.ca_file: %w", err)
	}
	if client == nil {
		client = &http.Client{}
	}
	client.Timeout = 10 * time.Second // a provider that hangs must not hold the browser
	out.Client = client
	return out, nil
}
