package panel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// VMmanagerAdapter blocks ports of servers of a VMmanager 6 and limits what
// they send. It is unverified against the product. It is safe for concurrent
// use; operations queue.
//
// It cannot cut: see the package comment. Status knows the rules and the limit
// that the panel has noted, for all NICs of the server at once; the link itself
// is unknown to it.
type VMmanagerAdapter struct {
	base
	token string // of the session; used under turn
}

// NewVMmanager returns an adapter. It does no I/O.
func NewVMmanager(cfg Config, deps Deps) *VMmanagerAdapter {
	return &VMmanagerAdapter{base: newBase(cfg, deps)}
}

const (
	// A panel that slept answers 503 until it is up; the API guide's own
	// example asks ten times with growing pauses.
	wakeTries = 10
	wakeStep  = 100 * time.Millisecond
	taskPoll  = 500 * time.Millisecond
)

// call makes one call with the session's token, which it gets anew when the
// panel no longer takes it.
func (a *VMmanagerAdapter) call(ctx context.Context, method, path string, in, out any) error {
	for try := 0; ; try++ {
		if a.token == "" {
			if err := a.login(ctx); err != nil {
				return err
			}
		}
		err := a.awake(ctx, method, path, in, out)
		var he *httpError
		if try == 0 && errors.As(err, &he) && (he.code == http.StatusUnauthorized || he.code == http.StatusForbidden) {
			a.token = ""
			continue
		}
		return err
	}
}

func (a *VMmanagerAdapter) login(ctx context.Context) error {
	var s struct {
		Token string `json:"token"`
	}
	err := a.awake(ctx, http.MethodPost, "/auth/v4/public/token", map[string]string{"email": a.cfg.User, "password": a.cfg.Secret}, &s)
	if err == nil && s.Token == "" {
		err = fail(flow.ErrDenied, "the login gave no token")
	}
	a.token = s.Token
	return err
}

func (a *VMmanagerAdapter) awake(ctx context.Context, method, path string, in, out any) error {
	for n := 1; ; n++ {
		err := a.one(ctx, method, path, in, out)
		var he *httpError
		if n > wakeTries || !errors.As(err, &he) || he.code != http.StatusServiceUnavailable {
			return err
		}
		select {
		case <-time.After(time.Duration(n) * wakeStep):
		case <-ctx.Done():
			return err
		}
	}
}

func (a *VMmanagerAdapter) one(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fail(flow.ErrUnsupported, "encode: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(a.cfg.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fail(flow.ErrUnsupported, "configuration: the url cannot be used")
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("X-Xsrf-Token", a.token)
		req.AddCookie(&http.Cookie{Name: "ses6", Value: a.token})
	}
	what := method + " " + path
	text, err := a.send(req, what)
	var he *httpError
	if errors.As(err, &he) {
		text = he.body
	}
	var e struct {
		Error *struct {
			Code int    `json:"code"`
			Msg  string `json:"msg"`
		} `json:"error"`
	}
	if json.Unmarshal(text, &e) == nil && e.Error != nil {
		if err == nil {
			err = fail(flow.ErrConflict, "%s was refused", what)
		}
		return fmt.Errorf("%w: the panel says %d %.200s", err, e.Error.Code, e.Error.Msg)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s: the answer is not what the API documents: %w", what, err)
	}
	return nil
}

// rule is one of a server's firewall rules. They have no comment and no
// address: protocols and a range of ports in one direction.
type rule struct {
	Action    string   `json:"action"`
	Direction string   `json:"direction"`
	Protocols []string `json:"protocols"`
	From      int      `json:"portstart"`
	To        int      `json:"portend"`
}

func (r rule) same(o rule) bool {
	return r.Action == o.Action && r.Direction == o.Direction && r.From == o.From && r.To == o.To &&
		slices.Equal(slices.Sorted(slices.Values(r.Protocols)), slices.Sorted(slices.Values(o.Protocols)))
}

// host is a server as the panel has it. Rules are kept raw: fields that we do
// not know must come back as they were.
type host struct {
	ID    int               `json:"id"`
	State string            `json:"state"`
	Rules []json.RawMessage `json:"firewall_rules"`
	Out   int               `json:"net_out_mbitps"` // 0: no limit
	NICs  []struct {
		MAC string `json:"mac"`
	} `json:"interfaces"`
}

