package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
)

const (
	defaultConfig = "/etc/flowcordon/flowcordon.yaml"
	// maxAnswer is above the largest answer of the service.
	maxAnswer = 256 << 20
)

// Exit codes of the commands that ask a running service.
const (
	exitFailed = 1 // the service refuses what was asked, or there is no such thing
	exitUsage  = 2 // the command is written wrongly
	exitAway   = 3 // no service answers there
	exitDenied = 4 // the token is not accepted, or its role is too low
)

// exitError is an error with the exit code that it ends the command with.
type exitError struct {
	code int
	error
}

// Unwrap gives the error itself.
func (e *exitError) Unwrap() error { return e.error }

func failf(code int, format string, a ...any) error {
	return &exitError{code, fmt.Errorf(format, a...)}
}

// exitCode is the code of an error; those without one are 1.
func exitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return exitFailed
}

// remote is where the running service is and who asks it. Flags win over the
// environment, which wins over the configuration of this machine.
type remote struct {
	config, url, tokenFile, ca string
}

func (r *remote) flags(fs *flag.FlagSet) {
	fs.StringVar(&r.url, "url", "", "`address` of the service, such as https://flowcordon.example:8480 (FLOWCORDON_URL; else http.address of the configuration)")
	fs.StringVar(&r.tokenFile, "token-file", "", "`file` with the token (FLOWCORDON_TOKEN_FILE, or FLOWCORDON_TOKEN itself; else of the configuration)")
	fs.StringVar(&r.ca, "ca", "", "`file` with the certificates, in PEM, that the service's is signed by, beside the system's (FLOWCORDON_CA_FILE)")
	fs.StringVar(&r.config, "config", defaultConfig, "configuration `file`, read for what is not said otherwise")
}

// serviceAt is a service that can be asked.
type serviceAt struct {
	base  string // without a slash at its end
	token string
	http  *http.Client
}

// endpoint finds the service, and a token of at least the role if it has to
// come out of the configuration.
func (r *remote) endpoint(role api.Role) (*serviceAt, error) {
	e := &serviceAt{base: strings.TrimRight(first(r.url, os.Getenv("FLOWCORDON_URL")), "/")}
	var err error
	if e.token, err = r.token(); err != nil {
		return nil, err
	}
	if e.base == "" || e.token == "" {
		if err := r.configured(e, role); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(e.base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, failf(exitUsage, "%q is no address of a service; write --url https://flowcordon.example:8480", e.base)
	}
	e.base = strings.TrimSuffix(e.base, api.Prefix)
	if e.http, err = r.client(); err != nil {
		return nil, err
	}
	return e, nil
}

// token is that of the flag or of the environment; it is never an argument,
// which everybody on the machine could read.
func (r *remote) token() (string, error) {
	path := first(r.tokenFile, os.Getenv("FLOWCORDON_TOKEN_FILE"))
	token := os.Getenv("FLOWCORDON_TOKEN")
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", failf(exitUsage, "the token cannot be read: %v", err)
		}
		if token = strings.TrimSpace(string(b)); token == "" {
			return "", failf(exitUsage, "%s is empty; it should hold the token and nothing else", path)
		}
	}
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", failf(exitUsage, "what should be the token has spaces or control characters in it; the file should hold the token and nothing else")
	}
	return token, nil
}

// configured takes what is still missing out of the configuration.
func (r *remote) configured(e *serviceAt, role api.Role) error {
	cfg, err := config.Load(r.config)
	switch {
	case errors.Is(err, os.ErrNotExist) && r.config == defaultConfig && e.base == "":
		return failf(exitUsage, "which service? write --url https://flowcordon.example:8480 or set FLOWCORDON_URL; there is no %s here that would say it", defaultConfig)
	case errors.Is(err, os.ErrNotExist) && r.config == defaultConfig:
		return failf(exitUsage, "no token; write --token-file FILE or set FLOWCORDON_TOKEN_FILE; there is no %s here that would name one", defaultConfig)
	case err != nil:
		return err
	}
	if e.base == "" {
		host, port, err := net.SplitHostPort(cfg.HTTP.Address)
		if err != nil {
			return fmt.Errorf("http.address %q: %w", cfg.HTTP.Address, err)
		}
		if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
			host = "127.0.0.1"
		}
		e.base = "http://" + net.JoinHostPort(host, port)
	}
	for _, t := range cfg.API.Tokens {
		if has, err := api.ParseRole(t.Role); e.token == "" && err == nil && has >= role {
			e.token = t.Secret
		}
	}
	if e.token == "" {
		return failf(exitUsage, "%s has no api.tokens entry with a token_file and the role %s or higher; give --token-file", r.config, role)
	}
	return nil
}

