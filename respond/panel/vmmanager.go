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
	"strconv"
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

// Measures are block_port, for TCP and UDP, and rate_limit.
func (a *VMmanagerAdapter) Measures() []flow.MeasureKind {
	return []flow.MeasureKind{flow.MeasureBlockPort, flow.MeasureLimit}
}

var protocols = map[uint8]string{6: "tcp", 17: "udp"}

func rulesFor(ports []flow.PortRule) []rule {
	var out []rule
	for _, p := range ports {
		r := rule{Action: "drop", Direction: "out", Protocols: []string{protocols[p.Proto]}, From: int(p.Port), To: int(p.Port)}
		if p.Port == 0 {
			r.From, r.To = 1, 65535
		}
		out = append(out, r)
	}
	return out
}

// Restrict puts a measure in force for the whole server. Rules and limits of
// others stay; a limit never raises one that is there.
func (a *VMmanagerAdapter) Restrict(ctx context.Context, nic flow.NIC, me flow.Measure, m flow.Mark) (flow.Receipt, error) {
	if err := takes(me, m); err != nil {
		return flow.Receipt{}, err
	}
	var r flow.Receipt
	err := a.do(ctx, "restrict", func(ctx context.Context) error {
		h, before, err := a.status(ctx, nic)
		if err != nil {
			return err
		}
		before.Restrictions = slices.DeleteFunc(before.Restrictions, func(x flow.Restriction) bool { return x.Measure.Kind == me.Kind })
		if len(before.Restrictions) == 0 {
			before.Restrictions = nil
		}
		old, err := a.marks.get(h.ID, me.Kind)
		if err != nil {
			return err
		}
		if old != nil && old.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "server %d already has a %s for incident %s by %s", h.ID, me.Kind, old.Mark.Incident, old.Mark.By)
		}
		e := &entry{Kind: me.Kind, MAC: nic.MAC, Mark: m, Before: before, Want: me}
		if me.Kind == flow.MeasureBlockPort {
			err = a.block(ctx, h, old, e)
		} else {
			err = a.limit(ctx, h, old, e)
		}
		if err != nil {
			return err
		}
		_, after, err := a.status(ctx, nic)
		if err != nil {
			return err
		}
		if in, ok := after.Restricted(me.Kind); !ok || in.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "server %d: the %s does not read back", h.ID, me.Kind)
		}
		r = flow.Receipt{NIC: nic, Before: before, After: after, Node: a.cfg.Name, At: a.now().UTC()}
		return nil
	})
	if err != nil {
		return flow.Receipt{}, err
	}
	a.done("network restricted by "+string(me.Kind), nic, m)
	return r, nil
}

func takes(me flow.Measure, m flow.Mark) error {
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "restrict: the mark names no incident")
	case me.Kind == flow.MeasureLimit && me.KbitS > 0:
		return nil
	case me.Kind == flow.MeasureBlockPort && len(me.Ports) > 0:
		for _, p := range me.Ports {
			if protocols[p.Proto] == "" {
				return fail(flow.ErrUnsupported, "restrict: VMmanager's rules are for TCP and UDP, not for protocol %d", p.Proto)
			}
		}
		return nil
	case me.Kind == flow.MeasureLimit, me.Kind == flow.MeasureBlockPort:
		return fail(flow.ErrDenied, "restrict: a %s without a bound", me.Kind)
	}
	return fail(flow.ErrUnsupported, "restrict: VMmanager has no measure %q", me.Kind)
}

// block replaces the rules that we added by those that are wanted. The mark
// goes first, with all that may be ours: until the call is read back either is.
func (a *VMmanagerAdapter) block(ctx context.Context, h host, old, e *entry) error {
	var ours []rule
	if old != nil {
		ours = old.Rules
	}
	want := rulesFor(e.Want.Ports)
	next := without(h.Rules, ours)
	for _, r := range want {
		if (host{Rules: next}).has(r) {
			continue // somebody else's own: it stays when ours goes
		}
		e.Rules = append(e.Rules, r)
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		next = append(next, b)
	}
	final := e.Rules
	e.Rules = append(slices.Clone(final), ours...)
	if err := a.marks.put(h.ID, e.Kind, e); err != nil {
		return err
	}
	if !sameRules(h.Rules, next) {
		if err := a.change(ctx, h.ID, map[string]any{"firewall_rules": next}); err != nil {
			return err
		}
	}
	e.Rules = final
	return a.marks.put(h.ID, e.Kind, e)
}