func (h host) has(r rule) bool {
	return slices.ContainsFunc(h.Rules, func(raw json.RawMessage) bool {
		var o rule
		return json.Unmarshal(raw, &o) == nil && r.same(o)
	})
}

func (a *VMmanagerAdapter) read(ctx context.Context, nic flow.NIC) (host, error) {
	id, err := serverID(nic)
	if err != nil {
		return host{}, err
	}
	var l struct {
		List []host `json:"list"`
	}
	q := url.Values{"where": {fmt.Sprintf("(id EQ %d)", id)}}
	if err := a.call(ctx, http.MethodGet, "/vm/v3/host?"+q.Encode(), nil, &l); err != nil {
		return host{}, err
	}
	i := slices.IndexFunc(l.List, func(h host) bool { return h.ID == id })
	if i < 0 {
		return host{}, fail(flow.ErrNotFound, "the panel has no server %d: deleted?", id)
	}
	var macs []string
	for _, n := range l.List[i].NICs {
		macs = append(macs, n.MAC)
	}
	return l.List[i], sameMAC(nic, id, macs)
}

// change posts resources of the server and waits for the task.
func (a *VMmanagerAdapter) change(ctx context.Context, id int, in any) error {
	var t struct {
		Task json.Number `json:"task"`
	}
	if err := a.call(ctx, http.MethodPost, fmt.Sprintf("/vm/v3/host/%d/resource", id), in, &t); err != nil || t.Task == "" {
		return err
	}
	q := url.Values{"where": {fmt.Sprintf("(consul_id EQ %s)", t.Task)}}
	for {
		var l struct {
			List []struct {
				Status string `json:"status"`
			} `json:"list"`
		}
		if err := a.call(ctx, http.MethodGet, "/vm/v3/task?"+q.Encode(), nil, &l); err != nil {
			return fmt.Errorf("the call was taken as task %s, whose end is not known: %w", t.Task, err)
		}
		if len(l.List) > 0 {
			switch l.List[0].Status {
			case "complete":
				return nil
			case "fail":
				return fmt.Errorf("task %s failed", t.Task)
			}
		}
		select {
		case <-time.After(taskPoll):
		case <-ctx.Done():
			return fmt.Errorf("task %s goes on: %w", t.Task, context.Cause(ctx))
		}
	}
}

// Status gives the measures of ours that the panel has noted. The link is
// unknown.
func (a *VMmanagerAdapter) Status(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
	var st flow.NICStatus
	err := a.do(ctx, "status", func(ctx context.Context) (err error) {
		_, st, err = a.status(ctx, nic)
		return err
	})
	return st, err
}

func (a *VMmanagerAdapter) status(ctx context.Context, nic flow.NIC) (host, flow.NICStatus, error) {
	h, err := a.read(ctx, nic)
	if err != nil {
		return host{}, flow.NICStatus{}, err
	}
	st := flow.NICStatus{Live: flow.LinkUnknown, Config: flow.LinkUnknown, Running: h.State == "active"}
	es, err := a.marks.read(h.ID)
	for _, k := range a.Measures() {
		for _, e := range es {
			if e.Kind != k {
				continue
			}
			in := k == flow.MeasureLimit && h.Out == e.Ours
			if k == flow.MeasureBlockPort {
				in = !slices.ContainsFunc(rulesFor(e.Want.Ports), func(r rule) bool { return !h.has(r) })
			}
			if in {
				st.Restrictions = append(st.Restrictions, flow.Restriction{Measure: e.Want, Mark: e.Mark})
			}
		}
	}
	return h, st, err
}

// Cut is not to be had: flow.ErrUnsupported.
func (a *VMmanagerAdapter) Cut(ctx context.Context, nic flow.NIC, _ flow.Mark) (flow.Receipt, error) {
	err := a.do(ctx, "cut", func(ctx context.Context) error {
		if _, err := a.read(ctx, nic); err != nil {
			return err
		}
		return fail(flow.ErrUnsupported, "the API has no call for a NIC's link; use libvirt on its nodes")
	})
	return flow.Receipt{}, err
}

// Restore has nothing to give back.
func (a *VMmanagerAdapter) Restore(ctx context.Context, nic flow.NIC, _ flow.Mark, _ flow.Receipt) error {
	_, err := a.Status(ctx, nic)
	return err
}