func (r *remote) client() (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if path := first(r.ca, os.Getenv("FLOWCORDON_CA_FILE")); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, failf(exitUsage, "the certificates cannot be read: %v", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, failf(exitUsage, "%s has no certificate in PEM form", path)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	// A redirect would carry the token elsewhere.
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// client is the generated client of the service.
func (e *serviceAt) client() (*apiclient.Client, error) {
	return apiclient.NewClient(e.base+api.Prefix, apiclient.WithHTTPClient(e.http), apiclient.WithRequestEditorFn(e.authorize))
}

// authorize says with each request who asks.
func (e *serviceAt) authorize(_ context.Context, req *http.Request) error {
	req.Header.Set("Authorization", "Bearer "+e.token)
	req.Header.Set("User-Agent", "flowcordon/"+version)
	return nil
}

// unreached puts an error of the connection into words that say what to do.
func (e *serviceAt) unreached(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // its text repeats the whole address
	}
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		expired x509.CertificateInvalidError
		plain   tls.RecordHeaderError
		dns     *net.DNSError
	)
	say := func(what string) error { return failf(exitAway, "%s: %s", e.base, what) }
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err):
		return say("no answer in time; --timeout allows more")
	case errors.As(err, &unknown):
		return say("its certificate is signed by nobody that is known here; write --ca FILE with who signed it")
	case errors.As(err, &name):
		return say("its certificate is for another name: " + name.Error())
	case errors.As(err, &expired):
		return say("its certificate is not valid: " + expired.Error())
	case errors.As(err, &plain) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return say("it speaks no TLS; write http:// instead of https://")
	case errors.As(err, &dns):
		return say("the name " + dns.Name + " is not known; --url names another service")
	case errors.Is(err, syscall.ECONNREFUSED):
		return say("nobody listens there; is it running? --url names another service")
	}
	return say("cannot be asked: " + err.Error())
}

// asCommands says to a person what the API says to programs.
var asCommands = strings.NewReplacer(
	"GET /api/v1/incidents lists them", "flowcordon incidents --state all lists them",
	"GET /api/v1/complaints?status=all lists them", "flowcordon cases --status all lists them",
	"GET /api/v1/exemptions?status=all lists them", "flowcordon exemptions --status all lists them",
	"GET /api/v1/tenants lists them", "flowcordon tenants lists them",
)

// check reads an answer, and gives its body if it is a success.
func (e *serviceAt) check(res *http.Response) ([]byte, error) {
	defer func() { _ = res.Body.Close() }() // read to its end, or given up
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, e.unreached(err)
	}
	if res.StatusCode/100 == 2 {
		return body, nil
	}
	var p struct {
		Detail string `json:"detail"`
	}
	isProblem := strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(body, &p) == nil && p.Detail != ""
	switch {
	case isProblem && (res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden):
		return nil, failf(exitDenied, "%s: %s", e.base, p.Detail)
	case isProblem && (res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusGatewayTimeout):
		return nil, failf(exitAway, "%s: %s", e.base, p.Detail)
	case isProblem && res.StatusCode == http.StatusNotFound && strings.HasPrefix(p.Detail, "there is nothing at this address"):
		return nil, failf(exitAway, "%s has nothing of the kind; is --url right, without a path? Else it is another version", e.base)
	case isProblem:
		return nil, failf(exitFailed, "%s", asCommands.Replace(p.Detail))
	case res.StatusCode/100 == 3:
		return nil, failf(exitAway, "%s sends on to %s; write the address that answers itself", e.base, res.Header.Get("Location"))
	case strings.Contains(string(body), "HTTP request to an HTTPS server"):
		return nil, failf(exitAway, "%s: it speaks TLS; write https:// instead of http://", e.base)
	}
	return nil, failf(exitAway, "%s answers %s, but not as flowcordon does; is --url right, without a path?", e.base, res.Status)
}

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// warnPlain says on a terminal that a token would go over a network unencrypted.
func (e *serviceAt) warnPlain(w io.Writer) {
	u, err := url.Parse(e.base)
	if err != nil || u.Scheme != "http" {
		return
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !a.IsLoopback()) {
		fmt.Fprintf(w, "flowcordon: warning: the token goes to %s unencrypted; write https://\n", e.base)
	}
}

const defaultTimeout = time.Minute
