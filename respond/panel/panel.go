package panel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/internal/meter"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// maxAnswer bounds an answer about one server.
const maxAnswer = 4 << 20

// Deps are what an adapter works with. All of them may be left out.
type Deps struct {
	Log        *zap.Logger
	Registerer prometheus.Registerer // nil: a private registry
	Now        func() time.Time      // nil: time.Now
}

// base is what the adapters share.
type base struct {
	cfg     Config
	log     *zap.Logger
	metrics *meter.Operations
	now     func() time.Time
	marks   marks
	http    func() (*http.Client, error) // made at the first call
	turn    chan struct{}                // one operation at a time: the marks are files
}

func newBase(cfg Config, deps Deps) base {
	if deps.Log == nil {
		deps.Log = zap.NewNop()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return base{
		cfg: cfg, log: deps.Log.Named("panel").With(zap.String("adapter", cfg.Name)),
		metrics: meter.New(deps.Registerer, "panel", "Operations on a panel", cfg.Name), now: deps.Now, marks: marks{cfg.State, cfg.Name},
		turn: make(chan struct{}, 1),
		http: sync.OnceValues(func() (*http.Client, error) {
			if err := cfg.Validate(); err != nil {
				return nil, fail(flow.ErrUnsupported, "configuration: %w", err)
			}
			tc, err := cfg.tls()
			if err != nil {
				return nil, fail(flow.ErrUnsupported, "configuration: %w", err)
			}
			return &http.Client{
				Transport: &http.Transport{
					TLSClientConfig: tc, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
					IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
				},
				// A redirect would hand the secret on to a host nobody configured.
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}, nil
		}),
	}
}

// Name returns the adapter's name in the configuration.
func (b *base) Name() string { return b.cfg.Name }

// errDeadline is the cause of the context of an operation that took too long.
var errDeadline = errors.New("no answer within the deadline")

// fail is an error that is judged already.
func fail(class flow.ErrClass, format string, args ...any) error {
	return &flow.ActError{Class: class, Err: fmt.Errorf(format, args...)}
}

// do runs one operation within the deadline and gives its error a class.
func (b *base) do(ctx context.Context, op string, fn func(context.Context) error) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.timeout(), errDeadline)
	defer cancel()
	err := b.alone(ctx, fn)
	res := "ok"
	if err != nil {
		class := flow.ErrTransient
		if ae, ok := err.(*flow.ActError); ok { //nolint:errorlint // as it is: its class would stand in the text twice
			class, err = ae.Class, ae.Err
		} else if ae := (*flow.ActError)(nil); errors.As(err, &ae) {
			class = ae.Class
		} else if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		err = &flow.ActError{Class: class, Err: fmt.Errorf("%s %s: %s: %w", b.cfg.Product, b.cfg.Name, op, err)}
		res = string(class)
	}
	b.metrics.Observe(op, res, time.Since(start))
	return err
}

func (b *base) alone(ctx context.Context, fn func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
		return fn(ctx)
	case <-ctx.Done():
		return fmt.Errorf("wait for an earlier operation: %w", context.Cause(ctx))
	}
}

// send makes one call and reads the answer of a 200. what names it for errors,
// without the secret that the URL may hold.
func (b *base) send(req *http.Request, what string) ([]byte, error) {
	h, err := b.http()
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "flowcordon")
	resp, err := h.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if resp.StatusCode != http.StatusOK {
		return nil, &httpError{resp.StatusCode, what, text}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: read the answer: %w", what, err)
	}
	if len(text) > maxAnswer {
		return nil, fail(flow.ErrUnsupported, "%s: the answer is longer than %d bytes", what, maxAnswer)
	}
	return text, nil
}

// httpError is an answer other than 200.
type httpError struct {
	code int
	what string
	body []byte
}

func (e *httpError) Error() string {
	return fmt.Sprintf("%s: answered %d %s", e.what, e.code, http.StatusText(e.code))
}

// As gives the error its class.
func (e *httpError) As(target any) bool {
	ae, ok := target.(**flow.ActError)
	if !ok {
		return false
	}
	class := flow.ErrDenied // 401, 403, redirects: no retry changes that
	switch {
	case e.code == http.StatusNotFound:
		class = flow.ErrNotFound
	case e.code >= 500, e.code == http.StatusTooManyRequests, e.code == http.StatusRequestTimeout:
		class = flow.ErrTransient
	}
	*ae = &flow.ActError{Class: class, Err: e}
	return true
}

// serverID is the panel's number of the server, which the inventory's vds names.
func serverID(nic flow.NIC) (int, error) {
	id, err := strconv.Atoi(nic.VDS)
	if err != nil || id <= 0 {
		return 0, fail(flow.ErrNotFound, "vds %.60q is not the panel's number of a server; write that into the inventory", nic.VDS)
	}
	return id, nil
}

// sameMAC checks the inventory's MAC against those that the panel tells, if it
// tells any: cutting the wrong customer is worse than cutting late.
func sameMAC(nic flow.NIC, id int, macs []string) error {
	want, err := net.ParseMAC(nic.MAC)
	if nic.MAC == "" || len(macs) == 0 {
		return nil
	}
	if err == nil {
		for _, s := range macs {
			if hw, err := net.ParseMAC(s); err == nil && hw.String() == want.String() {
				return nil
			}
		}
	}
	return fail(flow.ErrNotFound, "server %d has no NIC %s: rebuilt, or the inventory is wrong; it has %s", id, nic.MAC, strings.Join(macs, ", "))
}

// flag is a value that a panel writes as number, text, boolean or null.
func flag(raw json.RawMessage) bool {
	switch s := strings.Trim(string(raw), `" `); s {
	case "", "0", "null", "false", "[]", "{}":
		return false
	}
	return true
}

func (b *base) done(what string, nic flow.NIC, m flow.Mark) {
	b.log.Info(what, zap.String("vds", nic.VDS), zap.String("mac", nic.MAC), zap.String("incident", m.Incident))
}

func isClass(err error, c flow.ErrClass) bool {
	var ae *flow.ActError
	return errors.As(err, &ae) && ae.Class == c
}