// without removes one rule for each of ours.
func without(all []json.RawMessage, ours []rule) []json.RawMessage {
	out := slices.Clone(all)
	for _, r := range ours {
		i := slices.IndexFunc(out, func(raw json.RawMessage) bool {
			var o rule
			return json.Unmarshal(raw, &o) == nil && r.same(o)
		})
		if i >= 0 {
			out = slices.Delete(out, i, i+1)
		}
	}
	if out == nil {
		out = []json.RawMessage{} // null would not be a list
	}
	return out
}

func sameRules(a, b []json.RawMessage) bool {
	return slices.EqualFunc(a, b, func(x, y json.RawMessage) bool {
		var r, o rule
		return bytes.Equal(x, y) || json.Unmarshal(x, &r) == nil && json.Unmarshal(y, &o) == nil && r.same(o)
	})
}

func (a *VMmanagerAdapter) limit(ctx context.Context, h host, old, e *entry) error {
	e.Mbit = h.Out
	if old != nil {
		e.Mbit = old.Mbit
	}
	e.Ours = int(min((e.Want.KbitS+999)/1000, 1<<30))
	if e.Mbit > 0 && e.Mbit < e.Ours {
		e.Ours = e.Mbit // the server's own limit is the tighter one
	}
	e.Want.KbitS = uint64(e.Ours) * 1000
	if err := a.marks.put(h.ID, e.Kind, e); err != nil {
		return err
	}
	if h.Out == e.Ours {
		return nil
	}
	return a.change(ctx, h.ID, map[string]int{"net_out_mbitps": e.Ours})
}

// Lift takes a measure back that carries the incident's mark. Where there is
// none left it succeeds: an earlier call did it.
func (a *VMmanagerAdapter) Lift(ctx context.Context, nic flow.NIC, kind flow.MeasureKind, m flow.Mark, _ flow.Receipt) error {
	switch {
	case m.Incident == "":
		return fail(flow.ErrDenied, "lift: the mark names no incident")
	case !slices.Contains(a.Measures(), kind):
		return fail(flow.ErrUnsupported, "lift: VMmanager has no measure %q", kind)
	}
	err := a.do(ctx, "lift", func(ctx context.Context) error {
		h, err := a.read(ctx, nic)
		if err != nil {
			return err
		}
		e, err := a.marks.get(h.ID, kind)
		if err != nil || e == nil {
			return err
		}
		if e.Mark.Incident != m.Incident {
			return fail(flow.ErrConflict, "server %d has its %s for incident %s by %s, not for %s; it stays",
				h.ID, kind, e.Mark.Incident, e.Mark.By, m.Incident)
		}
		next := without(h.Rules, e.Rules)
		switch {
		case kind == flow.MeasureBlockPort && len(next) != len(h.Rules):
			err = a.change(ctx, h.ID, map[string]any{"firewall_rules": next})
		case kind == flow.MeasureLimit && h.Out == e.Ours && h.Out != e.Mbit: // else somebody set another
			err = a.change(ctx, h.ID, map[string]int{"net_out_mbitps": e.Mbit})
		}
		if err != nil {
			return err
		}
		if h, err = a.read(ctx, nic); err != nil {
			return err
		}
		if kind == flow.MeasureBlockPort && len(h.Rules) > len(next) {
			return fail(flow.ErrConflict, "server %d still has our rules", h.ID)
		}
		return a.marks.put(h.ID, kind, nil)
	})
	if err == nil {
		a.done("restriction lifted: "+string(kind), nic, m)
	}
	return err
}

// Marked lists the servers that have a mark of ours in force.
func (a *VMmanagerAdapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	return a.marked(ctx, func(ctx context.Context, nic flow.NIC) (flow.NICStatus, error) {
		_, st, err := a.status(ctx, nic)
		return st, err
	})
}

// Describe says which call a measure would make.
func (a *VMmanagerAdapter) Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	if me.Kind == flow.MeasureCut {
		return "VMmanager's API has no call for a NIC's link: a cut would be refused", nil
	}
	if err := takes(me, flow.Mark{Incident: "none"}); err != nil {
		return "", err
	}
	var text string
	err := a.do(ctx, "describe", func(ctx context.Context) error {
		h, err := a.read(ctx, nic)
		if err != nil {
			return err
		}
		what := "net_out_mbitps=" + strconv.FormatUint((me.KbitS+999)/1000, 10)
		if me.Kind == flow.MeasureBlockPort {
			b, err := json.Marshal(rulesFor(me.Ports))
			if err != nil {
				return err
			}
			what = fmt.Sprintf("firewall_rules with its %d and %s", len(h.Rules), b)
		}
		text = fmt.Sprintf("POST %s/vm/v3/host/%d/resource %s", strings.TrimSuffix(a.cfg.URL, "/"), h.ID, what)
		return nil
	})
	return text, err
}
